"""Which processes there are, and how each sees the cache: every ten seconds each one says so, in
the cache itself.

A process that cannot reach the cache cannot say so there: it goes silent, and that is seen. One
that ends well takes its name off; one that was killed is shown as silent for ten minutes.
"""

import logging
import os
import threading
import time
from multiprocessing.util import Finalize
from typing import Annotated, Final, Literal, get_args

import msgspec

from aevon.cache import codec
from aevon.cache.codec import CorruptValue, Document
from aevon.cache.connection import CacheError, Command, WrongType, store
from aevon.cache.history import Counted
from aevon.cache.keyspace import PROCESSES
from aevon.cache.shared_metrics import host

logger = logging.getLogger(__name__)

REPORT_SECONDS: Final = 10.0
# Of whom nothing has been heard for three reports, nothing is known.
SILENT_SECONDS: Final = 3 * REPORT_SECONDS
END_SECONDS: Final = 1.0
FORGET_SECONDS: Final = 600.0
MOST: Final = 1_000

Role = Literal["web", "worker", "beat", "listener"]
ROLES: Final = get_args(Role)


class Process(Document, frozen=True):
    """A process as it last reported. Unix seconds; `worked_at`: when it last did what it is there
    for (a tick, a task, a look at the outbox), None where it has not yet, or only answers requests.
    `failures`: calls that the cache failed since the process started."""

    role: Role
    host: Annotated[str, msgspec.Meta(max_length=64)]
    pid: int
    started_at: float
    seen_at: float
    worked_at: float | None
    breaker: Annotated[str, msgspec.Meta(max_length=16)]
    failures: int

    @property
    def name(self) -> str:
        """`web 1234@host`."""
        return f"{self.role} {self.pid}@{self.host}"


class Reporter:
    """Reports for this process, from a thread of its own."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.worked_at: float | None = None
        self._started_at = time.time()
        self._counted = Counted()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Report now and then on, until `end`."""
        self._thread = threading.Thread(target=self._run, name="cache-reporter", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                self.report()
            except CacheError as error:
                logger.debug("Nothing reported now: %s", error)
            if self._stop.wait(REPORT_SECONDS):
                return

    def report(self) -> None:
        """One report, one round trip: this process, and what it has counted. What is counted while
        the answer is lost may be added twice. Raises `CacheUnavailable`."""
        key = PROCESSES.key("seen")
        counted, now = self._counted.calls()
        calls: list[Command] = [
            ("HSET", key, self._field, codec.encode(self._process())),
            ("EXPIRE", key, int(FORGET_SECONDS)),
        ]
        store().pipeline([*calls, *counted])
        self._counted.told(now)

    def _process(self) -> Process:
        breaker = store().breaker
        return Process(
            role=self.role,
            host=host(),
            pid=os.getpid(),
            started_at=self._started_at,
            seen_at=time.time(),
            worked_at=self.worked_at,
            breaker=breaker.state,
            failures=breaker.failures,
        )

    @property
    def _field(self) -> str:
        return f"{self.role} {os.getpid()}@{host()}"

    def end(self) -> None:
        """Report no more, and leave no name behind."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(END_SECONDS)  # or a report under way would put the name back
        try:
            self.report()
            store().command("HDEL", PROCESSES.key("seen"), self._field)
        except CacheError as error:
            logger.debug("This process stays on the list: %s", error)


_reporter: Reporter | None = None


def start(role: Role) -> None:
    """Report for this process from now on. Once is enough; a forked child has to say so itself."""
    global _reporter  # noqa: PLW0603  one per process is the point
    if _reporter is None:
        _reporter = Reporter(role)
        _reporter.start()
        # As atexit, but a child of multiprocessing, as each of granian's workers is, does this too.
        Finalize(None, end, exitpriority=0)


def worked() -> None:
    """This process has just done what it is there for."""
    if _reporter is not None:
        _reporter.worked_at = time.time()


def end() -> None:
    """This process ends."""
    global _reporter
    reporter, _reporter = _reporter, None
    if reporter is not None:
        reporter.end()


def _start_afresh() -> None:
    """In a forked child: the thread is the parent's, and so is the name."""
    global _reporter  # noqa: PLW0603
    _reporter = None


os.register_at_fork(after_in_child=_start_afresh)


def processes() -> list[Process]:
    """Those heard of in the last ten minutes, by role and name; a thousand at most. Others are
    taken off the list. Raises `CacheUnavailable`."""
    key = PROCESSES.key("seen")
    try:
        held = store().command("HGETALL", key)
    except WrongType:
        store().command("UNLINK", key)  # somebody else's; the next report makes it anew
        return []
    found = {field: _understood(raw) for field, raw in held.items()}
    since = time.time() - FORGET_SECONDS
    there = {f: each for f, each in found.items() if each is not None and each.seen_at >= since}
    if gone := found.keys() - there.keys():
        store().command("HDEL", key, *gone)
    latest = sorted(there.values(), key=lambda each: -each.seen_at)[:MOST]
    return sorted(latest, key=lambda each: (ROLES.index(each.role), each.name))


def _understood(raw: bytes) -> Process | None:
    try:
        found = codec.decode(raw, Process)
    except CorruptValue:
        return None
    return found if isinstance(found, Process) else None
