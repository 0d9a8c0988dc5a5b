"""What the tests of faults watch with: a count of stale reads, crowds, patience."""

import contextlib
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import redis
from django.db import connection, connections, transaction

from aevon.cache.connection import store
from aevon.cache.metrics import LOADS
from aevon.embedded import CacheServer
from klepsydra import services
from klepsydra.models import PsycheState
from tests.cache.conftest import counted
from tests.klepsydra.rows import PSYCHES, SLUG


class Witness:
    """Reads and plays, and counts reads that are older than a write acknowledged before."""

    def __init__(self) -> None:
        self.reads = 0
        self.stale: list[str] = []
        self.plays: Counter[int] = Counter()
        self._acknowledged: dict[int, int] = {}
        self._lock = threading.Lock()

    def acknowledged(self, user_id: int, version: int) -> None:
        """A write of this version has returned to who asked for it."""
        with self._lock:
            self._acknowledged[user_id] = max(version, self._acknowledged.get(user_id, 0))

    def least(self, user_id: int) -> int:
        """The version that a read which begins now must see at least."""
        return self._acknowledged.get(user_id, 0)

    def saw(self, user_id: int, version: int, least: int) -> None:
        """A read that began when `least` was acknowledged has seen `version`."""
        with self._lock:
            self.reads += 1
            if version < least:
                self.stale.append(f"user {user_id}: v{version} after v{least}")

    def read(self, user_id: int) -> None:
        """One read through the cache."""
        least = self.least(user_id)
        state = PsycheState.cached.get(user_id)
        self.saw(user_id, state.version if state else 0, least)

    def read_all(self, user_ids: Sequence[int]) -> None:
        """Many reads in one round trip."""
        least = {user_id: self.least(user_id) for user_id in user_ids}
        states = PsycheState.cached.get_many(user_ids)
        for user_id in user_ids:
            self.saw(user_id, states[user_id].version if user_id in states else 0, least[user_id])

    def play(self, user_id: int) -> None:
        """One interaction."""
        played = services.play(user_id, SLUG, 1)
        with self._lock:
            self.plays[user_id] += 1
        self.acknowledged(user_id, played.answer.psyche.version)

    def save(self, user_id: int) -> None:
        """One edit, as the admin makes it."""
        with transaction.atomic():
            state = PsycheState.objects.select_for_update().get(pk=user_id)
            state.period_seconds = 1800 + state.version % 1800
            state.save(update_fields=["period_seconds"])
        self.acknowledged(user_id, state.version + 1)

    def lost_plays(self, user_ids: Sequence[int]) -> dict[int, int]:
        """Plays that PostgreSQL does not know of; of players who began at version 1 and only
        played."""
        rows = PSYCHES.documents(user_ids)
        lost = {user_id: self.plays[user_id] + 1 - rows[user_id].version for user_id in user_ids}
        return {user_id: count for user_id, count in lost.items() if count}


@contextlib.contextmanager
def busy(*works: Callable[[], object]) -> Iterator[None]:
    """Each of the works again and again in a thread of its own, until the block ends; what one
    raises is raised here."""
    ending = threading.Event()

    def run(work: Callable[[], object]) -> None:
        try:
            while not ending.is_set():
                work()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(works)) as pool:
        running = [pool.submit(run, work) for work in works]
        try:
            yield
        finally:
            ending.set()
        for each in running:
            each.result()


def seconds_of(work: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def median_ms(work: Callable[[], object], times: int = 200) -> float:
    """The median of so many calls."""
    return statistics.median(seconds_of(work) for _ in range(times)) * 1000


def is_closed() -> bool:
    """Whether this process trusts its cache."""
    return store().breaker.state == "closed"


def hits(user_id: int) -> bool:
    """Whether the user's state is read from the cache, with one load."""
    with counted(LOADS, "psyche", "hit") as more:
        PsycheState.cached.get(user_id)
        return more() == 1


def direct(server: CacheServer) -> redis.Redis:
    """A client of one's own, past the project."""
    return redis.Redis.from_url(server.url, protocol=2, socket_timeout=10)


def forget_connections() -> None:
    """This thread's, and the pool of all: the next one is made with the present settings."""
    connections.close_all()
    connection.close_pool()  # type: ignore[attr-defined]
