"""The address leads to a server that knows less: a replica, or an older snapshot (faults 9-11)."""

import contextlib
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rest_framework.test import APIClient

from aevon import env
from aevon.cache import conf, outbox, resources
from aevon.cache.connection import Store, manager, store
from aevon.cache.metrics import FAILURES, PUBLISHES
from aevon.cache.tasks import drain_outbox
from aevon.celery import app as celery
from aevon.embedded import CacheServer
from aevon.ports import free_port
from canvas import services as canvas
from canvas.models import Canvas
from tests.cache.conftest import counted
from tests.cache.doors import Door, door
from tests.faults.witness import Witness, busy, direct, hits, is_closed
from tests.klepsydra.rows import PSYCHES
from tests.servers import ROOT, environment
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)


# --- the live node becomes a replica -----------------------------------------------------------


def demote(server: CacheServer) -> None:
    """Make it the replica of a server that is not there."""
    with direct(server) as raw:
        raw.execute_command("REPLICAOF", "127.0.0.1", free_port())


def promote(server: CacheServer) -> None:
    """Make it a primary."""
    with direct(server) as raw:
        raw.execute_command("REPLICAOF", "NO", "ONE")


def connections_of_the_application(server: CacheServer) -> int:
    """How many the server has, without the one that asks."""
    with direct(server) as raw:
        return len(raw.client_list(_type="normal")) - 1


def test_live_node_that_becomes_a_replica(
    server: CacheServer, make_players: Any, witness: Witness
) -> None:
    """The first write drops the pool; PostgreSQL serves, and no write is said to be cached that is
    not (fault 9)."""
    players = make_players(5)
    for user_id in players:
        witness.play(user_id)
    assert connections_of_the_application(server) > 0
    demote(server)
    with counted(PUBLISHES, "psyche", "stored") as stored:
        witness.play(players[0])
        assert eventually(lambda: connections_of_the_application(server) == 0, 5)
        for user_id in players:
            witness.play(user_id)
            witness.save(user_id)
            witness.read(user_id)
        assert stored() == 0
    assert outbox.depth() >= len(players)
    promote(server)
    assert eventually(lambda: hits(players[0]))
    witness.read_all(players)
    assert witness.stale == []


@contextlib.contextmanager
def as_process(other: Store) -> Iterator[None]:
    """What is done here is done by a process with that store."""
    mine = store()
    manager._store = other
    try:
        yield
    finally:
        manager._store = mine


def test_process_that_only_reads_from_a_live_node_that_becomes_a_replica(
    server: CacheServer, make_players: Any, witness: Witness
) -> None:
    """It is not told by any error, and yet serves nothing stale once it has asked what its server
    is, as it does every second (fault 9)."""
    (player,) = make_players(1)
    witness.play(player)
    reader = Store(conf.current())
    with as_process(reader):
        witness.read(player)
    demote(server)
    witness.play(player)
    time.sleep(manager.ROLE_SECONDS)
    with as_process(reader):
        witness.read(player)
    reader.pool.disconnect()
    assert witness.stale == []


def test_live_node_that_becomes_a_replica_under_load(
    server: CacheServer, make_players: Any, witness: Witness
) -> None:
    """Nobody gets an error or something stale, then or when it is a primary again (fault 9)."""
    players = make_players(5)
    witness.read_all(players)
    read, play = witness.read, witness.play
    with busy(*[lambda call=call: call(random.choice(players)) for call in (read, read, play)]):
        for _ in range(2):
            with counted(FAILURES, "not-now") as refusals:
                demote(server)
                assert eventually(lambda refusals=refusals: refusals() > 0)
            time.sleep(0.3)
            promote(server)
            assert eventually(is_closed)
    assert eventually(lambda: any(map(hits, players)))
    assert witness.stale == []
    assert witness.lost_plays(players) == {}


@pytest.fixture
def worker(server: CacheServer) -> Iterator["subprocess.Popen[str]"]:
    """A Celery worker whose broker is the cache server, as in `make run`."""
    command = ("-m", "celery", "--quiet", "-A", "aevon", "worker", "--concurrency", "1")
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", *command, "--without-mingle", "--without-gossip"],
        cwd=ROOT,
        env=environment(server.url),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def test_worker_outlives_a_broker_that_becomes_a_replica(
    server: CacheServer, worker: "subprocess.Popen[str]", make_players: Any
) -> None:
    """The server breaks off its wait for tasks with an error of its own, and then refuses to let
    it wait (fault 9): it goes on when there is a primary again."""
    players = make_players(2)

    def drained() -> bool:
        with celery.connection_for_write(env.broker_url(server.url)) as broker:
            drain_outbox.apply_async(connection=broker)
        return eventually(lambda: outbox.depth() == 0, 1)

    assert eventually(drained, 30)
    for seconds in (0.2, 3):
        demote(server)
        time.sleep(seconds)
        promote(server)
        outbox.add(PSYCHES.keyspace, players)
        assert eventually(drained, 30)
    assert worker.poll() is None


# --- a lagging replica is promoted -------------------------------------------------------------


@pytest.fixture
def entrance(server: CacheServer, use: Any) -> Iterator[Door]:
    """The address of whichever server is the primary."""
    with door(server.port) as opened:
        use(server, opened.port)
        yield opened


def test_lagging_replica_that_is_promoted(
    server: CacheServer,
    entrance: Door,
    make_server: Callable[..., CacheServer],
    make_players: Any,
    witness: Witness,
) -> None:
    """Of what it holds, which lacks the last thousand writes, nothing is believed (fault 10)."""
    players = make_players(50)
    witness.read_all(players)
    replica = make_server()
    with direct(replica) as raw:
        raw.config_set("masterauth", server.password)
        raw.replicaof("127.0.0.1", server.port)
        assert eventually(lambda: raw.info("replication")["master_link_status"] == "up", 30)
        assert eventually(lambda: raw.dbsize() >= len(players))
        replica.pause()
        with direct(server) as primary:
            primary.execute_command("CLIENT", "KILL", "TYPE", "replica")
        for number in range(1000):
            witness.play(players[number % 50])
        resources.repair_waiting()  # as a listener does: nothing waits to be repaired
        with busy(lambda: witness.read(random.choice(players))):
            server.kill()
            replica.resume()
            assert raw.get(f"psyche:{players[0]}")
            promote(replica)
            entrance.to = replica.port
            witness.read_all(players)
            assert eventually(is_closed)
            witness.read_all(players)
            assert eventually(lambda: hits(players[0]))
    witness.read_all(players)
    assert witness.stale == []
    assert witness.lost_plays(players) == {}


# --- an older snapshot is loaded ---------------------------------------------------------------


@pytest.fixture
def restart_with_old_memory(server: CacheServer) -> Callable[[Callable[[], None]], None]:
    """`restart_with_old_memory(act)`: the server forgets what it was told during `act`."""

    def restart(act: Callable[[], None]) -> None:
        snapshot = server.folder / "dump.rdb"
        direct(server).save()
        kept = shutil.copy(snapshot, server.folder / "old.rdb")
        act()
        server.stop()
        shutil.copy(kept, snapshot)
        server.start()

    return restart


def test_older_snapshot(
    server: CacheServer,
    restart_with_old_memory: Any,
    make_players: Any,
    browser: Callable[[int], APIClient],
    witness: Witness,
) -> None:
    """No state that it brings back is believed, and no session that has ended (fault 11)."""
    players = make_players(20)
    ended = browser(players[0])
    assert ended.get("/api/v1/klepsydra/psyche/").status_code == 200
    witness.read_all(players)

    def act() -> None:
        for user_id in players:
            witness.play(user_id)
            witness.save(user_id)
        assert ended.post("/api/v1/auth/logout/").status_code == 204
        resources.repair_waiting()  # as a listener does: nothing waits to be repaired

    restart_with_old_memory(act)
    assert direct(server).get(f"psyche:{players[0]}")
    witness.read_all(players)
    for user_id in players:
        witness.read(user_id)
    assert ended.get("/api/v1/klepsydra/psyche/").status_code == 401
    assert eventually(lambda: hits(players[0]))
    witness.read_all(players)
    assert witness.stale == []


def draw(user_id: int, number: int) -> None:
    """The user's canvas shows this number."""
    app = {
        "type": "note",
        "title": str(number),
        "position": {"x": 0, "y": 0},
        "size": {"width": 300, "height": 200},
        "zIndex": 1,
    }
    canvas.change(user_id, {"patch": {"microApps": {"note": app}}})


def drawn(layout: dict[str, Any]) -> int:
    """The number that a layout shows."""
    return int(layout["microApps"]["note"]["title"])


@pytest.mark.parametrize("unsaved", [False, True], ids=["saved", "unsaved"])
def test_older_snapshot_of_a_canvas(
    restart_with_old_memory: Any, make_players: Any, unsaved: bool
) -> None:
    """A layout of it that was still unsaved, or was not, never replaces what has been persisted
    since (fault 11)."""
    (player,) = make_players(1)
    draw(player, 1)
    if not unsaved:
        canvas.persist_now()

    def act() -> None:
        for number in range(2, 6):
            draw(player, number)
        canvas.persist_now()

    restart_with_old_memory(act)
    before = Canvas.objects.get(pk=player).revision
    store().command("PING")
    for _ in range(3):
        canvas.persist_now()
        row = Canvas.objects.get(pk=player)
        assert row.revision >= before
        assert drawn(row.layout) == 5
    assert drawn(canvas.live(player).layout) == 5
