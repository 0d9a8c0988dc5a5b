"""What Dragonfly holds under `canvas:{userId}`."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from aevon.cache import VERSION_MAX, Document, rfc3339
from canvas import recency
from canvas.layout import (
    Change,
    InvalidLayout,
    Layout,
    apply,
    empty_layout,
    problems,
    touched,
    unknown,
)


class CanvasDocument(Document, omit_defaults=True, frozen=True):
    """A user's live layout.

    `revision` rises with every change. `updated_at` is None on a canvas that was never changed.
    `changed_at` says when what is unsaved was changed (`recency`); only a replay looks at it.
    `persisted_revision` is the highest that is known to be in PostgreSQL, since `persisted_at`
    (RFC 3339; None: never). `dirty_since`, in Unix seconds, is there while the document holds
    something that PostgreSQL does not. `incarnation` is the life of the server that holds it, None
    for what comes from PostgreSQL alone (`aevon.cache.write_behind`).
    """

    user_id: int
    layout: Layout
    revision: Annotated[int, msgspec.Meta(ge=0, le=VERSION_MAX)]
    updated_at: str | None
    changed_at: recency.Noted = msgspec.field(default_factory=dict, name="_changedAt")
    persisted_revision: int = msgspec.field(default=0, name="_persistedRevision")
    persisted_at: str | None = msgspec.field(default=None, name="_persistedAt")
    dirty_since: float | None = msgspec.field(default=None, name="_dirtySince")
    incarnation: str | None = msgspec.field(default=None, name="_incarnation")


class SealedCanvas(CanvasDocument, frozen=True):
    """The same, with the layout as it stands in the bytes."""

    layout: msgspec.Raw  # type: ignore[assignment]  # encodes as what it holds


# What to change, seeing the newest state; raises to refuse. It may be asked more than once.
Plan = Callable[[CanvasDocument], Change]


def empty(user_id: int) -> CanvasDocument:
    """The document of a user who has no row."""
    return CanvasDocument(user_id=user_id, layout=empty_layout(), revision=0, updated_at=None)


def changed(document: CanvasDocument, change: Change) -> CanvasDocument:
    """The document after a change made now; its revision is for others to set.

    Raises `InvalidLayout`.
    """
    layout = apply(document.layout, change)
    if found := [*unknown(change), *problems(layout, touched(change))]:
        raise InvalidLayout(found)
    now = datetime.now(UTC)
    # Whatever changes past the cache from now on comes after all that is saved by now.
    times = {} if document.dirty_since is None else document.changed_at
    return msgspec.structs.replace(
        document,
        layout=layout,
        updated_at=rfc3339(now),
        changed_at=recency.noted(times, change, layout, recency.microseconds(now)),
    )


def content(document: CanvasDocument) -> CanvasDocument:
    """The document as it compares with its row."""
    return msgspec.structs.replace(document, changed_at={})


def public(document: CanvasDocument) -> dict[str, Any]:
    """The members that clients see."""
    members: dict[str, Any] = msgspec.to_builtins(document)
    shown = {name: value for name, value in members.items() if not name.startswith("_")}
    shown["persistedRevision"] = document.persisted_revision
    shown["persistedAt"] = document.persisted_at
    return shown
