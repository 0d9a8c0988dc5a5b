"""What the tests of the canvas share."""

import json
from typing import Any

from aevon.cache import CANVAS
from aevon.cache.connection import store
from canvas import services
from canvas.documents import CanvasDocument
from canvas.models import Canvas
from canvas.projection import CANVAS_BUFFER


def window(**members: Any) -> dict[str, Any]:
    """A complete micro-app."""
    position, size = {"x": 10, "y": 20}, {"width": 320, "height": 200}
    app = {"type": "note", "title": "Notes", "position": position, "size": size, "zIndex": 1}
    return app | members


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
