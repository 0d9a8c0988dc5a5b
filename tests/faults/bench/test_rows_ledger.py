"""PostgreSQL is away or frozen, flushers die or overlap, users are disabled, a row is poison
(faults 17 to 21, 26, 27, 29)."""

import asyncio
import json
import random
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count, cycle, islice, pairwise
from typing import Any, Final

import httpx
import psutil
import psycopg
import pytest

from aevon import run
from aevon.cache import flush
from aevon.cache.failsafe import lift_limits, restore_limits
from aevon.embedded import CacheServer, PostgresServer
from auth_sessions.models import User
from canvas.models import Canvas
from canvas.projection import CANVAS_BUFFER
from canvas.tasks import persist
from tests.faults import drawings
from tests.faults.drawings import (
    Written,
    flush_by_hand,
    let_time_pass,
    not_clean,
    sql,
    waits_seconds,
)
from tests.faults.witness import forget_connections
from tests.klepsydra.rows import SLUG
from tests.servers import PATIENCE, ROOT, database_url, environment
from tests.waiting import eventually

from . import report
from .check import Verdict, check
from .production import FORWARDED, Production
from .visitors import (
    EVERYTHING,
    Log,
    Operation,
    Person,
    Visitor,
    Weights,
    ask,
    http,
    make_people,
    under_load,
)

_numbers = count(1)

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


# --- flushers that are killed ------------------------------------------------------------------

KILLS_BY_HAND: Final = 60  # of `canvas_persist`
KILLS_OF_CHILDREN: Final = 36  # of the worker's, at work
KILLS_OF_WORKERS: Final = 4
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


@contextmanager
def flushers(server: CacheServer) -> Iterator[Callable[[float], str]]:
    """`kill(seconds)`: a process that flushes is killed after so many; what it was doing."""
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
        told = program.stdout

        def kill(seconds: float) -> str:
            print(seconds, file=program.stdin, flush=True)
            return told.readline().strip()

        yield kill
        program.stdin.close()


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
    people = make_people(12)
    users = [person.user_id for person in people]
    slowed(0.003)
    killed: Counter[str] = Counter()
    with under_load(site, people, weights=DRAWING, visitors=12, pause_seconds=0.02) as log:
        log.wait_for(100)
        with flushers(server) as kill:
            for _ in range(KILLS_BY_HAND):
                killed[kill(random.uniform(0, random.choice((0.03, 0.15))))] += 1
        met = sum(kill_a_child(site, server) for _ in range(KILLS_OF_CHILDREN))
        for _ in range(KILLS_OF_WORKERS):
            with site.without("worker"):
                time.sleep(random.uniform(0, 0.3))
            assert eventually(lambda: kill_met(server), 60)
    assert eventually(lambda: not_clean(users) == [], 60)
    verdict = check(log.operations, people)
    assert verdict.violations == []
    assert written.not_rising() == {}
    assert killed["persists"] + killed["saves"] > 0
    assert killed["settles"] + killed["marks"] > 0
    assert met > KILLS_OF_CHILDREN / 2
    kills = killed.total() + KILLS_OF_CHILDREN + KILLS_OF_WORKERS
    drawn = len(of_kind(log.operations, "patch"))
    report.measured(19, f"{kills} kills, {drawn:,} changes: 0 lost, 0 regressions")


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

EDITS: Final = 10_000
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
        async with http(16) as session:
            self._visitors = self._visitors or [
                Visitor(session, self._site.url, person, self.log) for person in self._people
            ]
            for visitor in self._visitors:
                visitor._http = session
            turns = asyncio.Semaphore(16)

            async def patch(visitor: Visitor) -> Operation:
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


# --- disabled, or demoted ----------------------------------------------------------------------

CLIENTS: Final = 5
A_SECOND: Final = 50
CHANGES: Final[tuple[tuple[str, Any, int], ...]] = (
    ("is_active", False, 401),
    ("sovereignty_class", "INITIATE", 403),
)
ROUNDS: Final = 4


class Turnstile:
    """`validate/` for the class SOVEREIGN, fifty times a second, by five clients."""

    def __init__(self, site: Production, person: Person) -> None:
        self._url, self._headers = site.url, person.headers
        self._over = threading.Event()
        self.seen: list[tuple[float, int]] = []  # when it began, and the status

    def __enter__(self) -> "Turnstile":
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        at = time.monotonic()
        with httpx.Client(base_url=self._url, headers=self._headers) as client:
            while not self._over.wait(max(0, at - time.monotonic())):
                begun = time.monotonic()
                answer = client.get("/api/v1/auth/validate/?class=SOVEREIGN")
                self.seen.append((begun, answer.status_code))
                at = max(at + CLIENTS / A_SECOND, begun - 1)

    def go_on(self, count: int) -> None:
        """Until so many more have been answered."""
        enough = len(self.seen) + count
        assert eventually(lambda: len(self.seen) >= enough)


def change(site: Production, person: Person, field: str, value: Any, *, by_form: bool) -> None:
    """By an administrator, or by a program through the ORM."""
    if by_form:
        with Administrator(site) as chief:
            chief.change(person.user_id, field, value)
    else:
        user = User.objects.get(pk=person.user_id)
        setattr(user, field, value)
        user.save()


class Administrator:
    """A browser of somebody who may change users, on the admin's own pages."""

    PASSWORD: Final = "a-password-that-nobody-guesses-7"

    def __init__(self, site: Production) -> None:
        name = f"chief{next(_numbers)}"
        User.objects.create_superuser(name, f"{name}@example.org", self.PASSWORD)
        self._client = httpx.Client(base_url=site.url, headers=FORWARDED)
        self._referer = site.url.replace("http:", "https:") + "/"
        self._cookies: dict[str, str] = {}
        self._post("/admin/login/", {"username": name, "password": self.PASSWORD})

    def __enter__(self) -> "Administrator":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def change(self, user_id: int, field: str, value: Any) -> None:
        """One field of the form, all others as they are; it is acknowledged when this returns."""
        user = User.objects.get(pk=user_id)
        shown = {
            "username": user.username,
            "email": user.email,
            "sovereignty_class": user.sovereignty_class,
            "is_active": user.is_active,
            "date_joined_0": f"{user.date_joined:%Y-%m-%d}",
            "date_joined_1": f"{user.date_joined:%H:%M:%S}",
        }
        sent = {name: each for name, each in (shown | {field: value}).items() if each is not False}
        self._post(f"/admin/auth_sessions/user/{user_id}/change/", sent)

    def _post(self, path: str, form: dict[str, Any]) -> None:
        self._keep(self._client.get(path, headers=self._headers()))
        token = self._cookies["__Host-csrftoken"]
        body = {**form, "csrfmiddlewaretoken": token}
        answer = self._keep(self._client.post(path, data=body, headers=self._headers()))
        assert answer.status_code == 302, answer.text

    def _keep(self, answer: httpx.Response) -> httpx.Response:
        """Its cookies are for TLS, which has ended in front of the site."""
        for line in answer.headers.get_list("set-cookie"):
            name, _, rest = line.partition("=")
            self._cookies[name] = rest.partition(";")[0]
        self._client.cookies.clear()
        return answer

    def _headers(self) -> dict[str, str]:
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        return {"Cookie": cookies, "Referer": self._referer}


def test_row_26_disabled_or_demoted(start: Any) -> None:
    """None that begins after the acknowledgement is let in, whoever makes the change."""
    site: Production = start(AEVON_ADMIN_PATH="admin")
    seen = accepted = 0
    for number, (field, value, status) in enumerate(CHANGES * ROUNDS):
        (person,) = make_people(1, sovereignty_class="SOVEREIGN")
        with Turnstile(site, person) as turnstile:
            turnstile.go_on(20)
            change(site, person, field, value, by_form=number % 4 < 2)
            acknowledged = time.monotonic()
            turnstile.go_on(40)
        after = [told for begun, told in turnstile.seen if begun > acknowledged]
        assert set(after) == {status}
        seen += len(after)
        accepted += sum(told == 204 for _, told in turnstile.seen)
    assert accepted >= 20 * len(CHANGES) * ROUNDS
    report.measured(26, f"0 of {seen} accepted after {len(CHANGES) * ROUNDS} changes")


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
