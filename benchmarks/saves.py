"""P6: how fast 10,000 changed canvases come into PostgreSQL."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from benchmarks.apart import Calls, apart
from benchmarks.layouts import layout
from benchmarks.measure import (
    Figure,
    Options,
    Result,
    Side,
    Target,
    at_once,
    exactly,
    in_turns,
    ratio,
    seconds,
)
from benchmarks.served import program
from benchmarks.site import counted, site

CANVASES = 10_000
# Of those that are saved one by one.
FEW = 1_000
PART = 1_000
# As many as Celery's worker has under `make run`.
PROCESSES = 2

OURS, ALONE = "our flush, by two workers", "our flush, in one process"
NEW = "our flush, in one process, of canvases without a row"
COPY = "COPY into a temporary table, nothing saved"
COPIES = "COPY, half of the rows by each of two processes"
UPSERT = "upserts one by one"
READ = "MGET and decoding, nothing saved"
READY, COPIED = "ready", "copied"
STAGE = """
CREATE TEMPORARY TABLE bare (user_id bigint, layout jsonb, revision bigint, updated_at timestamptz)
ON COMMIT DROP
"""
ONE = """
INSERT INTO canvas_canvas (user_id, layout, revision, updated_at) VALUES (%s, %s, %s, %s)
ON CONFLICT (user_id) DO UPDATE SET
    layout = excluded.layout, revision = excluded.revision, updated_at = excluded.updated_at
WHERE canvas_canvas.revision < excluded.revision
"""
ON_SAVES = (
    "Of more than 5,000 canvases a flush is shared out to Celery's workers, here the two processes "
    "of `make run`: from the task's sending until nothing is marked. A flush reads what is marked "
    "from the cache, checks it, saves it in batches, each in a transaction of its own, and clears "
    "the marks and the cached documents' `dirtySince` of what has not changed since. A bare COPY "
    "has its rows ready, and saves nothing where anybody would look for it. Beside two workers it "
    "is made by two processes: what a second core adds, and who else takes of it, both sides have. "
    "Row by row, plain SQL runs over psycopg and Django's ways in a project without the cache "
    "layer; bulk_create saves all rows in one statement."
)


def figures(options: Options) -> Iterator[Result]:
    """P6."""
    from aevon import run

    worker = run.commands(port=0)["worker"]
    assert worker[worker.index("--concurrency") + 1] == str(PROCESSES)
    with site(), program(worker):
        yield _flush(options)


def _flush(options: Options) -> Figure:
    from canvas import services

    crowd = Crowd(new_users(options.scaled(CANVASES, short=50)))
    few = options.scaled(FEW, short=10)
    first = crowd.user_ids[0]
    assert crowd.user_ids == list(range(first, first + crowd.count))
    with ExitStack() as stack:
        copiers = [
            stack.enter_context(apart("benchmarks.saves:copier", *share, times=1))
            for share in shares(first, crowd.count)
        ]
        sides: dict[str, Side] = {
            OURS: lambda: crowd.count / crowd.flush(by_workers=True),
            COPIES: lambda: copied(copiers),
            ALONE: lambda: crowd.count / crowd.flush(),
            NEW: lambda: crowd.count / crowd.flush_new(),
            COPY: lambda: crowd.count / crowd.copy_next(),
            UPSERT: lambda: few / crowd.upsert(few),
            READ: lambda: crowd.count / crowd.read(),
        }
        settings = {"DJANGO_SETTINGS_MODULE": "benchmarks.peers.settings"}
        peers = stack.enter_context(
            apart("benchmarks.peers.saves:saves", first, crowd.count, few, times=1, **settings)
        )
        sides |= {name: partial(_saved, crowd, side) for name, side in peers.items()}
        # A side takes seconds, in which a machine does not stay as fast as it was.
        taken = in_turns(sides, rounds=2 * options.rounds)
    crowd.leave_unsaved()
    services.persist_now()
    again = counted(services.persist_now)
    targets = [
        Target("statements of a flush with nothing to save", exactly(again.statements), at_most=0),
        Target("rows/s by two, of COPYs' by two", ratio(taken[OURS], taken[COPIES]), at_least=0.7),
        Target("rows/s in one, of a COPY's", ratio(taken[ALONE], taken[COPY]), at_least=0.7),
        Target(
            "rows/s in one, of upserts' one by one", ratio(taken[ALONE], taken[UPSERT]), at_least=8
        ),
        Target("rows/s by two, of upserts' in one process", ratio(taken[OURS], taken[UPSERT])),
    ]
    title = "Save 10,000 changed canvases of 1.5 KB"
    return Figure("P6", title, "rows/s", taken, targets, [ON_SAVES], [ALONE, NEW])


def _saved(crowd: "Crowd", side: Side) -> float:
    """Rows a second of a peer, whose revisions ours then are above."""
    rate = side()
    crowd.revision += 1
    return rate


def shares(first: int, count: int) -> list[tuple[int, int, int]]:
    """What each process copies of so many users from the first on, as the bounds of a range."""
    return [(first + part, first + count, PROCESSES) for part in range(PROCESSES)]


def copier(*bounds: str) -> Calls:
    """A process that copies the users of this range: made ready, so that all begin at once, which
    tells how many rows, and then copied, which tells the seconds."""
    crowd = Crowd(range(*map(int, bounds)))
    rows: list[tuple[Any, ...]] = []

    def ready() -> float:
        rows[:] = crowd.rows()
        return float(len(rows))

    return {READY: ready, COPIED: lambda: seconds(lambda: crowd.copy(rows))}


def copied(copiers: Sequence[Mapping[str, Side]]) -> float:
    """Rows a second of all together, until the last of them is done."""
    rows = at_once([each[READY] for each in copiers])
    return rows / seconds(lambda: at_once([each[COPIED] for each in copiers]))


def new_users(count: int) -> list[int]:
    """Their ids."""
    from auth_sessions.models import User

    first = User.objects.count()
    users = [User(username=f"bench{first + n}", password="!") for n in range(count)]
    return [user.pk for user in User.objects.bulk_create(users)]


def _by_workers() -> None:
    """As beat has it done. Where there are few, the one worker that is told does it."""
    import aevon.celery  # noqa: F401  the tasks' application
    from canvas import services, tasks

    tasks.persist.delay()
    while services.unsaved().unsaved:
        time.sleep(0.02)


class Crowd:
    """Users, and changes of all their canvases, each above all that were before. `windows` in each:
    eleven are 1.5 KB."""

    def __init__(self, user_ids: Sequence[int], *, windows: int = 11) -> None:
        from aevon.cache.connection import store
        from benchmarks import bare

        self.user_ids, self.windows = user_ids, windows
        self.incarnation = store().life.incarnation
        self.database = bare.database()
        self.revision = 0

    @property
    def count(self) -> int:
        """How many users."""
        return len(self.user_ids)

    def changed(self) -> list[Any]:
        """The documents of the next change."""
        from django.utils import timezone

        from aevon.cache import rfc3339
        from canvas.documents import CanvasDocument

        self.revision += 1
        now, since = rfc3339(timezone.now()), time.time()
        return [
            CanvasDocument(
                user_id=user_id,
                layout=layout(user_id, self.windows),
                revision=self.revision,
                updated_at=now,
                # No two at the same moment, as theirs are.
                dirty_since=since - number / 1e6,
                incarnation=self.incarnation,
            )
            for number, user_id in enumerate(self.user_ids)
        ]

    def leave_unsaved(self) -> None:
        """What so many changes leave in the cache."""
        from canvas.projection import CANVAS_BUFFER

        documents = self.changed()
        for start in range(0, self.count, PART):
            part = documents[start : start + PART]
            self.store(part)
            CANVAS_BUFFER.index.mark_unsaved(part)

    def store(self, documents: Sequence[Any]) -> None:
        """Live documents into the cache, without marks."""
        from aevon.cache import CANVAS, codec
        from aevon.cache.connection import store

        store().pipeline([("SET", CANVAS.key(d.user_id), codec.encode(d)) for d in documents])

    def rows(self) -> list[tuple[Any, ...]]:
        """The next change, ready for PostgreSQL."""
        import msgspec

        return [
            (d.user_id, msgspec.json.encode(d.layout).decode(), d.revision, d.updated_at)
            for d in self.changed()
        ]

    def flush(self, *, by_workers: bool = False) -> float:
        """Ours, of canvases that have a row."""
        from canvas import services
        from canvas.models import Canvas

        self.leave_unsaved()
        taken = seconds(_by_workers if by_workers else services.persist_now)
        saved = Canvas.objects.filter(revision=self.revision, user_id__in=self.user_ids)
        assert saved.count() == self.count
        return taken

    def flush_new(self) -> float:
        """Ours, of canvases that have none."""
        from canvas.models import Canvas

        Canvas.objects.all().delete()
        return self.flush()

    def copy_next(self) -> float:
        """The next change into a temporary table."""
        rows = self.rows()
        return seconds(lambda: self.copy(rows))

    def copy(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """These rows into a temporary table."""
        with self.database.transaction(), self.database.cursor() as cursor:
            cursor.execute(STAGE)
            with cursor.copy("COPY bare FROM STDIN") as copying:
                for row in rows:
                    copying.write_row(row)

    def upsert(self, few: int) -> float:
        """Row by row in plain SQL, each its own transaction."""
        rows = self.rows()[:few]

        def run() -> None:
            with self.database.cursor() as cursor:
                for row in rows:
                    cursor.execute(ONE, row)

        return seconds(run)

    def read(self) -> float:
        """No saving: only what every way begins with, MGET and decoding."""
        import msgspec

        from aevon.cache import CANVAS
        from aevon.cache.connection import store
        from canvas.documents import CanvasDocument

        decode = msgspec.json.Decoder(CanvasDocument).decode
        keys = [CANVAS.key(user_id) for user_id in self.user_ids]
        return seconds(lambda: [decode(raw) for raw in store().command("MGET", *keys)])
