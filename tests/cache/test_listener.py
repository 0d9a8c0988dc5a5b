"""The listener, with writers of its own and of others, and with servers that go away."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from aevon.cache import listener, outbox, processes, resources
from aevon.cache.connection import store
from aevon.cache.keyspace import CANVAS, PSYCHE
from aevon.cache.metrics import FAILURES
from tests import servers
from tests.cache import ledgers
from tests.cache.conftest import counted
from tests.cache.entry_states import put
from tests.servers import ROOT
from tests.threads import in_thread
from tests.waiting import eventually

WAITS, BACK = "The listener waits for PostgreSQL", "The listener is back"
BACKENDS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'aevon listener'"

# The listener has connections of its own: it sees what is committed.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("noted")]


@pytest.fixture
def noted(tables: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own notes stand for `psyche`, and for nothing else."""
    monkeypatch.setattr(resources, "_registry", {"psyche": ledgers.NOTE_RESOURCE})


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a notification wakes the listener."""
    monkeypatch.setattr(listener, "POLL_SECONDS", 30)


@pytest.fixture
def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    """The listener looks, and tries again, twenty times a second."""
    monkeypatch.setattr(listener, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(listener, "RETRY_SECONDS", 0.05)


@pytest.fixture
def start() -> Iterator[Callable[[], threading.Event]]:
    """`stop = start()`: a listener that listens by now; the end of the test stops it."""
    running: list[tuple[threading.Event, threading.Thread]] = []

    def begin() -> threading.Event:
        stop = threading.Event()
        thread = threading.Thread(target=in_thread(lambda: listener.listen(stop)))
        running.append((stop, thread))
        thread.start()
        assert eventually(listening)
        return stop

    yield begin
    for stop, thread in running:
        stop.set()
        thread.join(5)
        assert not thread.is_alive()


@pytest.fixture
def stranger() -> Iterator[psycopg.Connection[Any]]:
    """A connection that knows nothing of the application."""
    with psycopg.connect(servers.database_url(), autocommit=True) as other:
        yield other


def listening() -> bool:
    """Whether a listener has said LISTEN."""
    return bool(ledgers.query(f"{BACKENDS} AND query = 'LISTEN aevon_cache'"))


def nothing_waits() -> bool:
    """Whether the outbox is empty."""
    return outbox.depth() == 0


def put_stale(user_id: int) -> None:
    """An entry that is older than its row."""
    ledgers.add_notes(user_id, text="new", version=2)
    put(PSYCHE.key(user_id), {"userId": user_id, "text": "old", "version": 1})


def is_gone(user_id: int) -> bool:
    """Whether the entry has been removed."""
    return not store().command("EXISTS", PSYCHE.key(user_id))


def note(other: psycopg.Connection[Any], user_id: int) -> None:
    """What the triggers do when somebody else changes a row."""
    other.execute(
        "INSERT INTO cache_outbox (keyspace, user_id, added_at) VALUES ('psyche', %s, now())"
        " ON CONFLICT (keyspace, user_id) DO UPDATE SET added_at = now()",
        [user_id],
    )


def test_the_listener_tells_when_it_last_looked(
    start: Any, restless: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its process' next report."""
    reporter = processes.Reporter("listener")
    monkeypatch.setattr(processes, "_reporter", reporter)
    start()
    assert eventually(lambda: reporter.worked_at)
    first = reporter.worked_at or 0
    assert eventually(lambda: (reporter.worked_at or 0) > first)


# --- what it does ------------------------------------------------------------------------------


def test_what_the_application_notes_is_repaired(start: Any) -> None:
    """Nobody notifies: the listener looks by itself."""
    start()
    put_stale(7)
    outbox.add(PSYCHE, [7])
    assert eventually(lambda: is_gone(7), seconds=10)
    assert eventually(nothing_waits)


def test_what_others_note_is_repaired_at_once(
    start: Any, patient: None, stranger: psycopg.Connection[Any]
) -> None:
    """They notify."""
    start()
    put_stale(7)
    note(stranger, 7)
    assert eventually(lambda: is_gone(7), seconds=10)
    assert eventually(nothing_waits)


def test_a_notification_without_a_note_is_no_trouble(
    start: Any, patient: None, stranger: psycopg.Connection[Any]
) -> None:
    """Anybody may send one; the next finds the listener listening."""
    start()
    stranger.execute("NOTIFY aevon_cache, 'anything'")
    put_stale(7)
    note(stranger, 7)
    assert eventually(lambda: is_gone(7), seconds=10)


def test_what_was_noted_while_nobody_listened_is_repaired_at_the_start(
    start: Any, patient: None
) -> None:
    """A notification that nobody heard is not needed."""
    put_stale(7)
    outbox.add(PSYCHE, [7])
    start()
    assert eventually(lambda: is_gone(7), seconds=10)


def test_a_burst_of_notifications_is_served_together(
    start: Any, patient: None, stranger: psycopg.Connection[Any], monkeypatch: Any
) -> None:
    """500 changes in a transaction cost a drain, not 500."""
    drains = []
    repair_waiting = resources.repair_waiting

    def drain() -> int:
        drains.append(1)
        return repair_waiting()

    monkeypatch.setattr(resources, "repair_waiting", drain)
    start()
    with stranger.transaction():
        for user_id in range(1, 501):
            note(stranger, user_id)
            stranger.execute("SELECT pg_notify('aevon_cache', %s)", [str(user_id)])
    assert eventually(nothing_waits)
    assert len(drains) < 10


def test_two_listeners_are_harmless(start: Any, stranger: psycopg.Connection[Any]) -> None:
    """Both hear of it."""
    start()
    start()
    for user_id in range(1, 21):
        put_stale(user_id)
        note(stranger, user_id)
    assert eventually(lambda: all(map(is_gone, range(1, 21))), seconds=10)
    assert eventually(nothing_waits)


# --- outages -----------------------------------------------------------------------------------


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the listener has logged, without reasons."""
    records = [record for record in caplog.records if record.name == listener.__name__]
    return [record.getMessage().partition(":")[0] for record in records]


def test_it_outlives_its_connection(
    start: Any, patient: None, stranger: psycopg.Connection[Any], caplog: Any
) -> None:
    """Said once when it is lost, and once when it is back; what was noted meanwhile is found."""
    start()
    stranger.execute(f"SELECT pg_terminate_backend(pid) FROM ({BACKENDS}) AS found")
    put_stale(7)
    note(stranger, 7)
    assert eventually(lambda: is_gone(7))
    assert eventually(lambda: said(caplog) == [WAITS, BACK])
    put_stale(8)
    note(stranger, 8)
    assert eventually(lambda: is_gone(8), seconds=10)


def test_it_outlives_postgresql(start: Any, restless: None, caplog: Any) -> None:
    """Many attempts without a server are one line, and its return is another."""
    if servers.POSTGRES is None:
        pytest.skip("PostgreSQL is not this test run's own")
    start()
    connection.close_pool()  # type: ignore[attr-defined]  # or the test meets its broken ones
    try:
        servers.POSTGRES.stop()
        time.sleep(0.5)
    finally:
        servers.POSTGRES.start()
        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]
    put_stale(7)
    outbox.add(PSYCHE, [7])
    assert eventually(lambda: is_gone(7))
    assert eventually(lambda: said(caplog) == [WAITS, BACK])


def test_it_outlives_the_cache(start: Any, server: Any, brief: None, restless: None) -> None:
    """What waits stays in the outbox until the cache is back."""
    start()
    server.stop()
    outbox.add(PSYCHE, [7])
    with counted(FAILURES, "breaker-open") as refused:
        assert eventually(lambda: refused() > 3)
    assert outbox.depth() == 1
    server.start()
    assert eventually(nothing_waits)


def test_it_outlives_a_missing_table(start: Any, restless: None, caplog: Any) -> None:
    """As between two migrations; said once."""
    start()
    ledgers.query("ALTER TABLE cache_outbox RENAME TO later")
    try:
        assert eventually(lambda: "does not exist" in caplog.text)
        time.sleep(0.3)
    finally:
        ledgers.query("ALTER TABLE later RENAME TO cache_outbox")
    assert caplog.text.count('relation "cache_outbox" does not exist') == 1
    put_stale(7)
    outbox.add(PSYCHE, [7])
    assert eventually(lambda: is_gone(7))


# --- its end -----------------------------------------------------------------------------------


def seconds_to_end(stop: threading.Event) -> float:
    """How long the listener's connection lives after `stop`."""
    began = time.monotonic()
    stop.set()
    assert eventually(lambda: not ledgers.query(BACKENDS))
    return time.monotonic() - began


def test_it_ends_when_it_is_told(start: Any, patient: None) -> None:
    """Though nothing notifies, and long before it would look by itself."""
    assert seconds_to_end(start()) < 5


def test_it_ends_while_postgresql_is_away(monkeypatch: Any, caplog: Any) -> None:
    """Between two attempts. Until then it is at work: a restart would help nobody."""
    reporter = processes.Reporter("listener")
    monkeypatch.setattr(processes, "_reporter", reporter)
    monkeypatch.setattr(listener, "RETRY_SECONDS", 60)
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")
    stop = threading.Event()
    thread = threading.Thread(target=in_thread(lambda: listener.listen(stop)))
    thread.start()
    try:
        assert eventually(lambda: WAITS in caplog.text)
        assert eventually(lambda: reporter.worked_at)
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()


# --- the command -------------------------------------------------------------------------------


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    """`manage.py cache_listen` on the test's servers, listening by now."""
    with subprocess.Popen(
        [sys.executable, "manage.py", "cache_listen"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": servers.database_url()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert eventually(listening, seconds=30)
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_command(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Exit code 0, and a line for each end."""
    process.send_signal(number)
    said, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
    first, stopped, took = said.splitlines()
    assert first == "Listening for changes in PostgreSQL. Ctrl-C ends it."
    assert (stopped, took.split()[0]) == ("Stopped.", "Took")


def test_a_frozen_server_does_not_keep_the_command_from_ending(
    process: subprocess.Popen[str],
) -> None:
    """It waits for an answer that does not come."""
    if servers.POSTGRES is None:
        pytest.skip("PostgreSQL is not this test run's own")
    servers.POSTGRES.pause()
    try:
        time.sleep(1)
        process.terminate()
        assert process.wait(20) == 0
    finally:
        servers.POSTGRES.resume()


def once() -> dict[str, Any]:
    """`cache_listen --once --json`; with its error, when it has one."""
    out = _Printed()
    try:
        call_command("cache_listen", "--once", "--json", stdout=out)
    except CommandError as error:
        return {**json.loads(out.text), "error": str(error)}
    found: dict[str, Any] = json.loads(out.text)
    return found


class _Printed:
    """What a command prints."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


def test_the_command_may_drain_once() -> None:
    """It says how many entries it corrected."""
    put_stale(7)
    outbox.add(PSYCHE, [7, 8])
    told = once()
    assert (told["repaired"], told["left"], is_gone(7)) == (2, 0, True)
    assert "error" not in told


def test_the_command_says_what_it_could_not_correct() -> None:
    """Nobody knows the keyspace here."""
    outbox.add(CANVAS, [7])
    told = once()
    assert (told["repaired"], told["left"]) == (0, 1)
    assert told["error"] == "1 entries could not be corrected yet."


def test_the_command_without_a_cache_says_so(away: None) -> None:
    """Nothing was drained: exit code 1."""
    outbox.add(PSYCHE, [7])
    assert "cache cannot be reached" in once()["error"]
