"""redis-py's blocking pool, which asks the breaker first, and is asked in less time.

Who uses it may be interrupted anywhere (Celery's soft time limit, Ctrl-C), and others go on: no
place may be lost then, no lock be left, no reply be taken for another's. Python looks for signals
where a call begins and ends, and a jump goes back: what must not be torn apart calls nothing.
redis-py's own ways, which Django's cache takes, may still lose a place.
"""

import queue
import sys
from typing import Any

import redis

from aevon.cache.breaker import Breaker
from aevon.cache.connection.errors import BreakerOpen, PoolExhausted


class Places(queue.LifoQueue[Any]):
    """A pool's queue. The lock itself is no Python code, and free again whatever happens. The
    conditions are: a signal may come while they take it, and leave it taken."""

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:  # noqa: ARG002
        """Raises `Full` at once: nobody waits for room."""
        with self.mutex:
            if 0 < self.maxsize <= len(self.queue):
                raise queue.Full
            self.queue.append(item)
            self.not_empty.notify()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        with self.mutex:
            if self.queue:
                return self.queue.pop()
        return super().get(block, timeout)


class Pool(redis.BlockingConnectionPool):
    """A blocking pool that does not touch the server while the breaker is open.

    django-redis draws from it too, so that Django's cache waits for the server no longer than
    the patterns do.
    """

    breaker: Breaker

    def get_connection(self, *args: Any, telling: bool = False, **options: Any) -> Any:
        if not self.breaker.allows(telling=telling):
            raise BreakerOpen("The circuit breaker is open.")
        handled = sys.exc_info()[1]
        try:
            connection: Any = super().get_connection(*args, **options)  # type: ignore[no-untyped-call]
            connection.handled = id(handled)
            return connection
        except redis.ConnectionError as error:
            if str(error) == "No connection available.":
                raise PoolExhausted(str(error)) from None
            raise

    def make_connection(self) -> Any:
        connection: Any = super().make_connection()  # type: ignore[no-untyped-call]
        connection.replies = connection._parser  # noqa: SLF001  redis-py has no other name for it
        connection.handled = None
        return connection

    def release(self, connection: Any) -> None:
        """A reply may be under way that nobody sees yet: redis-py lets who is interrupted between
        asking and reading give the connection back as it is. (Who asked while they handled
        something was not interrupted.)"""
        error = sys.exc_info()[1]
        if error and not isinstance(error, redis.RedisError) and id(error) != connection.handled:
            connection.disconnect()
        super().release(connection)  # type: ignore[no-untyped-call]

    def take(self, *, telling: bool) -> Any:
        """As `get_connection`, in half of the time where there is one that is ready: redis-py tells
        its own metrics of it four times."""
        if not self.breaker.allows(telling=telling):
            raise BreakerOpen("The circuit breaker is open.")
        connection, taken = None, False
        try:
            with self.pool.mutex:
                if self.pool.queue:
                    connection, taken = self.pool.queue[-1], True
                    del self.pool.queue[-1]
            if not taken:
                connection, taken = self.pool.get(timeout=self.timeout), True
            if self._is_ready(connection):
                return connection
        except queue.Empty:
            raise PoolExhausted("No connection available.") from None
        except BaseException:
            if taken:
                self.pool.put(connection)
            raise
        self.pool.put(connection)
        # Makes it, or makes it anew.
        return self.get_connection(telling=telling)

    def _is_ready(self, connection: Any) -> bool:
        """Whether it is open and silent. Who was interrupted may have left a reply."""
        try:
            return bool(
                connection and connection.is_connected and not connection.replies.can_read()
            )
        except (redis.RedisError, OSError):
            return False

    def give_back(self, held: list[Any]) -> None:
        """As `release`, likewise, of the connection in `held`, which it is taken out of: who was
        interrupted in it calls it again, and never gives back what somebody else has by then."""
        with self.pool.mutex:
            self.pool.queue += held
            del held[:]
            self.pool.not_empty.notify()
