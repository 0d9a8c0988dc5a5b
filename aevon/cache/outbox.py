"""What the cache could not be told: kept in PostgreSQL until it can.

A row says "this entry may be older than its rows". Whoever finds the cache back repairs the entry
and then deletes the row, unless an `add` has written it again meanwhile: so no repair is lost, and
a repair holds no lock and may commit as it goes.
"""

import logging
from collections.abc import Callable, Mapping, Sequence

from django.db import DatabaseError, Error, connection

from aevon.cache.connection import CacheError, CacheUnavailable
from aevon.cache.failsafe import in_transaction
from aevon.cache.keyspace import Keyspace

logger = logging.getLogger(__name__)

# Makes the entries of these users follow their rows.
Repair = Callable[[Sequence[int]], None]


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
                " ON CONFLICT (keyspace, user_id) DO UPDATE SET added_at = now()",
                [keyspace.name, sorted(set(user_ids))],
            )
    except Error:
        if in_transaction():
            raise
        logger.exception("Could not note %d %s entries to repair", len(user_ids), keyspace.name)


def depth() -> int:
    """How many entries wait for repair."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM cache_outbox")
        return int(cursor.fetchone()[0])


def drain(
    repairs: Mapping[str, Repair], *, batch: int = 500, only: Sequence[int] | None = None
) -> int:
    """Repair what waits (of the rows `only`, where given), each keyspace oldest first; how many
    entries.

    `repairs` by the keyspace's name; one raises `CacheUnavailable` when the cache is still away:
    the rows then stay. Any other failure is logged and keeps the rows of its keyspace only; so
    do rows of a keyspace that nobody repairs. Several drains may run at once: what two of them
    repair is repaired twice, which is harmless.
    """
    wanted = None if only is None else list(only)
    return sum(_drain_keyspace(name, repair, batch, wanted) for name, repair in repairs.items())


def _drain_keyspace(name: str, repair: Repair, batch: int, only: list[int] | None) -> int:
    total = 0
    try:
        # An entry that was noted again meanwhile waits for the next drain.
        while (repaired := _drain_batch(name, repair, batch, only)) > 0:
            total += repaired
    except CacheUnavailable:
        raise
    except (CacheError, DatabaseError, LookupError, ValueError):
        logger.exception("The %s entries in the outbox cannot be repaired", name)
    return total


def _drain_batch(name: str, repair: Repair, batch: int, only: list[int] | None) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, xmin::text, user_id FROM cache_outbox"
            " WHERE keyspace = %s AND (%s::bigint[] IS NULL OR id = ANY(%s))"
            " ORDER BY added_at LIMIT %s",
            [name, only, only, batch],
        )
        rows = cursor.fetchall()
    if not rows:
        return 0
    repair([user_id for _, _, user_id in rows])
    return _delete([row_id for row_id, _, _ in rows], [written for _, written, _ in rows])


def _delete(ids: list[int], written: list[str]) -> int:
    """Delete rows as far as they are still those that were read: a later `add` made a new `xmin`,
    the transaction that wrote the row (PostgreSQL 18, 5.6)."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM cache_outbox o"
            " USING unnest(%s::bigint[], %s::text[]) AS done (id, written)"
            " WHERE o.id = done.id AND o.xmin = done.written::xid",
            [ids, written],
        )
        return int(cursor.rowcount)
