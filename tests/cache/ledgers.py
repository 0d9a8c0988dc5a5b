"""Resources over real rows of the tests' own, for what works on any service."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from django.db import connection, transaction

from aevon.cache import (
    CANVAS,
    CANVAS_INDEX,
    CONVO_HISTORY,
    PSYCHE,
    BoundedList,
    BufferResource,
    Document,
    EntryResource,
    ListResource,
    LockedRow,
    Projection,
    Recent,
    WriteBehind,
    triggers,
)

TABLES = """
CREATE TABLE IF NOT EXISTS test_note (user_id bigint PRIMARY KEY, text text, version bigint);
CREATE TABLE IF NOT EXISTS test_sheet (user_id bigint PRIMARY KEY, text text, revision bigint);
CREATE TABLE IF NOT EXISTS test_line (user_id bigint, seq bigint, text text);
"""


class Note(Document):
    """A write-through document."""

    user_id: int
    text: str
    version: int


class Sheet(msgspec.Struct, rename="camel", kw_only=True, frozen=True, omit_defaults=True):
    """A write-behind document."""

    user_id: int
    text: str
    revision: int
    persisted_revision: int = msgspec.field(default=0, name="_persistedRevision")
    persisted_at: str | None = msgspec.field(default=None, name="_persistedAt")
    dirty_since: float | None = msgspec.field(default=None, name="_dirtySince")
    incarnation: str | None = msgspec.field(default=None, name="_incarnation")


class Line(Document):
    """An element of a list."""

    seq: int
    text: str


def query(statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Rows of one statement."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


# The tests say which versions the notes have; the outbox is told of them all the same.
NOTED = triggers.noted("test_note", keyspace="psyche")


def create_tables() -> None:
    """Make the tables and their triggers; they go with the test's transaction."""
    query(TABLES)
    for operation in NOTED:
        query(str(operation.sql))


def drop_tables() -> None:
    """Remove what was committed."""
    for operation in NOTED:
        query(str(operation.reverse_sql))
    query("DROP TABLE test_note, test_sheet, test_line")


def _ids(table: str) -> Iterator[int]:
    return iter([row[0] for row in query(f"SELECT DISTINCT user_id FROM {table} ORDER BY 1")])


def _notes(user_ids: Sequence[int]) -> dict[int, Note]:
    rows = query("SELECT user_id, text, version FROM test_note WHERE user_id = ANY(%s)", user_ids)
    return {row[0]: Note(user_id=row[0], text=row[1], version=row[2]) for row in rows}


def _sheets(user_ids: Sequence[int]) -> dict[int, Sheet]:
    rows = query("SELECT user_id, text, revision FROM test_sheet WHERE user_id = ANY(%s)", user_ids)
    return {
        row[0]: Sheet(user_id=row[0], text=row[1], revision=row[2], persisted_revision=row[2])
        for row in rows
    }


@contextmanager
def _locked(user_ids: Sequence[int], *, wait: bool = True) -> Iterator[dict[int, LockedRow | None]]:
    with transaction.atomic(savepoint=False):
        query(
            "INSERT INTO test_sheet SELECT unnest(%s::bigint[]), '', 0 ON CONFLICT DO NOTHING",
            list(user_ids),
        )
        lock = "SELECT user_id, revision FROM test_sheet WHERE user_id = ANY(%s) ORDER BY 1"
        rows = query(f"{lock} FOR UPDATE", list(user_ids))
        yield {user_id: LockedRow(revision) for user_id, revision in rows}


def _save(sheets: Sequence[Sheet]) -> dict[int, str]:
    for sheet in sheets:
        query(
            "UPDATE test_sheet SET text = %s, revision = %s WHERE user_id = %s AND revision < %s",
            sheet.text,
            sheet.revision,
            sheet.user_id,
            sheet.revision,
        )
    return {}


def _recent(user_ids: Sequence[int]) -> dict[int, Recent[Line]]:
    rows = query(
        "SELECT user_id, seq, text FROM test_line WHERE user_id = ANY(%s) ORDER BY seq DESC",
        user_ids,
    )
    lines = {
        user_id: [Line(seq=s, text=t) for u, s, t in rows if u == user_id] for user_id in user_ids
    }
    return {
        user_id: Recent(last=found[0].seq if found else 0, elements=found[:5])
        for user_id, found in lines.items()
    }


NOTES = Projection(
    keyspace=PSYCHE,
    document=Note,
    read=_notes,
    user_ids=lambda: _ids("test_note"),
    version=lambda note: note.version,
)
SHEETS = WriteBehind(
    projection=Projection(
        keyspace=CANVAS,
        document=Sheet,
        read=_sheets,
        user_ids=lambda: _ids("test_sheet"),
        version=lambda sheet: sheet.revision,
    ),
    keys=CANVAS_INDEX,
    empty=lambda user_id: Sheet(user_id=user_id, text="", revision=0),
    locked=_locked,
    save=_save,
)
LINES = BoundedList(
    keyspace=CONVO_HISTORY,
    element=Line,
    limit=5,
    recent=_recent,
    user_ids=lambda: _ids("test_line"),
)
NOTE_RESOURCE = EntryResource(NOTES)
SHEET_RESOURCE = BufferResource(SHEETS.projection, SHEETS)
LINE_RESOURCE = ListResource(LINES)
ALL = [NOTE_RESOURCE, SHEET_RESOURCE, LINE_RESOURCE]


POISON = "\x00"  # PostgreSQL takes no such text


def add_notes(*user_ids: int, text: str = "a", version: int = 1) -> None:
    """Rows of the write-through document."""
    for user_id in user_ids:
        query("INSERT INTO test_note VALUES (%s, %s, %s)", user_id, text, version)


def add_lines(user_id: int, count: int) -> None:
    """Rows of the list."""
    for seq in range(1, count + 1):
        query("INSERT INTO test_line VALUES (%s, %s, %s)", user_id, seq, f"line {seq}")
