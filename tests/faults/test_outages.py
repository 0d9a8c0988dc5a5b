"""The cache is down, frozen, slow, half out of reach, loading, or back again (faults 1-4, 6, 8)."""

import contextlib
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.db import connection
from rest_framework.test import APIClient

from aevon.cache import outbox
from aevon.cache.connection import reset, store
from aevon.cache.metrics import FAILURES
from aevon.embedded import CacheServer
from tests.cache.conftest import counted
from tests.cache.doors import Door, door
from tests.faults.witness import (
    Witness,
    busy,
    direct,
    hits,
    is_closed,
    median_ms,
    seconds_of,
)
from tests.klepsydra.rows import PSYCHES, SLUG
from tests.threads import in_threads
from tests.waiting import eventually, wait_for_locks

pytestmark = pytest.mark.django_db(transaction=True)

PLAY = {"instrument": SLUG, "stake": 1}
SITE = {"CONNECT_TIMEOUT_SECONDS": 0.1, "READ_TIMEOUT_SECONDS": 0.3}


@pytest.fixture
def time_outs() -> dict[str, float]:
    """Those of a site."""
    return SITE


# --- down --------------------------------------------------------------------------------------


def use_the_site(client: APIClient, requests: int, statuses: list[int]) -> None:
    """Look and play in turn."""
    for number in range(requests):
        if number % 2:
            answer = client.post("/api/v1/klepsydra/interactions/", PLAY)
        else:
            answer = client.get("/api/v1/klepsydra/psyche/")
        statuses.append(answer.status_code)


def test_a_thousand_requests_while_the_cache_is_killed(
    server: CacheServer, make_players: Any, browser: Any, witness: Witness
) -> None:
    """PostgreSQL serves every one of them, and every play counts (fault 1)."""
    players = make_players(4)
    clients = [browser(user_id) for user_id in players]
    statuses: list[int] = []

    def kill() -> None:
        assert eventually(lambda: len(statuses) > 200, 60)
        server.kill()
        assert len(statuses) < 800

    visits: list[Callable[[], None]] = [
        lambda client=client: use_the_site(client, 250, statuses) for client in clients
    ]
    in_threads([*visits, kill], workers=5)
    assert statuses == [200] * 1000
    witness.plays.update(dict.fromkeys(players, 125))
    assert witness.lost_plays(players) == {}


# --- frozen ------------------------------------------------------------------------------------


def first_calls(call: Callable[[], object], *, go_away: Any, come_back: Any) -> list[float]:
    """How many seconds each of three processes takes to find out that the cache which it uses has
    gone away; this one is the last of them."""
    took = []
    for _ in range(3):
        come_back()
        reset()
        call()
        go_away()
        took.append(seconds_of(call))
    return took


def calls_that_waited(
    witness: Witness, players: list[int], *, go_away: Any, seconds: float, come_back: Any
) -> list[float]:
    """How many seconds those took that met a time-out, of four callers before, during and after
    an absence of the cache. A call during which nothing failed is slow for another reason."""
    waited: list[float] = []

    def call(user_id: int) -> None:
        with counted(FAILURES, "timeout") as timeouts, counted(FAILURES, "connection") as failures:
            took = seconds_of(lambda: random.choice([witness.read, witness.play])(user_id))
            if timeouts() + failures() and took > SITE["READ_TIMEOUT_SECONDS"] * 0.9:
                waited.append(took)

    with busy(*[lambda user_id=user_id: call(user_id) for user_id in players]):
        time.sleep(0.3)
        go_away()
        time.sleep(seconds)
        come_back()
        assert eventually(is_closed)
        time.sleep(0.3)
    return waited


def test_frozen_cache(server: CacheServer, make_players: Any, witness: Witness) -> None:
    """The first call of a process waits for one time-out, and those after it for nothing
    (fault 2)."""
    (player,) = make_players(1)
    witness.read(player)
    alone = median_ms(lambda: PSYCHES.read_one(player))
    with counted(FAILURES, "timeout") as timeouts:
        took = first_calls(
            lambda: witness.read(player), go_away=server.pause, come_back=server.resume
        )
        assert timeouts() == 3
    while_open = median_ms(lambda: witness.read(player))
    server.resume()
    assert statistics.median(took) <= 0.4
    assert while_open - alone <= 5
    assert eventually(lambda: hits(player))


@pytest.mark.parametrize("seconds", [2.5, pytest.param(20, marks=pytest.mark.soak)])
def test_cache_that_freezes_under_load(
    server: CacheServer, make_players: Any, witness: Witness, seconds: float
) -> None:
    """Only the calls that were under way wait for it; when it thaws it serves again, and nothing
    stale (fault 2)."""
    players = make_players(4)
    witness.read_all(players)
    waited = calls_that_waited(
        witness, players, go_away=server.pause, seconds=seconds, come_back=server.resume
    )
    assert 1 <= len(waited) <= 5
    assert eventually(lambda: any(map(hits, players)))
    witness.read_all(players)
    assert witness.stale == []
    assert witness.lost_plays(players) == {}


# --- slow, or half out of reach ----------------------------------------------------------------


@pytest.fixture
def enter(server: CacheServer, use: Any) -> Iterator[Callable[..., Door]]:
    """`enter(**options)`: the door through which this process goes to its cache."""
    with door(server.port) as opened:

        def make(**options: Any) -> Door:
            use(server, opened.port, **options)
            return opened

        yield make


def test_slow_cache(enter: Any, make_players: Any, witness: Witness) -> None:
    """Replies that take 150 to 250 ms are waited for: nobody is sent to PostgreSQL (fault 3)."""
    entrance = enter()
    players = make_players(8)
    witness.read_all(players)
    entrance.delay_seconds = (0.15, 0.25)
    calls = [
        lambda user_id=user_id, number=number: (witness.play if number % 2 else witness.read)(
            user_id
        )
        for user_id in players
        for number in range(6)
    ]

    def failures() -> float:
        assert eventually(is_closed)
        with contextlib.ExitStack() as stack:
            kinds = ("timeout", "connection", "pool-exhausted", "not-now")
            counts = [stack.enter_context(counted(FAILURES, kind)) for kind in kinds]
            in_threads(calls, workers=8)
            return sum(more() for more in counts)

    # A site's time-out leaves 50 ms to a machine that is busy with this very test.
    assert any(failures() == 0 for _ in range(3))
    assert is_closed()
    assert witness.stale == []
    assert witness.lost_plays(players) == {}


def test_half_open_link(enter: Any, make_players: Any, browser: Any) -> None:
    """What is sent disappears: a request takes half a second at the most, and every connection
    comes back to the pool (fault 4)."""
    entrance = enter(POOL_SIZE=4)
    (player,) = make_players(1)
    client = browser(player)
    statuses: list[int] = []

    def get() -> None:
        statuses.append(client.get("/api/v1/klepsydra/psyche/").status_code)

    with counted(FAILURES, "pool-exhausted") as exhausted:
        took = first_calls(
            get,
            go_away=lambda: setattr(entrance, "swallow", True),
            come_back=lambda: setattr(entrance, "swallow", False),
        )
        for _ in range(100):
            get()
        assert exhausted() == 0
    assert statistics.median(took) <= 0.5
    assert statuses == [200] * 106
    entrance.swallow = False
    assert eventually(lambda: hits(player))
    taken = [store().pool.get_connection() for _ in range(4)]
    for each in taken:
        store().pool.release(each)


def test_link_that_becomes_half_open_under_load(
    enter: Any, make_players: Any, witness: Witness
) -> None:
    """Callers at once wait no longer than one, and none of them for a connection (fault 4)."""
    entrance = enter(POOL_SIZE=4)
    players = make_players(4)
    witness.read_all(players)

    with counted(FAILURES, "pool-exhausted") as exhausted:
        waited = calls_that_waited(
            witness,
            players,
            go_away=lambda: setattr(entrance, "swallow", True),
            seconds=1.5,
            come_back=lambda: setattr(entrance, "swallow", False),
        )
        assert exhausted() == 0
    assert 1 <= len(waited) <= 5
    assert statistics.median(waited) <= 0.5
    assert eventually(lambda: any(map(hits, players)))
    assert witness.stale == []
    assert witness.lost_plays(players) == {}


# --- back again --------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", ["old", "none"])
def test_cache_that_comes_back(
    server: CacheServer, make_players: Any, witness: Witness, memory: str
) -> None:
    """What was written meanwhile is repaired before anything is read from it, whether it comes
    back with what it held before or with nothing; five seconds later it serves (fault 6)."""
    players = make_players(10)
    witness.read_all(players)
    direct(server).save()
    with busy(lambda: witness.read(random.choice(players))):
        server.kill()
        for _ in range(20):
            for user_id in players:
                random.choice([witness.play, witness.save])(user_id)
        assert outbox.depth() >= len(players)
        if memory == "none":
            (server.folder / "dump.rdb").unlink()
        server.start()
        back = time.monotonic()
        assert eventually(is_closed, 5)
        assert outbox.depth() == 0
        assert eventually(lambda: hits(players[0]), back + 5 - time.monotonic())
    witness.read_all(players)
    assert witness.stale == []


def test_cache_that_comes_back_while_the_outbox_cannot_be_read(
    server: CacheServer, make_players: Any, witness: Witness
) -> None:
    """It is trusted when what waits has been repaired, and not before that (fault 6)."""
    players = make_players(3)
    witness.read_all(players)
    direct(server).save()
    server.kill()
    for user_id in players:
        witness.play(user_id)
    with psycopg.connect(**connection.get_connection_params()) as other:
        other.execute("LOCK TABLE cache_outbox IN ACCESS EXCLUSIVE MODE")
        server.start()
        with busy(lambda: witness.read(random.choice(players))):
            wait_for_locks()  # the recovery does
            assert not is_closed()
    witness.read(players[0])
    assert eventually(is_closed)
    assert outbox.depth() == 0
    witness.read_all(players)
    assert hits(players[0])
    assert witness.stale == []


# --- loading -----------------------------------------------------------------------------------


class SlowLoader(CacheServer):
    """Takes its time with every key of a snapshot, and answers every 2 MB that it does."""

    def command(self) -> list[str]:
        return [*super().command(), "--key-load-delay", "500"]


def test_cache_that_loads_a_big_snapshot(
    make_server: Any, use: Any, make_players: Any, browser: Any, witness: Witness
) -> None:
    """Requests are served from PostgreSQL until it has been read (fault 8)."""
    server = make_server(SlowLoader)
    use(server)
    players = make_players(2)
    client = browser(players[0])
    witness.read_all(players)
    with direct(server) as raw:
        for number in range(4000):
            raw.set(f"filler:{number}", random.randbytes(20_000))
        raw.save()
    server.kill()
    starting = threading.Thread(target=server.start)
    statuses: list[int] = []
    with counted(FAILURES, "not-now") as refusals:
        starting.start()
        while starting.is_alive():
            statuses.append(client.post("/api/v1/klepsydra/interactions/", PLAY).status_code)
            statuses.append(client.get("/api/v1/klepsydra/psyche/").status_code)
            witness.play(players[1])
            witness.read(players[1])
        assert refusals() > 0
    assert len(statuses) > 100
    assert set(statuses) == {200}
    assert eventually(lambda: hits(players[1]))
    assert witness.stale == []
    witness.plays[players[0]] = len(statuses) // 2
    assert witness.lost_plays(players) == {}
