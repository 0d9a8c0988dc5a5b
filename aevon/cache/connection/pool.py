"""redis-py's blocking pool, which asks the breaker first, and is asked in less time.

Who uses it may be interrupted anywhere (Celery's soft time limit, Ctrl-C), and others go on: no
place may be lost then, no lock be left, no reply be taken for another's. CPython looks for signals
as a function of Python's begins, as one of C's ends, before a jump back, and in a wait: what must
not be torn apart does nothing of that. redis-py's clients, which Django's cache uses, may still
lose a place between their calls.
"""

import contextlib
import queue
import sys
import threading
import time
from typing import Any

import redis

from aevon.cache.breaker import Breaker
from aevon.cache.connection.errors import BreakerOpen, PoolExhausted


class Places:
    """A pool's queue, the last that came first, as redis-py uses `LifoQueue`; whose conditions are
    Python code: a signal that comes while they take the lock, or wait, may leave it taken."""

    def __init__(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self.queue: list[Any] = []
        self.mutex = threading.Lock()
        # That something has come: a hint too many costs a look, and one too few a wait.
        self.hints: queue.SimpleQueue[None] = queue.SimpleQueue()

    def qsize(self) -> int:
        """How many there are."""
        return len(self.queue)

    def put_nowait(self, item: Any) -> None:
        """Raises `Full`."""
        with self.mutex:
            if len(self.queue) >= self.maxsize:
                raise queue.Full
            self.queue.append(item)
        self.hint()

    def hint(self) -> None:
        """Wake one who waits."""
        if self.hints.qsize() < self.maxsize:
            self.hints.put(None)


class Pool(redis.BlockingConnectionPool):
    """A blocking pool that does not touch the server while the breaker is open.

    django-redis draws from it too, so that Django's cache waits for the server no longer than
    the patterns do.
    """

    breaker: Breaker

    def make_connection(self) -> Any:
        connection: Any = super().make_connection()  # type: ignore[no-untyped-call]
        connection.replies = connection._parser  # noqa: SLF001  redis-py has no other name for it
        return connection

    def get_connection(self, *_: Any, **__: Any) -> Any:
        """For redis-py's clients, which give it back by `release`."""
        connection = self.take(telling=False)
        connection.user, connection.handled = threading.get_ident(), id(sys.exc_info()[1])
        return connection

    def release(self, connection: Any) -> None:
        """A reply may be under way that nobody sees yet: redis-py lets who is interrupted between
        asking and reading give the connection back as it is. (Who asked while they handled
        something was not interrupted.) And a pipeline that is interrupted in here does so again."""
        error = sys.exc_info()[1]
        if connection.user != threading.get_ident():
            return
        connection.user = None
        if error and not isinstance(error, redis.RedisError) and id(error) != connection.handled:
            connection.disconnect()
        super().release(connection)  # type: ignore[no-untyped-call]

    def take(self, *, telling: bool) -> Any:
        """An open connection on which nothing is to be read. In half of redis-py's time, which
        tells its own metrics of it four times. Raises `BreakerOpen`, `PoolExhausted`, and what
        redis-py raises where it cannot connect."""
        if not self.breaker.allows(telling=telling):
            raise BreakerOpen("The circuit breaker is open.")
        connection, taken, until = None, False, 0.0
        try:
            while not taken:
                with self.pool.mutex:
                    if self.pool.queue:
                        connection, taken = self.pool.queue[-1], True
                        del self.pool.queue[-1]
                if not taken:
                    until = self._wait(until)
            if not self._is_ready(connection):
                connection = connection or self.make_connection()
                self._open(connection)
        except BaseException:
            if taken:
                self.pool.put_nowait(connection)
            raise
        return connection

    def _wait(self, until: float) -> float:
        """For a hint, until then at the longest; 0: from now on. Returns when that is."""
        now = time.monotonic()
        until = until or now + self.timeout
        if now >= until:
            raise PoolExhausted("No connection available.")
        with contextlib.suppress(queue.Empty):  # one more look then
            self.pool.hints.get(timeout=until - now)
        return until

    def _is_ready(self, connection: Any) -> bool:
        """Whether it is open and silent. Who was interrupted may have left a reply."""
        try:
            return bool(
                connection and connection.is_connected and not connection.replies.can_read()
            )
        except (redis.RedisError, OSError):
            return False

    def _open(self, connection: Any) -> None:
        """As redis-py: anew where it is not silent."""
        connection.connect()
        if not self._is_ready(connection):
            connection.disconnect()
            connection.connect()
            if not self._is_ready(connection):
                raise redis.ConnectionError("Connection not ready")

    def give_back(self, held: list[Any]) -> None:
        """As `release`, of the connection in `held`, which it is taken out of: who was interrupted
        in it calls it again, and never gives back what somebody else has by then."""
        with self.pool.mutex:
            self.pool.queue += held
            del held[:]
        self.pool.hint()
