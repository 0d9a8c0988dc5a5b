"""PostgreSQL that does not answer, rather than refusing: who waits gives up, who comes is refused
soon, and a long statement is none of that (fault 29)."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, connection
from django.db.utils import OperationalError

from aevon.cache.failsafe import lift_limits, restore_limits
from aevon.embedded import CacheServer, PostgresServer
from aevon.postgresql import watch as watching
from klepsydra.models import PsycheState
from tests.faults.witness import Witness, forget_connections, seconds_of
from tests.threads import in_another_thread

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def frozen(postgresql: PostgresServer) -> Iterator[PostgresServer]:
    """The test run's PostgreSQL, which is frozen by `pause()`."""
    yield postgresql
    postgresql.resume()


def ask(statement: str = "SELECT 1") -> None:
    """On this thread's connection."""
    with connection.cursor() as cursor:
        cursor.execute(statement)


def fails(call: Callable[[], object]) -> float:
    """How long it takes to fail, in a thread of its own."""

    def failing() -> None:
        with pytest.raises(DatabaseError):
            call()

    return seconds_of(lambda: in_another_thread(failing))


def test_who_waits_for_a_frozen_server_gives_up(frozen: PostgresServer) -> None:
    """After some seconds; who comes next is refused soon; when it thaws it is used at once."""

    def freeze_and_ask() -> None:
        ask()
        frozen.pause()
        ask()

    assert 2 < fails(freeze_and_ask) < 5
    assert fails(ask) < 1
    frozen.resume()
    assert seconds_of(lambda: in_another_thread(ask)) < 1


def test_a_transaction_of_a_frozen_server_is_over(frozen: PostgresServer) -> None:
    """Its connection is closed: what the server would still do with it is rolled back."""
    ask()
    connection.set_autocommit(False)
    ask()
    driver = connection.connection
    frozen.pause()
    with pytest.raises(OperationalError):
        ask()
    assert driver.closed
    frozen.resume()
    connection.close()
    ask()


def test_a_long_statement_is_not_a_frozen_server(postgresql: PostgresServer) -> None:
    """With its limits lifted, as in a migration, it takes as long as it takes."""
    lift_limits()
    try:
        assert seconds_of(lambda: ask("SELECT pg_sleep(3.5)")) > 3.4
    finally:
        restore_limits()


@pytest.mark.parametrize(
    ("error", "answers"),
    [
        (psycopg.OperationalError("FATAL:  the database system is starting up"), True),
        (psycopg.errors.AdminShutdown("terminating connection"), True),
        (psycopg.OperationalError("connection refused"), False),
        (psycopg.OperationalError("No route to host"), False),
        (psycopg.OperationalError("server closed the connection unexpectedly"), False),
        (psycopg.errors.ConnectionTimeout("connection timeout expired"), False),
        (watching.Frozen("no answer to SELECT 1"), False),
    ],
)
def test_what_counts_as_an_answer(error: psycopg.Error, answers: bool) -> None:
    """What the server itself has said, and nothing that was said for want of it."""
    assert watching._is_answer(error) is answers


def test_a_thread_that_cannot_start_leaves_no_suspicion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would ever take it back."""

    def start(_: object) -> None:
        raise RuntimeError("can't start new thread")

    watch = watching.Watch()
    with monkeypatch.context() as broken:
        broken.setattr("threading.Thread.start", start)
        watch.suspect()
    watch._heard = 0.0
    assert seconds_of(watch.admit) < 0.1
    watch.suspect()
    assert watch._answered.wait(10)
    watch.admit()


def test_a_write_that_never_reached_postgresql_leaves_the_cache_as_it_was(
    server: CacheServer, postgresql: PostgresServer, make_players: Any, witness: Witness
) -> None:
    """However often it is tried: what was read before can be read on."""
    (player,) = make_players(1)
    witness.read(player)
    forget_connections()
    postgresql.stop()
    for _ in range(3):
        with pytest.raises(DatabaseError):
            witness.play(player)
        state = PsycheState.cached.get(player)
        assert state is not None
        assert state.version == 1
    postgresql.start()
    time.sleep(0.2)
    witness.play(player)
    assert witness.lost_plays([player]) == {}
