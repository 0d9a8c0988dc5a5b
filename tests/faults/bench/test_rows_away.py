"""The cache is down, frozen, slow, half out of reach, cut off, or back (faults 1 to 6, and 23).

Where a figure is compared with PostgreSQL alone, a second site that has never had a cache is under
the same load at the same time: whatever else the machine does troubles both.
"""

import asyncio
import contextlib
import itertools
import json
import operator
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import pytest

from aevon.cache import outbox
from aevon.embedded import CacheServer
from klepsydra.models import PsycheState
from tests.faults.drawings import persist_everything
from tests.klepsydra.rows import PSYCHES
from tests.servers import database_url
from tests.threads import in_threads
from tests.waiting import eventually

from . import api, report
from .api import Operation
from .check import check
from .production import Production
from .proxy import Proxy
from .visitors import Log, Person, make_people, under_load

NOBODY_LISTENS: Final = "redis://127.0.0.1:1/0"
REQUESTS: Final = 1_000  # each time
TRIES: Final = 3
SLOW_SECONDS: Final = 0.25  # nearly the time-out, which is 0.3
FREEZE_SECONDS: Final = 20.0
READS: Final = report.share(100_000)
READERS: Final = 10
# What is not read over HTTP in that time is read in one process.
READ_SECONDS: Final = report.share(60)
CUT: Final = 0.01
READING: Final = {"validate": 3, "psyche": 3, "canvas": 1, "history": 1}


@pytest.fixture
def alone(transactional_db: None, tmp_path: Path) -> Iterator[Production]:
    """A site that has only PostgreSQL, and has never had a cache."""
    folder, names = tmp_path / "alone", ("web",)
    site = Production(folder, database_url(), NOBODY_LISTENS, {}, names, ready_as="degraded")
    with site as ready:
        yield ready


def p99(operations: Sequence[Operation]) -> float:
    """The seconds that one in a hundred takes longer than."""
    seconds = sorted(each.seconds for each in operations)
    return seconds[int(0.99 * len(seconds))]


def middle(operations: Sequence[Operation]) -> float:
    """The median of their seconds."""
    return median(each.seconds for each in operations)


def everybody_has_noticed(site: Production) -> int:
    """Wait until no web worker trusts the cache; that moment."""
    opened = "aevon_cache_breaker_transitions_total"
    workers = [each.pid for each in site.web_workers()]
    assert eventually(
        lambda: all(site.counted_by(pid, opened, state="open") for pid in workers), 20
    ), site.told()
    return time.monotonic_ns()


def is_at_rest(log: Log, people: Sequence[Person], **faults: Any) -> None:
    """What they were told may be, and none of them was refused."""
    assert log.refused() == []
    assert check(log.operations, people, **faults).violations == []


def test_row_01_cache_down(site: Production, alone: Production, server: CacheServer) -> None:
    """PostgreSQL serves every request, about as fast as where there never was a cache."""
    people, others = make_people(8), make_people(8)
    with under_load(site, people, visitors=4) as log:
        log.wait_for(300)
        flushed = time.monotonic_ns()
        persist_everything()
        server.kill()
        lost = (flushed, time.monotonic_ns())
        with under_load(alone, others, visitors=4) as control:
            moments = [everybody_has_noticed(site)]
            for _ in range(TRIES):
                control.wait_for(REQUESTS)
                log.wait_for(REQUESTS)
                moments.append(time.monotonic_ns())
        server.start()
        outage = (flushed, site.recovers())
        log.wait_for(300)
    is_at_rest(log, people, outages=[outage], lost_memory=[lost])
    ratios = [
        p99(log.begun_in(*span)) / p99(control.begun_in(*span))
        for span in itertools.pairwise(moments)
    ]
    served = len(log.begun_in(moments[0], moments[-1]))
    assert served >= TRIES * REQUESTS * 0.9
    assert median(ratios) <= 1.5, ratios
    report.measured(
        1,
        f"0 5xx in {served:,} requests; p99 {median(ratios):.2f} × PostgreSQL-only (median of "
        f"{TRIES} times {REQUESTS:,})",
    )


def slow_calls(site: Production, pid: int) -> float:
    """How many of a worker's calls ran into the time-out; without those of a recovery, for which
    nobody waits, and of which those that do not close the breaker ran into it."""

    def counted(name: str, **labels: str) -> float:
        return site.counted_by(pid, f"aevon_cache_{name}_total", **labels)

    tried = counted("breaker_transitions", state="half-open")
    recovered = counted("breaker_transitions", state="closed")
    return counted("failures", kind="timeout") - (tried - recovered)


def test_row_02_cache_frozen(site: Production, alone: Production, server: CacheServer) -> None:
    """A time-out for who calls first; the others notice nothing."""
    people, others = make_people(8), make_people(8)
    with (
        # Seldom enough that nobody waits for the machine, which would be taken for overhead.
        under_load(site, people, visitors=4, pause_seconds=0.1) as log,
        under_load(alone, others, visitors=4, pause_seconds=0.1) as control,
    ):
        log.wait_for(100)
        server.pause()
        frozen = time.monotonic_ns()
        since = everybody_has_noticed(site)
        time.sleep(FREEZE_SECONDS)
        server.resume()
        until = time.monotonic_ns()
        outage = (frozen, site.recovers())
        log.wait_for(200)
    met = [each for each in log.operations if each.start < since and each.end > frozen]
    first = middle([each for each in met if each.seconds > SLOW_SECONDS])
    slow = [slow_calls(site, each.pid) for each in site.web_workers()]
    overhead = middle(log.begun_in(since, until)) - middle(control.begun_in(since, until))
    is_at_rest(log, people, outages=[outage])
    assert first <= 0.4
    assert 1 <= max(slow) <= 5
    assert overhead <= 0.005
    report.measured(
        2,
        f"first call {first:.2f} s; {max(slow):.0f} slow calls at most per process; "
        f"then {max(0.0, overhead * 1000):.1f} ms overhead",
    )


def test_row_03_cache_slow(start: Callable[..., Production], proxy: Proxy) -> None:
    """Everything is served by the cache, slowly."""
    site = start(through=proxy)
    people = make_people(8)
    with proxy.doing(delay=(0.15, 0.25)), under_load(site, people, visitors=4) as log:
        log.wait_for(400)
    is_at_rest(log, people)
    assert site.metric("aevon_cache_breaker_transitions_total", state="open") == 0
    report.measured(3, f"0 errors in {len(log.operations):,} requests, every breaker stayed closed")


def test_row_04_half_open_link(start: Callable[..., Production], proxy: Proxy) -> None:
    """One time-out, and nobody waits for a connection."""
    site, people = start(through=proxy), make_people(8)
    outages, slowest = [], []
    with under_load(site, people, visitors=8, pause_seconds=0.05) as log:
        for _ in range(TRIES):
            log.wait_for(100)
            begun = time.monotonic_ns()
            with proxy.doing(swallow=True):
                log.wait_for(100)
                time.sleep(3)
            outages.append((begun, site.recovers()))
            slowest.append(max(each.seconds for each in log.begun_in(*outages[-1])))
    is_at_rest(log, people, outages=outages)
    assert site.metric("aevon_cache_failures_total", kind="timeout") >= TRIES
    assert site.metric("aevon_cache_failures_total", kind="pool-exhausted") == 0
    assert median(slowest) <= 0.5, slowest
    report.measured(
        4, f"slowest request {median(slowest):.2f} s (median of {TRIES}); no wait for the pool"
    )


@dataclass
class Answers:
    """What readers of PsycheStates were told: how much, and what was not whole or not theirs."""

    count: int = 0
    wrong: list[object] = field(default_factory=list)

    def told(self, answer: object, right: object) -> None:
        """One more."""
        self.count += 1
        if answer != right:
            self.wrong.append(answer)


async def read_over_http(site: Production, person: Person, answers: Answers) -> None:
    """As fast as they are answered, for a while."""
    what, deadline = api.READINGS["psyche"], time.monotonic() + READ_SECONDS
    sent = what.head + api.bearer(person.access) + what.rest
    with contextlib.closing(site.lines()) as line:
        first = await line.ask(sent)
        assert first.status == 200, first
        assert json.loads(first.body)["userId"] == person.user_id
        while time.monotonic() < deadline:
            answer = await line.ask(sent)
            answers.told((answer.status, answer.body), (200, first.body))


def read_here(people: Sequence[Person], most: int) -> Answers:
    """In this process, by threads that share its connections, until all have read so many."""
    right = {p.user_id: PSYCHES.documents([p.user_id])[p.user_id] for p in people}

    def read() -> Answers:
        answers = Answers()
        for person in itertools.islice(itertools.cycle(people), most // READERS):
            told = PsycheState.cached.get(person.user_id)
            answers.told(told, right[person.user_id])
        return answers

    found = in_threads([read] * READERS, workers=READERS)
    return Answers(sum(e.count for e in found), [one for e in found for one in e.wrong])


def test_row_05_reset_in_mid_reply(
    start: Callable[..., Production], server: CacheServer, proxy: Proxy, use: Any
) -> None:
    """Each answer is whole, and the answer to this question."""
    site, people, readers = start(through=proxy), make_people(8), make_people(READERS)
    over_http = Answers()

    async def everybody() -> None:
        await asyncio.gather(*(read_over_http(site, each, over_http) for each in readers))

    with under_load(site, people, visitors=2, pause_seconds=0.05) as log:
        begun = time.monotonic_ns()
        with proxy.doing(cut=CUT):
            asyncio.run(everybody())
            use(server, proxy.port)
            here = read_here(readers, READS - over_http.count)
        use(server)
        cut = proxy.counts()["cut"]
        outage = (begun, site.recovers())
        log.wait_for(50)
    is_at_rest(log, people, outages=[outage])
    assert over_http.wrong + here.wrong == []
    assert over_http.count + here.count >= READS * 0.999
    assert cut >= READS * CUT / 10, "hardly anything was cut"
    report.measured(
        5,
        f"0 mismatched in {over_http.count:,} bodies over HTTP and {here.count:,} in one process,"
        f" with {cut:,} replies cut",
    )


def hits(site: Production) -> list[float]:
    """How many PsycheStates each web worker has had from the cache. Not canvases: a recovery looks
    at them itself."""
    which = {"keyspace": "psyche", "result": "hit"}
    workers = site.web_workers()
    return [site.counted_by(each.pid, "aevon_cache_loads_total", **which) for each in workers]


def test_row_06_recovery(start: Callable[..., Production], server: CacheServer) -> None:
    """What was written meanwhile is told before anything is believed. Nobody else could have told
    it: web is the only process."""
    site, people = start(names=("web",), ready_as="degraded"), make_people(8)
    with under_load(site, people, visitors=8) as log:
        log.wait_for(300)
        flushed = time.monotonic_ns()
        persist_everything()
        server.kill()
        lost = (flushed, time.monotonic_ns())
        everybody_has_noticed(site)
        log.wait_for(300)
    assert outbox.depth() > 0
    before = hits(site)
    with under_load(site, people, weights=READING, visitors=8) as reads:
        server.start()
        back = time.monotonic_ns()
        assert eventually(lambda: hits(site) != before), "nobody reads from the cache"
        undrained = outbox.depth()
        assert eventually(lambda: all(map(operator.gt, hits(site), before)), 30)
        seconds = (time.monotonic_ns() - back) / 1e9
        outage = (flushed, site.recovers())
        reads.wait_for(300)
    log.operations += reads.operations
    is_at_rest(log, people, outages=[outage], lost_memory=[lost])
    assert undrained == 0
    assert seconds <= 5
    report.measured(6, f"every process has hits {seconds:.1f} s after the restart; 0 stale")


def test_row_23_pool_exhausted(
    start: Callable[..., Production], proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes of a hundred threads: who gets no connection in time goes to PostgreSQL."""
    monkeypatch.setattr("aevon.run.WEB_THREADS", 100)
    # A site of so many threads gives PostgreSQL more than the default of twenty connections.
    site = start(through=proxy, AEVON_CACHE_POOL_SIZE="20", AEVON_DATABASE_POOL_SIZE="80")
    people = make_people(100)
    # The load comes as it does to a site: a pool of PostgreSQL opens three connections at a time,
    # and a hundred threads that are new to everything may wait for theirs longer than its 3 s.
    asked_before = []
    for visitors in (20, 60, 200):
        with under_load(site, people, visitors=visitors) as calm:
            calm.wait_for(REQUESTS // 2)
        asked_before += calm.operations
    with proxy.doing(delay=(0.1, 0.15)), under_load(site, people, visitors=200) as log:
        log.wait_for(2 * REQUESTS)
    waited = site.metric("aevon_cache_failures_total", kind="pool-exhausted")
    asked, outage = len(log.operations), (asked_before[0].start, site.recovers())
    log.operations += asked_before
    is_at_rest(log, people, outages=[outage])
    assert waited > 0
    report.measured(
        23,
        f"0 5xx in {asked:,} requests; {waited:,.0f} waits for a connection in vain",
    )
