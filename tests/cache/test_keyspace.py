"""Every key name, its lifetime and its validation."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aevon.cache import keyspace
from aevon.cache.keyspace import (
    CANVAS,
    CANVAS_INDEX,
    CONVO_HISTORY,
    INTERNAL,
    PSYCHE,
    REGISTRY,
    SESSION,
    InternalKeyspace,
    InvalidKey,
    Keyspace,
    UnknownKeyspace,
    canonical_user_id,
    declare,
    registered,
)

NOT_USER_IDS: list[Any] = [
    *("", "0", "-1", "+1", "01", "1 2", " 1", "1 ", "1\n", "\n1", "1.0", "1e3", "*", "1*", "?"),
    *("{1}", "[1]", "../", "1:2", "٣", "１", "1\x00", "9" * 10_000, str(2**63), "null"),
    *(0, -1, 2**63, True, False, None, 1.0, b"1", [1], {1}),
]


def test_the_four_names_are_the_protocols() -> None:
    """The contract's keys, exactly."""
    keys = [space.key(7) for space in (PSYCHE, CANVAS, SESSION, CONVO_HISTORY)]
    assert keys == ["psyche:7", "canvas:7", "session:7", "convo_history:7"]


def test_the_registry_holds_each_name_once() -> None:
    """A keyspace is found by its name."""
    assert list(REGISTRY) == ["psyche", "canvas", "session", "convo_history"]


@pytest.mark.parametrize("value", NOT_USER_IDS)
def test_user_id_that_is_not_canonical(value: Any) -> None:
    """Anything but a canonical positive 64-bit integer is refused before it reaches a server."""
    with pytest.raises(InvalidKey):
        PSYCHE.key(value)


@given(st.integers(1, 2**63 - 1))
def test_user_id_in_both_forms(user_id: int) -> None:
    """A number and its text give the same key, and the key gives the number back."""
    assert PSYCHE.key(user_id) == PSYCHE.key(str(user_id)) == f"psyche:{user_id}"
    assert PSYCHE.user_id(PSYCHE.key(user_id)) == user_id


@given(st.text())
def test_user_id_from_any_text(text: str) -> None:
    """Text is a user id only if it is the very text of the number."""
    try:
        found = str(canonical_user_id(text))
    except InvalidKey:
        found = None
    assert found in (None, text)


def test_refusal_of_an_endless_text() -> None:
    """The message stays short."""
    with pytest.raises(InvalidKey) as refusal:
        canonical_user_id("9" * 10_000)
    assert len(str(refusal.value)) < 80


@pytest.mark.parametrize(
    "key",
    ["psyche", "psyche:", "psyche:01", "psyche:1:2", "canvas:1", "psyche:x", f"psyche:{2**63}"],
)
def test_key_that_is_not_of_the_keyspace(key: str) -> None:
    """A foreign key gives no user."""
    assert PSYCHE.user_id(key) is None


@pytest.mark.parametrize("part", ["", "a b", "*", "a:b", "a\n", "ä", "{a}", "../", "a" * 129])
def test_internal_key_part_that_is_not_a_token(part: str) -> None:
    """What could be a glob, a separator or endless is refused."""
    with pytest.raises(InvalidKey):
        CANVAS_INDEX.dirty.key(part)


def test_internal_keys_have_three_parts() -> None:
    """Protocol 4.1: `service:key:id`."""
    assert CANVAS_INDEX.dirty.key(0) == "canvas:dirty:0"
    assert all(space.key("x").count(":") == 2 for space in INTERNAL)


@pytest.mark.parametrize(
    "space",
    [
        Keyspace("psyche", "klepsydra", "string", PSYCHE.ttl_ms),
        Keyspace("other", "other", "string", None),
        InternalKeyspace("canvas", "dirty"),
        "psyche",
        None,
    ],
)
def test_keyspace_outside_the_registry(space: Any) -> None:
    """A look-alike is refused, too."""
    with pytest.raises(UnknownKeyspace):
        registered(space)


def test_lifetimes_follow_the_settings(settings: Any) -> None:
    """Lifetimes are read at call time; a session's is in its document."""
    settings.AEVON_CACHE = {
        **settings.AEVON_CACHE,
        "PSYCHE_TTL_SECONDS": 1,
        "CANVAS_IDLE_TTL_SECONDS": 2,
        "CONVO_HISTORY_TTL_SECONDS": 3,
    }
    ttls = [space.ttl_ms() for space in (PSYCHE, CANVAS, CONVO_HISTORY) if space.ttl_ms]
    assert ttls == [1000, 2000, 3000]
    assert SESSION.ttl_ms is None


def test_a_declared_keyspace_is_one_like_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the registry, with its lifetime; each name once."""
    monkeypatch.setattr(keyspace, "REGISTRY", dict(REGISTRY))
    wallet = declare("wallet", service="purses", ttl_seconds=0.5)
    assert registered(wallet) is wallet
    assert wallet.ttl_ms is not None
    assert (wallet.key(7), wallet.user_id("wallet:7"), wallet.ttl_ms()) == ("wallet:7", 7, 500)
    with pytest.raises(ValueError, match="`wallet` is purses's already"):
        declare("wallet", service="others", ttl_seconds=1)


@pytest.mark.parametrize("name", ["", "Wallet", "wal-let", "wallet:x", "1wallet", "w" * 33])
def test_a_name_that_no_keyspace_may_have(name: str) -> None:
    """It could not stand in a key, or not be told from another."""
    with pytest.raises(ValueError, match="A keyspace is called"):
        declare(name, service="purses", ttl_seconds=1)


def test_a_declared_keyspace_has_a_lifetime() -> None:
    """Above zero."""
    with pytest.raises(ValueError, match="needs a lifetime"):
        declare("wallet", service="purses", ttl_seconds=0)
