"""One reader for all who ask for the same at a time, in this process (singleflight).

Nobody is given what was read before they asked: whoever comes while a read is under way shares the
next one, which begins when that one has ended. So what is shared is as fresh as what one reads
oneself (guarantee G1).
"""

import os
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


class _Failed(Exception):
    """Who was to read for the others could not."""


@dataclass(eq=False, slots=True)
class _Flight:
    """A read that is under way, or waits for the end of the one before it."""

    landed: "Future[Any]" = field(default_factory=Future)
    following: "_Flight | None" = None


class Flights:
    """The reads that are under way. Thread-safe; a forked child begins without any."""

    def __init__(self) -> None:
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._present: dict[Hashable, _Flight] = {}

    def share(self, key: Hashable, read: Callable[[], T]) -> T:
        """What one `read()` gives, for all who asked before it began. Where it fails, everybody
        reads, and learns why."""
        flight, before, leads = self._join(key)
        if leads:
            return self._fly(key, flight, before, read)
        try:
            result: T = flight.landed.result()
        except _Failed:
            return read()
        return result

    def _join(self, key: Hashable) -> tuple[_Flight, _Flight | None, bool]:
        with self._lock:
            present = self._present.get(key)
            if present is None:
                flight = self._present[key] = _Flight()
                return flight, None, True
            if present.following is not None:
                return present.following, present, False
            present.following = _Flight()
            return present.following, present, True

    def _fly(
        self, key: Hashable, flight: _Flight, before: _Flight | None, read: Callable[[], T]
    ) -> T:
        try:
            if before is not None:
                wait([before.landed])
            result = read()
        except BaseException:
            self._leave(key, flight)
            flight.landed.set_exception(_Failed())
            raise
        self._leave(key, flight)
        flight.landed.set_result(result)
        return result

    def _leave(self, key: Hashable, flight: _Flight) -> None:
        """The next one may begin: from here on nobody joins it."""
        with self._lock:
            present = self._present[key]
            if present is not flight:  # interrupted before its turn
                present.following = None
            elif flight.following is None:
                del self._present[key]
            else:
                self._present[key] = flight.following
