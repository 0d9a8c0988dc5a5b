"""What a flush of a write-behind buffer would do, found out without changing anything."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

from django.db import transaction

from aevon.cache import codec, entries
from aevon.cache.dirty_index import SHARDS, Refusal
from aevon.cache.entries import Found
from aevon.cache.flush import Flushed
from aevon.cache.projection import Gone
from aevon.cache.write_behind import LockedRow, WriteBehind, same

BATCH: Final = 500

D = TypeVar("D", bound=Any)


def would_flush(
    buffer: WriteBehind[D], *, progress: Callable[[int], None] | None = None
) -> Flushed:
    """What `flush` would count now, if nothing else wrote. That PostgreSQL would refuse a document
    is known only where it has before. Raises as `flush`."""
    verdicts: Counter[str] = Counter()
    marked = buffer.index.everybody(range(SHARDS))
    while user_ids := list(islice(marked, BATCH)):
        verdicts.update(_verdicts(buffer, user_ids))
        if progress is not None:
            progress(len(user_ids))
    return Flushed(**verdicts)


def refused_before(buffer: WriteBehind[D], user_ids: Sequence[int]) -> list[int]:
    """The users whose unsaved document PostgreSQL has refused as it is."""
    marks = buffer.index.marks_of(user_ids)
    refusals = buffer.index.refusals(list(marks))
    return [u for u, refusal in refusals.items() if refusal.revision == marks[u]]


def _verdicts(buffer: WriteBehind[D], user_ids: Sequence[int]) -> Iterator[str]:
    marks = buffer.index.marks_of(user_ids)
    refusals = buffer.index.refusals(list(marks))
    # Rows are made where there are none, and held as for a flush; then it is as if they had not.
    with transaction.atomic():
        with buffer.locked(list(marks), wait=False) as rows:
            live: Mapping[int, Any] = entries.peek_many(buffer.projection, list(marks))
            stored = buffer.projection.documents(list(marks))
        transaction.set_rollback(True)
    for user_id, mark in marks.items():
        row = rows.get(user_id)
        if user_id not in rows or (row is not None and row.before_away is not None):
            yield "left"
        elif _is_refused(refusals.get(user_id), mark):
            yield "refused"
        else:
            document = _document(buffer, live[user_id], stored.get(user_id))
            yield _verdict(buffer, document, mark, row, stored.get(user_id))


def _is_refused(refusal: Refusal | None, mark: int) -> bool:
    return refusal is not None and refusal.revision == mark


def _document(buffer: WriteBehind[D], live: Any, stored: Any) -> Any:
    """The document that a flush would go by; None where there is nothing but the row."""
    if isinstance(live, Found) and live.kind == "outlived":
        if codec.members_of_the_layer(live.raw) is not None:
            return None
        earlier: Any = codec.decode(live.raw, buffer.projection.document)
        return earlier if stored is None or earlier.revision > stored.revision else None
    return None if isinstance(live, Found | Gone) else live


def _verdict(
    buffer: WriteBehind[D], document: Any, mark: int, row: LockedRow | None, stored: Any
) -> str:
    if row is None:
        return "unchanged"  # there is no such user
    revision = row.revision if document is None else document.revision
    if mark > revision:
        return "lost"
    if document is None:
        return "unchanged"
    saved = revision == row.revision and stored is not None and same(buffer, stored, document)
    unsaved = document.dirty_since is not None and not saved
    return "persisted" if revision > row.revision or unsaved else "unchanged"
