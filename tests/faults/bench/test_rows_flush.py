"""Flushers die or overlap, somebody draws meanwhile, a row is poison (faults 19 to 21, 27)."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from itertools import cycle, islice, pairwise
from typing import Any, Final

import psutil
import psycopg
import pytest

from aevon.cache import flush
from aevon.cache.failsafe import lift_limits, restore_limits
from aevon.embedded import CacheServer
from canvas.models import Canvas
from canvas.projection import CANVAS_BUFFER
from canvas.tasks import persist
from tests.faults import drawings
from tests.faults.drawings import (
    Written,
    flush_by_hand,
    flushers,
    let_time_pass,
    not_clean,
    sql,
    waits_seconds,
)
from tests.servers import PATIENCE, database_url
from tests.waiting import eventually

from . import report
from .api import Operation
from .check import check
from .production import Production
from .visitors import (
    Log,
    Person,
    Visitor,
    Weights,
    ask,
    make_people,
    under_load,
)

# --- flushers that are killed ------------------------------------------------------------------

KILLS_BY_HAND: Final = 60  # of `canvas_persist`
KILLS_OF_CHILDREN: Final = 36  # of the worker's, at work
KILLS_OF_WORKERS: Final = 4
KILLS: Final = KILLS_BY_HAND + KILLS_OF_CHILDREN + KILLS_OF_WORKERS
DRAWING: Final[Weights] = {"patch": 6, "canvas": 1}
SLOWLY: Final = """
CREATE FUNCTION test_slowly() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep({}); RETURN NEW; END $$;
CREATE TRIGGER test_slowly BEFORE UPDATE ON canvas_canvas
FOR EACH ROW EXECUTE FUNCTION test_slowly();
"""
AT_ITS_TIME: Final = """
DROP TRIGGER IF EXISTS test_slowly ON canvas_canvas;
DROP FUNCTION IF EXISTS test_slowly
"""

written = pytest.fixture(drawings.written)


@pytest.fixture
def slowed() -> Iterator[Callable[[float], None]]:
    """`slowed(seconds)`: PostgreSQL takes so long for each canvas that is written."""
    yield lambda seconds: sql(SLOWLY.format(seconds)) and None
    sql(AT_ITS_TIME)


def send_flush(server: CacheServer) -> None:
    """One more than beat asks for."""
    with persist.app.connection_for_write(server.url) as broker:
        persist.apply_async(connection=broker)


def flushing() -> int:
    """How many flushes PostgreSQL is in the middle of."""
    ((count,),) = sql(
        "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        " AND state <> 'idle' AND query LIKE '%canvas_flush%'"
    )
    return int(count)


def kill_a_child(site: Production, server: CacheServer) -> bool:
    """A process of the worker's, in the middle of a flush; whether one was met."""
    send_flush(server)
    met = eventually(flushing, 3)
    time.sleep(random.uniform(0, 0.05))
    children = psutil.Process(site.processes["worker"].pid).children(recursive=True)
    for child in children[-2:]:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    return met


def test_row_19_flusher_killed(
    written: Written, slowed: Any, start: Any, server: CacheServer
) -> None:
    """A hundred times while everybody draws: each time the next flush completes what was left, and
    no row goes back."""
    site: Production = start(CANVAS_PERSIST_SECONDS="1")
    people, leavers = make_people(12), make_people(KILLS)
    users = [person.user_id for person in [*people, *leavers]]
    slowed(0.003)
    killed: Counter[str] = Counter()
    leaving = iter(leavers)
    last = Log()

    def leave() -> None:
        """Somebody draws for the last time: no later change brings it along."""
        last.operations.extend(ask(site, next(leaving), "patch"))

    with under_load(site, people, weights=DRAWING, visitors=12, pause_seconds=0.02) as log:
        log.wait_for(100)
        with flushers(server) as kill:
            for _ in range(KILLS_BY_HAND):
                leave()
                killed[kill()] += 1
        met = 0
        for _ in range(KILLS_OF_CHILDREN):
            leave()
            met += kill_a_child(site, server)
        for _ in range(KILLS_OF_WORKERS):
            leave()
            with site.without("worker"):
                time.sleep(random.uniform(0, 0.3))
            assert eventually(lambda: kill_met(server), 60)
    assert eventually(lambda: not_clean(users) == [], 60)
    verdict = check([*log.operations, *last.operations], [*people, *leavers])
    assert verdict.violations == []
    assert written.not_rising() == {}
    assert killed["persists"] + killed["saves"] > 0
    assert killed["settles"] + killed["clears"] > 0
    assert met > KILLS_OF_CHILDREN / 2
    drawn = sum(each.kind == "patch" for each in log.operations)
    report.measured(19, f"{KILLS} kills, {drawn:,} changes: 0 lost, 0 regressions")


def kill_met(server: CacheServer) -> int:
    """Whether the worker flushes again."""
    send_flush(server)
    return int(eventually(flushing, 1))


# --- too many flushers -------------------------------------------------------------------------

OVERLAPPING: Final = 10


def test_row_20_two_beats(written: Written, slowed: Any, start: Any) -> None:
    """Flushes outlast their period, by slow writes and a row that somebody holds, and overlap: each
    revision of a user is written once at the most."""
    site: Production = start(CANVAS_PERSIST_SECONDS="1")
    # Two workers as well: a task that waits for the held row occupies half of one.
    for name in ("beat", "worker"):
        site.processes[f"other {name}"] = site.processes.pop(name)
        site.start(name)
    people = make_people(12)
    held = people[-1].user_id
    with under_load(site, people, weights=DRAWING, visitors=12, pause_seconds=0.05) as log:
        assert eventually(lambda: Canvas.objects.filter(pk=held).exists(), 60)
        assert eventually(lambda: beats(site) == 2, 60)
        slowed(0.15)
        with psycopg.connect(database_url()) as other:
            other.execute("SELECT FROM canvas_canvas WHERE user_id = %s FOR UPDATE", [held])
            assert eventually(lambda: overlapping() >= OVERLAPPING, 120)
    sql(AT_ITS_TIME)
    verdict = check(log.operations, people)
    assert verdict.violations == []
    revisions = written.revisions()
    assert written.not_rising() == {}
    total = sum(map(len, revisions.values()))
    report.measured(
        20,
        f"{total:,} revisions, {overlapping()} flushes longer than their period of a second, and"
        " overlapping; 0 written twice",
    )


def overlapping() -> int:
    """How many flushes began while another was under way."""
    times = sorted((each.began, each.ended) for each in flush.flushes(CANVAS_BUFFER))
    return sum(began < ended for (_, ended), (began, _) in pairwise(times))


def beats(site: Production) -> int:
    """How many say that they are there."""
    dependencies = site.ready().get("dependencies", {})
    return int(dependencies.get("beat", {}).get("processes", 0))


# --- edits during a flush ----------------------------------------------------------------------

EDITS: Final = report.share(10_000)
DRAWERS: Final = 125


class Drawers:
    """A visitor of each person, who all draw at once, some at a time."""

    def __init__(self, site: Production, people: Sequence[Person]) -> None:
        self._site, self._people = site, people
        self.log: list[Operation] = []
        self.revisions: dict[int, int] = {}
        self._visitors: list[Visitor] = []

    def draw(self) -> None:
        """Each once; what they are told is kept."""
        asyncio.run(self._draw())

    async def _draw(self) -> None:
        with closing(self._site.lines()) as lines:
            self._visitors = self._visitors or [
                Visitor(lines, person, self.log) for person in self._people
            ]
            turns = asyncio.Semaphore(16)

            async def patch(visitor: Visitor) -> Operation:
                visitor.line = lines
                async with turns:
                    return await visitor.patch()

            told = await asyncio.gather(*map(patch, self._visitors))
        assert {each.status for each in told} == {200}
        self.revisions |= {each.user: each.told[0] for each in told}


def test_row_21_edit_during_the_flush(
    written: Written, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is drawn between the flush's read and its clear stays marked; the next one has it."""
    # No flush but the test's own; and nobody goes past the cache, to the rows that it holds.
    site: Production = start(CANVAS_PERSIST_SECONDS="86400", **PATIENCE)
    people = make_people(DRAWERS)
    users = [person.user_id for person in people]
    drawers = Drawers(site, people)
    drawers.draw()
    lift_limits()  # of the flush, which waits for those who draw
    for before in islice(cycle(("save", "settle", "clear")), EDITS // DRAWERS):
        flush_by_hand(users, before, drawers.draw, monkeypatch)
        assert CANVAS_BUFFER.index.marks_of(users) == drawers.revisions
        assert not_clean(users) == users
    restore_limits()
    verdict = check(drawers.log, people)
    assert verdict.violations == []
    assert written.not_rising() == {}
    report.measured(21, f"0 of {len(drawers.log) - DRAWERS:,} lost")


# --- poison ------------------------------------------------------------------------------------

DRAWN: Final = 200
BAD: Final = 77
POISON: Final = """
CREATE FUNCTION test_poison() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN IF NEW.user_id = {} AND NEW.revision > 0 THEN RAISE EXCEPTION 'Not here.'; END IF;
RETURN NEW; END $$;
CREATE TRIGGER test_poison BEFORE INSERT OR UPDATE ON canvas_canvas
FOR EACH ROW EXECUTE FUNCTION test_poison()
"""
HEALTHY: Final = """
DROP TRIGGER IF EXISTS test_poison ON canvas_canvas;
DROP FUNCTION IF EXISTS test_poison
"""


@pytest.fixture
def poisoned() -> Iterator[Callable[[int], None]]:
    """`poisoned(user_id)`: PostgreSQL refuses this user's canvas."""
    yield lambda user_id: sql(POISON.format(user_id)) and None
    sql(HEALTHY)


def first_refusal(user_id: int) -> Any:
    """What is noted of it, once a flush has met it."""
    index = CANVAS_BUFFER.index
    assert eventually(lambda: index.refusals([user_id]), 30)
    return index.refusals([user_id])[user_id]


def test_row_27_poison_row(poisoned: Any, start: Any) -> None:
    """The flush that meets it persists all others; the bad one is reported, and tried again after a
    while that grows; it heals."""
    site: Production = start(CANVAS_PERSIST_SECONDS="2")
    people = make_people(DRAWN)
    bad, others = people[BAD].user_id, [each.user_id for each in people if each != people[BAD]]
    poisoned(bad)
    drawers = Drawers(site, people)
    drawers.draw()
    drawers.draw()
    first_refusal(bad)
    assert eventually(lambda: not_clean([*others, bad]) == [bad], 4)
    drawers.draw()
    begun = time.monotonic()
    assert eventually(lambda: not_clean([*others, bad]) == [bad], 20)
    took = time.monotonic() - begun
    records = flush.flushes(CANVAS_BUFFER)
    assert {(each.counts["left"], each.failed) for each in records} == {(0, 0)}
    assert any(each.counts["refused"] and each.counts["persisted"] for each in records)
    refusal = CANVAS_BUFFER.index.refusals([bad])[bad]
    wait = refusal.retry_at - time.time()
    assert 0 < wait <= 61
    assert site.metric("aevon_canvas_refused") == 1
    assert site.ready()["canvas"]["refused"] == 1
    let_time_pass(bad, seconds=600)
    assert eventually(lambda: waits_seconds(bad) > 300)
    sql(HEALTHY)
    let_time_pass(bad, seconds=1000)
    assert eventually(lambda: not_clean([bad]) == [])
    assert check(drawers.log, people).violations == []
    assert eventually(lambda: site.metric("aevon_canvas_refused") == 0)
    report.measured(
        27,
        f"0 of {len(others)} others delayed ({took:.1f} s, period 2 s); reported, tried again"
        f" after {wait:.0f} s, then later; healed",
    )
