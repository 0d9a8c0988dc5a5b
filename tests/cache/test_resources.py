"""What commands, admin and health may do with each keyspace."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.db import OperationalError

from aevon.cache import CacheUnavailable, flush, outbox, resources, write_behind
from aevon.cache.codec import encode
from aevon.cache.connection import store
from aevon.cache.models import Outbox
from aevon.cache.resources import BufferResource, held
from tests.cache.entry_states import got, life, note, put
from tests.cache.ledgers import (
    ALL,
    LINE_RESOURCE,
    LINES,
    NOTE_RESOURCE,
    SHEET_RESOURCE,
    SHEETS,
    Line,
    Sheet,
    add_lines,
    add_notes,
    query,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("tables")]


def edit(user_id: int = 7) -> None:
    """An unsaved change."""
    write_behind.update(SHEETS, user_id, lambda s: Sheet(user_id=user_id, text="x", revision=0))


@pytest.fixture
def only_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry knows the tests' own resources and no service's."""
    monkeypatch.setattr(resources, "_registry", {})
    for each in ALL:
        resources.register(each)


# --- the registry ------------------------------------------------------------------------------


def test_registry(only_ours: None) -> None:
    """Found by the keyspace's name; another name is an error."""
    assert resources.resource("canvas") is SHEET_RESOURCE
    assert resources.resources() == ALL
    with pytest.raises(LookupError):
        resources.resource("django")


def test_users_that_are_forgotten(only_ours: None) -> None:
    """Everything the cache holds on them goes, unsaved or not; nobody else's."""
    for user_id in (7, 8):
        edit(user_id)
        put(f"psyche:{user_id}", note(user_id))
        store().command("LPUSH", f"convo_history:{user_id}", encode(Line(seq=1, text="x")))
    resources.forget_users([7])
    keys = {key.decode() for key in store().command("KEYS", "*")}
    assert keys == {"psyche:8", "canvas:8", "convo_history:8", "canvas:dirty:0", "canvas:since:0"}


def test_users_that_are_forgotten_while_the_cache_is_away(only_ours: None, away: None) -> None:
    """Each entry is noted for repair."""
    resources.forget_users([7, 8])
    assert outbox.depth() == 6


def test_users_whose_entry_cannot_be_removed(only_ours: None) -> None:
    """It is noted for repair, and the others go all the same."""
    put("psyche:7", note(7))
    put("canvas:dirty:7", "not an index")
    store().command("LPUSH", "convo_history:7", "{}")
    resources.forget_users([7])
    assert store().command("EXISTS", "psyche:7", "convo_history:7") == 0
    assert list(Outbox.objects.values_list("keyspace", "user_id")) == [("canvas", 7)]


# --- what is held ------------------------------------------------------------------------------


def test_held_value() -> None:
    """Type, lifetime and value of a key."""
    put("psyche:7", note(7), "EX", 60)
    shown = held(NOTE_RESOURCE.keyspace, 7)
    value = {**note(7), "_incarnation": life().incarnation}
    assert (shown.key, shown.type, shown.value) == ("psyche:7", "string", value)
    assert shown.ttl_seconds is not None
    assert 59 < shown.ttl_seconds <= 60


def test_held_without_expiry() -> None:
    """None stands for no expiry, and for no key."""
    edit()
    shown, nothing = held(SHEETS.projection.keyspace, 7), held(SHEETS.projection.keyspace, 8)
    assert (shown.type, shown.ttl_seconds) == ("string", None)
    assert (nothing.type, nothing.ttl_seconds, nothing.value) == ("none", None, None)


def test_held_list() -> None:
    """The elements."""
    store().command("RPUSH", "convo_history:7", '{"seq":1}', "rubbish")
    assert held(LINES.keyspace, 7).value == [{"seq": 1}, "not JSON: 7 bytes"]


@pytest.mark.parametrize("raw", [b"rubbish", b"\xff", b"[" * 5000])
def test_held_value_that_is_not_json(raw: bytes) -> None:
    """It is not shown, and nothing breaks."""
    put("psyche:7", raw)
    assert held(NOTE_RESOURCE.keyspace, 7).value == f"not JSON: {len(raw)} bytes"


def test_held_key_of_another_type() -> None:
    """Its type is told."""
    store().command("SADD", "psyche:7", "x")
    assert (held(NOTE_RESOURCE.keyspace, 7).type, held(NOTE_RESOURCE.keyspace, 7).value) == (
        "set",
        None,
    )


def test_held_while_the_cache_is_away(away: None) -> None:
    """The caller is told."""
    with pytest.raises(CacheUnavailable):
        held(NOTE_RESOURCE.keyspace, 7)


# --- verdicts ----------------------------------------------------------------------------------


def test_verdicts_on_documents() -> None:
    """Compared with the rows, one query and two round trips for all."""
    add_notes(1, 2, 3, 4, 5)
    put("psyche:1", note(1))
    put("psyche:2", note(2, "old", 0))
    put("psyche:3", b"rubbish")
    store().command("SADD", "psyche:4", "x")
    put("psyche:6", note(6))
    assert NOTE_RESOURCE.verdicts([1, 2, 3, 4, 5, 6, 7]) == {
        1: "in sync",
        2: "stale",
        3: "corrupt",
        4: "corrupt",
        5: "missing",
        6: "stale",
        7: "absent",
    }


def test_verdicts_on_what_stands_in_an_entrys_place() -> None:
    """A tombstone says that there is no row; a fence, a lease, and a state of an earlier life of
    the server say nothing."""
    add_notes(1, 2, 3, 4)
    for start in (0, 4):
        earlier = encode(note(start + 3))
        others = [{"_lease": "x"}, {"_fence": {"x": time.time() * 1000}, "_floor": 0}, earlier]
        for number, value in enumerate(others, 1):
            put(f"psyche:{start + number}", value)
        put(f"psyche:{start + 4}", {"_gone": 9})
    verdicts = NOTE_RESOURCE.verdicts(list(range(1, 9)))
    assert list(verdicts.values()) == [*["missing"] * 3, "stale", *["absent"] * 4]


def test_verdicts_on_unsaved_documents() -> None:
    """A document that is newer than its row is not stale."""
    edit(1)
    edit(2)
    flush.flush(SHEETS)
    edit(3)
    query("UPDATE test_sheet SET revision = 9 WHERE user_id = 2")
    put("canvas:4", {"userId": 4, "text": "", "revision": 0})
    put("canvas:5", b"rubbish")
    assert SHEET_RESOURCE.verdicts([1, 2, 3, 4, 5, 6]) == {
        1: "in sync",
        2: "stale",
        3: "unsaved",
        4: "in sync",
        5: "corrupt",
        6: "absent",
    }


def test_verdicts_on_lists() -> None:
    """Compared with the last elements."""
    for user_id in (1, 2, 3, 4):
        add_lines(user_id, 6)
    LINE_RESOURCE.warm([1, 2])
    store().command("LPOP", "convo_history:2")
    store().command("SET", "convo_history:4", "x")
    store().command("RPUSH", "convo_history:5", "rubbish")
    assert LINE_RESOURCE.verdicts([1, 2, 3, 4, 5, 6]) == {
        1: "in sync",
        2: "stale",
        3: "missing",
        4: "corrupt",
        5: "corrupt",
        6: "absent",
    }


def test_verdicts_while_the_cache_is_away(away: None) -> None:
    """The caller is told."""
    for each in ALL:
        with pytest.raises(CacheUnavailable):
            each.verdicts([7])


# --- warm, drop, discard, repair ---------------------------------------------------------------


def test_rows_and_ledgers() -> None:
    """Who has something in PostgreSQL, and what, as the cache would hold it."""
    add_notes(1)
    add_lines(1, 1)
    query("INSERT INTO test_sheet VALUES (1, 's', 4)")
    assert [each.rows([1, 2]) for each in ALL] == [{1}] * 3
    assert [list(each.user_ids()) for each in ALL] == [[1]] * 3
    assert [each.ledger(1) for each in ALL] == [
        note(1),
        {"userId": 1, "text": "s", "revision": 4, "_persistedRevision": 4},
        [{"seq": 1, "text": "line 1"}],
    ]
    assert [each.ledger(2) for each in ALL] == [None] * 3


def test_warm() -> None:
    """Says what became of each; nothing newer is overwritten."""
    add_notes(1, 2)
    put("psyche:2", note(2, "newer", 9))
    assert NOTE_RESOURCE.warm([1, 2, 3]) == {1: "loaded", 2: "there"}
    assert (got("psyche:1"), got("psyche:2")["text"]) == (note(1), "newer")
    add_lines(1, 6)
    assert LINE_RESOURCE.warm([1, 2]) == {1: "loaded"}


@pytest.mark.parametrize("what", ["drop", "discard", "repair"])
def test_removal(what: str) -> None:
    """Entries and lists go."""
    add_notes(7)
    add_lines(7, 1)
    for each in (NOTE_RESOURCE, LINE_RESOURCE):
        each.warm([7])
        assert not getattr(each, what)([7])
    assert store().command("DBSIZE") == 0


def test_drop_of_an_unsaved_document() -> None:
    """It is persisted first."""
    edit()
    assert SHEET_RESOURCE.drop([7]) == []
    assert query("SELECT revision FROM test_sheet") == [(1,)]
    assert store().command("DBSIZE") == 0


def test_drop_while_postgresql_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be persisted stays."""

    def refuse(_: Any) -> Any:
        raise OperationalError("away")

    edit()
    broken = replace(SHEETS, save=refuse)
    assert BufferResource(SHEETS.projection, broken).drop([7, 8]) == [7]
    assert "unsaved documents stay" in caplog.text
    assert got("canvas:7")["text"] == "x"


def test_repair_of_an_unsaved_document() -> None:
    """What is unsaved stays, what is saved goes."""
    edit(7)
    flush.flush(SHEETS)
    edit(8)
    SHEET_RESOURCE.repair([7, 8])
    assert (got("canvas:7"), got("canvas:8")["text"]) == (None, "x")


def test_versions_that_somebody_has_committed() -> None:
    """Entries that are older go; all, where the version is not known."""
    for user_id in (1, 2, 3):
        put(f"psyche:{user_id}", note(user_id, "held", 2))
    NOTE_RESOURCE.observe({1: 2, 2: 3, 3: None})
    assert [got(f"psyche:{user_id}") is not None for user_id in (1, 2, 3)] == [True, False, False]


def test_versions_of_what_is_not_an_entry() -> None:
    """A document with nothing unsaved goes: versions are not its. A list goes if it is behind."""
    edit(7)
    flush.flush(SHEETS)
    edit(8)
    SHEET_RESOURCE.observe({7: 1, 8: 1})
    assert (got("canvas:7"), got("canvas:8")["text"]) == (None, "x")
    add_lines(7, 1)
    LINE_RESOURCE.warm([7])
    for seen, stays in ((1, 1), (None, 1), (2, 0)):
        LINE_RESOURCE.observe({7: seen})
        assert store().command("EXISTS", "convo_history:7") == stays


def test_versions_while_the_cache_is_away(away: None) -> None:
    """The caller is told: the outbox keeps the row."""
    for each in ALL:
        for version in (None, 3):
            with pytest.raises(CacheUnavailable):
                each.observe({7: version})


def test_discard_of_an_unsaved_document() -> None:
    """It goes, with its mark."""
    edit()
    SHEET_RESOURCE.discard([7])
    assert store().command("DBSIZE") == 0


@contextlib.contextmanager
def nobody_hurt() -> Iterator[None]:
    """A key of somebody else's is there before and after."""
    store().command("SET", "celery:broker:x", "1")
    yield
    assert store().command("GET", "celery:broker:x") == b"1"


def test_removal_of_nobodys() -> None:
    """An empty list of users removes nothing."""
    with nobody_hurt():
        for each in ALL:
            each.drop([])
            each.discard([])
            each.repair([])
