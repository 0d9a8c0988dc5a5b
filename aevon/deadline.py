"""A call with a deadline, for probes of servers that may be frozen.

A frozen server holds a call that has no time-out of its own. The call then goes on in its thread,
and whoever asks meanwhile waits for that one: at most one thread per name, however often a probe
comes.
"""

import contextvars
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

from django.db import connections


class Overdue(Exception):
    """The call has not come back in time."""


class Call(Future[Any]):
    """A call under way: `result(seconds)` returns or raises what it does, or raises `Overdue`."""

    def result(self, timeout: float | None = None) -> Any:
        try:
            return super().result(timeout)
        except TimeoutError:
            if self.done():  # it came back just now, or the time-out is the call's own
                return super().result(0)
            raise Overdue(f"no answer within {timeout} s") from None


_lock = threading.Lock()
_running: Final[dict[str, Call]] = {}


def started(name: str, call: Callable[[], Any]) -> Call:
    """The call under this name that is under way, or `call`, started now in a thread.

    The database connections that it opens are given back when it ends.
    """
    with _lock:
        running = _running.get(name)
        if running is None:
            running = _running[name] = Call()
            # Daemon: a frozen server must not keep the process from ending.
            # In the caller's context, so that what it logs is told as the caller's.
            run = contextvars.copy_context().run
            threading.Thread(target=run, args=(_run, name, running, call), daemon=True).start()
        return running


def _run(name: str, future: Call, call: Callable[[], Any]) -> None:
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001  whatever it is, somebody waits for it
        _end(name)
        future.set_exception(error)
    else:
        _end(name)
        future.set_result(result)


def _end(name: str) -> None:
    connections.close_all()
    with _lock:
        del _running[name]


def _start_afresh() -> None:
    """In a forked child: the parent's threads are not here, and its lock may have been held."""
    global _lock  # noqa: PLW0603  one per process is the point
    _lock = threading.Lock()
    _running.clear()


os.register_at_fork(after_in_child=_start_afresh)
