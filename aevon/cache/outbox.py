"""What the cache could not be told: kept in PostgreSQL until it can.

A row says "this entry may be older than its rows". Whoever finds the cache back repairs the entry
and then deletes the row, in one transaction that holds the row: an `add` that comes meanwhile
waits and writes a new one, so no repair is lost.
"""

import logging
from collections.abc import Callable, Sequence

from django.db import DatabaseError, connection, transaction

from aevon.cache.keyspace import Keyspace

logger = logging.getLogger(__name__)


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
    repair: Callable[[str, list[int]], None],
    *,
    batch: int = 500,
    only: Sequence[int] | None = None,
) -> int:
    """Repair what waits (of the rows `only`, where given), oldest first; how many entries.

    `repair(keyspace_name, user_ids)` raises `CacheUnavailable` when the cache is still away: the
    rows then stay. Several drains may run at once; each takes rows that no other holds.
    """
    total = 0
    while taken := _drain_batch(repair, batch, None if only is None else list(only)):
        total += taken
    return total


def _drain_batch(
    repair: Callable[[str, list[int]], None], batch: int, only: list[int] | None
) -> int:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, keyspace, user_id FROM cache_outbox"
            " WHERE %s::bigint[] IS NULL OR id = ANY(%s)"
            " ORDER BY added_at LIMIT %s FOR UPDATE SKIP LOCKED",
            [only, only, batch],
        )
        rows = cursor.fetchall()
        for name in {keyspace for _, keyspace, _ in rows}:
            repair(name, [user_id for _, keyspace, user_id in rows if keyspace == name])
        cursor.execute("DELETE FROM cache_outbox WHERE id = ANY(%s)", [[row[0] for row in rows]])
        return len(rows)
