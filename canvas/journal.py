"""Changes while the cache is away: the row takes them, the live document follows later.

Both may have changed without the other, because a live document may hold changes that were not
persisted when the cache went away. So the row's changes are kept, one by one, and repeated on the
live document; what only that one has survives beside them.
"""

import logging
from collections.abc import Sequence
from datetime import datetime

import msgspec
from django.db import DatabaseError, transaction
from django.utils import timezone

from aevon.cache import (
    CANVAS,
    Contended,
    WriteBehind,
    add_to_outbox,
    flush,
    rfc3339,
    write_behind,
)
from canvas import recency, selectors
from canvas.documents import CanvasDocument, Plan, changed
from canvas.layout import Layout, apply, problems, touched
from canvas.models import AwayEdit, Canvas
from canvas.persistence import locked

logger = logging.getLogger(__name__)


def change_row(user_id: int, plan: Plan) -> CanvasDocument:
    """Change the row, and leave the change for the live document.

    Raises `Canvas.DoesNotExist` when there is no such user, and whatever `plan` raises.
    """
    with transaction.atomic(), locked([user_id]):
        # In this order, as the trigger that follows SQL from elsewhere.
        add_to_outbox(CANVAS, [user_id])
        row = Canvas.objects.get(user_id=user_id)
        before = selectors.document_of(row)
        change = plan(before)
        AwayEdit.objects.create(user_id=user_id, change=change, found_revision=row.revision)
        _write(row, changed(before, change).layout, row.revision + 1, timezone.now())
    return selectors.document_of(row)


def _write(row: Canvas, layout: Layout, revision: int, updated_at: datetime) -> None:
    row.layout, row.revision = layout, revision
    row.updated_at, row.persisted_at = updated_at, timezone.now()
    row.save(update_fields=["layout", "revision", "updated_at", "persisted_at"])


def replay(buffer: WriteBehind[CanvasDocument], user_ids: Sequence[int]) -> list[int]:
    """Repeat the away edits of these users on their live documents; the users who had any.

    Each user's in a transaction of their own: raises `RuntimeError` inside another, because an
    edit that is repeated again after a rollback would undo what came after it. Raises
    `CacheUnavailable`, and `Contended` once all others are done: what is left then stays for
    another time.
    """
    users = selectors.users_with_away_edits(user_ids)
    contended = [user_id for user_id in users if not _replayed(buffer, user_id)]
    if contended:
        raise Contended(f"{len(contended)} live canvases change too fast.")
    return users


def _replayed(buffer: WriteBehind[CanvasDocument], user_id: int) -> bool:
    try:
        _replay_one(buffer, user_id)
    except Contended:
        return False
    return True


def _replay_one(buffer: WriteBehind[CanvasDocument], user_id: int) -> None:
    # The lock makes one replay wait for the other, which leaves it nothing to do.
    with write_behind.turn(user_id), transaction.atomic(durable=True), locked([user_id]):
        edits = list(AwayEdit.objects.filter(user_id=user_id))
        if not edits:
            return
        row = Canvas.objects.get(user_id=user_id)
        document = write_behind.update(
            buffer, user_id, lambda live: _repeated(live, row, edits), floor=row.revision
        )
        _follow(row, document)
        AwayEdit.objects.filter(pk__in=[edit.pk for edit in edits]).delete()


def _follow(row: Canvas, document: CanvasDocument) -> None:
    """The row is this document from here on: should the cache forget it now, or come back with an
    older one, neither is taken for what has both. A document that PostgreSQL refuses waits like any
    other: to be kept in the journal it would be repeated over and over."""
    try:
        with transaction.atomic():
            _write(row, document.layout, document.revision, _moment(document, row))
    except DatabaseError as error:
        if not flush.refuses(error):
            raise
        logger.error("PostgreSQL refuses the document of user %d", row.user_id)


def _moment(document: CanvasDocument, row: Canvas) -> datetime:
    return datetime.fromisoformat(document.updated_at) if document.updated_at else row.updated_at


def _repeated(live: CanvasDocument, row: Canvas, edits: list[AwayEdit]) -> CanvasDocument:
    """The live document with the edits, but for what was changed on it after them: by a process
    that had the cache again, or has never been without."""
    layout = live.layout
    for edit in edits:
        since = recency.microseconds(edit.created_at)
        layout = apply(layout, edit.change)
        layout = recency.newer_kept(layout, live.layout, live.changed_at, since)
    ids = {app_id for edit in edits for app_id in touched(edit.change) or ()}
    newest = max(live.updated_at or "", rfc3339(row.updated_at))
    layout = _completed(layout, ids, row.layout)
    return msgspec.structs.replace(live, layout=layout, updated_at=newest)


def _completed(layout: Layout, ids: set[str], row: Layout) -> Layout:
    """An edit may have moved a window that the live document had closed: the row has all of it."""
    apps = dict(layout["microApps"])
    for app_id in ids & apps.keys():
        if problems({"microApps": {app_id: apps[app_id]}}):
            # Unless SQL has removed it there.
            whole = {app_id: row["microApps"][app_id]} if app_id in row["microApps"] else {}
            apps = {each: app for each, app in apps.items() if each != app_id} | whole
    return {"microApps": apps}
