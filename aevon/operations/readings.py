"""Everything that the dashboard tells, asked once: what is away is None, and the rest is told."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import psycopg
from django.db import DatabaseError, InterfaceError, connection, transaction

from aevon.cache import history, outbox, processes, stats
from aevon.cache.connection import CacheError, store
from aevon.cache.flush import FlushRecord
from aevon.cache.history import Slot
from aevon.cache.outbox import Backlog
from aevon.cache.processes import Process
from aevon.cache.stats import Server, Unsaved
from aevon.operations import records
from aevon.operations.records import Record

# Whoever looks at the page is waiting, and may be looking because PostgreSQL is slow.
POSTGRESQL_SECONDS: Final = 1.5
POSSIBLE_MAX: Final = 2**53
SLOW: Final = (DatabaseError, InterfaceError, psycopg.Error)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """The state at one moment (`at`, Unix seconds). None stands for what could not be asked."""

    at: float
    server: Server | None = None
    unsaved: dict[str, Unsaved] | None = None
    slots: list[Slot] | None = None
    flushes: list[FlushRecord] | None = None
    processes: list[Process] | None = None
    outbox: Backlog | None = None
    records: list[Record] | None = None
    breaker: str = "closed"

    @property
    def cache_is_away(self) -> bool:
        """Whether the cache did not answer."""
        return self.server is None


def take() -> Readings:
    """Ask the cache, which costs a round trip for each thing, and PostgreSQL."""
    return Readings(
        server=_of_cache(stats.server),
        unsaved=_of_cache(stats.unsaved),
        slots=_of_cache(history.slots),
        flushes=_of_cache(_flushes),
        processes=_of_cache(processes.processes),
        outbox=_of_postgresql(outbox.backlog),
        records=_of_postgresql(lambda: records.latest(10)),
        breaker=store().breaker.state,
        at=time.time(),
    )


def _flushes() -> list[FlushRecord]:
    """Of all buffers, the newest first."""
    found = [record for records in stats.flushes().values() for record in records]
    return sorted(filter(_is_possible, found), key=lambda record: record.began, reverse=True)


def _is_possible(record: FlushRecord) -> bool:
    """Others can write that list, too."""
    numbers = (record.began, record.ended, record.failed, *record.counts.values())
    return all(0 <= number <= POSSIBLE_MAX for number in numbers)


def _of_cache(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except CacheError:
        return None


def _of_postgresql(ask: Callable[[], T]) -> T | None:
    try:
        with _in_time():
            return ask()
    except SLOW:
        return None


@contextmanager
def _in_time() -> Iterator[None]:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = {POSTGRESQL_SECONDS * 1000:.0f}")
        yield
