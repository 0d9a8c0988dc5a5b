"""Warm-up: PostgreSQL's rows into the cache, in bulk, never over something newer."""

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from django.db import connection, connections

from aevon.cache.connection import store
from aevon.cache.keyspace import REGISTRY, InvalidKey
from aevon.cache.leases import Warmth
from aevon.cache.maintenance.walking import BATCH, Progress, Unwatched, batches, count, in_rows
from aevon.cache.resources import Resource
from aevon.cache.user_ranges import UserRanges

# A slow pace is kept in small steps, so that it is even and Ctrl-C is heard.
STEPS_PER_SECOND: Final = 4
# Steps that are under way at a time: while one waits for a server, another computes.
AT_ONCE: Final = 2

# What becomes of these users' entries.
Act = Callable[[Sequence[int]], dict[int, Warmth]]


class Restarted(Exception):
    """The server was restarted on the way: it has forgotten what it was given before, or nobody
    believes it any more."""


class Place(NamedTuple):
    """Where a warm-up was: everything up to this user of this keyspace is done, and so are the
    keyspaces before it. Written as a key: `psyche:500000`."""

    service: str
    user_id: int

    def __str__(self) -> str:
        return f"{self.service}:{self.user_id}"


def place(text: str) -> Place:
    """The place that is written as `psyche:500000`; raises `InvalidKey`."""
    keyspace = REGISTRY.get(text.partition(":")[0])
    user_id = keyspace.user_id(text) if keyspace is not None else None
    if keyspace is None or user_id is None:
        shown = repr(text if len(text) <= 40 else text[:37] + "…")
        raise InvalidKey(f"Not a place to go on from: {shown}. Write for example psyche:500000.")
    return Place(keyspace.name, user_id)


@dataclass(slots=True)
class Warmed:
    """What a warm-up did, or would do: users with rows, how many of these are cached now, how many
    of those were not before; how many were left to a writer or reader at work on them, and how many
    could not be cached (the cache is full). `last` is the last user that it came to."""

    service: str
    users: int = 0
    cached: int = 0
    loaded: int = 0
    busy: int = 0
    failed: int = 0
    last: int = 0

    def step(self, user_ids: Sequence[int], warmths: Mapping[int, Warmth]) -> None:
        """Count what became of some more."""
        counts = Counter(warmths.values())
        self.last = max(user_ids)
        self.users += counts.total()
        self.cached += counts["there"] + counts["loaded"]
        self.loaded += counts["loaded"]
        self.busy += counts["busy"]
        self.failed += counts["failed"]


@dataclass(slots=True)
class Pace:
    """At most so many users a second; None: as fast as it goes."""

    rate: int | None = None
    free_at: float = 0.0

    def step(self, batch: int) -> int:
        """How many users to take at a time."""
        return batch if self.rate is None else max(1, min(batch, self.rate // STEPS_PER_SECOND))

    def keep(self, users: int) -> None:
        """Wait until after so many users others may be loaded."""
        if self.rate is not None:
            now = time.monotonic()
            self.free_at = max(now, self.free_at) + users / self.rate
            time.sleep(self.free_at - now)


def warm_up(
    services: Sequence[Resource],
    users: UserRanges | None = None,
    *,
    after: Place | None = None,
    batch: int = BATCH,
    rate: int | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
    done: list[Warmed] | None = None,
) -> list[Warmed]:
    """Load PostgreSQL's rows into the cache, of these users or of all, `after` a place.

    Never over something newer: an entry that is there stays, and an empty one is filled under a
    lease. A batch costs a round trip, and where something is missing two more and a query. `rate`
    limits how many users are loaded per second. `done` is added to as it goes, for who wants to
    know where it was stopped. Raises `CacheUnavailable`, and `Restarted`.
    """
    watch, pace = progress or Unwatched(), Pace(None if dry_run else rate)
    done = [] if done is None else done
    life = _life()
    for resource, user_id in _from(services, after):
        watch.start(resource.keyspace.name, partial(_count, resource, users, user_id))
        warmed = Warmed(resource.keyspace.name, last=user_id)
        done.append(warmed)
        act = resource.would_warm if dry_run else resource.warm
        steps = batches(in_rows(resource, users, after=user_id), pace.step(batch))
        with closing(_worked(act, steps, at_once=_at_once(pace))) as worked:
            for user_ids, warmths in worked:
                loaded = warmed.loaded
                warmed.step(user_ids, warmths)
                watch.advance(len(user_ids))
                pace.keep(warmed.loaded - loaded)
    if _life() != life:
        raise Restarted
    return done


def _at_once(pace: Pace) -> int:
    """One, where the pace is given, where other connections do not see what this one does, or where
    there are none: this one and one for each step."""
    pool = connection.settings_dict["OPTIONS"].get("pool")
    most = pool.get("max_size", AT_ONCE + 1) if isinstance(pool, dict) else AT_ONCE + 1
    alone = pace.rate is not None or connection.in_atomic_block or most <= AT_ONCE
    return 1 if alone else AT_ONCE


def _worked(
    act: Act, steps: Iterable[list[int]], *, at_once: int
) -> Generator[tuple[list[int], dict[int, Warmth]], None, None]:
    """Each step with what `act` made of it, in order. Closed before its end, it finishes those that
    are under way and begins no other."""
    if at_once == 1:
        yield from ((user_ids, act(user_ids)) for user_ids in steps)
        return
    waiting: deque[tuple[list[int], Future[dict[int, Warmth]]]] = deque()
    pool = ThreadPoolExecutor(at_once, "warm-up")
    try:
        for user_ids in steps:
            waiting.append((user_ids, pool.submit(_in_thread, act, user_ids)))
            if len(waiting) > at_once:
                yield _landed(*waiting.popleft())
        yield from (_landed(*each) for each in waiting)
    finally:
        pool.shutdown(cancel_futures=True)


def _landed(
    user_ids: list[int], made: "Future[dict[int, Warmth]]"
) -> tuple[list[int], dict[int, Warmth]]:
    return user_ids, made.result()


def _in_thread(act: Act, user_ids: list[int]) -> dict[int, Warmth]:
    try:
        return act(user_ids)
    finally:
        connections.close_all()  # back into the pool


def _from(services: Sequence[Resource], after: Place | None) -> Iterator[tuple[Resource, int]]:
    """What is left to do after a place, and after which user."""
    if after is None:
        yield from ((each, 0) for each in services)
        return
    names = [each.keyspace.name for each in services]
    first = names.index(after.service)
    yield services[first], after.user_id
    yield from ((each, 0) for each in services[first + 1 :])


def _count(resource: Resource, users: UserRanges | None, after: int) -> int:
    return count(in_rows(resource, users, after=after))


def _life() -> str:
    """Which life of the server this is."""
    return store().life.incarnation
