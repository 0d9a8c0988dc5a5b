"""Celery's channel to its broker, which is the cache server, where that goes away (kombu 5.7).

What is unacknowledged then is delivered again after the visibility time-out.
"""

from typing import Any

from kombu.transport import redis
from redis.exceptions import ConnectionError as RedisConnectionError


class Channel(redis.Channel):
    """Kombu's own, which ends the worker in two ways that this one does not."""

    # Giving messages back while the connection closes takes that connection.
    do_restore = False

    def _connparams(self, *args: Any, **options: Any) -> Any:
        # A task whose end is told after its channel was closed: to Celery an AttributeError is no
        # loss of a connection, of which it would begin anew.
        if self.connection is None:
            raise RedisConnectionError("The channel is closed.")
        return super()._connparams(*args, **options)  # type: ignore[no-untyped-call]


redis.Transport.Channel = Channel
