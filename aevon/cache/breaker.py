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

State = Literal["closed", "open", "half-open"]


class Breaker:
    """Lets calls through until one fails; then nobody, until `recover()` says that all is well.

    `recover` runs in a thread of its own, `open_seconds` after the failure and as often as it
    returns False: no caller waits for it. Its own calls are let through.
    """

    def __init__(
        self,
        *,
        open_seconds: float,
        recover: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_seconds = open_seconds
        self._recover = recover
        self._clock = clock
        self._lock = threading.Lock()
        self._retry_at: float | None = None
        self._recovering: threading.Thread | None = None
        self._missed = 0

    @property
    def state(self) -> State:
        """`closed`, `open`, or `half-open` once a recovery is due or under way."""
        retry_at = self._retry_at
        if retry_at is None:
            return "closed"
        due = self._recovering is not None or self._clock() >= retry_at
        return "half-open" if due else "open"

    def allows(self) -> bool:
        """Whether a call may go to the server now."""
        if self._retry_at is None or threading.current_thread() is self._recovering:
            return True
        with self._lock:
            if self._retry_at is None:
                return True
            if self._recovering is None and self._clock() >= self._retry_at:
                self._start()
            return False

    def failed(self) -> None:
        """The server did not answer, or cannot serve."""
        with self._lock:
            self._retry_at = self._clock() + self._open_seconds

    def missed(self) -> bool:
        """A committed write could not be told to the cache. False when the breaker has closed
        since: it can be told now. Otherwise it does not close before another recovery."""
        with self._lock:
            self._missed += 1
            return self._retry_at is not None

    def _start(self) -> None:
        self._recovering = threading.Thread(target=self._run, name="cache-recovery", daemon=True)
        try:
            self._recovering.start()
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
            while not well:
                missed = self._missed
                if not self._recovered():
                    break
                with self._lock:
                    well = missed == self._missed
                    if well:
                        self._retry_at = None
        finally:
            with self._lock:
                self._recovering = None
                if not well:
                    self._retry_at = self._clock() + self._open_seconds
