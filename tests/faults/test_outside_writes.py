"""What psql writes is seen through the HTTP API within a second (guarantee G9)."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from rest_framework.test import APIClient

from aevon.cache.listener import listen
from aevon.embedded import CacheServer
from klepsydra.models import PsycheState
from tests.cache.ledgers import query
from tests.faults.test_crashes import ROOT, environment
from tests.faults.witness import hits
from tests.servers import database_url
from tests.threads import in_thread
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def psql(server: CacheServer) -> Iterator[Callable[..., object]]:
    """`psql(statement, *parameters)`: from a connection that knows nothing of the application."""
    with psycopg.connect(database_url(), autocommit=True) as stranger:
        yield lambda statement, *parameters: stranger.execute(statement, parameters)


def is_listening() -> bool:
    """Whether somebody waits for notifications."""
    backends = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'aevon listener'"
    return bool(query(f"{backends} AND query LIKE 'LISTEN %%' AND datname = current_database()"))


@pytest.fixture(params=["thread", "program"])
def start_listener(request: Any, server: CacheServer) -> Iterator[Callable[[], None]]:
    """`start_listener()`: in a thread, or as `manage.py cache_listen`."""
    with ExitStack() as stack:

        def start_thread() -> None:
            stop = threading.Event()
            thread = threading.Thread(target=in_thread(lambda: listen(stop)))
            thread.start()
            stack.callback(thread.join, 5)
            stack.callback(stop.set)

        def start_program() -> None:
            program = subprocess.Popen(
                [sys.executable, "manage.py", "cache_listen"],
                cwd=ROOT,
                env=environment(server.url),
                stdout=subprocess.DEVNULL,
            )
            stack.callback(program.wait, 10)
            stack.callback(program.terminate)

        yield start_thread if request.param == "thread" else start_program


def amplitude(client: APIClient) -> float:
    """What the API says."""
    return float(client.get("/api/v1/klepsydra/psyche/").json()["amplitude"])


UPDATE = "UPDATE klepsydra_psychestate SET amplitude = %s WHERE user_id = %s"


def test_update_while_a_listener_runs(
    start_listener: Any, psql: Any, make_players: Any, browser: Any
) -> None:
    """It is told at once."""
    (player,) = make_players(1)
    client = browser(player)
    start_listener()
    assert eventually(is_listening, 20)
    slowest = 0.0
    for number in range(1, 21):
        amplitude(client)
        assert hits(player)
        psql(UPDATE, number / 100, player)
        committed = time.monotonic()
        assert eventually(lambda number=number: amplitude(client) == number / 100, 1)
        slowest = max(slowest, time.monotonic() - committed)
    assert slowest <= 1


def test_update_while_no_listener_runs(
    start_listener: Any, psql: Any, make_players: Any, browser: Any
) -> None:
    """It is found when one starts."""
    (player,) = make_players(1)
    client = browser(player)
    amplitude(client)
    psql(UPDATE, 0.25, player)
    assert amplitude(client) == 1.0  # nobody has told the cache
    start_listener()
    assert eventually(is_listening, 20)
    assert eventually(lambda: amplitude(client) == 0.25, 1)


def test_deletion_while_a_listener_runs(start_listener: Any, psql: Any, make_players: Any) -> None:
    """A row that is gone is not served either."""
    (player,) = make_players(1)
    PsycheState.cached.get(player)
    assert hits(player)
    start_listener()
    assert eventually(is_listening, 20)
    psql("DELETE FROM klepsydra_psychestate WHERE user_id = %s", player)
    assert eventually(lambda: PsycheState.cached.get(player) is None, 1)
