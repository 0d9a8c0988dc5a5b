"""PostgreSQL is away, frozen, or gone together with the cache (faults 17, 18, 29)."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

import pytest

from aevon import run
from aevon.embedded import CacheServer, PostgresServer
from tests.faults.witness import forget_connections
from tests.klepsydra.rows import SLUG
from tests.waiting import eventually

from . import report
from .api import Operation
from .check import Verdict, check
from .production import FORWARDED, Production
from .visitors import (
    EVERYTHING,
    Log,
    Person,
    Weights,
    ask,
    make_people,
    under_load,
)

# What is in the cache is served whatever becomes of PostgreSQL.
CACHED: Final[Weights] = {
    kind: EVERYTHING[kind] for kind in ("validate", "psyche", "canvas", "patch", "history")
}
# A play under way when PostgreSQL went may have been committed: who plays may have to wait for it.
WRITING: Final[Weights] = {"validate": 20, "patch": 20, "play": 20, "command": 10}
UNSHAKEN: Final = ("validate", "canvas", "patch")


@contextmanager
def readers_and_writers(site: Production) -> Iterator[tuple[Log, Log, list[Person]]]:
    """Twelve visitors of six people who read and draw, twelve of six others who write, too."""
    people = make_people(12)
    # A list without turns is not in the cache.
    begun = [each for person in people for each in ask(site, person, "command", *CACHED)]
    with ExitStack() as stack:
        logs = [
            stack.enter_context(
                under_load(site, each, weights=weights, visitors=12, pause_seconds=0.1)
            )
            for each, weights in ((people[:6], CACHED), (people[6:], WRITING))
        ]
        logs[0].operations += begun
        yield logs[0], logs[1], people


def of_kind(operations: Sequence[Operation], *kinds: str) -> list[Operation]:
    """Those alone."""
    return [each for each in operations if each.kind in kinds]


def refused(operations: Sequence[Operation]) -> list[Operation]:
    """What was not answered with success."""
    return [each for each in operations if not 200 <= each.status < 300]


def checked(logs: Sequence[Log], people: Sequence[Person]) -> Verdict:
    """What all were told, together."""
    return check([each for log in logs for each in log.operations], people)


END_SECONDS: Final = 10.0  # what containers are given, mostly


def ends(site: Production, name: str) -> bool:
    """Whether SIGTERM is enough for it."""
    process = site.processes[name]
    process.terminate()
    ended = eventually(lambda: process.poll() is not None, END_SECONDS)
    site.kill(name)
    return ended


# --- PostgreSQL stopped ------------------------------------------------------------------------

AWAY_SECONDS: Final = 8.0


def refusal(site: Production, person: Person) -> tuple[int, int]:
    """Status and Retry-After of a play."""
    request = urllib.request.Request(
        f"{site.url}/api/v1/klepsydra/interactions/",
        data=json.dumps({"instrument": SLUG, "stake": 1}).encode(),
        headers={**person.headers, "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, 0
    except urllib.error.HTTPError as error:
        return error.code, int(error.headers.get("Retry-After", 0))


def test_row_17_postgresql_down(site: Production, postgresql: PostgresServer) -> None:
    """Cached reads and changes of canvases go on, other writes are 503 with a time to come back,
    and nothing that was acknowledged is lost."""
    with readers_and_writers(site) as (readers, writers, people):
        readers.wait_for(200)
        forget_connections()
        postgresql.stop()
        begun = time.monotonic_ns()
        time.sleep(AWAY_SECONDS)
        status, retry_after = refusal(site, people[-1])
        ended = time.monotonic_ns()
        assert ends(site, "beat")
        postgresql.start()
        site.start("beat")
        site.recovers()
        readers.wait_for(200)
    during = readers.begun_in(begun, ended), writers.begun_in(begun, ended)
    assert refused(readers.operations) == []
    assert refused(of_kind(writers.operations, *UNSHAKEN)) == []
    writes = of_kind(during[1], "play", "command")
    assert {each.status for each in writes if each.end < ended} == {503}
    assert (status, retry_after >= 1) == (503, True)
    drawn = of_kind([*during[0], *during[1]], "patch")
    verdict = checked([readers, writers], people)
    assert verdict.violations == []
    assert min(len(during[0]), len(drawn), len(writes)) > 10
    report.measured(
        17,
        f"{len(during[0]):,} cached reads and {len(drawn):,} canvas changes meanwhile, 0 refused;"
        f" {len(writes)} writes 503; 0 of {verdict.operations:,} operations lost",
    )


# --- both away ---------------------------------------------------------------------------------

REQUESTS: Final = 1_000
ASKING: Final[Weights] = {"validate": 4, "psyche": 1, "canvas": 1, "history": 1, "patch": 1}


def test_row_18_both_down(
    site: Production, server: CacheServer, postgresql: PostgresServer
) -> None:
    """Nobody is let in while neither can say who they are, and no ended session afterwards."""
    people = make_people(8)
    gone = people[-1]
    assert [each.status for each in ask(site, gone, "validate", "logout")] == [204, 204]
    with under_load(site, people, weights=ASKING, pause_seconds=0.02) as log:
        log.wait_for(200)
        forget_connections()
        server.kill()
        postgresql.stop()
        begun = time.monotonic_ns()
        log.wait_for(REQUESTS)
        assert refusal(site, people[0]) == (503, 1)
        ended = time.monotonic_ns()
        postgresql.start()
        server.start()
        site.recovers()
        log.wait_for(200)
    meanwhile = log.begun_in(begun, ended)
    assert {each.status for each in meanwhile if each.end < ended} == {503}
    let_in = [each for each in log.operations if each.user == gone.user_id and each.status < 300]
    assert let_in == []
    assert [each.status for each in ask(site, people[0], "validate")] == [204]
    report.measured(18, f"0 of {len(meanwhile):,} requests authorised, all 503")


# --- PostgreSQL frozen -------------------------------------------------------------------------

FROZEN_SECONDS: Final = 20.0
# Of each of two processes, as deploy/ has it.
THREADS: Final = 16


class Pulse:
    """`/health/live`, ten times a second; `seconds` and `failures` of each answer."""

    def __init__(self, site: Production) -> None:
        self._url = f"{site.url}/health/live"
        self._over = threading.Event()
        self.seconds: list[float] = []
        self.failures: list[str] = []

    def __enter__(self) -> "Pulse":
        self._thread = threading.Thread(target=self._feel)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _feel(self) -> None:
        while not self._over.wait(0.1):
            begun = time.monotonic()
            request = urllib.request.Request(self._url, headers=FORWARDED)
            try:
                urllib.request.urlopen(request, timeout=5).close()
            except OSError as error:
                self.failures.append(str(error))
            self.seconds.append(time.monotonic() - begun)


@contextmanager
def frozen(postgresql: PostgresServer) -> Iterator[None]:
    """Nothing that this process has open is asked meanwhile."""
    forget_connections()
    postgresql.pause()
    try:
        yield
    finally:
        postgresql.resume()


def is_well(log: Log) -> bool:
    """Whether the last dozen plays were all taken."""
    last = of_kind(log.operations[-200:], "play")[-12:]
    return len(last) == 12 and not refused(last)


def test_row_29_postgresql_frozen(
    start: object, postgresql: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It costs those who need it a short wait, and the others nothing."""
    monkeypatch.setattr(run, "WEB_THREADS", THREADS)
    site: Production = start()  # type: ignore[operator]
    with readers_and_writers(site) as (readers, writers, people):
        readers.wait_for(200)
        with Pulse(site) as pulse, frozen(postgresql):
            begun = time.monotonic_ns()
            time.sleep(FROZEN_SECONDS - END_SECONDS)
            beat_ends = ends(site, "beat")
            time.sleep(max(0.0, FROZEN_SECONDS - (time.monotonic_ns() - begun) / 1e9))
        thawed = time.monotonic_ns()
        before = len(writers.operations)
        assert eventually(lambda: len(writers.operations) > before + 50 and is_well(writers), 30)
        well = (time.monotonic_ns() - thawed) / 1e9
        site.start("beat")
        site.recovers()
        readers.wait_for(200)
    verdict = checked([readers, writers], people)
    everything = [*readers.operations, *writers.operations]
    slowest = max(each.seconds for each in everything)
    meanwhile = readers.begun_in(begun, thawed)
    writes = of_kind(writers.begun_in(begun, thawed), "play", "command")
    assert refused(readers.operations) == []
    assert refused(of_kind(writers.operations, *UNSHAKEN)) == []
    assert {each.status for each in refused(everything)} == {503}
    assert slowest <= 6
    assert (pulse.failures, max(pulse.seconds) <= 1) == ([], True)
    assert well <= 5
    assert beat_ends
    assert verdict.violations == []
    assert min(len(meanwhile), len(writes)) > 20
    report.measured(
        29,
        f"{len(meanwhile):,} cached reads and canvas changes meanwhile, 0 refused; slowest"
        f" {slowest:.1f} s; live within {max(pulse.seconds):.2f} s; well after {well:.1f} s;"
        " 0 lost",
    )
