"""The protocol of the cache layer, by force: late fills, late installs, evictions, deaths,
rollbacks, and what happens without it (faults 12 to 16, 28)."""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import psycopg
import pytest
import redis

from aevon.cache import CONVO_HISTORY, PSYCHE, SESSION, entries, fences
from aevon.cache.connection import store
from aevon.embedded import CacheServer
from tests.consistency.switches import without
from tests.faults.test_schedules import delete, fill_late, install_late, update
from tests.faults.witness import Witness, busy, direct
from tests.klepsydra.rows import PSYCHES
from tests.servers import database_url

from . import report
from .api import Operation
from .check import check
from .production import START_SECONDS, Production
from .proxy import Proxy
from .rounds import (
    LATE_INSTALLS,
    PATIENCE,
    SLOW,
    SLOW_THREADS,
    USERS,
    Players,
    Rounds,
    each,
    new_key,
)
from .visitors import Person, make_people, under_load

SCHEDULES: Final = report.share(10_000)
# What is not forced over HTTP in that time is forced in one process.
HTTP_SECONDS: Final = 25.0
AT_LEAST: Final = report.share(10) * USERS
IN_ONE_PROCESS: Final = 100  # users at once
LOGOUT_ROUNDS: Final = 8

Start = Callable[..., Production]


@pytest.fixture
def rounds(start: Start, proxy: Proxy) -> Callable[..., Rounds]:
    """`rounds(work)`: so does `work` with the rounds of a quick site and a slow one; `options` are
    those of both."""

    def run(
        work: Callable[[Rounds], Awaitable[None]],
        names: tuple[str, ...] = ("web", "listener"),
        **options: Any,
    ) -> Rounds:
        options |= PATIENCE
        quick = start(names=names, **options)
        slow = start(through=proxy, names=("web",), threads=SLOW_THREADS, **options, **SLOW)

        async def main() -> Rounds:
            with contextlib.closing(Rounds(quick, slow=slow, proxy=proxy)) as made:
                await work(made)
            return made

        done = asyncio.run(main())
        quick.kill("web")
        slow.kill("web")
        return done

    return run


async def in_turn(made: Rounds, *works: Callable[[], Awaitable[None]]) -> None:
    """One work after the other until the schedules are enough, or have taken too long."""
    deadline = time.monotonic() + HTTP_SECONDS
    for work in itertools.cycle(works):
        await work()
        if made.schedules >= SCHEDULES or time.monotonic() > deadline:
            return


def forced(over_http: int, in_one_process: int) -> str:
    """The figure of those in which nothing stale was found."""
    inside = f" and {in_one_process:,} in one process" if in_one_process else ""
    return f"0 stale in {over_http:,} schedules over HTTP{inside}"


# --- 12 and 14: who comes late -----------------------------------------------------------------


def test_row_12_stale_fill(rounds: Any, witness: Witness) -> None:
    """What was read before a write never gets into the cache after it."""
    people = make_people(USERS)
    guests = [make_people(USERS) for _ in range(LOGOUT_ROUNDS)]

    async def work(made: Rounds) -> None:
        for few in guests:
            await made.fill_after_a_logout(few)
        after_a_play = partial(made.fill_after_a_play, people)
        works = [after_a_play, partial(after_a_play, lost=True)] * 4
        await in_turn(made, *works, partial(made.fill_after_a_forgetting, people))

    made = rounds(work)
    assert made.witness.stale == []
    assert made.schedules >= AT_LEAST
    rest = -(-max(0, SCHEDULES - made.schedules) // IN_ONE_PROCESS)
    players = [person.user_id for person in make_people(IN_ONE_PROCESS)]
    for change, share in ((update, rest - rest // 2), (delete, rest // 2)):
        fill_late(change, players, witness, rounds=share)
    assert witness.stale == []
    report.measured(12, forced(made.schedules, rest * IN_ONE_PROCESS))


def test_row_14_older_publish_comes_last(rounds: Any, witness: Witness) -> None:
    """The newer state stays."""
    people = make_people(USERS)

    async def work(made: Rounds) -> None:
        await each(made.read, people)
        installs = [partial(made.install_after, name, people) for name in LATE_INSTALLS]
        await in_turn(made, *installs)

    made = rounds(work)
    assert made.witness.stale == []
    assert made.schedules >= AT_LEAST
    rest = -(-max(0, SCHEDULES - made.schedules) // IN_ONE_PROCESS)
    players = [person.user_id for person in make_people(IN_ONE_PROCESS)]
    install_late(players, witness, rounds=rest)
    assert witness.stale == []
    report.measured(14, forced(made.schedules, rest * IN_ONE_PROCESS))


# --- 13: an entry is lost at any moment --------------------------------------------------------

READS: Final = report.share(10_000)  # in each of two ways
PATIENCE_SECONDS: Final = 900.0
READING: Final = {"validate": 35, "psyche": 40, "history": 12, "play": 10, "command": 3}
EVICTED: Final = (PSYCHE, SESSION, CONVO_HISTORY)


def test_row_13_evictions(start: Start, server: CacheServer) -> None:
    """Nothing is stale, whether somebody deletes keys or memory is short."""
    site = start(names=("web", "listener"), **PATIENCE)
    people = make_people(12)
    client = direct(server)
    with under_load(site, people, weights=READING) as log:
        with busy(lambda: delete_one(client, people)):
            log.wait_for(READS * 10 // 8, PATIENCE_SECONDS)
        with short_of_memory(client):
            log.wait_for(READS * 10 // 8, PATIENCE_SECONDS)
    evicted = client.info("stats")["evicted_keys"]
    reads = sum(each.kind in ("validate", "psyche", "history") for each in log.operations)
    assert log.refused() == []
    assert reads >= 2 * READS
    assert evicted > 0
    verdict = check(log.operations, people)
    assert verdict.violations == []
    report.measured(13, f"0 stale in {reads:,} reads; {evicted:,} keys evicted for memory")


def delete_one(client: redis.Redis, people: Sequence[Person]) -> None:
    """Every two milliseconds, whatever is in it."""
    client.delete(random.choice(EVICTED).key(random.choice(people).user_id))
    time.sleep(0.002)


@contextlib.contextmanager
def short_of_memory(client: redis.Redis) -> Iterator[None]:
    """So that each new key takes another one's place, while somebody makes new ones."""
    client.config_set("maxmemory-policy", "allkeys-random")
    client.config_set("maxmemory", client.info("memory")["used_memory"] + 200_000)
    numbers = itertools.count()

    def fill() -> None:
        with contextlib.suppress(redis.ResponseError):  # nothing left to evict
            client.set(f"filler:{next(numbers)}", b"x" * 20_000)
        time.sleep(0.002)

    with busy(fill):
        yield
    client.config_set("maxmemory", 0)


# --- 15: death between commit and publish ------------------------------------------------------

DEATHS: Final = report.share(200)
AT_ONCE: Final = 20
SPARE: Final = 100
FENCE_SECONDS: Final = 5.0


def committed(user_ids: Sequence[int]) -> dict[int, int]:
    """The versions that PostgreSQL has."""
    with psycopg.connect(database_url()) as db:
        return dict(
            db.execute(
                "SELECT user_id, version FROM klepsydra_psychestate WHERE user_id = ANY(%s)",
                [list(user_ids)],
            ).fetchall()
        )


def fenced(user_ids: Sequence[int]) -> set[int]:
    """Whose entry waits for a writer."""
    held = store().command("MGET", *map(PSYCHE.key, user_ids))
    pairs = zip(user_ids, held, strict=True)
    return {user_id for user_id, raw in pairs if raw and raw.startswith(b'{"_fence"')}


class Deaths:
    """When writers died, and when their fence was seen last."""

    def __init__(self) -> None:
        self.died: dict[int, float] = {}
        self.last_seen: dict[int, float] = {}

    def look(self) -> set[int]:
        """Whose fence is still there."""
        now = time.monotonic()
        there = fenced([*self.died]) if self.died else set()
        self.last_seen.update(dict.fromkeys(there, now))
        return there

    def longest(self) -> float:
        """Seconds from a death to the last sight of the fence."""
        return max(self.last_seen.get(user_id, died) - died for user_id, died in self.died.items())


async def die(made: Rounds, few: Sequence[Person], deaths: Deaths) -> None:
    """They play at the slow site, which is killed when all are between commit and publish."""
    user_ids = [person.user_id for person in few]
    await each(partial(made.ask, made.slow, kind="psyche"), few)  # it has just been started
    made.proxy.set(hold=fences.INSTALL.sha)
    plays = asyncio.gather(*[made.try_to_play(made.slow, each, new_key()) for each in few])
    await made.held(len(few), plays)
    versions = committed(user_ids)
    made.slow.kill("web")
    died = time.monotonic()
    made.proxy.reset()  # what was held must not arrive after all
    made.proxy.release()
    for user_id, version in versions.items():
        made.witness.acknowledged(user_id, version)
    # On a slow machine some have not come so far, or the first fences have run out by now.
    unanswered = {play.user for play in await plays if play.told is None}
    there = fenced(user_ids) & unanswered & {u for u, version in versions.items() if version == 2}
    deaths.died.update(dict.fromkeys(there, died))
    await each(made.read, few)
    await made.play(few[0])  # another writer comes before the fence has gone


async def watch(
    made: Rounds, people: Sequence[Person], deaths: Deaths, over: asyncio.Event
) -> None:
    """Read what the dead have written for as long as their fence is there."""
    while (there := deaths.look()) or not over.is_set():
        await each(made.read, [person for person in people if person.user_id in there])
        await asyncio.sleep(0.05)


async def start_again(site: Production) -> None:
    """Its web, until it answers."""
    site.start("web")
    async with asyncio.timeout(START_SECONDS):
        while not await asyncio.to_thread(site.ready):
            await asyncio.sleep(0.1)


def test_row_15_death_after_commit(rounds: Any) -> None:
    """What the dead committed is seen at once; then their fence goes, and readers fill."""
    people = make_people(DEATHS + SPARE)
    kills, deaths = 0, Deaths()

    async def work(made: Rounds) -> None:
        nonlocal kills
        over = asyncio.Event()
        watching = asyncio.create_task(watch(made, people, deaths, over))
        while len(deaths.died) < DEATHS:
            await die(made, people[kills * AT_ONCE :][:AT_ONCE], deaths)
            kills += 1
            await start_again(made.slow)
        over.set()
        await watching
        await each(made.read, people)

    made = rounds(work)
    held: Any = entries.peek_many(PSYCHES, [person.user_id for person in people])
    assert {u: each.version for u, each in held.items()} == committed([*held])
    assert made.witness.stale == []
    assert deaths.longest() <= FENCE_SECONDS
    report.measured(
        15,
        f"0 stale in {made.witness.reads:,} reads; {len(deaths.died)} writers died, in"
        f" {kills} kills of all of web; fence gone in {deaths.longest():.1f} s",
    )


# --- 16: a rollback after the fence ------------------------------------------------------------

FAILURES: Final = report.share(16)  # of each person: two kinds, 32 people, 1,024 in all
REFUSE: Final = """
CREATE FUNCTION bench_refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE 'refused by the bench' USING ERRCODE = 'serialization_failure'; END $$;
CREATE CONSTRAINT TRIGGER bench_refuse AFTER INSERT ON klepsydra_interaction
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.idempotency_key LIKE 'refused-%')
    EXECUTE FUNCTION bench_refuse();
CREATE CONSTRAINT TRIGGER bench_refuse AFTER UPDATE ON auth_sessions_session
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.user_agent = 'refused')
    EXECUTE FUNCTION bench_refuse();
"""


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """PostgreSQL refuses, at the commit, plays of some keys, and ends of the sessions there are."""
    with psycopg.connect(database_url(), autocommit=True) as db:
        db.execute("UPDATE auth_sessions_session SET user_agent = 'refused'")
        db.execute(REFUSE)
        try:
            yield
        finally:
            db.execute("DROP FUNCTION bench_refuse CASCADE")


async def shown(made: Players, person: Person, version: int) -> list[Operation]:
    """What is seen of a person but that version, and a session that goes on."""
    read, valid = await asyncio.gather(
        made.ask(made.quick, person, "psyche"), made.ask(made.quick, person, "validate")
    )
    right = (read.told, valid.told) == (version, person.user_id)
    return [] if right else [read, valid]


async def fail(made: Players, person: Person, version: int) -> list[Operation]:
    """Play and log out, neither of which is committed; what is seen of it meanwhile."""
    play, logout, seen = await asyncio.gather(
        made.try_to_play(made.quick, person, f"refused-{new_key()}"),
        made.try_to(made.quick, person, "logout"),
        shown(made, person, version),
    )
    assert (play.status, logout.status) == (503, 503)
    return seen


async def fail_often(made: Players, people: Sequence[Person]) -> list[Operation]:
    """With a play in between that succeeds; what was seen of those that did not."""
    seen: list[Operation] = []
    for version in range(1, FAILURES + 1):
        for found in await each(partial(fail, made, version=version), people):
            seen.extend(found)
        await each(made.play, people)
    for found in await each(partial(shown, made, version=FAILURES + 1), people):
        seen.extend(found)
    return seen


def test_row_16_rollback(start: Start) -> None:
    """Nothing is seen of what PostgreSQL refused at its commit, then or later."""
    site = start(names=("web", "listener"), **PATIENCE)
    people = make_people(USERS)

    async def main() -> None:
        with contextlib.closing(Players(site)) as made:
            with refusing():
                assert await fail_often(made, people) == []
            await each(partial(made.ask, site, kind="logout"), people)
            await each(partial(made.validate, status=401), people)
            assert made.witness.stale == []

    asyncio.run(main())
    abandoned = site.metric("aevon_cache_fences_total", keyspace="psyche", event="abandoned")
    assert abandoned == FAILURES * USERS
    assert set(committed([person.user_id for person in people]).values()) == {FAILURES + 1}
    report.measured(16, f"0 seen of {2 * FAILURES * USERS:,}")


# --- 28: without a protection ------------------------------------------------------------------


async def provoke(made: Rounds, people: Sequence[Person]) -> None:
    """A round of each that some protection is needed for."""
    await each(made.read, people)
    await made.fill_after_a_play(people, lost=True)
    await made.install_after("p", people)
    await made.install_after("a r", people)


def found_without(name: str, rounds: Any) -> int:
    """How many stale reads that gives, with one protection switched off in every process; "": with
    all of them."""
    people = make_people(USERS)
    with without(name) if name else contextlib.nullcontext():
        made = rounds(
            lambda made: provoke(made, people),
            names=("web",),
            application="tests.faults.bench.unprotected:application",
            BENCH_WITHOUT=name,
        )
    assert made.schedules > 0
    return len(made.witness.stale)


def test_row_28_negative_controls(rounds: Any) -> None:
    """The rounds find what is missing, and nothing where nothing is."""
    found = {name: found_without(name, rounds) for name in ("", "lease", "fence", "compare")}
    assert found.pop("") == 0
    assert min(found.values()) >= 1, found
    told = ", ".join(f"{name} {count}" for name, count in found.items())
    report.measured(28, f"stale without: {told}; with all: 0")
