"""A circuit breaker in process memory (Nygard, Release It!, ch. 5).

It lives in the process because a breaker that keeps its state in the cache fails with it. It opens
at the first failure: a call has had its second try by then, and one time-out per process is what
an outage may cost. It closes only once the cache has been repaired: what was written meanwhile
must not be served as it was.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Literal

logger = logging.getLogger(__name__)

# Looks at what has been noted meanwhile; where notes never end, what is left is repaired later.
LOOKS = 5

State = Literal["closed", "open", "half-open"]


class Breaker:
    """Lets calls through until one fails; then nobody, until `recover()` says that all is well.

    `recover` runs in a thread of its own, `open_seconds` after the failure and as often as it
    returns False: no caller waits for it. Its own calls are let through, and once it has said
    that the server can be told again (`can_be_told`), so are those of writers: or a process that
    writes all the time would never have told it everything. `changed(state)` hears of every change;
    of `half-open` when the recovery begins.
    """

    def __init__(
        self,
        *,
        open_seconds: float,
        recover: Callable[[], bool],
        changed: Callable[[State], object] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_seconds = open_seconds
        self._recover = recover
        self._changed = changed
        self._clock = clock
        self._lock = threading.Lock()
        self._retry_at: float | None = None
        self._recovering: threading.Thread | None = None
        self._told = False
        self._noted = self._failures = 0

    @property
    def state(self) -> State:
        """`closed`, `open`, or `half-open` once a recovery is due or under way."""
        retry_at = self._retry_at
        if retry_at is None:
            return "closed"
        due = self._recovering is not None or self._clock() >= retry_at
        return "half-open" if due else "open"

    @property
    def failures(self) -> int:
        """How often the server has failed this process so far."""
        return self._failures

    def allows(self, *, telling: bool = False) -> bool:
        """Whether a call may go to the server now; `telling` what has been, or is about to be,
        committed."""
        if self._retry_at is None or threading.current_thread() is self._recovering:
            return True
        with self._lock:
            if self._retry_at is None or (telling and self._told):
                return True
            if self._recovering is None and self._clock() >= self._retry_at:
                self._start()
            return False

    def failed(self) -> None:
        """The server did not answer, or cannot serve."""
        with self._lock:
            self._failures += 1
            self._told = False
            opened = self._retry_at is None
            self._retry_at = self._clock() + self._open_seconds
            if opened:
                self._changed("open")

    def can_be_told(self) -> None:
        """For the recovery: the server answers. Whatever was committed before this and could not
        be told is repaired after it."""
        with self._lock:
            self._told = True

    def missed(self) -> bool:
        """Whether a committed write that could not be told is left to a recovery that is yet to
        come; False when it can be told now."""
        with self._lock:
            return self._retry_at is not None and not self._told

    def noted(self) -> None:
        """Something else has been left to the recovery, and one under way may have passed it over:
        it looks again."""
        with self._lock:
            self._noted += 1

    def _start(self) -> None:
        self._recovering = threading.Thread(target=self._run, name="cache-recovery", daemon=True)
        try:
            self._recovering.start()
            self._changed("half-open")
        except RuntimeError:
            # No more threads, or the process is ending: it is tried again.
            logger.exception("The cache cannot be repaired now")
            self._recovering = None
            self._retry_at = self._clock() + self._open_seconds

    def _recovered(self) -> bool:
        try:
            return self._recover()
        except Exception:
            # Nobody above this thread could: it is tried again.
            logger.exception("The cache could not be repaired")
            return False

    def _run(self) -> None:
        well = False
        try:
            failures = self._failures
            for look in range(LOOKS):
                noted = self._noted
                well = self._recovered()
                if not well or self._closes(failures, noted if look + 1 < LOOKS else None):
                    break
        finally:
            with self._lock:
                self._recovering = None
                self._told = False
                if self._retry_at is not None:
                    self._retry_at = self._clock() + self._open_seconds
                self._changed(self.state)

    def _closes(self, failures: int, noted: int | None) -> bool:
        """Close, unless something was noted since, for which the recovery looks again; whether it
        need not."""
        with self._lock:
            if noted not in (None, self._noted):
                return False
            if failures == self._failures:
                self._retry_at = None
            return True
