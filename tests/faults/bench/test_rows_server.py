"""The cache server has no room, loads, is a replica or knows less; the broker is away; processes
fork; scripts are forgotten (faults 7 to 11, 22, 24, 25)."""

import collections
import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import psutil
import pytest
import redis

from aevon.cache import CANVAS
from aevon.embedded import CacheServer
from canvas import services as canvas
from canvas.models import Canvas
from klepsydra.models import PsycheState
from tests.faults.drawings import Written, persist_everything, written
from tests.faults.test_failover import demote, promote
from tests.faults.test_memory import fill, make_room
from tests.faults.witness import busy, direct
from tests.klepsydra.rows import PSYCHES
from tests.servers import PATIENCE, environment
from tests.waiting import eventually

from . import report
from .api import Operation, numbers, window
from .check import Span, check
from .production import Production
from .proxy import Proxy
from .visitors import Log, Person, ask, make_people, under_load

DRAWN: Final = "drawn"  # the window of `Drawing`


def refusals(site: Production) -> float:
    """How often the cache server said "not now" to any process: OOM, LOADING, READONLY."""
    return site.metric("aevon_cache_failures_total", kind="not-now")


def held(server: CacheServer, key: str) -> dict[str, Any]:
    """What the server itself holds under a key, as it is; empty where there is nothing."""
    with direct(server) as raw:
        value = raw.get(key)
    return dict(json.loads(value)) if value else {}


def held_versions(server: CacheServer, people: Sequence[Person]) -> dict[int, int]:
    """The versions of the PsycheStates that the server itself holds."""
    found = {p.user_id: held(server, PSYCHES.keyspace.key(p.user_id)) for p in people}
    return {user_id: each["version"] for user_id, each in found.items() if "version" in each}


def row_versions(people: Sequence[Person]) -> dict[int, int]:
    """Those of their rows."""
    rows = PsycheState.objects.filter(pk__in=[person.user_id for person in people])
    return dict(rows.values_list("pk", "version"))


def assert_kept(
    noted: Sequence[Operation], people: Sequence[Person], *, outage: Span, hidden: Span
) -> None:
    """Nothing was stale, or is lost in the end. What was changed on live canvases in `hidden` is
    not in their rows, and so is not seen while these serve."""
    verdict = check(noted, people, outages=[outage], lost_memory=[hidden])
    assert verdict.violations == []
    assert check(noted, people, outages=[outage]).lost == []


# --- 7: no memory ------------------------------------------------------------------------------

# Scripts cope with a full memory themselves, so that the breaker stays closed; the change of a
# canvas has to be refused, and opens it.
COPING: Final = {"validate": 3, "psyche": 4, "play": 4, "history": 1, "command": 1}


def invalidations(site: Production) -> float:
    """Entries that were removed because there was no room for what came after them."""
    return site.metric("aevon_cache_publishes_total", result="full") + site.metric(
        "aevon_cache_fences_total", event="full"
    )


def fill_until(server: CacheServer, condition: Callable[[], object]) -> None:
    """Leave no room for anything until it comes true."""

    def is_full() -> object:
        fill(server)
        return condition()

    assert eventually(is_full, 60)


def test_row_07_memory_full(site: Production, server: CacheServer) -> None:
    """What a write makes old is removed, PostgreSQL serves, and metrics tell."""
    people = make_people(20)
    with under_load(site, people, weights=COPING) as log:
        log.wait_for(300)
        fill_until(server, lambda: invalidations(site) >= 100)
        log.wait_for(300)
    rows = row_versions(people)
    old = {u: v for u, v in held_versions(server, people).items() if v != rows[u]}
    assert old == {}
    begun = time.monotonic_ns()
    with under_load(site, people) as all_kinds:
        fill_until(server, lambda: len(all_kinds.operations) > 1_000)
        make_room(server)
        outage = (begun, site.recovers())
        all_kinds.wait_for(300)
    noted = [*log.operations, *all_kinds.operations]
    assert [*log.refused(), *all_kinds.refused()] == []
    assert refusals(site) > 0
    assert_kept(noted, people, outage=outage, hidden=outage)
    report.measured(
        7,
        f"0 stale, 0 5xx in {len(noted):,} requests; "
        f"{invalidations(site):,.0f} entries removed for want of room, "
        f"{refusals(site):,.0f} calls refused",
    )


# --- 8: loading --------------------------------------------------------------------------------

SNAPSHOT_KEYS: Final = 2_000_000
SWELL: Final = """
for first = 1, ARGV[2], 1000 do
  local pairs = {}
  for i = 0, 999 do
    pairs[2 * i + 1], pairs[2 * i + 2] = ARGV[1] .. ':' .. (first + i), 'x'
  end
  redis.call('MSET', unpack(pairs))
end
"""


@pytest.fixture
def big_snapshot(server: CacheServer) -> int:
    """One that takes the server some seconds to read; how many keys it has."""
    with redis.Redis.from_url(server.url, protocol=2, socket_timeout=120) as raw:
        raw.config_set("save", "")  # one of its own would be in the way
        for part in range(100):
            raw.eval(SWELL, 0, f"filler:{part}", SNAPSHOT_KEYS // 100)
        raw.save()
        return int(raw.dbsize())


def test_row_08_loading(
    server: CacheServer, big_snapshot: int, start: Callable[..., Production]
) -> None:
    """While it reads its snapshot the server is as good as away."""
    site = start(**PATIENCE)  # a server that loads answers late, and this is not about time-outs
    people = make_people(8)
    with under_load(site, people) as log:
        log.wait_for(300)
        before = refusals(site)
        flushed = time.monotonic_ns()
        persist_everything()
        server.kill()
        lost = (flushed, time.monotonic_ns())
        server.start()
        loading = log.begun_in(lost[1], time.monotonic_ns())
        outage = (flushed, site.recovers())
        assert refusals(site) > before
        log.wait_for(300)
    assert loading
    assert log.refused() == []
    verdict = check(log.operations, people, outages=[outage], lost_memory=[lost])
    assert verdict.violations == []
    report.measured(
        8, f"0 5xx in {len(loading):,} requests while {big_snapshot:,} keys were loaded"
    )


# --- 9: read-only ------------------------------------------------------------------------------


class Drawing:
    """One who draws, and keeps of each answer what it says of the cache."""

    def __init__(self, site: Production, person: Person) -> None:
        self._url = f"{site.url}/api/v1/canvas/"
        self.person = person
        self.cached: list[int] = []
        self.uncached: list[int] = []

    def draw(self) -> None:
        """The next number, acknowledged."""
        number = len(self.cached) + len(self.uncached) + 1
        request = urllib.request.Request(
            self._url,
            json.dumps({"microApps": {DRAWN: window(number)}}).encode(),
            {**self.person.headers, "Content-Type": "application/json"},
            method="PATCH",
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            said = self.cached if "hit" in answer.headers["Cache-Status"] else self.uncached
        said.append(number)


def drawn_in(server: CacheServer, person: Person) -> int:
    """The number that the server itself holds."""
    return numbers(held(server, CANVAS.key(person.user_id))["layout"])[DRAWN]


def sockets(processes: Sequence[psutil.Process], port: int) -> list[tuple[str, int]]:
    """Ends of the connections that these processes have to a port, once for each that has it."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [
                (each.laddr.ip, each.laddr.port)
                for each in process.net_connections("tcp")
                if each.raddr and each.raddr.port == port and each.status == "ESTABLISHED"
            ]
    return found


def pooled(site: Production, server: CacheServer) -> list[tuple[str, int]]:
    """The connections of those who answer requests to the server."""
    return sockets(site.web_workers(), server.port)


def stored(site: Production) -> float:
    """Writes of which it was said that the cache has them."""
    return sum(
        site.metric("aevon_cache_publishes_total", result=each) for each in ("stored", "current")
    )


def test_row_09_live_node_becomes_a_replica(site: Production, server: CacheServer) -> None:
    """The pool is dropped, PostgreSQL serves, and nothing is said to be cached that is not."""
    people = make_people(8)
    drawing = Drawing(site, make_people(1)[0])
    with under_load(site, people) as log:
        with busy(drawing.draw):
            log.wait_for(300)
            assert pooled(site, server)
            flushed = time.monotonic_ns()
            persist_everything()
            demote(server)
            demoted = time.monotonic_ns()
            assert eventually(lambda: not pooled(site, server), 10)
            log.wait_for(100)  # who was answered before has counted it
            before = stored(site)
            plays = played(log)
            log.wait_for(500)
            assert stored(site) == before
        plays = played(log) - plays
        last = drawn_in(server, drawing.person)
        promote(server)
        outage = (flushed, site.recovers())
        log.wait_for(300)
    assert (drawing.cached[-1], drawing.uncached[0]) == (last, last + 1)
    assert log.refused() == []
    assert_kept(log.operations, people, outage=outage, hidden=(flushed, demoted))
    report.measured(
        9,
        f"0 of {plays:,} plays and {len(drawing.uncached):,} canvases reported cached; "
        f"0 5xx in {len(log.operations):,} requests",
    )


def played(log: Log) -> int:
    """How many interactions were acknowledged."""
    return sum(each.kind == "play" and each.told is not None for each in log.operations)


# --- 10: a lagging replica is promoted -----------------------------------------------------------

WRITES: Final = 1_000
WRITING: Final = {"play": 3, "patch": 2, "command": 1}


@pytest.fixture
def entrance(server: CacheServer, proxy: Proxy, use: Any) -> Proxy:
    """The address of whichever server is the primary, this process's too."""
    use(server, proxy.port)
    return proxy


@pytest.fixture
def replica(server: CacheServer, make_server: Callable[..., CacheServer]) -> CacheServer:
    """Another server, which follows."""
    made = make_server()
    with direct(made) as raw:
        raw.config_set("masterauth", server.password)
        raw.replicaof("127.0.0.1", server.port)
        assert eventually(lambda: raw.info("replication")["master_link_status"] == "up")
    return made


def cut_off(replica: CacheServer, server: CacheServer) -> None:
    """Have it hear nothing any more."""
    replica.pause()
    with direct(server) as primary:
        primary.execute_command("CLIENT", "KILL", "TYPE", "replica")


def behind(server: CacheServer, people: Sequence[Person]) -> int:
    """How many of the PsycheStates that the server holds are older than their rows."""
    rows = row_versions(people)
    return sum(version < rows[u] for u, version in held_versions(server, people).items())


def test_row_10_lagging_replica_promoted(
    start: Callable[..., Production], server: CacheServer, entrance: Proxy, replica: CacheServer
) -> None:
    """Of what it holds, which lacks the last thousand writes, nothing is believed."""
    site = start(through=entrance)
    people = make_people(20)
    with under_load(site, people) as log:
        log.wait_for(500)
    assert eventually(lambda: len(held_versions(replica, people)) > 10)
    cut_off(replica, server)
    with under_load(site, people, weights=WRITING) as writing:
        writing.wait_for(WRITES)
    with under_load(site, people) as after:
        flushed = time.monotonic_ns()
        persist_everything()
        server.kill()
        lost = (flushed, time.monotonic_ns())
        replica.resume()
        old = behind(replica, people)
        promote(replica)
        entrance.set(to=replica.port)
        outage = (flushed, site.recovers())
        after.wait_for(300)
    noted = [*log.operations, *writing.operations, *after.operations]
    assert [*log.refused(), *writing.refused(), *after.refused()] == []
    assert old > 10
    assert check(noted, people, outages=[outage], lost_memory=[lost]).violations == []
    report.measured(
        10,
        f"0 stale in {len(noted):,} requests; the replica lacked {len(writing.operations):,} "
        f"writes, {old} of {len(people)} states were old",
    )


# --- 11: an older snapshot ---------------------------------------------------------------------


@pytest.fixture
def rows(transactional_db: None) -> Iterator[Written]:
    """Every version of a canvas' row that is written."""
    yield from written()


def test_row_11_old_snapshot(site: Production, server: CacheServer, rows: Written) -> None:
    """Nothing that it brings back is believed, no session, and no canvas is written over a newer
    row."""
    people = make_people(20)
    leaving = make_people(1)[0]
    snapshot = server.folder / "dump.rdb"
    with direct(server) as raw:
        raw.config_set("save", "")  # one of its own would be in the way
    with under_load(site, people) as log:
        log.wait_for(500)
        assert ask(site, leaving, "validate", "patch")[0].status == 204
        with direct(server) as raw:
            raw.save()
        older = snapshot.read_bytes()
        log.wait_for(500)
        (ended,) = ask(site, leaving, "logout")
        assert ended.status == 204
        flushed = time.monotonic_ns()
        persist_everything()
        server.kill()
        lost = (flushed, time.monotonic_ns())
        snapshot.write_bytes(older)
        server.start()
        again = ask(site, leaving, *["validate"] * 20)
        outage = (flushed, site.recovers())
        again += ask(site, leaving, *["validate"] * 20)
        log.wait_for(300)
        persist_everything()
    assert log.refused() == []
    assert {each.status for each in again} == {401}
    assert check(log.operations, people, outages=[outage], lost_memory=[lost]).violations == []
    assert rows.not_rising() == {}
    count = sum(map(len, rows.revisions().values()))
    report.measured(
        11,
        f"0 stale in {len(log.operations):,} requests, 0 of {count:,} rows going backwards; "
        f"the ended session refused {len(again)} times",
    )


# --- 22: the broker is away --------------------------------------------------------------------

AWAY_SECONDS: Final = 60.0
RETURN_SECONDS: Final = 30.0


@pytest.fixture
def broker(make_server: Callable[..., CacheServer], server: CacheServer) -> CacheServer:
    """Celery's, which is not the cache server."""
    return make_server()


def is_saved(person: Person) -> bool:
    """Whether a flush has brought the person's last number to PostgreSQL."""
    live = canvas.live(person.user_id)
    rows = Canvas.objects.filter(pk=person.user_id).values_list("revision", flat=True)
    return live.revision in rows


def test_row_22_broker_away(start: Callable[..., Production], broker: CacheServer) -> None:
    """Requests do not notice; worker and beat come back to it, and the flush runs."""
    site = start(CELERY_BROKER_URL=broker.url, CANVAS_PERSIST_SECONDS="2")
    (person,) = people = make_people(1)
    assert ask(site, person, "patch")[0].status == 200
    assert eventually(lambda: is_saved(person), RETURN_SECONDS)
    with under_load(site, people, visitors=1, pause_seconds=0.1) as log:
        broker.pause()  # one half it hangs, the other it is not there
        time.sleep(AWAY_SECONDS / 2)
        broker.kill()
        time.sleep(AWAY_SECONDS / 2)
    ask(site, person, "patch")
    assert not is_saved(person)
    broker.start()
    back = time.monotonic()
    assert eventually(lambda: is_saved(person), RETURN_SECONDS), site.told()
    seconds = time.monotonic() - back
    assert log.refused() == []
    assert check(log.operations, people).violations == []
    assert [each.poll() for each in site.processes.values()] == [None] * len(site.processes)
    report.measured(22, f"the flush ran {seconds:.1f} s after its return")


# --- 24: fork ----------------------------------------------------------------------------------


def test_row_24_fork(server: CacheServer) -> None:
    """Children of a process that used the cache read what is theirs (`forks.py`)."""
    people = make_people(90)
    told = subprocess.run(
        [sys.executable, "-m", "tests.faults.bench.forks", *[str(p.user_id) for p in people]],
        env=environment(server.url),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    found = collections.Counter(json.loads(told.stdout))
    assert found["replies"] >= 100_000
    assert (found["crossed"], found["sql"]) == (0, 0)
    report.measured(24, f"0 crossed in {found['replies']:,} replies to 8 children and their parent")


def children(site: Production, name: str) -> list[psutil.Process]:
    """What one of the site's processes has forked, and what that has."""
    return psutil.Process(site.processes[name].pid).children(recursive=True)


def everybody(site: Production) -> list[psutil.Process]:
    """All processes of the site."""
    leaders = [psutil.Process(each.pid) for each in site.processes.values()]
    return leaders + [child for name in site.processes for child in children(site, name)]


def test_row_24_sockets_of_the_site(
    start: Callable[..., Production], server: CacheServer, broker: CacheServer
) -> None:
    """No two of its processes have a connection in common, nor has a child of Celery's that was
    forked late, and nobody is given another's answer."""
    site = start(CELERY_BROKER_URL=broker.url)
    people = make_people(16)
    with under_load(site, people) as log:
        log.wait_for(500)
        first, second = children(site, "worker")
        first.kill()
        assert eventually(lambda: len(set(children(site, "worker")) - {first, second}) == 1)
        log.wait_for(500)
        young = set(children(site, "worker")) - {second}
        assert eventually(lambda: sockets([*young], server.port)), "it has done nothing"
        found = sockets(everybody(site), server.port)
    shared = [each for each, count in collections.Counter(found).items() if count > 1]
    assert len(found) > 4
    assert shared == []
    assert log.refused() == []
    assert check(log.operations, people).violations == []


# --- 25: scripts forgotten ---------------------------------------------------------------------


def calls(server: CacheServer, command: str) -> int:
    """How often the server has carried it out."""
    with direct(server) as raw:
        told = raw.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})
    return int(told["calls"])


def failures(site: Production) -> float:
    """Calls that any process got no useful answer to, whatever the kind."""
    return site.metric("aevon_cache_failures_total")


def test_row_25_script_flush(site: Production, server: CacheServer) -> None:
    """What the server has forgotten is sent whole: nobody notices."""
    people = make_people(16)
    flushes = 0
    before = failures(site)
    with under_load(site, people) as log, direct(server) as raw:
        deadline = time.monotonic() + 300
        while len(log.operations) < 1_500:
            assert time.monotonic() < deadline, len(log.operations)
            raw.script_flush()
            flushes += 1
            time.sleep(0.002)
    assert calls(server, "eval") > 100
    assert log.refused() == []
    assert failures(site) == before
    assert check(log.operations, people).violations == []
    report.measured(
        25,
        f"0 errors in {len(log.operations):,} requests, {flushes:,} flushes; "
        f"{calls(server, 'eval'):,} scripts sent whole",
    )
