"""A call with a deadline, for probes of servers that may be frozen.

A frozen server holds a call that has no time-out of its own. The call then goes on in its thread,
and whoever asks meanwhile waits for that one: at most one thread per name, however often a probe
comes.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

from django.db import connections


class Overdue(Exception):
    """The call has not come back in time."""


_lock: Final = threading.Lock()
_running: Final[dict[str, Future[Any]]] = {}


def within(name: str, seconds: float, call: Callable[[], Any]) -> Any:
    """What `call` returns or raises; raises `Overdue` after `seconds`.

    `name` says what is called: two callers of one name share one call. The call's own database
    connections are given back when it ends.
    """
    return started(name, call).result(seconds)


class _Call(Future[Any]):
    """A future whose waiting ends with this module's own exception."""

    def result(self, timeout: float | None = None) -> Any:
        try:
            return super().result(timeout)
        except TimeoutError:
            if self.done():  # it came back just now, or the time-out is the call's own
                return super().result(0)
            raise Overdue(f"no answer within {timeout} s") from None


def started(name: str, call: Callable[[], Any]) -> Future[Any]:
    """The call under this name that is under way, or `call`, started now."""
    with _lock:
        running = _running.get(name)
        if running is None:
            running = _running[name] = _Call()
            # Daemon: a frozen server must not keep the process from ending.
            threading.Thread(target=_run, args=(name, running, call), daemon=True).start()
        return running


def _run(name: str, future: Future[Any], call: Callable[[], Any]) -> None:
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
