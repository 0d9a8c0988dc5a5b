"""What the tests of the canvas share."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg

from aevon.cache import CANVAS, rfc3339
from aevon.cache.codec import encode
from aevon.cache.connection import store
from aevon.intents import Done, perform
from canvas import services
from canvas.documents import CanvasDocument
from canvas.models import Canvas
from canvas.projection import CANVAS_BUFFER
from tests.servers import database_url


def window(**members: Any) -> dict[str, Any]:
    """A complete micro-app."""
    position, size = {"x": 10, "y": 20}, {"width": 320, "height": 200}
    app = {"type": "note", "title": "Notes", "position": position, "size": size, "zIndex": 1}
    return app | members


def done(user_id: int, intent: str, *names: str, **arguments: Any) -> Done:
    """What `canvas.{intent}` does to the windows of these names."""
    return perform(f"canvas.{intent}", user_id, {"microApps": list(names), **arguments})


def take_back(user_id: int, what: Done) -> Done:
    """Perform what undoes it, as BEEP stores it: through JSON."""
    assert what.undo is not None
    arguments = json.loads(json.dumps(what.undo.arguments))
    return perform(what.undo.intent, user_id, arguments)


@contextmanager
def elsewhere(statement: str, *parameters: Any) -> Iterator[None]:
    """Somebody's transaction has run this and stays open for the block."""
    with psycopg.connect(database_url()) as stranger:
        stranger.execute(statement, parameters)
        yield
        stranger.rollback()


def patch(user_id: int, **apps: Any) -> CanvasDocument:
    """Merge-patch these micro-apps into a user's live layout."""
    return services.change(user_id, {"patch": {"microApps": apps}})


def put(user_id: int, **apps: Any) -> CanvasDocument:
    """Replace a user's live layout."""
    return services.change(user_id, {"replace": {"microApps": apps}})


def held(user_id: int) -> dict[str, Any] | None:
    """What Dragonfly holds under a user's key."""
    raw = store().command("GET", CANVAS.key(user_id))
    return None if raw is None else dict(json.loads(raw))


def ttl_ms(user_id: int) -> int:
    """-1: no expiry; -2: no key."""
    return int(store().command("PTTL", CANVAS.key(user_id)))


def mark(user_id: int) -> int | None:
    """The revision that the user's document is marked with as unsaved."""
    return CANVAS_BUFFER.index.marks_of([user_id]).get(user_id)


def in_row(user_id: int) -> set[str]:
    """The ids of the micro-apps in PostgreSQL."""
    row = Canvas.objects.filter(user_id=user_id).first()
    return set(row.layout["microApps"]) if row else set()


def live(user_id: int) -> set[str]:
    """The ids of the micro-apps that a reader sees."""
    return set(services.live(user_id).layout["microApps"])


def poison(user_id: int) -> None:
    """Put a NUL, which jsonb cannot hold, past all checks into the live document."""
    document = services.live(user_id)
    document.layout["microApps"]["a"]["title"] = "\0"
    store().command("SET", CANVAS.key(user_id), encode(document))


def make_unsaved(user_ids: Sequence[int]) -> None:
    """Live documents that wait for a flush, many at once."""
    life = store().exchange([("PING",)]).life.incarnation
    documents = [
        CanvasDocument(
            user_id=user_id,
            layout={"microApps": {"a": window()}},
            revision=1,
            updated_at=rfc3339(datetime.now(UTC)),
            dirty_since=time.time(),
            incarnation=life,
        )
        for user_id in user_ids
    ]
    for start in range(0, len(documents), 1_000):
        part = documents[start : start + 1_000]
        store().pipeline([("SET", CANVAS.key(each.user_id), encode(each)) for each in part])
        CANVAS_BUFFER.index.mark_unsaved(part)
