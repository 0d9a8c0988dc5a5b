"""An exact limit on attempts."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from aevon.cache import (
    LOGIN_ATTEMPTS_BY_NAME,
    InternalKeyspace,
    InvalidKey,
    UnknownKeyspace,
    rate_limit,
)
from aevon.cache.connection import reset, store
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("clean")
KEY = "auth:login-name:ada"


def reserve(limit: int = 3, window_seconds: int = 60) -> int:
    """One attempt; how long to wait."""
    return rate_limit.reserve(
        LOGIN_ATTEMPTS_BY_NAME, "ada", limit=limit, window_seconds=window_seconds
    )


def give_back() -> None:
    """One attempt that succeeded."""
    rate_limit.give_back(LOGIN_ATTEMPTS_BY_NAME, "ada", limit=3, window_seconds=60)


def test_attempts_up_to_the_limit() -> None:
    """They are allowed; the next waits for the end of the window, and is not counted."""
    assert [reserve() for _ in range(3)] == [0, 0, 0]
    assert [50 <= reserve() <= 60 for _ in range(5)] == [True] * 5
    assert store().command("GET", KEY) == b"3"


def test_sixteen_callers_at_once() -> None:
    """Exactly as many are allowed as the limit says."""
    barrier = Barrier(16)

    def call(_: int) -> list[int]:
        barrier.wait()
        return [reserve(limit=50) for _ in range(10)]

    with ThreadPoolExecutor(16) as threads:
        waits = [wait for each in threads.map(call, range(16)) for wait in each]
    assert (waits.count(0), len(waits)) == (50, 160)


def test_window_that_ends() -> None:
    """The count begins anew."""
    assert [reserve(limit=1), reserve(limit=1) > 0] == [0, True]
    assert 50_000 < store().command("PTTL", KEY) <= 60_000
    store().command("PEXPIRE", KEY, 1)
    assert eventually(lambda: reserve(limit=1) == 0)


def test_window_is_fixed() -> None:
    """Later attempts do not move its end."""
    reserve()
    store().command("PEXPIRE", KEY, 30_000)
    reserve()
    assert 0 < store().command("PTTL", KEY) <= 30_000


def test_attempt_given_back() -> None:
    """It is not counted, and the window stays."""
    reserve(limit=1)
    give_back()
    assert reserve(limit=1) == 0
    assert store().command("TTL", KEY) > 0


def test_more_given_back_than_taken() -> None:
    """The count does not go below zero; no counter without an end is made."""
    for _ in range(3):
        give_back()
    assert store().command("EXISTS", KEY) == 0
    assert [reserve(limit=1), reserve(limit=1) > 0] == [0, True]


def test_counter_that_never_ends() -> None:
    """A counter without a lifetime locks nobody out."""
    store().command("SET", KEY, 99)
    assert reserve() == 0
    assert 0 < store().command("TTL", KEY) <= 60


@pytest.mark.parametrize("command", [("SET", KEY, "x"), ("LPUSH", KEY, "x"), ("SET", KEY, "")])
def test_counter_that_is_none(command: tuple[str, ...]) -> None:
    """It is replaced; giving back leaves it alone."""
    store().command(*command)
    give_back()
    assert [reserve(limit=1), reserve(limit=1) > 0] == [0, True]


def test_cache_away(away: None) -> None:
    """Everybody is let through: an outage may not lock anybody out."""
    assert [reserve(limit=1) for _ in range(3)] == [0, 0, 0]
    give_back()


def test_cache_full(full: None) -> None:
    """Everybody is let through."""
    assert [reserve(limit=1) for _ in range(3)] == [0, 0, 0]


def test_part_that_cannot_stand_in_a_key() -> None:
    """Refused before it reaches the server."""
    with pytest.raises(InvalidKey):
        rate_limit.reserve(LOGIN_ATTEMPTS_BY_NAME, "a b*", limit=1, window_seconds=1)


def test_one_round_trip(trips: Any) -> None:
    """Counting, deciding and setting the lifetime."""
    reset()
    reserve()
    with trips() as t:
        reserve()
    assert t.count == 1


def test_keyspace_outside_the_registry() -> None:
    """Refused, and nothing is counted."""
    stranger = InternalKeyspace("auth", "stranger")
    with pytest.raises(UnknownKeyspace):
        rate_limit.reserve(stranger, "ada", limit=3, window_seconds=60)
    with pytest.raises(UnknownKeyspace):
        rate_limit.give_back(stranger, "ada", limit=3, window_seconds=60)
    assert store().command("DBSIZE") == 0
