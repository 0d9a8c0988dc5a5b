"""What happens to a site under a history: faults, one after the other, by chance from a seed.

Each fault notes what it excuses, ends in a site that is well again, and is counted. Entries are
evicted all the time.
"""

import contextlib
import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import redis

from aevon.cache import CONVO_HISTORY, PSYCHE, SESSION, CacheError
from aevon.embedded import CacheServer, PostgresServer
from auth_sessions.models import User
from canvas import services as canvas
from tests.consistency.history import SECOND
from tests.faults.witness import forget_connections
from tests.waiting import eventually

from .api import Operation
from .line import NOBODY
from .production import Production
from .proxy import Proxy
from .rules.common import Circumstances, Span
from .visitors import Person

EVICTED: Final = (PSYCHE, SESSION, CONVO_HISTORY)
EVICT_SECONDS: Final = 0.05
# The clients of a history leave the machine no time, and who repairs waits for it like all others.
BUSY_GRACE: Final = 5 * SECOND


@dataclass
class Notes:
    """What happened, and what it excuses: spans by CLOCK_MONOTONIC."""

    faults: Counter[str] = field(default_factory=Counter)
    outages: list[Span] = field(default_factory=list)
    lost_memory: list[Span] = field(default_factory=list)
    flushes: list[Span] = field(default_factory=list)
    unavailable: list[Span] = field(default_factory=list)  # 503 may be answered
    unanswered: list[Span] = field(default_factory=list)  # nobody may answer
    operations: list[Operation] = field(default_factory=list)  # of the storm itself

    @property
    def circumstances(self) -> Circumstances:
        """For `check`."""
        return Circumstances(self.outages, self.lost_memory, self.flushes, BUSY_GRACE)

    def allows(self, operation: Operation) -> bool:
        """Whether a fault explains that it was answered by nobody, or by a 503: of a conditional
        change an outage, too, because the cache may have made it, and the row cannot tell."""
        spans = {NOBODY: self.unanswered, 503: self.unavailable}.get(operation.status, [])
        if operation.status == 503 and operation.kind == "patch" and operation.asked[3] is not None:
            spans = [*spans, *self.outages]
        return any(begun <= operation.end and operation.start <= end for begun, end in spans)


@dataclass
class Storm:
    """Faults of a site that stands behind `proxy`."""

    site: Production
    server: CacheServer
    postgres: PostgresServer | None
    proxy: Proxy
    people: Sequence[Person]
    rng: random.Random
    notes: Notes = field(default_factory=Notes)
    _web_killed: float = 0.0

    @property
    def _snapshot(self) -> Path:
        return self.server.folder / "dump.rdb"

    @property
    def _older(self) -> Path:
        return self.server.folder / "older.rdb"

    def faults(self) -> list[Callable[[], None]]:
        """All that there are here."""
        found = [
            *(self.freeze, self.kill_cache, self.remember, self.go_back, self.slow, self.half_open),
            *(self.reset, self.forget_scripts, self.kill_web, self.kill_worker, self.kill_listener),
            *(self.disable, self.disable, self.disable),
        ]
        return [*found, self.restart_postgres] if self.postgres else found

    def rage(self, seconds: float, is_enough: Callable[[], bool], *, every: float) -> None:
        """Until the time is over and it is enough; each fault once before any comes again."""
        deadline, waiting = time.monotonic() + seconds, list[Callable[[], None]]()
        with self._evicting():
            while time.monotonic() < deadline or not is_enough():
                time.sleep(every * self.rng.uniform(0.5, 1.5))
                waiting = waiting or self.rng.sample(self.faults(), len(self.faults()))
                waiting.pop()()

    @contextlib.contextmanager
    def _evicting(self) -> Iterator[None]:
        over = threading.Event()
        thread = threading.Thread(target=self._evict, args=[over])
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _evict(self, over: threading.Event) -> None:
        """A random entry, fences and leases too; no canvas, which is never evicted while it is
        unsaved."""
        rng = random.Random(self.rng.random())
        with self._client() as client:
            while not over.wait(EVICT_SECONDS):
                key = rng.choice(EVICTED).key(rng.choice(self.people).user_id)
                with contextlib.suppress(redis.RedisError):
                    self.notes.faults["entries evicted"] += int(client.delete(key))

    def _client(self) -> "redis.Redis[bytes]":
        return redis.Redis.from_url(self.server.url, protocol=2, socket_timeout=10)

    # --- the cache -----------------------------------------------------------------------------

    def freeze(self) -> None:
        """It answers nobody for two seconds."""
        with self._outage("cache frozen for two seconds"):
            self.server.pause()
            time.sleep(2)
            self.server.resume()

    def kill_cache(self) -> None:
        """It comes back empty."""
        with self._outage("cache killed and restarted empty"):
            self._lose()
            self._snapshot.unlink(missing_ok=True)
            time.sleep(self.rng.uniform(0, 2))
            self.server.start()

    def remember(self) -> None:
        """It takes the snapshot to be found again later."""
        with self._client() as client:
            client.save()
        shutil.copy(self._snapshot, self._older)

    def go_back(self) -> None:
        """It comes back with the snapshot of some time ago."""
        if not self._older.exists():
            self.remember()
        with self._outage("cache restarted from an older snapshot"):
            self._lose()
            shutil.copy(self._older, self._snapshot)
            self.server.start()

    def _lose(self) -> None:
        """Killed; what was changed since the beginning of a flush just before may be lost."""
        since = self._flush()
        self.server.kill()
        self.notes.lost_memory.append((since, time.monotonic_ns()))

    def _flush(self) -> int:
        """Of all canvases; when it began."""
        assert eventually(self._is_flushed), "no flush succeeds"
        return self.notes.flushes[-1][0]

    def _is_flushed(self) -> bool:
        begun = time.monotonic_ns()
        with contextlib.suppress(CacheError):
            if canvas.persist_now().left:
                return False
            self.notes.flushes.append((begun, time.monotonic_ns()))
            return True
        return False

    def forget_scripts(self) -> None:
        """It knows no script any more, five times."""
        for _ in range(5):
            with self._client() as client:
                client.script_flush()
            time.sleep(0.2)
        self._count("scripts flushed five times")

    # --- the link to it ------------------------------------------------------------------------

    def slow(self) -> None:
        """Each reply is late."""
        with self._outage("link slow"), self.proxy.doing(delay=(0.15, 0.25)):
            time.sleep(2)

    def half_open(self) -> None:
        """What is sent gets nowhere."""
        with self._outage("link half open"), self.proxy.doing(swallow=True):
            time.sleep(2)

    def reset(self) -> None:
        """Replies are cut, connections reset."""
        with self._outage("link cut and reset"), self.proxy.doing(cut=0.05):
            for _ in range(10):
                time.sleep(0.2)
                self.proxy.reset()

    # --- processes -----------------------------------------------------------------------------

    def kill_web(self) -> None:
        """One of its workers: it is replaced while the other serves."""
        # granian takes another one within 5.5 s for a worker that cannot live, and ends.
        time.sleep(max(0.0, self._web_killed + 6 - time.monotonic()))
        self._web_killed = time.monotonic()
        begun = time.monotonic_ns()
        before = self.site.web_workers()
        killed = self.rng.choice(before)
        killed.kill()
        assert eventually(lambda: len({*self.site.web_workers()} - {killed}) == len(before))
        self.notes.unanswered.append((begun, self.site.recovers()))
        self._count("web worker killed")

    def kill_worker(self) -> None:
        """Celery's worker."""
        self._without("worker")

    def kill_listener(self) -> None:
        """Who follows the outbox."""
        self._without("listener")

    def _without(self, name: str) -> None:
        with self.site.without(name):
            time.sleep(1)
        self.site.recovers()
        self._count(f"{name} killed")

    # --- PostgreSQL ----------------------------------------------------------------------------

    def restart_postgres(self) -> None:
        """It is killed, and recovers."""
        assert self.postgres is not None
        begun = time.monotonic_ns()
        self.postgres.kill()
        time.sleep(self.rng.uniform(0, 1))
        self.postgres.start()
        forget_connections()
        self.notes.unavailable.append((begun, self.site.recovers()))
        self._count("PostgreSQL killed and restarted")

    # --- people --------------------------------------------------------------------------------

    def disable(self) -> None:
        """A user, for a second."""
        user = User.objects.get(pk=self.rng.choice(self.people).user_id)
        self._set(user, "disable", is_active=False)
        time.sleep(1)
        self._set(user, "enable", is_active=True)
        self._count("user disabled and enabled")

    def _set(self, user: User, kind: str, *, is_active: bool) -> None:
        start = time.monotonic_ns()
        user.is_active = is_active
        user.save(update_fields=["is_active"])
        end = time.monotonic_ns()
        self.notes.operations.append(Operation(kind, user.pk, start, end, 200))

    def _count(self, name: str) -> None:
        self.notes.faults[name] += 1

    @contextlib.contextmanager
    def _outage(self, name: str) -> Iterator[None]:
        """Until every process has the cache again."""
        begun = time.monotonic_ns()
        yield
        self.notes.outages.append((begun, self.site.recovers()))
        self._count(name)
