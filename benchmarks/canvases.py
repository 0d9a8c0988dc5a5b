"""Ways to save 10,000 changed canvases. Needs Django and the servers of `benchmarks.site`."""

import time
from typing import Any

import msgspec
from django.db import connection, transaction
from django.utils import timezone

from aevon.cache import CANVAS, codec, rfc3339
from aevon.cache.connection import store
from auth_sessions.models import User
from benchmarks.site import Side, seconds
from canvas import services
from canvas.documents import CanvasDocument
from canvas.models import Canvas
from canvas.projection import CANVAS_BUFFER

CANVASES = 10_000
# Of those that are saved one by one.
FEW = 1_000
PART = 1_000

STAGE = """
CREATE TEMPORARY TABLE bare (user_id bigint, layout jsonb, revision bigint, updated_at timestamptz)
ON COMMIT DROP
"""
UPSERT = """
INSERT INTO canvas_canvas (user_id, layout, revision, updated_at) VALUES (%s, %s, %s, %s)
ON CONFLICT (user_id) DO UPDATE SET
    layout = excluded.layout, revision = excluded.revision, updated_at = excluded.updated_at
WHERE canvas_canvas.revision < excluded.revision
"""


class Crowd:
    """So many users, and changes of all their canvases, each above all that were before."""

    def __init__(self) -> None:
        users = [User(username=f"bench{n}", password="!") for n in range(CANVASES)]
        self.user_ids = [user.pk for user in User.objects.bulk_create(users)]
        self.incarnation = store().exchange([("PING",)]).life.incarnation
        self.revision = 0

    def changed(self, count: int = CANVASES) -> list[CanvasDocument]:
        """The documents of the next change."""
        self.revision += 1
        now, since = rfc3339(timezone.now()), time.time() - count / 1e6
        return [
            CanvasDocument(
                user_id=user_id,
                layout=layout(user_id),
                revision=self.revision,
                updated_at=now,
                dirty_since=since + number / 1e6,  # as theirs are: no two at the same moment
                incarnation=self.incarnation,
            )
            for number, user_id in enumerate(self.user_ids[:count])
        ]

    def leave_unsaved(self) -> None:
        """What so many changes leave in the cache."""
        documents = self.changed()
        for start in range(0, CANVASES, PART):
            part = documents[start : start + PART]
            store().pipeline([("SET", CANVAS.key(d.user_id), codec.encode(d)) for d in part])
            CANVAS_BUFFER.index.mark_unsaved(part)

    def rows(self, count: int = CANVASES) -> list[tuple[Any, ...]]:
        """The next change, ready for PostgreSQL."""
        return [
            (d.user_id, msgspec.json.encode(d.layout).decode(), d.revision, d.updated_at)
            for d in self.changed(count)
        ]


def layout(user_id: int) -> dict[str, Any]:
    """Eleven windows: 1.5 KB of JSON."""
    return {"microApps": {f"app-{n}": window(n, user_id) for n in range(11)}}


def window(number: int, user_id: int) -> dict[str, Any]:
    """One of them."""
    return {
        "type": "note",
        "title": f"Note {number} of {user_id}",
        "position": {"x": 40 * number, "y": user_id % 1_000},
        "size": {"width": 320, "height": 200},
        "zIndex": number,
    }


def flush(crowd: Crowd) -> float:
    """Ours, of canvases that have a row."""
    crowd.leave_unsaved()
    taken = seconds(services.persist_now)
    assert Canvas.objects.filter(revision=crowd.revision).count() == CANVASES
    return taken


def flush_new(crowd: Crowd) -> float:
    """Ours, of canvases that have none."""
    Canvas.objects.all().delete()
    return flush(crowd)


def copy(crowd: Crowd) -> float:
    """The same rows into a temporary table."""
    rows = crowd.rows()

    def run() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(STAGE)
            with cursor.copy("COPY bare FROM STDIN") as copying:
                for row in rows:
                    copying.write_row(row)

    return seconds(run)


def upsert(crowd: Crowd) -> float:
    """Row by row in plain SQL, each its own transaction."""
    rows = crowd.rows(FEW)

    def run() -> None:
        with connection.cursor() as cursor:
            for row in rows:
                cursor.execute(UPSERT, row)

    return seconds(run)


def update_or_create(crowd: Crowd) -> float:
    """Row by row as Django does it."""
    documents = crowd.changed(FEW)

    def run() -> None:
        for d in documents:
            values = {"layout": d.layout, "revision": d.revision, "updated_at": d.updated_at}
            Canvas.objects.update_or_create(user_id=d.user_id, defaults=values)

    return seconds(run)


def read(crowd: Crowd) -> float:
    """No saving: only what every way begins with, MGET and decoding."""
    decoder = msgspec.json.Decoder(CanvasDocument)
    keys = [CANVAS.key(user_id) for user_id in crowd.user_ids]
    return seconds(lambda: [decoder.decode(raw) for raw in store().command("MGET", *keys)])


def ways() -> dict[str, tuple[int, Side]]:
    """Each way, with how many canvases it saves at a time."""
    crowd = Crowd()
    return {
        "our flush": (CANVASES, lambda: flush(crowd)),
        "our flush, of canvases without a row": (CANVASES, lambda: flush_new(crowd)),
        "bare COPY into a temporary table": (CANVASES, lambda: copy(crowd)),
        "upserts one by one": (FEW, lambda: upsert(crowd)),
        "update_or_create one by one": (FEW, lambda: update_or_create(crowd)),
        "MGET and decoding, nothing saved": (CANVASES, lambda: read(crowd)),
    }
