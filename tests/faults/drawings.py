"""Those who draw on canvases, and what has become of what was acknowledged to them."""

import contextlib
import itertools
import json
import random
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import pytest
from django.db import connection

from aevon.cache import CANVAS, CANVAS_INDEX, entries, flush
from aevon.cache.connection import store
from aevon.cache.dirty_index import SHARDS, DirtyIndex
from aevon.embedded import CacheServer
from canvas import services
from canvas.documents import CanvasDocument
from canvas.models import Canvas
from canvas.projection import CANVAS_BUFFER, CANVASES
from tests.canvas.helpers import window
from tests.servers import ROOT, environment
from tests.waiting import eventually

# Makes a merge patch of a user's layout; the revision that is acknowledged.
Change = Callable[[int, dict[str, Any]], int]


def by_service(user_id: int, patch: dict[str, Any]) -> int:
    """Past HTTP."""
    return services.change(user_id, {"patch": patch}).revision


class Drawings:
    """Counts up the titles of windows, and remembers what was acknowledged. Nobody else may draw in
    a window at the same time."""

    def __init__(self, change: Change = by_service) -> None:
        self.revisions: dict[int, int] = defaultdict(int)
        self.titles: dict[int, dict[str, int]] = defaultdict(dict)
        self.acknowledged = 0
        self._change = change
        self._lock = threading.Lock()

    def draw(self, user_id: int, app_id: str = "a") -> None:
        """One change, acknowledged."""
        title = self.titles[user_id].get(app_id, 0) + 1
        patch = {"microApps": {app_id: window(title=str(title))}}
        revision = self._change(user_id, patch)
        with self._lock:
            self.titles[user_id][app_id] = title
            self.revisions[user_id] = max(self.revisions[user_id], revision)
            self.acknowledged += 1

    def lost(self) -> dict[int, str]:
        """Users whose row is not what was acknowledged last."""
        return self._unlike(Canvas.objects.in_bulk(list(self.titles)))

    def forgotten(self) -> dict[int, str]:
        """Users whose readers do not see what was acknowledged last."""
        live: Any = entries.peek_many(CANVASES, list(self.titles))
        return self._unlike(live)

    def _unlike(self, found: Mapping[int, Canvas | CanvasDocument]) -> dict[int, str]:
        seen = {u: _shown(_titles(each.layout), each.revision) for u, each in found.items()}
        wanted = {u: _shown(self.titles[u], self.revisions[u]) for u in self.titles}
        return {
            u: f"{seen.get(u, 'nothing')}, not {shown}"
            for u, shown in wanted.items()
            if seen.get(u) != shown
        }


def _shown(titles: Mapping[str, int], revision: int) -> str:
    return f"{dict(sorted(titles.items()))} r{revision}"


def _titles(layout: Any) -> dict[str, int]:
    return {app_id: int(app["title"]) for app_id, app in layout["microApps"].items()}


def lifetimes_ms(user_ids: Iterable[int]) -> dict[int, int]:
    """Of their documents. -1: no expiry; -2: no document."""
    user_ids = list(user_ids)
    calls = [("PTTL", CANVAS.key(user_id)) for user_id in user_ids]
    return dict(zip(user_ids, store().pipeline(calls), strict=True))


def not_clean(user_ids: Iterable[int]) -> list[int]:
    """The users whose document is marked, or will never expire."""
    lifetimes = lifetimes_ms(user_ids)
    marked = CANVAS_BUFFER.index.marks_of(list(lifetimes))
    return [u for u, lifetime in lifetimes.items() if u in marked or lifetime == -1]


def persist_everything() -> None:
    """What has been acknowledged is in PostgreSQL. Others flush as well, and one flush waits for a
    row that they hold for a second only."""
    assert eventually(lambda: services.persist_now().left == 0), "a row is held"


class Written:
    """Every version of a row that has been written, as PostgreSQL notes it."""

    TRIGGER = """
    CREATE TABLE test_written (id bigserial, user_id bigint, revision bigint);
    CREATE FUNCTION test_written() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO test_written (user_id, revision) VALUES (NEW.user_id, NEW.revision);
        RETURN NULL;
    END $$;
    CREATE TRIGGER test_written AFTER INSERT OR UPDATE ON canvas_canvas
    FOR EACH ROW EXECUTE FUNCTION test_written();
    """
    REMOVE = """
    DROP TRIGGER test_written ON canvas_canvas;
    DROP FUNCTION test_written;
    DROP TABLE test_written;
    """

    def revisions(self) -> dict[int, list[int]]:
        """Of each user, in the order in which they were written."""
        found: dict[int, list[int]] = defaultdict(list)
        for user_id, revision in sql("SELECT user_id, revision FROM test_written ORDER BY id"):
            found[user_id].append(revision)
        return dict(found)

    def not_rising(self) -> dict[int, list[int]]:
        """Users of whom a revision was written twice, or after a higher one."""
        return {u: seen for u, seen in self.revisions().items() if seen != sorted(set(seen))}


def sql(statement: str) -> list[tuple[Any, ...]]:
    """The rows of a statement."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def written() -> Iterator[Written]:
    """PostgreSQL notes what is written, until the test ends."""
    sql(Written.TRIGGER)
    yield Written()
    sql(Written.REMOVE)


EVICT: Final = """
if redis.call('PTTL', KEYS[1]) > 0 then return redis.call('DEL', KEYS[1]) end
return 0
"""


def evict(user_id: int) -> bool:
    """Remove the user's document as a server short of memory does, which spares what has no
    expiry; whether there was one to remove."""
    return bool(store().command("EVAL", EVICT, 1, CANVAS.key(user_id)))


def flush_by_hand(
    user_ids: Sequence[int], before: str, act: Callable[[], None], patched: pytest.MonkeyPatch
) -> None:
    """One flush of these users, and what happens before one of its steps."""

    def reached(step: str) -> None:
        if step == before and not taking_place:
            taking_place.append(True)
            act()

    def save(documents: Sequence[CanvasDocument]) -> Mapping[int, str]:
        reached("save")
        return CANVAS_BUFFER.save(documents)

    def clear(*args: Any) -> set[int]:
        reached("clear")
        return clear_marks(*args)

    taking_place: list[bool] = []
    clear_marks = DirtyIndex.clear
    at = time.time()
    marks = CANVAS_BUFFER.index.marks_of(user_ids)
    reached("read")
    batch = flush.persist(replace(CANVAS_BUFFER, save=save), marks, at=at)
    reached("settle")
    with patched.context() as patch:
        patch.setattr(DirtyIndex, "clear", clear)
        flush.settle(CANVAS_BUFFER, batch)


def let_time_pass(user_id: int, seconds: float) -> None:
    """The user's document was refused so much longer ago."""
    key = CANVAS_INDEX.refused.key(user_id % SHARDS)
    noted = json.loads(store().command("HGET", key, user_id))
    earlier = {name: noted[name] - seconds for name in ("firstAt", "retryAt")}
    store().command("HSET", key, user_id, json.dumps(noted | earlier))


def waits_seconds(user_id: int) -> float:
    """How long the user's document is left alone from now on."""
    return CANVAS_BUFFER.index.refusals([user_id])[user_id].retry_at - time.time()


# Of a flush: documents are read and saved, marks and expiry settled, marks cleared. What is in no
# step, between two flushes, reads the index.
STEPS: Final = ("persists", "reads", "saves", "settles", "clears", "between")


@contextlib.contextmanager
def flushers(server: CacheServer) -> Iterator[Callable[[], str]]:
    """`kill()`: a process that flushes is killed in the next of the steps, or soon after
    (`flusher.py`); what it was doing."""
    steps = itertools.cycle(STEPS)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.faults.flusher"],
        cwd=ROOT,
        env=environment(server.url),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdin
        assert program.stdout
        questions, answers = program.stdin, program.stdout

        def kill() -> str:
            seconds = random.uniform(0, random.choice((0, 0.002, 0.05)))
            print(next(steps), seconds, file=questions, flush=True)
            did = answers.readline().strip()
            assert did in STEPS, did or "the program has ended"
            return did

        yield kill
