"""Two thousand people for minutes: no error, and nothing that only grows."""

import os
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from statistics import quantiles
from typing import Final

import psutil
import pytest
import redis
from django.conf import settings

from aevon.celery import app
from aevon.embedded import CacheServer
from tests.consistency.report import write
from tests.faults.drawings import persist_everything
from tests.waiting import eventually

from .check import Span, check
from .production import Production
from .thousands import Thousands
from .usage import RESET, Files, Process, Usage, growth, of_the_living, settled
from .visitors import Log, make_people, under_load

PEOPLE: Final = int(os.environ.get("LOAD_PEOPLE", "2000"))
LONG: Final = int(os.environ.get("LOAD_SECONDS", "300"))
SHORT: Final = 36
# Of the time: until then pools, threads and caches of code come to be.
WARM_SHARE: Final = 1 / 3
GROWTH: Final = 0.05
GROWTH_IN_SHORT: Final = 0.2  # half a minute cannot tell a warm-up's end from growth
PERSIST_SECONDS: Final = 5  # so that flushes are warm as well
# Beside the pool of a process: the broker's connections, and those of the probes.
BROKER: Final = 10
PROBES: Final = 4
# What an outage may leave of broken connections: pollers, until the next collection of garbage,
# which an idle process seldom makes; and those that were reset, in their pool until somebody wants
# one. A task that is at work then cannot be acknowledged, and Celery replaces its process.
POLLS: Final = "anon_inode:[eventpoll]"
POLLS_LEFT: Final = 16

TASKS: Final = 8  # of each, for two processes
QUEUE: Final = "celery:broker:celery"

Away = Callable[[float], tuple[list[Span], list[Span]]]


def wait(seconds: float) -> tuple[list[Span], list[Span]]:
    """Nothing happens."""
    time.sleep(seconds)
    return [], []


@pytest.fixture
def site(start: Callable[..., Production]) -> Production:
    """One that flushes all the time."""
    return start(CANVAS_PERSIST_SECONDS=str(PERSIST_SECONDS))


@pytest.fixture
def kill(site: Production, server: CacheServer) -> Away:
    """The cache is killed in the middle, and started again: with an older snapshot, or empty."""

    def kill(seconds: float) -> tuple[list[Span], list[Span]]:
        time.sleep(seconds / 2)
        flushed = time.monotonic_ns()
        persist_everything()
        server.kill()
        lost = (flushed, time.monotonic_ns())
        time.sleep(seconds / 10)
        server.start()
        outage = (flushed, site.recovers())
        time.sleep(seconds * 4 / 10)
        return [outage], [lost]

    return kill


@pytest.mark.soak
def test_two_thousand_people(site: Production, server: CacheServer) -> None:
    """Nobody is refused, and neither memory, connections nor files grow."""
    lead(site, server, LONG, wait, "load")


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(SHORT, id="short"),
        pytest.param(LONG, marks=pytest.mark.soak, id="long"),
    ],
)
def test_two_thousand_people_while_the_cache_is_killed(
    site: Production, server: CacheServer, kill: Away, seconds: int
) -> None:
    """The same; nobody reads anything old."""
    lead(site, server, seconds, kill, "load without a cache")


def test_two_thousand_connections_are_kept(site: Production) -> None:
    """Each is answered while all others stay, and once more."""
    with ExitStack() as stack:
        everybody = [
            stack.enter_context(socket.create_connection(("127.0.0.1", site.port), timeout=20))
            for _ in range(PEOPLE)
        ]
        for _ in range(2):
            for one in everybody:
                one.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert {answer(one)[:12] for one in everybody} == {b"HTTP/1.1 200"}
        assert clients(site) == PEOPLE


def test_who_has_gone_is_not_measured() -> None:
    """As a child that Celery replaces in an outage."""
    with subprocess.Popen(["sleep", "60"]) as program:
        found = {"there": psutil.Process(), "gone": psutil.Process(program.pid)}
        assert of_the_living(found, psutil.Process.num_fds).keys() == {"there", "gone"}
        program.kill()
    assert of_the_living(found, psutil.Process.num_fds).keys() == {"there"}


def answer(one: socket.socket) -> bytes:
    """A whole one: it comes in chunks."""
    found = b""
    while not found.endswith(b"\r\n0\r\n\r\n"):
        more = one.recv(4096)
        assert more, found
        found += more
    return found


def lead(site: Production, server: CacheServer, seconds: int, happens: Away, section: str) -> None:
    """The whole of it."""
    crowd = Thousands(PEOPLE)
    open_everything(site, server)
    before = settled(site, server)
    with crowd.visiting(site) as log:
        time.sleep(seconds * WARM_SHARE)
        with Usage(site, server) as usage:
            connections = clients(site)
            outages, lost = happens(seconds * (1 - WARM_SHARE))
            connections = max(connections, clients(site))
    after = settled(site, server)
    if seconds >= LONG:
        tell(section, log, usage, connections)
    print(log.statuses(), growth(usage.memory), usage.most_held(), before, after)
    nobody_is_refused(log)
    verdict = check([*crowd.said, *log.operations], crowd.people, outages=outages, lost_memory=lost)
    assert verdict.violations == []
    if outages:
        _, of_cache = zip(*usage.most_held().values(), strict=True)
        nothing_leaks(before, after, Counter({POLLS: POLLS_LEFT, RESET: max(of_cache)}), {"worker"})
    else:
        nothing_leaks(before, after, Counter(), set())
    nothing_grows(usage, GROWTH if seconds >= LONG else GROWTH_IN_SHORT)


def nobody_is_refused(log: Log) -> None:
    """Every request was answered, and with success."""
    assert log.refused() == []
    assert {each.status // 100 for each in log.operations} == {2}


def nothing_leaks(
    before: dict[Process, Files], after: dict[Process, Files], left: Files, replaced: set[str]
) -> None:
    """Nobody died, and nobody has more open than before: but for what an outage has `left`, and for
    whose children are `replaced` because of it."""
    assert Counter(part for part, _ in after) == Counter(part for part, _ in before)
    assert {part for part, _ in before.keys() - after.keys()} <= replaced
    kept = before.keys() & after.keys()
    more = {process: after[process] - before[process] - left for process in kept}
    assert {process: which for process, which in more.items() if which} == {}


def nothing_grows(usage: Usage, bound: float) -> None:
    """Connections stay within the pools, and memory is where it was."""
    for name, (of_ledger, of_cache) in usage.most_held().items():
        assert of_ledger <= ledger_pool() + PROBES, name
        assert of_cache <= settings.AEVON_CACHE["POOL_SIZE"] + BROKER, name
    grown = {name: share for name, share in growth(usage.memory).items() if share >= bound}
    assert grown == {}


def tell(section: str, log: Log, usage: Usage, connections: int) -> None:
    """The figures, into the page."""
    seconds = (log.operations[-1].end - log.operations[0].start) / 1e9
    held, grown = usage.most_held(), growth(usage.memory)
    of_ledger, of_cache = (max(each[n] for each in held.values()) for n in (0, 1))
    median, slow = quantiles([each.seconds * 1000 for each in log.operations], n=100)[49::49]
    rows: list[tuple[str, str]] = [
        ("people, each with a session", f"{PEOPLE:,}"),
        ("connections of theirs, at most", f"{connections:,}"),
        ("seconds", f"{seconds:.0f}"),
        ("requests", f"{len(log.operations):,}"),
        ("requests per second", f"{len(log.operations) / seconds:.0f}"),
        ("median, p99 (ms)", f"{median:.0f}, {slow:.0f}"),
        ("connections to PostgreSQL, of one process at most", f"{of_ledger}"),
        ("connections to the cache, of one process at most", f"{of_cache}"),
        *((f"memory of {name}: growth", f"{share:+.1%}") for name, share in grown.items()),
        ("**errors**", f"{len(log.refused())}"),
    ]
    lines = (f"| {name} | {value} |" for name, value in rows)
    write(section, ["| figure | measured |", "|---|---:|", *lines])


def ledger_pool() -> int:
    """The connections to PostgreSQL that one process may have."""
    return int(settings.DATABASES["default"]["OPTIONS"]["pool"]["max_size"])


def open_everything(site: Production, server: CacheServer) -> None:
    """Each process has done what it does: it has its files open."""
    with under_load(site, make_people(8)) as log:
        for _ in range(TASKS):
            send_every_task(server)
        log.wait_for(300)
    assert eventually(lambda: not waiting(server), 60)
    site.get("/metrics")


def send_every_task(server: CacheServer) -> None:
    """As if beat thought it was time for all of them."""
    with app.connection_for_write(server.url) as broker:
        for entry in app.conf.beat_schedule.values():
            app.send_task(entry["task"], connection=broker)


def waiting(server: CacheServer) -> int:
    """Tasks that no worker has taken yet."""
    with redis.Redis.from_url(server.url, protocol=2) as client:
        return int(client.llen(QUEUE))


def clients(site: Production) -> int:
    """How many clients are connected to the web workers."""
    parent = psutil.Process(site.processes["web"].pid)
    return sum(
        each.status == psutil.CONN_ESTABLISHED and each.laddr.port == site.port
        for process in [parent, *parent.children(recursive=True)]
        for each in process.net_connections("tcp4")
    )
