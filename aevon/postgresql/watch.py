"""Whether PostgreSQL answers at all, as this process sees it.

A frozen server, or a network that swallows, says nothing, and so does one that is busy with a long
statement. So whoever has waited for a while has a connection of its own ask `SELECT 1`: while that
is answered, statements take as long as they are allowed to. While nothing is, who comes is refused,
and who waits gives up a little later; it is asked until it answers, and then all is as before.
"""

import contextlib
import os
import threading
import time
from typing import Any, Final

import psycopg
from django.db import DEFAULT_DB_ALIAS, connections
from psycopg_pool import PoolTimeout

# Without an answer to anything in this process, until PostgreSQL is asked.
SILENT_SECONDS: Final = 0.5
# … and from then on, until who comes is refused, and until who waits gives up.
REFUSE_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 2.5
# For how long each who comes waits for it to be back.
ADMIT_SECONDS: Final = 0.2
CONNECT_SECONDS: Final = 2
RETRY_SECONDS: Final = 0.1


class Frozen(psycopg.OperationalError):
    """PostgreSQL does not answer."""


class _Asking(psycopg.Connection[Any]):
    """Whose statements have a time-out, by the client's clock."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        return super().wait(gen, interval, CONNECT_SECONDS if timeout is None else timeout)


def ask() -> None:
    """`SELECT 1`, on a connection of its own: a busy pool is no outage. Raises `psycopg.Error`."""
    parameters = connections[DEFAULT_DB_ALIAS].get_connection_params()
    asking = _Asking.connect(
        **parameters | {"connect_timeout": CONNECT_SECONDS, "autocommit": True}
    )
    try:
        asking.execute("SELECT 1")
    except psycopg.errors._WaitTimeout:  # noqa: SLF001  what wait() documents
        raise Frozen("no answer to SELECT 1") from None
    finally:
        asking.close()


def _is_answer(error: psycopg.Error) -> bool:
    """Whether the server itself has said so; psycopg knows no SQLSTATE before it is connected."""
    return error.sqlstate is not None or "FATAL" in str(error)


class Watch:
    """One per process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heard = time.monotonic()
        self._asked: float | None = None
        self._is_away = False  # a question has ended without an answer
        self._answered = threading.Event()

    def heard(self) -> None:
        """PostgreSQL has answered something."""
        self._heard = time.monotonic()

    def waits(self, since: float) -> None:
        """For who waits since then (monotonic). Raises `Frozen` when that is in vain."""
        if self._asked is None:
            if time.monotonic() - max(since, self._heard) > SILENT_SECONDS:
                self.suspect()
        elif self._is_away and self._silent_seconds() > PATIENCE_SECONDS:
            raise Frozen("PostgreSQL does not answer")

    def admit(self) -> None:
        """For who wants a connection. Raises `PoolTimeout` while PostgreSQL is away."""
        if self._asked is None:
            return
        left = REFUSE_SECONDS - self._silent_seconds()
        if self._answered.wait(max(left, ADMIT_SECONDS)):
            return
        if self._silent_seconds() > REFUSE_SECONDS:
            raise PoolTimeout("PostgreSQL does not answer")

    def suspect(self) -> None:
        """Ask PostgreSQL, in a thread, until it answers."""
        with self._lock:
            if self._asked is None:
                asking = threading.Thread(target=self._ask, name="postgresql-watch", daemon=True)
                # Without a thread nobody would ever take the suspicion back.
                with contextlib.suppress(RuntimeError):
                    asking.start()
                    self._asked = time.monotonic()
                    self._answered.clear()

    def _silent_seconds(self) -> float:
        """Since it was asked, or anybody else was answered; 0 where it need not be."""
        asked = self._asked
        return 0.0 if asked is None else time.monotonic() - max(asked, self._heard)

    def _ask(self) -> None:
        try:
            while not _answers():
                self._is_away = True
                time.sleep(RETRY_SECONDS)
            self.heard()
        finally:
            with self._lock:  # whoever suspects it next begins anew
                self._asked, self._is_away = None, False
                self._answered.set()


def _answers() -> bool:
    try:
        ask()
    except psycopg.Error as error:
        return _is_answer(error)
    return True


watch = Watch()


def _start_afresh() -> None:
    """In a forked child: the parent's thread is not here, and its lock may have been held."""
    watch.__init__()  # type: ignore[misc]  # who imported it keeps it


os.register_at_fork(after_in_child=_start_afresh)
