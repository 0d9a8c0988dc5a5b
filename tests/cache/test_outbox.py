"""What the cache could not be told."""

import contextlib
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
import pytest
import redis
from django.db import DatabaseError, DataError, connection, transaction
from django.utils import timezone

from aevon.cache import (
    CacheError,
    CacheUnavailable,
    cache_aside,
    conf,
    outbox,
    resources,
    write_through,
)
from aevon.cache.connection import manager, store
from aevon.cache.keyspace import CANVAS, PSYCHE
from aevon.cache.models import Outbox
from aevon.cache.outbox import Repair
from aevon.cache.tasks import drain_outbox
from tests.cache import ledgers
from tests.cache.conftest import back, due
from tests.cache.entry_states import got, note, put, write
from tests.cache.ledgers import NOTES
from tests.servers import without_cache
from tests.threads import in_thread, in_threads

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("tables")]


class Repairs(dict[str, Repair]):
    """Remembers what it was asked to repair."""

    def __init__(self, *names: str) -> None:
        super().__init__({name: partial(self.repair, name) for name in names})
        self.done: list[tuple[str, list[int]]] = []
        self.versions: dict[int, int | None] = {}

    def repair(self, name: str, versions: Mapping[int, int | None]) -> None:
        self.done.append((name, list(versions)))
        self.versions |= versions


def failing(error: BaseException) -> Repair:
    """A repair that raises."""

    def repair(_: Mapping[int, int | None]) -> None:
        raise error

    return repair


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own notes stand for `psyche`."""
    monkeypatch.setitem(resources._registry, "psyche", ledgers.NOTE_RESOURCE)


def test_entry_noted_twice() -> None:
    """One row per key; users in any order, each once; nobody costs nothing."""
    outbox.add(PSYCHE, [3, 1, 3])
    outbox.add(PSYCHE, [1, 2])
    outbox.add(CANVAS, [1])
    outbox.add(CANVAS, [])
    assert outbox.depth() == 4
    assert str(Outbox.objects.earliest("id")) == "psyche:1"


def test_drain() -> None:
    """Each entry is repaired once, and its row goes."""
    outbox.add(PSYCHE, [1, 2])
    outbox.add(CANVAS, [1])
    repairs = Repairs("psyche", "canvas")
    assert outbox.drain(repairs) == 3
    assert sorted((name, sorted(users)) for name, users in repairs.done) == [
        ("canvas", [1]),
        ("psyche", [1, 2]),
    ]
    assert (outbox.depth(), outbox.drain(repairs)) == (0, 0)


def test_drain_in_batches() -> None:
    """The oldest first; one that was noted again keeps its place."""
    for user_id in (5, 3, 4, 5):
        outbox.add(PSYCHE, [user_id])
    repairs = Repairs("psyche")
    assert outbox.drain(repairs, batch=1) == 3
    assert repairs.done == [("psyche", [5]), ("psyche", [3]), ("psyche", [4])]


@pytest.mark.django_db(transaction=True)
def test_a_long_outbox_where_an_empty_one_was_expected() -> None:
    """As after an import: PostgreSQL has looked when nothing waited, as mostly nothing does."""
    outbox.add(PSYCHE, range(1, 20_001))
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM cache_outbox")
        cursor.execute("ANALYZE cache_outbox")
    outbox.add(PSYCHE, range(1, 20_001))
    rows = outbox._waiting("psyche", 0, 2**62, 500, None)
    with connection.cursor() as cursor:
        ids, written = [row.id for row in rows], [row.written for row in rows]
        cursor.execute(f"EXPLAIN ANALYZE {outbox.DELETE}", [ids, written])
        plan = "\n".join(line for (line,) in cursor.fetchall())
    # Once, and not for each row of the table: that was past the limit of a statement's time.
    assert re.findall(r"LockRows.* loops=(\d+)", plan) == ["1"], plan
    assert outbox.drain({"psyche": lambda _: None}) == 19_500


def noted_version(user_id: int = 7) -> int | None:
    """What the outbox knows of a user's note."""
    return Outbox.objects.get(keyspace="psyche", user_id=user_id).version


def test_changes_noted_by_the_database() -> None:
    """Once per entry, with the highest version; and that is what the repair is told."""
    for version in (2, 5, 3):
        write(7, "a", version)
    write(8, "b", 1)
    assert (noted_version(), outbox.depth()) == (5, 2)
    repairs = Repairs("psyche")
    outbox.drain(repairs)
    assert repairs.versions == {7: 5, 8: 1}


def test_entry_to_repair_in_any_case() -> None:
    """Neither an earlier change nor a later one takes that back."""
    write(7, "a", 2)
    outbox.add(PSYCHE, [7])
    assert noted_version() is None
    write(7, "b", 3)
    assert noted_version() is None
    repairs = Repairs("psyche")
    outbox.drain(repairs)
    assert repairs.versions == {7: None}


@pytest.mark.parametrize(("held", "left"), [(1, None), (2, note(7, "held", 2)), (3, None)])
def test_drain_of_a_change(noted: None, held: int, left: Any) -> None:
    """What is older goes; what is as new stays, and costs nobody a query. What is newer than its
    row stays, too, until somebody publishes or audits: here it is repaired in any case."""
    write(7, "held", 2)
    put("psyche:7", note(7, "held", held))
    if held == 3:
        outbox.add(PSYCHE, [7])
    assert resources.repair_waiting() == 1
    assert got("psyche:7") == left


def test_drain_of_some_rows() -> None:
    """The others wait."""
    outbox.add(PSYCHE, [1, 2, 3])
    first = Outbox.objects.get(user_id=1).pk
    assert (outbox.drain(Repairs("psyche"), only=[first]), outbox.depth()) == (1, 2)
    assert outbox.drain(Repairs("psyche"), only=[]) == 0


def test_drain_while_the_cache_is_away() -> None:
    """The rows stay."""
    outbox.add(PSYCHE, [1, 2])
    with pytest.raises(CacheUnavailable):
        outbox.drain({"psyche": failing(CacheUnavailable())})
    assert outbox.depth() == 2


@pytest.fixture
def unreported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has been logged yet."""
    monkeypatch.setattr(outbox, "_reported", {})


@pytest.mark.usefixtures("unreported")
@pytest.mark.parametrize("error", [CacheError(), DataError(), LookupError(), ValueError()])
def test_keyspace_that_cannot_be_repaired(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Its rows stay and it is logged; the other keyspace is repaired all the same."""
    outbox.add(PSYCHE, [1, 2])
    outbox.add(CANVAS, [1])
    repairs = Repairs("canvas")
    assert outbox.drain({"psyche": failing(error), **repairs}) == 1
    assert (repairs.done, outbox.depth()) == ([("canvas", [1])], 2)
    assert "A psyche entry in the outbox cannot be repaired" in caplog.text


@pytest.mark.usefixtures("unreported")
def test_keyspaces_that_cannot_be_repaired_are_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them: drains come several times a second."""
    outbox.add(PSYCHE, [1])
    outbox.add(CANVAS, [1])
    repairs = dict.fromkeys(("psyche", "canvas"), failing(LookupError()))
    for _ in range(3):
        outbox.drain(repairs)
    assert caplog.text.count("cannot be repaired") == 2
    later = time.monotonic() + 60
    monkeypatch.setattr(outbox.time, "monotonic", lambda: later)
    outbox.drain(repairs)
    assert caplog.text.count("cannot be repaired") == 4


def test_age_of_the_oldest() -> None:
    """Since it was first noted, however often it has been noted again."""
    assert outbox.backlog() == (0, 0)
    write(7, "a", 1)
    Outbox.objects.update(added_at=timezone.now() - timedelta(seconds=60))
    write(8, "b", 1)
    write(7, "c", 2)
    outbox.add(PSYCHE, [7, 8])
    waiting = outbox.backlog()
    assert waiting.entries == 2
    assert 60 <= waiting.oldest_seconds < 70


def test_rows_of_a_keyspace_that_nobody_knows() -> None:
    """They stay, and keep nobody waiting: a newer version of the code may know it."""
    outbox.add(PSYCHE, [1])
    Outbox.objects.update(keyspace="renamed")
    outbox.add(PSYCHE, [2])
    assert (outbox.drain(Repairs("psyche"), batch=1), outbox.depth()) == (1, 1)


def test_rows_that_nobody_comes_to_are_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the name that nobody registered, once a minute however often the outbox is drained."""
    monkeypatch.setattr(outbox, "_reported", {})
    outbox.add(PSYCHE, [1, 2])
    Outbox.objects.update(keyspace="renamed")
    outbox.add(PSYCHE, [3])
    assert [resources.repair_waiting() for _ in range(3)] == [1, 0, 0]
    assert [record.getMessage() for record in caplog.records] == [
        "Nobody registered 'renamed': 2 entries in the outbox stay"
    ]


@pytest.mark.django_db(transaction=True)
def test_outage_from_end_to_end(noted: None, settings: Any) -> None:
    """A stale entry is noted while the cache is away, and gone after the drain."""
    put("psyche:7", note(7, "old", 1))
    here = settings.AEVON_CACHE
    settings.AEVON_CACHE = without_cache()
    write(7, "new", 2)
    write_through.publish_on_commit(NOTES, [7])
    drain_outbox()
    assert outbox.depth() == 1
    settings.AEVON_CACHE = here
    drain_outbox()
    assert (outbox.depth(), store().command("EXISTS", "psyche:7")) == (0, 0)
    resources.resource("psyche").warm([7])
    assert got("psyche:7") == note(7, "new", 2)


def got_beside(key: str) -> Any:
    """What a key holds, while the breaker lets nobody ask."""
    with redis.Redis.from_url(conf.current().url, protocol=2) as other:
        return other.get(key)


@pytest.fixture
def held_up(server: Any, brief: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A recovery that has repaired all that waited, and is held up before the breaker closes."""
    repaired, go_on = threading.Event(), threading.Event()

    def pause() -> None:
        if not repaired.is_set():
            repaired.set()
            assert go_on.wait(10)

    monkeypatch.setattr(manager, "_repairs", [resources.repair_waiting, pause])
    server.pause()
    assert cache_aside.load(NOTES, 99) is None
    server.resume()
    due()
    assert cache_aside.load(NOTES, 99) is None
    assert repaired.wait(10)
    yield go_on
    go_on.set()
    back()


@pytest.mark.django_db(transaction=True)
def test_write_that_a_recovery_has_passed_over(noted: None, held_up: threading.Event) -> None:
    """It is told before readers trust the cache again, and needs no repair."""
    outbox.drain({"psyche": lambda _: None})
    write(7, "new", 2)
    write_through.publish_on_commit(NOTES, [7])
    assert store().breaker.state == "half-open"
    assert json.loads(got_beside("psyche:7"))["version"] == 2
    held_up.set()
    back()
    assert got("psyche:7") == note(7, "new", 2)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("inside", [False, True])
def test_note_that_a_recovery_has_passed_over(
    noted: None, held_up: threading.Event, inside: bool
) -> None:
    """The same, of what is noted without a version."""
    with transaction.atomic() if inside else contextlib.nullcontext():
        outbox.add(PSYCHE, [7])
    held_up.set()
    back()
    assert outbox.depth() == 0


@pytest.fixture
def refused() -> Iterator[None]:
    """PostgreSQL takes no note."""
    ledgers.query("ALTER TABLE cache_outbox RENAME TO refused")
    yield
    ledgers.query("ALTER TABLE refused RENAME TO cache_outbox")


@pytest.mark.django_db(transaction=True)
def test_database_that_does_not_take_the_note(
    refused: None, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged: the write that it is about has been committed."""
    outbox.add(PSYCHE, [7, 8])
    assert "Could not note 2 psyche entries" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_database_that_does_not_take_the_note_in_a_transaction(refused: None) -> None:
    """It is raised: nothing more can be done in that transaction."""
    with pytest.raises(DatabaseError), transaction.atomic():
        outbox.add(PSYCHE, [7, 8])


@pytest.mark.django_db(transaction=True)
def test_entry_noted_while_it_is_being_repaired() -> None:
    """Nobody waits, and it is kept for the next drain."""
    outbox.add(PSYCHE, [7, 8])

    def repair(_: Mapping[int, int | None]) -> None:
        with ThreadPoolExecutor(1) as threads:
            threads.submit(in_thread(lambda: outbox.add(PSYCHE, [7]))).result(5)

    assert outbox.drain({"psyche": repair}, only=[first()]) == 0
    assert outbox.drain({"psyche": repair}) == 1
    assert list(Outbox.objects.values_list("user_id", flat=True)) == [7]


def first() -> int:
    """The oldest row."""
    return Outbox.objects.earliest("id").pk


@pytest.mark.django_db(transaction=True)
def test_entry_noted_after_the_drain_began() -> None:
    """It waits for the next: a drain comes to its end."""
    outbox.add(PSYCHE, [7])
    added = iter(range(8, 20))

    def repair(_: Mapping[int, int | None]) -> None:
        outbox.add(PSYCHE, [next(added)])

    assert outbox.drain({"psyche": repair}, batch=1) == 1
    assert list(Outbox.objects.values_list("user_id", flat=True)) == [8]


@pytest.mark.django_db(transaction=True)
def test_entry_that_somebody_is_noting_again() -> None:
    """The drain waits for no writer; the row stays, and the next drain takes it."""
    outbox.add(PSYCHE, [7, 8])
    with psycopg.connect(**connection.get_connection_params()) as writer:
        writer.execute("UPDATE cache_outbox SET added_at = now() WHERE user_id = 7")
        assert outbox.drain(Repairs("psyche")) == 1
        writer.rollback()
    assert outbox.drain(Repairs("psyche")) == 1


@pytest.mark.django_db(transaction=True)
def test_four_drains_at_once() -> None:
    """Each entry is repaired, counted once, and none is left."""
    outbox.add(PSYCHE, range(1, 201))
    repairs = Repairs("psyche")
    assert sum(in_threads([lambda: outbox.drain(repairs, batch=10)] * 4)) == 200
    assert {user for _, users in repairs.done for user in users} == set(range(1, 201))
    assert outbox.depth() == 0


@pytest.mark.django_db(transaction=True)
def test_drain_that_dies() -> None:
    """Its rows are there for the next one."""
    outbox.add(PSYCHE, [7])

    def die(_: Mapping[int, int | None]) -> None:
        connection.close()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        outbox.drain({"psyche": die})
    assert outbox.drain(Repairs("psyche")) == 1


@pytest.mark.django_db(transaction=True)
def test_row_that_cannot_be_repaired_keeps_no_other_waiting(noted: None) -> None:
    """Of a user id that cannot be there is no entry; another that fails stays alone."""
    ledgers.query(
        "INSERT INTO cache_outbox (keyspace, user_id, version, added_at)"
        " VALUES ('psyche', -5, 1, now()), ('psyche', 8, 1, now()), ('psyche', 9, 1, now())"
    )

    def repair(versions: Mapping[int, int | None]) -> None:
        if 8 in versions:
            raise ValueError("poison")

    assert outbox.drain({"psyche": repair}) >= 2
    assert list(Outbox.objects.values_list("user_id", flat=True)) == [8]
