"""What the cache could not be told: kept in PostgreSQL until it can.

A row says "this entry may be older than its rows". Whoever finds the cache back repairs the entry
and then deletes the row, in one transaction that holds the row: an `add` that comes meanwhile
waits and writes a new one, so no repair is lost.
"""

import logging
from collections.abc import Callable, Mapping, Sequence

from django.db import DatabaseError, connection, transaction

from aevon.cache.connection import CacheError, CacheUnavailable
from aevon.cache.keyspace import Keyspace

logger = logging.getLogger(__name__)

# Makes the entries of these users follow their rows.
Repair = Callable[[Sequence[int]], None]


def add(keyspace: Keyspace, user_ids: Sequence[int]) -> None:
    """Note entries to repair. Repeating is harmless. A failing database is logged, not raised:
    the write that this is about has been committed."""
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
    except DatabaseError:
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
    do rows of a keyspace that nobody repairs. Several drains may run at once; each takes rows
    that no other holds.
    """
    wanted = None if only is None else list(only)
    return sum(_drain_keyspace(name, repair, batch, wanted) for name, repair in repairs.items())


def _drain_keyspace(name: str, repair: Repair, batch: int, only: list[int] | None) -> int:
    total = 0
    try:
        while taken := _drain_batch(name, repair, batch, only):
            total += taken
    except CacheUnavailable:
        raise
    except (CacheError, DatabaseError, LookupError, ValueError):
        logger.exception("The %s entries in the outbox cannot be repaired", name)
    return total


def _drain_batch(name: str, repair: Repair, batch: int, only: list[int] | None) -> int:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, user_id FROM cache_outbox"
            " WHERE keyspace = %s AND (%s::bigint[] IS NULL OR id = ANY(%s))"
            " ORDER BY added_at LIMIT %s FOR UPDATE SKIP LOCKED",
            [name, only, only, batch],
        )
        if rows := cursor.fetchall():
            repair([user_id for _, user_id in rows])
            done = [row_id for row_id, _ in rows]
            cursor.execute("DELETE FROM cache_outbox WHERE id = ANY(%s)", [done])
        return len(rows)
