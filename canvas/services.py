"""Writes: change the live layout, persist it."""

import logging
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from django.conf import settings
from django.db import DatabaseError

from aevon.cache import (
    CacheError,
    CacheUnavailable,
    Contended,
    Read,
    Unanswered,
    flush,
    flush_preview,
    together,
    write_behind,
)
from aevon.cache.flush import SHARDS, Exposure, Flushed, FlushRecord
from aevon.signals import session_ending
from canvas import journal
from canvas.documents import CanvasDocument, Plan, changed
from canvas.layout import Change, InvalidLayout
from canvas.projection import CANVAS_BUFFER

__all__ = ["Contended", "Flushed", "InvalidLayout", "RevisionMismatch"]

logger = logging.getLogger(__name__)

ALL_SHARDS: Final = range(SHARDS)
# A flush that is cut off there has finished its last batch by the end of the period.
DEADLINE_SHARE: Final = 0.8
# Within what a supervisor grants between SIGTERM and SIGKILL: ten seconds mostly.
WORKER_END_SECONDS: Final = 5.0
EARLY_SECONDS: Final = 30.0


class RevisionMismatch(Exception):
    """The layout has another revision than the caller expects; the change was not made."""

    def __init__(self, current: int) -> None:
        super().__init__(f"The current revision is {current}.")
        self.current = current


def live(user_id: int) -> CanvasDocument:
    """The live layout; the empty one of revision 0 for a user who never changed it.

    Key `canvas:{userId}`. A hit is one round trip and no SQL. Cache away: as last persisted.
    """
    return together(looking(user_id))[0]


def looking(user_id: int) -> Read[CanvasDocument]:
    """What `live` does, to be read `together` with other things."""
    return write_behind.reading(CANVAS_BUFFER, user_id)


def change(
    user_id: int, change: Change, *, if_match: Collection[str] | None = None
) -> CanvasDocument:
    """Apply a change to the live layout; its new state, acknowledged.

    `if_match` holds the revisions, as text, that the change is meant for. Raises
    `RevisionMismatch`, and otherwise as `change_by`.
    """

    def plan(document: CanvasDocument) -> Change:
        if if_match is not None and str(document.revision) not in if_match:
            raise RevisionMismatch(document.revision)
        return change

    return change_by(user_id, plan)


def change_by(user_id: int, plan: Plan) -> CanvasDocument:
    """Apply the change that `plan(document)` makes of the newest state, atomically.

    Two round trips and no SQL while the document is in the cache. Cache away: the row takes the
    change at once and the live document follows when it can. Raises `InvalidLayout`, `Contended`
    (try again), `Canvas.DoesNotExist` (no such user, seen only past the cache) and whatever
    `plan` raises; nothing was changed then. Raises `Unanswered` where the cache may have taken a
    change that the row, which is older, refuses. Source: protocol 3.2.
    """
    try:
        return write_behind.update(
            CANVAS_BUFFER, user_id, lambda document: changed(document, plan(document))
        )
    except Unanswered as unanswered:
        try:
            return journal.change_row(user_id, plan)
        except DatabaseError:
            raise
        except Exception as refusal:  # whatever the plan raises of an older state
            raise unanswered from refusal
    except CacheUnavailable:
        return journal.change_row(user_id, plan)


def persist_now(
    user_ids: Sequence[int] | None = None, *, progress: Callable[[int], None] | None = None
) -> Flushed:
    """One write-behind flush of what is unsaved, of these users or of all.

    `progress(n)`: so many more are done. Of users that are named, changes made past the cache are
    brought in first. Safe beside other flushes and changes, and its own death. Raises
    `CacheUnavailable`, and what PostgreSQL raises when it is away: everything unsaved then stays.
    """
    if user_ids is None:
        return flush.flush(CANVAS_BUFFER, progress=progress)
    # The row with away edits waits for them.
    journal.replay(CANVAS_BUFFER, user_ids)
    return flush.flush_users(CANVAS_BUFFER, user_ids)


def would_persist(*, progress: Callable[[int], None] | None = None) -> Flushed:
    """What `persist_now` of all would do, found out without changing anything. Raises likewise."""
    return flush_preview.would_flush(CANVAS_BUFFER, progress=progress)


def unsaved() -> Exposure:
    """How many canvases wait for a flush, and since when. Raises `CacheUnavailable`."""
    return CANVAS_BUFFER.index.exposure()


def is_late(oldest_seconds: float | None) -> bool:
    """Whether the first of them has waited for more than two periods: the flush does not keep up,
    or does not run."""
    return (oldest_seconds or 0) > 2 * settings.CANVAS_PERSIST_SECONDS


def last_flush() -> FlushRecord | None:
    """The record of the last flush, whichever process ran it. Raises `CacheUnavailable`."""
    return flush.last_flush(CANVAS_BUFFER)


def persist_in_time(*, shards: Sequence[int] = ALL_SHARDS, began: float | None = None) -> Flushed:
    """As `persist_now`, of these shards of the index, and within the period: what is left waits for
    the next flush. Parts of one flush have `began`, in Unix seconds, in common."""
    seconds = settings.CANVAS_PERSIST_SECONDS * DEADLINE_SHARE
    seconds = min(seconds, settings.CELERY_TASK_SOFT_TIME_LIMIT * DEADLINE_SHARE)
    return flush.flush(CANVAS_BUFFER, shards=shards, began=began, seconds=seconds, patient=True)


def persist_at_worker_end() -> None:
    """One flush before a worker ends, within seconds. Whatever is away: the next worker's flush
    does it."""
    try:
        flushed = flush.flush(CANVAS_BUFFER, seconds=WORKER_END_SECONDS, patient=True)
        logger.info("%s", flushed)
    except (CacheError, DatabaseError) as error:
        logger.warning("Nothing persisted at the worker's end (%s)", type(error).__name__)


def backlog_is_due() -> bool:
    """Whether more canvases are unsaved than `CANVAS_BACKLOG` and no flush was begun for that in
    the last half minute. Raises `CacheUnavailable`."""
    if unsaved().unsaved <= settings.CANVAS_BACKLOG:
        return False
    return flush.claim_early(CANVAS_BUFFER, for_seconds=EARLY_SECONDS)


def persist_at_session_end(*, user_id: int, **_: Any) -> None:
    """Persist a user's layout before a session ends.

    Cache away, or somebody keeps changing the row: the next flush saves what the cache still holds.
    Raises what PostgreSQL raises: the session then goes on.
    """
    try:
        waits = persist_now([user_id]).left > 0
    except (CacheUnavailable, Contended):
        waits = True
    if waits:
        logger.warning("The canvas of user %d waits for the next flush", user_id)


def connect() -> None:
    """Persist whenever a session ends."""
    session_ending.connect(persist_at_session_end, dispatch_uid="canvas.persist")
