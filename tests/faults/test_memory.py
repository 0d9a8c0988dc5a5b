"""The cache has no room, forgets at random, or forgets its scripts (faults 7, 13, 25)."""

import contextlib
import itertools
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from aevon.cache.connection import store
from aevon.cache.metrics import FAILURES, PUBLISHES
from aevon.embedded import CacheServer
from tests.cache.conftest import counted
from tests.faults.witness import Witness, busy, direct, hits, is_closed
from tests.klepsydra.rows import SLUG
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)


# --- full --------------------------------------------------------------------------------------


AMPLE = 2**30  # bytes: less has been set here
_numbers = itertools.count()


def fill(server: CacheServer) -> None:
    """Leave no room for anything."""
    with direct(server) as raw:
        if not 0 < int(raw.config_get("maxmemory")["maxmemory"]) < AMPLE:
            raw.config_set("maxmemory", raw.info("memory")["used_memory"] + 50_000)
        with contextlib.suppress(redis.OutOfMemoryError):
            while True:
                raw.set(f"filler:{next(_numbers)}", "x" * 1000)


def make_room(server: CacheServer) -> None:
    """End the shortage."""
    with direct(server) as raw:
        raw.config_set("maxmemory", 0)


def test_full_memory(server: CacheServer, make_players: Any, witness: Witness) -> None:
    """Entries that a write makes old are removed, reads come from PostgreSQL, and the metrics say
    why (fault 7)."""
    players = make_players(200)
    witness.read_all(players)
    fill(server)
    works = [witness.read, witness.play, witness.save]
    with counted(PUBLISHES, "psyche", "full") as full:
        with busy(*[lambda work=work: work(random.choice(players)) for work in works]):
            while full() < 100:
                time.sleep(0.05)
                fill(server)
                witness.read_all(players)
        assert witness.stale == []
    assert is_closed()
    witness.read_all(players)
    make_room(server)
    witness.read(players[0])
    assert hits(players[0])
    assert witness.stale == []


def test_requests_while_the_memory_is_full(
    server: CacheServer, make_players: Any, browser: Any, witness: Witness
) -> None:
    """Every endpoint answers (fault 7)."""
    (player,) = make_players(1)
    client = browser(player)
    fill(server)
    statuses = []
    app = {"title": "a", "type": "note", "position": {"x": 0, "y": 0}, "zIndex": 1}
    app |= {"size": {"width": 300, "height": 200}}
    for _ in range(100):
        fill(server)
        answers = [
            client.get("/api/v1/klepsydra/psyche/"),
            client.post("/api/v1/klepsydra/interactions/", {"instrument": SLUG, "stake": 1}),
            client.patch("/api/v1/canvas/", {"microApps": {"a": app}}),
            client.get("/api/v1/canvas/"),
            client.get("/api/v1/auth/sessions/"),
        ]
        statuses += [answer.status_code for answer in answers]
    assert set(statuses) == {200}
    witness.plays[player] = 100
    assert witness.lost_plays([player]) == {}
    make_room(server)
    assert eventually(lambda: hits(player))


# --- forgetful ---------------------------------------------------------------------------------

READS = 20_000
EVICTIONS = 1000


def crowd(witness: Witness, players: list[int], *, at_once: int = 10) -> list[Callable[[], object]]:
    """One who reads now this one and now that, two who read several at once, one who plays and
    one who edits."""
    return [
        lambda: witness.read(random.choice(players)),
        lambda: witness.read_all(random.sample(players, at_once)),
        lambda: witness.read_all(random.sample(players, at_once)),
        lambda: witness.play(random.choice(players)),
        lambda: witness.save(random.choice(players)),
    ]


def test_keys_that_are_deleted_all_the_time(
    server: CacheServer, make_players: Any, witness: Witness
) -> None:
    """A state, lease or fence that goes every 2 ms makes nothing stale (fault 13)."""
    players = make_players(10)
    deleted = 0
    with direct(server) as raw, busy(*crowd(witness, players)):
        while witness.reads < READS:
            deleted += raw.delete(f"psyche:{random.choice(players)}")
            time.sleep(0.002)
    assert deleted > 200
    assert witness.stale == []


def test_memory_that_evicts(server: CacheServer, make_players: Any, witness: Witness) -> None:
    """Whatever the server throws out to make room makes nothing stale (fault 13)."""
    players = make_players(200)
    witness.read_all(players)
    with direct(server) as raw, busy(*crowd(witness, players, at_once=40)):
        time.sleep(0.3)  # their connections take memory, too
        raw.config_set("maxmemory-policy", "allkeys-lru")
        raw.config_set("maxmemory", raw.info("memory")["used_memory"] - 30_000)
        deadline = time.monotonic() + 60
        while witness.reads < READS or _evicted(raw) < EVICTIONS:
            assert time.monotonic() < deadline, (witness.reads, _evicted(raw))
            with contextlib.suppress(redis.OutOfMemoryError):
                raw.set(f"filler:{next(_numbers) % 50}", "x" * random.randrange(2000))
            time.sleep(0.002)
    assert witness.stale == []


def _evicted(raw: Any) -> int:
    return int(raw.info("stats")["evicted_keys"])


def test_memory_that_is_flushed(server: CacheServer, make_players: Any, witness: Witness) -> None:
    """Everything that goes at once makes nothing stale (fault 13)."""
    players = make_players(10)
    with direct(server) as raw, busy(*crowd(witness, players)):
        while witness.reads < READS // 10:
            raw.flushall()
            time.sleep(0.005)
    assert witness.stale == []


# --- without scripts ---------------------------------------------------------------------------


def test_scripts_that_are_flushed_under_load(
    server: CacheServer, make_players: Any, witness: Witness
) -> None:
    """A script that the server has forgotten is sent again: nobody notices (fault 25)."""
    players = make_players(10)

    def read_what_is_missing() -> None:
        store().command("UNLINK", f"psyche:{players[0]}")
        witness.read(players[0])

    kinds = ("connection", "timeout", "not-now", "refused")
    before = [FAILURES.labels(kind)._value.get() for kind in kinds]
    with direct(server) as raw, busy(*crowd(witness, players), read_what_is_missing):
        while sum(witness.plays.values()) < 100:
            raw.script_flush()
            time.sleep(0.0005)
        assert raw.info("commandstats")["cmdstat_eval"]["calls"] > 100
    assert [FAILURES.labels(kind)._value.get() for kind in kinds] == before
    assert is_closed()
    assert witness.stale == []
