"""Reads from PostgreSQL."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from aevon.cache import owners, rfc3339
from canvas.documents import CanvasDocument
from canvas.layout import Layout
from canvas.models import AwayEdit, Canvas


def read_documents(user_ids: Sequence[int]) -> dict[int, CanvasDocument]:
    """The layouts of these users as last persisted, in one query."""
    rows = Canvas.objects.filter(user_id__in=user_ids)
    values = rows.values_list("user_id", "layout", "revision", "updated_at", "persisted_at")
    return {row[0]: _document(*row) for row in values}


def _document(
    user_id: int, layout: Layout, revision: int, updated_at: datetime, persisted_at: datetime
) -> CanvasDocument:
    return CanvasDocument(
        user_id=user_id,
        layout=layout,
        revision=revision,
        updated_at=rfc3339(updated_at),
        persisted_revision=revision,
        persisted_at=rfc3339(persisted_at),
    )


def document_of(canvas: Canvas) -> CanvasDocument:
    """A row as the document that the cache would hold."""
    return _document(
        canvas.user_id, canvas.layout, canvas.revision, canvas.updated_at, canvas.persisted_at
    )


def user_ids() -> Iterator[int]:
    """Every user with a row, in constant memory."""
    return owners(Canvas.objects.all())


def users_with_away_edits(user_ids: Sequence[int]) -> list[int]:
    """Those of the users whose row took changes that the live document has not, in order."""
    edits = AwayEdit.objects.filter(user_id__in=user_ids).order_by("user_id")
    return list(edits.values_list("user_id", flat=True).distinct())
