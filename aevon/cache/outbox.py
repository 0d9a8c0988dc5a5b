"""What the cache has yet to be told: kept in PostgreSQL until it has been.

A row says "this entry may be older than its rows", and which version was committed. Triggers write
one in every transaction that changes a cached row (`triggers.py`), so nothing is lost by a writer
that dies, by a cache that is away, or by one who does not know of the cache. Whoever drains tells
the entries and then deletes the rows, unless one has been written again meanwhile: so no repair is
lost, and a drain holds no lock and may commit as it goes.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from django.db import DatabaseError, Error, connection

from aevon.cache.connection import CacheError, CacheUnavailable, store
from aevon.cache.failsafe import after_commit, in_transaction
from aevon.cache.keyspace import Keyspace

logger = logging.getLogger(__name__)

REPORT_SECONDS: Final = 60.0

DELETE: Final = (
    "DELETE FROM cache_outbox WHERE id = ANY(ARRAY("
    " SELECT o.id FROM cache_outbox o"
    " JOIN unnest(%s::bigint[], %s::text[]) AS done (id, written)"
    " ON o.id = done.id AND o.xmin = done.written::xid FOR UPDATE OF o SKIP LOCKED))"
)

# Makes these users' entries follow. The version committed; None: whatever the entry holds.
Repair = Callable[[Mapping[int, int | None]], None]


def add(keyspace: Keyspace, user_ids: Sequence[int]) -> None:
    """Note entries to repair. Repeating is harmless.

    Outside a transaction a failing database is logged, not raised: the write that this is about
    has been committed. Inside one it is raised, because the transaction cannot go on.
    """
    if not user_ids:
        return
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO cache_outbox (keyspace, user_id, added_at)"
                " SELECT %s, unnest(%s::bigint[]), now()"
                " ON CONFLICT (keyspace, user_id) DO UPDATE SET version = NULL",
                [keyspace.name, sorted(set(user_ids))],
            )
    except Error:
        if in_transaction():
            raise
        logger.exception("Could not note %d %s entries to repair", len(user_ids), keyspace.name)
    else:
        after_commit(_noted)


def _noted() -> None:
    """A recovery under way may have passed it over."""
    store().breaker.noted()


class Backlog(NamedTuple):
    """How many entries wait for repair, and for how long the one that was noted first."""

    entries: int
    oldest_seconds: float


def backlog() -> Backlog:
    """What waits now; 0 seconds where nothing does."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(added_at)), 0)"
            " FROM cache_outbox"
        )
        entries, seconds = cursor.fetchone()
    return Backlog(int(entries), max(0.0, float(seconds)))


def depth() -> int:
    """How many entries wait for repair."""
    return backlog().entries


def waiting() -> dict[str, int]:
    """How many entries wait for repair, by keyspace."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT keyspace, count(*) FROM cache_outbox GROUP BY 1 ORDER BY 1")
        return dict(cursor.fetchall())


def drain(
    repairs: Mapping[str, Repair], *, batch: int = 500, only: Sequence[int] | None = None
) -> int:
    """Repair what waits (of the rows `only`, where given), each keyspace oldest first; how many
    entries.

    `repairs` by the keyspace's name; one raises `CacheUnavailable` when the cache is still away:
    the rows then stay. Any other failure is logged and keeps its row; so do rows of a keyspace
    that nobody repairs. Several drains may run at once: what two of them repair is
    repaired twice, which is harmless. What is noted after the beginning waits for the next drain.
    """
    wanted = None if only is None else list(only)
    last = _last()
    return sum(
        _drain_keyspace(name, repair, last, batch, wanted) for name, repair in repairs.items()
    )


def _last() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(max(id), 0) FROM cache_outbox")
        return int(cursor.fetchone()[0])


def _drain_keyspace(
    name: str, repair: Repair, last: int, batch: int, only: list[int] | None
) -> int:
    total = after = 0
    while rows := _waiting(name, after, last, batch, only):
        after = rows[-1].id
        total += _delete(_repaired(name, repair, rows))
    return total


def _repaired(name: str, repair: Repair, rows: "list[_Row]") -> "list[_Row]":
    """The rows that need not stay. One that cannot be repaired keeps no other waiting; of a user
    id that cannot be there is no entry."""
    possible = [row for row in rows if row.user_id > 0]
    try:
        repair({row.user_id: row.version for row in possible})
    except CacheUnavailable:
        raise
    except (CacheError, DatabaseError, LookupError, ValueError):
        if len(rows) > 1:
            return [each for row in rows for each in _repaired(name, repair, [row])]
        if _is_news(name):
            logger.exception("A %s entry in the outbox cannot be repaired", name)
        return []
    return rows


def tell_of_others(known: Sequence[str]) -> None:
    """Log what waits for a keyspace that nobody has registered, once a minute at most: a service
    that is not installed any more, or a name that a trigger has wrong. No drain comes to it."""
    if not _is_news("keyspaces that nobody registered"):
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT keyspace, count(*) FROM cache_outbox WHERE keyspace <> ALL(%s)"
            " GROUP BY keyspace ORDER BY keyspace",
            [list(known)],
        )
        for name, count in cursor.fetchall():
            logger.warning("Nobody registered %r: %d entries in the outbox stay", name, count)


_reported: dict[str, float] = {}


def _is_news(name: str) -> bool:
    """Once a minute for each keyspace: drains come several times a second."""
    now = time.monotonic()
    news = now - _reported.get(name, -REPORT_SECONDS) >= REPORT_SECONDS
    if news:
        _reported[name] = now
    return news


class _Row(NamedTuple):
    id: int
    written: str
    user_id: int
    version: int | None


def _waiting(name: str, after: int, last: int, batch: int, only: list[int] | None) -> list[_Row]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, xmin::text, user_id, version FROM cache_outbox"
            " WHERE keyspace = %s AND id > %s AND id <= %s"
            " AND (%s::bigint[] IS NULL OR id = ANY(%s))"
            " ORDER BY id LIMIT %s",
            [name, after, last, only, only, batch],
        )
        return [_Row(*row) for row in cursor.fetchall()]


def _delete(rows: Sequence[_Row]) -> int:
    """Delete rows as far as they are still those that were read: a later change made a new `xmin`,
    the transaction that wrote the row (PostgreSQL 18, 5.6). One that is locked is being written
    again, and waiting for its writer could end in a deadlock.

    Found once, as an array: where PostgreSQL believes that the outbox is empty, as it usually is,
    it would otherwise look for them anew for each row."""
    with connection.cursor() as cursor:
        cursor.execute(DELETE, [[row.id for row in rows], [row.written for row in rows]])
        return int(cursor.rowcount)
