"""Two thousand people for minutes: no error, and nothing that only grows."""

import os
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from statistics import quantiles
from typing import Final

import psutil
import pytest
from django.conf import settings

from aevon.embedded import CacheServer
from canvas import services as canvas
from tests.consistency.report import write

from .check import Span, check
from .production import Production
from .thousands import Thousands
from .usage import Usage, growth, settled
from .visitors import Log, make_people, under_load

PEOPLE: Final = int(os.environ.get("LOAD_PEOPLE", "2000"))
LONG: Final = int(os.environ.get("LOAD_SECONDS", "300"))
SHORT: Final = 36
# Of the time: until then pools, threads and caches of code come to be.
WARM_SHARE: Final = 1 / 3
GROWTH: Final = 0.05
# Beside the pool of a process: the broker's connections, and those of the probes.
BROKER: Final = 10
PROBES: Final = 4

Away = Callable[[float], tuple[list[Span], list[Span]]]


def wait(seconds: float) -> tuple[list[Span], list[Span]]:
    """Nothing happens."""
    time.sleep(seconds)
    return [], []


@pytest.fixture
def kill(site: Production, server: CacheServer) -> Away:
    """The cache is killed in the middle, and started again: with an older snapshot, or empty."""

    def kill(seconds: float) -> tuple[list[Span], list[Span]]:
        time.sleep(seconds / 2)
        flushed = time.monotonic_ns()
        canvas.persist_now()
        server.kill()
        lost = (flushed, time.monotonic_ns())
        time.sleep(seconds / 10)
        server.start()
        outage = (flushed, site.recovers())
        time.sleep(seconds * 4 / 10)
        return [outage], [lost]

    return kill


LENGTHS = pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(SHORT, id="short"),
        pytest.param(LONG, marks=pytest.mark.soak, id="long"),
    ],
)


@LENGTHS
def test_two_thousand_people(site: Production, server: CacheServer, seconds: int) -> None:
    """Nobody is refused, and neither memory, connections nor files grow."""
    lead(site, server, seconds, wait, "load")


@LENGTHS
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
    open_everything(site)
    before = settled(site, server)
    with crowd.visiting(site) as log:
        time.sleep(seconds * WARM_SHARE)
        with Usage(site, server) as usage:
            connections = clients(site)
            outages, lost = happens(seconds * (1 - WARM_SHARE))
            connections = max(connections, clients(site))
    after = settled(site, server)
    if seconds >= 300:
        tell(section, log, usage, connections)
    print(log.statuses(), growth(usage.memory), usage.most_held(), before, after)
    nobody_is_refused(log)
    verdict = check([*crowd.said, *log.operations], crowd.people, outages=outages, lost_memory=lost)
    assert verdict.violations == []
    nothing_leaks(usage, before, after)


def nobody_is_refused(log: Log) -> None:
    """Every request was answered, and with success."""
    assert log.refused() == []
    assert {each.status // 100 for each in log.operations} == {2}


def nothing_leaks(usage: Usage, before: dict[str, int], after: dict[str, int]) -> None:
    """Nobody died, and neither memory, connections nor files are more than they may be."""
    assert after.keys() == before.keys()
    assert {name: n for name, n in after.items() if n > before[name]} == {}, before
    for name, (of_ledger, of_cache) in usage.most_held().items():
        assert of_ledger <= ledger_pool() + PROBES, name
        assert of_cache <= settings.AEVON_CACHE["POOL_SIZE"] + BROKER, name
    grown = {name: share for name, share in growth(usage.memory).items() if share >= GROWTH}
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


def open_everything(site: Production) -> None:
    """Each process has done once what it does: it has its files open."""
    with under_load(site, make_people(8)) as log:
        log.wait_for(300)
    site.get("/metrics")


def clients(site: Production) -> int:
    """How many clients are connected to the web workers."""
    parent = psutil.Process(site.processes["web"].pid)
    return sum(
        each.status == psutil.CONN_ESTABLISHED and each.laddr.port == site.port
        for process in [parent, *parent.children(recursive=True)]
        for each in process.net_connections("tcp4")
    )
