"""Schedules that are forced on many users at once, over HTTP.

Two sites share PostgreSQL and the cache. What the *slow* one sends to the cache is held back at the
proxy, one script at a time, while the *quick* one writes, and is answered.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from aevon.cache import CONVO_HISTORY, PSYCHE, SESSION, bounded_list, fences, leases
from aevon.cache.connection import Script, store
from aevon.cache.keyspace import Keyspace
from tests.faults.witness import Witness

from .api import Operation
from .line import Lines
from .production import Production
from .proxy import Proxy
from .visitors import Person, Visitor

# What is held back, and a machine under load, must not look like an outage of the cache.
PATIENCE: Final = {
    "AEVON_CACHE_CONNECT_TIMEOUT_SECONDS": "5",
    "AEVON_CACHE_READ_TIMEOUT_SECONDS": "10",
}
# Of a slow site: each of its workers can have a whole round waiting, whichever accepts it.
USERS: Final = 32
SLOW: Final = {
    "AEVON_CACHE_POOL_SIZE": str(2 * USERS),
    "AEVON_DATABASE_POOL_SIZE": str(USERS + 8),
}
SLOW_THREADS: Final = USERS + 8
HELD_SECONDS: Final = 8.0  # less than the patience of who is held
# What happens while an older install is held: the quick site plays (p), or is asked for the older
# play once more (a); somebody reads (r); the entry is lost (x).
LATE_INSTALLS: Final = ("p", "p x r", "x p r", "x r p", "p x", "a r", "a p")

_numbers = itertools.count(1)
T = TypeVar("T")


def new_key() -> str:
    """An Idempotency-Key that nobody has used."""
    return f"round-{next(_numbers)}"


async def each(work: Callable[[Person], Awaitable[T]], people: Sequence[Person]) -> list[T]:
    """For all of them at once."""
    return await asyncio.gather(*map(work, people))


def evict(keyspace: Keyspace, people: Sequence[Person]) -> None:
    """Their entries are lost."""
    store().command("UNLINK", *[keyspace.key(person.user_id) for person in people])


@dataclass
class Players:
    """Clients of one site, who know what they have been told; the `witness` notes what is older."""

    quick: Production
    witness: Witness = field(default_factory=Witness)
    log: list[Operation] = field(default_factory=list)
    _lines: dict[int, Lines] = field(default_factory=dict)

    def visitor(self, site: Production, person: Person) -> Visitor:
        """Another client of a person, over lines that are kept."""
        lines = self._lines.setdefault(site.port, site.lines())
        return Visitor(lines, person, self.log)

    def close(self) -> None:
        """End all connections."""
        for lines in self._lines.values():
            lines.close()

    async def ask(self, site: Production, person: Person, kind: str) -> Operation:
        """An operation that succeeds, or that asks whether a session is over."""
        operation = await self.try_to(site, person, kind)
        assert operation.status < 300 or operation.kind == "validate", operation
        return operation

    async def try_to(self, site: Production, person: Person, kind: str) -> Operation:
        """An operation, whatever comes of it."""
        return await self.visitor(site, person).do(kind)

    async def try_to_play(self, site: Production, person: Person, key: str) -> Operation:
        """One interaction, whatever comes of it."""
        return await self.visitor(site, person).play_as(key)

    async def play_as(self, site: Production, person: Person, key: str) -> None:
        """One interaction, which may have been asked for before."""
        played = await self.try_to_play(site, person, key)
        assert played.status == 200, played
        self.witness.acknowledged(person.user_id, played.told)

    async def play(self, person: Person) -> None:
        """One interaction."""
        await self.play_as(self.quick, person, new_key())

    async def read(self, person: Person) -> None:
        """What the site shows."""
        least = self.witness.least(person.user_id)
        read = await self.ask(self.quick, person, "psyche")
        self.witness.saw(person.user_id, read.told, least)

    async def validate(self, person: Person, *, status: int) -> None:
        """Whether the session is alive is told rightly."""
        told = await self.ask(self.quick, person, "validate")
        self._saw(told, right=told.status == status)

    def _saw(self, operation: Operation, *, right: bool) -> None:
        self.witness.reads += 1
        if not right:
            self.witness.stale.append(f"{operation}")


@dataclass
class Rounds(Players):
    """With a slow site; `schedules` counts those that were forced."""

    slow: Production = field(kw_only=True)
    proxy: Proxy = field(kw_only=True)
    schedules: int = 0

    @asynccontextmanager
    async def holding(self, script: Script, works: Sequence[Awaitable[T]]) -> AsyncIterator[None]:
        """While the scripts that these works of the slow site end with are held back. Of all of
        them, unless the machine is so slow that the site has given some of them up."""
        self.proxy.set(hold=script.sha)
        under_way = asyncio.gather(*works)
        try:
            await self.held(len(works), under_way)
            yield
        finally:
            self.schedules += self.proxy.counts()["holding"]
            self.proxy.release()
            await under_way

    async def held(self, count: int, under_way: "asyncio.Future[list[T]]") -> None:
        """Until so many scripts are held back, or nobody is going to send one any more."""
        deadline = time.monotonic() + HELD_SECONDS
        while self.proxy.counts()["holding"] < count and not under_way.done():
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(0.002)

    # --- a fill that comes late ------------------------------------------------------------------

    async def fill_after_a_play(self, people: Sequence[Person], *, lost: bool = False) -> None:
        """The row was read before; `lost`: and so is what the writer has put in."""
        evict(PSYCHE, people)
        reads = [self.ask(self.slow, person, "psyche") for person in people]
        async with self.holding(leases.FILL, reads):
            await each(self.play, people)
            if lost:
                evict(PSYCHE, people)
        await each(self.read, people)

    async def fill_after_a_logout(self, people: Sequence[Person]) -> None:
        """The session was alive when it was read."""
        evict(SESSION, people)
        reads = [self.ask(self.slow, person, "validate") for person in people]
        async with self.holding(leases.FILL, reads):
            await each(partial(self.ask, self.quick, kind="logout"), people)
        await each(partial(self.validate, status=401), people)

    async def fill_after_a_forgetting(self, people: Sequence[Person]) -> None:
        """The turns were there when they were read."""
        await each(partial(self.ask, self.quick, kind="command"), people)
        evict(CONVO_HISTORY, people)
        reads = [self.ask(self.slow, person, "history") for person in people]
        async with self.holding(bounded_list.FILL, reads):
            await each(partial(self.ask, self.quick, kind="forget"), people)
        for history in await each(partial(self.ask, self.quick, kind="history"), people):
            self._saw(history, right=history.told == [])

    # --- an install that comes late --------------------------------------------------------------

    async def install_after(self, schedule: str, people: Sequence[Person]) -> None:
        """A play of the slow site has been committed; then what `LATE_INSTALLS` says happens."""
        keys = {person: new_key() for person in people}
        plays = [self.play_as(self.slow, person, key) for person, key in keys.items()]
        steps: dict[str, Callable[[Person], Awaitable[None]]] = {
            "p": self.play,
            "a": lambda person: self.play_as(self.quick, person, keys[person]),
            "r": self.read,
        }
        async with self.holding(fences.INSTALL, plays):
            for step in schedule.split():
                if step == "x":
                    evict(PSYCHE, people)
                else:
                    await each(steps[step], people)
        await each(self.read, people)
