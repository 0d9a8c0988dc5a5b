"""Live documents into rows, many at once."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.db.models import Model

from aevon.cache import InRow, rfc3339
from canvas.documents import CanvasDocument
from canvas.models import AwayEdit, Canvas

_STAGE: Final = """
CREATE TEMPORARY TABLE canvas_flush
    (user_id bigint, layout jsonb, revision bigint, updated_at timestamptz)
ON COMMIT DROP
"""
_COPY: Final = "COPY canvas_flush (user_id, layout, revision, updated_at) FROM STDIN"
# The order keeps two flushes from locking each other out. A row with away edits waits until they
# are on the live document: the two have diverged, and neither revision says which has more.
_UPSERT: Final = """
INSERT INTO {canvas} (user_id, layout, revision, updated_at, persisted_at)
SELECT f.user_id, f.layout, f.revision, coalesce(f.updated_at, now()), clock_timestamp()
FROM canvas_flush f JOIN {user} u ON u.id = f.user_id
WHERE NOT EXISTS (SELECT FROM {away_edit} e WHERE e.user_id = f.user_id)
ORDER BY f.user_id
FOR KEY SHARE OF u
ON CONFLICT (user_id) DO UPDATE SET
    layout = excluded.layout,
    revision = excluded.revision,
    updated_at = excluded.updated_at,
    persisted_at = excluded.persisted_at
WHERE {canvas}.revision < excluded.revision
"""
# 0 for a row with away edits: nothing of its live document counts as persisted. The upsert has
# locked the other rows, so that no away edit can come between it and this.
_IN_ROWS: Final = """
SELECT user_id, CASE
    WHEN EXISTS (SELECT FROM {away_edit} e WHERE e.user_id = c.user_id) THEN 0
    ELSE c.revision END, c.layout = f.layout, c.persisted_at
FROM {canvas} c JOIN canvas_flush f USING (user_id)
"""


def persist(documents: Sequence[CanvasDocument]) -> dict[int, InRow]:
    """Upsert, never an older revision over a newer one; what is in each user's row then.

    Users that no longer exist are left out. Raises `DataError` when PostgreSQL does not take one
    of the documents, and then has taken none; and `RuntimeError` inside a transaction: what is
    not committed must not be reported as persisted.
    """
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute(_STAGE)
        _copy(cursor, documents)
        cursor.execute(named(_UPSERT))
        cursor.execute(named(_IN_ROWS))
        in_rows = {
            user_id: InRow(revision, same, rfc3339(persisted_at))
            for user_id, revision, same, persisted_at in cursor.fetchall()
        }
        # A test's transaction goes on, and may persist again.
        cursor.execute("DROP TABLE canvas_flush")
    return in_rows


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
