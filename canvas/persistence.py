"""Live documents into rows, many at once."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.db.models import Model

from aevon.cache import LockedRow, rfc3339
from canvas.documents import CanvasDocument
from canvas.models import AwayEdit, Canvas

# In an order, so that two who want several do not wait for each other.
_ENSURE: Final = """
INSERT INTO {canvas} (user_id, layout, revision)
SELECT u.id, '{{"microApps": {{}}}}', 0 FROM {user} u
WHERE u.id = ANY(%s) AND NOT EXISTS (SELECT FROM {canvas} c WHERE c.user_id = u.id)
ORDER BY u.id FOR KEY SHARE OF u
ON CONFLICT (user_id) DO NOTHING
"""
_LOCK: Final = """
SELECT user_id, revision FROM {canvas} WHERE user_id = ANY(%s) ORDER BY user_id FOR UPDATE
"""
_GONE: Final = """
SELECT id FROM unnest(%s::bigint[]) id WHERE NOT EXISTS (SELECT FROM {user} u WHERE u.id = id.id)
"""
# Where a row cannot be skipped, because it is only being made.
_BRIEF: Final = "SET LOCAL lock_timeout = '200ms'"
# A statement of its own: what one sees of other tables is from before it had to wait for a lock.
_AWAY: Final = """
SELECT user_id, min(found_revision) FROM {away_edit} WHERE user_id = ANY(%s) GROUP BY user_id
"""
_STAGE: Final = """
CREATE TEMPORARY TABLE canvas_flush
    (user_id bigint, layout jsonb, revision bigint, updated_at timestamptz)
ON COMMIT DROP
"""
_COPY: Final = "COPY canvas_flush (user_id, layout, revision, updated_at) FROM STDIN"
_MERGE: Final = """
UPDATE {canvas} c SET
    layout = f.layout,
    revision = f.revision,
    updated_at = coalesce(f.updated_at, now()),
    persisted_at = %s
FROM canvas_flush f WHERE c.user_id = f.user_id AND c.revision < f.revision
RETURNING c.user_id
"""


@contextmanager
def locked(
    user_ids: Sequence[int], *, wait: bool = True
) -> Iterator[Mapping[int, LockedRow | None]]:
    """Hold the users' rows for the block; they are made where there are none. Whoever changes a
    row, or brings away edits to the live document, holds it too.

    None for users who do not exist. Rows that somebody else holds are waited for, or left out; so
    are rows that were deleted meanwhile.
    """
    ids = [list(user_ids)]
    with transaction.atomic(savepoint=False), connection.cursor() as cursor:
        if not wait:
            cursor.execute(_BRIEF)
        cursor.execute(named(_ENSURE), ids)
        cursor.execute(named(_LOCK) + ("" if wait else " SKIP LOCKED"), ids)
        rows: dict[int, LockedRow | None] = {u: LockedRow(r) for u, r in cursor.fetchall()}
        cursor.execute(named(_AWAY), ids)
        for user_id, revision in cursor.fetchall():
            if row := rows.get(user_id):
                rows[user_id] = row._replace(before_away=revision)
        if others := [user_id for user_id in user_ids if user_id not in rows]:
            cursor.execute(named(_GONE), [others])
            rows |= dict.fromkeys(user_id for (user_id,) in cursor.fetchall())
        yield rows


def save(documents: Sequence[CanvasDocument]) -> dict[int, str]:
    """Write documents into rows that are held, never an older revision over a newer one; when those
    that were written were (RFC 3339), all at once. Raises `DataError` when PostgreSQL does not take
    one of them, and then has taken none."""
    with connection.cursor() as cursor:
        cursor.execute(_STAGE)
        _copy(cursor, documents)
        cursor.execute("SELECT clock_timestamp()")
        (at,) = cursor.fetchone()
        cursor.execute(named(_MERGE), [at])
        saved = dict.fromkeys((user_id for (user_id,) in cursor.fetchall()), rfc3339(at))
        # A test's transaction goes on, and may save again.
        cursor.execute("DROP TABLE canvas_flush")
    return saved


def _copy(cursor: Any, documents: Sequence[CanvasDocument]) -> None:
    # Django translates the driver's errors for `execute` only.
    with connection.wrap_database_errors, cursor.copy(_COPY) as copy:
        for document in documents:
            layout = msgspec.json.encode(document.layout).decode()
            copy.write_row((document.user_id, layout, document.revision, document.updated_at))


def named(statement: str) -> str:
    """The statement with the names of the tables in it: `{canvas}`, `{away_edit}`, `{user}`."""
    tables: dict[str, type[Model]] = {
        "canvas": Canvas,
        "away_edit": AwayEdit,
        "user": get_user_model(),
    }
    quote = connection.ops.quote_name
    return statement.format(**{name: quote(m._meta.db_table) for name, m in tables.items()})  # noqa: SLF001
