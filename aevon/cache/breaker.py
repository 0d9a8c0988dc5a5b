"""A circuit breaker in process memory (Nygard, Release It!, ch. 5).

It lives in the process because a breaker that keeps its state in the cache fails with it.
"""

import threading
import time
from collections.abc import Callable
from typing import Literal

State = Literal["closed", "open", "half-open"]


class Breaker:
    """Opens after `failures` in a row; after `open_seconds` lets one caller through to probe."""

    def __init__(
        self,
        *,
        failures: int,
        open_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = failures
        self._open_seconds = open_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._failed = 0
        self._retry_at: float | None = None

    @property
    def state(self) -> State:
        """`closed`, `open`, or `half-open` once a probe is due or under way."""
        retry_at = self._retry_at
        if retry_at is None:
            return "closed"
        return "half-open" if self._clock() >= retry_at else "open"

    def allows(self) -> bool:
        """Whether a call may go to the server now. Half open: true for one caller per period."""
        if self._retry_at is None:
            return True
        with self._lock:
            now = self._clock()
            if self._retry_at is None:
                return True
            if now < self._retry_at:
                return False
            # The prober holds the door: others wait for its answer or for the next period.
            self._retry_at = now + self._open_seconds
            return True

    def succeeded(self) -> None:
        """The server answered."""
        if self._failed or self._retry_at is not None:
            with self._lock:
                self._failed = 0
                self._retry_at = None

    def failed(self) -> None:
        """The server did not answer, or cannot serve."""
        with self._lock:
            self._failed += 1
            if self._failed >= self._limit:
                self._retry_at = self._clock() + self._open_seconds
