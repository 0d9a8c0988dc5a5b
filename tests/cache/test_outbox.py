"""What the cache could not be told."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from django.db import DatabaseError, DataError, connection, transaction

from aevon.cache import CacheError, CacheUnavailable, outbox, resources, write_through
from aevon.cache.connection import store
from aevon.cache.keyspace import CANVAS, PSYCHE
from aevon.cache.models import Outbox
from aevon.cache.outbox import Repair
from aevon.cache.tasks import drain_outbox
from tests.cache import ledgers
from tests.cache.conftest import in_thread
from tests.cache.entry_states import got, note, put, write
from tests.cache.ledgers import NOTES

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("tables")]


class Repairs(dict[str, Repair]):
    """Remembers what it was asked to repair."""

    def __init__(self, *names: str) -> None:
        super().__init__({name: partial(self.repair, name) for name in names})
        self.done: list[tuple[str, list[int]]] = []

    def repair(self, name: str, user_ids: Sequence[int]) -> None:
        self.done.append((name, list(user_ids)))


def failing(error: BaseException) -> Repair:
    """A repair that raises."""

    def repair(user_ids: Sequence[int]) -> None:
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
    """The oldest first."""
    for user_id in (5, 3, 4):
        outbox.add(PSYCHE, [user_id])
        Outbox.objects.filter(user_id=user_id).update(added_at=f"2026-01-0{user_id}T00:00Z")
    repairs = Repairs("psyche")
    assert outbox.drain(repairs, batch=1) == 3
    assert repairs.done == [("psyche", [3]), ("psyche", [4]), ("psyche", [5])]


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
    assert "psyche entries in the outbox cannot be repaired" in caplog.text


def test_rows_of_a_keyspace_that_nobody_knows() -> None:
    """They stay, and keep nobody waiting: a newer version of the code may know it."""
    outbox.add(PSYCHE, [1])
    Outbox.objects.update(keyspace="renamed")
    outbox.add(PSYCHE, [2])
    assert (outbox.drain(Repairs("psyche"), batch=1), outbox.depth()) == (1, 1)


def test_outage_from_end_to_end(noted: None, settings: Any) -> None:
    """A stale entry is noted while the cache is away, and gone after the drain."""
    put("psyche:7", note(7, "old", 1))
    here = settings.AEVON_CACHE
    settings.AEVON_CACHE = {**here, "URL": "redis://127.0.0.1:1/0"}
    write_through.publish(NOTES, write(7, "new", 2))
    drain_outbox()
    assert outbox.depth() == 1
    settings.AEVON_CACHE = here
    drain_outbox()
    assert (outbox.depth(), store().command("EXISTS", "psyche:7")) == (0, 0)
    resources.resource("psyche").warm([7])
    assert got("psyche:7") == note(7, "new", 2)


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

    def repair(user_ids: Sequence[int]) -> None:
        with ThreadPoolExecutor(1) as threads:
            threads.submit(in_thread(lambda: outbox.add(PSYCHE, [7]))).result(5)

    assert outbox.drain({"psyche": repair}, only=[first()]) == 0
    assert outbox.drain({"psyche": repair}) == 1
    assert list(Outbox.objects.values_list("user_id", flat=True)) == [7]


def first() -> int:
    """The oldest row."""
    return Outbox.objects.earliest("added_at").pk


@pytest.mark.django_db(transaction=True)
def test_four_drains_at_once() -> None:
    """Each entry is repaired, counted once, and none is left."""
    outbox.add(PSYCHE, range(1, 201))
    repairs = Repairs("psyche")
    with ThreadPoolExecutor(4) as threads:
        totals = threads.map(
            lambda _: in_thread(lambda: outbox.drain(repairs, batch=10))(), range(4)
        )
        assert sum(totals) == 200
    assert {user for _, users in repairs.done for user in users} == set(range(1, 201))
    assert outbox.depth() == 0


@pytest.mark.django_db(transaction=True)
def test_drain_that_dies() -> None:
    """Its rows are there for the next one."""
    outbox.add(PSYCHE, [7])

    def die(user_ids: Sequence[int]) -> None:
        connection.close()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        outbox.drain({"psyche": die})
    assert outbox.drain(Repairs("psyche")) == 1
