"""What goes wrong between this process and the cache server: what the callers of the connection
manager see of it, what the breaker and the metrics are told, and what the log says."""

import logging
from typing import Final

import redis
from redis.exceptions import ResponseError

from aevon.cache.breaker import Breaker
from aevon.cache.metrics import FAILURES

logger = logging.getLogger(__name__)


class CacheError(Exception):
    """The cache server refused a call as wrong: a bug here, or a key of a foreign type."""


class WrongType(CacheError):
    """The key holds another data type than the keyspace says."""


class CacheUnavailable(CacheError):
    """The cache cannot serve now: unreachable, too slow, full, read-only, loading or no free
    connection. The caller goes on with PostgreSQL."""


class Unanswered(CacheUnavailable):
    """No answer came: what was asked for may have been done all the same."""


class PoolExhausted(redis.ConnectionError):
    """No connection came free within the wait. Says nothing about the server."""


class BreakerOpen(redis.ConnectionError):
    """The breaker is open: the server is not asked."""


# Answers that mean "not now" rather than "wrong"; Dragonfly says the first without a code of its
# own. redis-py keeps the codes that it knows in `status_code` and off the text.
_NOT_NOW: Final = ("Out of memory", "OOM ", "READONLY", "LOADING", "MASTERDOWN", "MISCONF", "BUSY ")
# What the log says of an outage, by what the server or its driver said.
_WORDS: Final = {
    "Out of memory": "OOM: its memory is full",
    "OOM": "OOM: its memory is full",
    "READONLY": "READONLY: it is a replica",
    "ReadOnlyError": "READONLY: it is a replica",
    "LOADING": "LOADING: it reads its snapshot",
    "BusyLoadingError": "LOADING: it reads its snapshot",
    "MISCONF": "MISCONF: its snapshots fail",
}
# Kinds of failure that speak of the server rather than of this process.
_SERVER_FAULTS: Final = ("connection", "timeout", "not-now")


def report(breaker: Breaker, error: redis.RedisError) -> str:
    """Tell the breaker and the metrics what an error means; its kind."""
    kind = kind_of(error)
    if kind == "refused":
        return kind
    if kind in _SERVER_FAULTS:
        # At once: whoever calls before it is open waits as well.
        breaker.failed()
        # Told once, and once a minute while it lasts (aevon/telemetry/outages.py).
        word = _word(error)
        logger.warning("The cache is away (%s)", word or kind, extra={"outage": "dragonfly"})
    FAILURES.labels(kind).inc()
    return kind


def _word(error: redis.RedisError) -> str:
    """What the server said itself, in a word of its own; never more, which may name addresses."""
    if isinstance(error, redis.AuthenticationError):
        return "NOAUTH or WRONGPASS: the password, or the user, is refused"
    said = f"{getattr(error, 'status_code', None) or ''} {type(error).__name__} {error}"
    return next((meaning for sign, meaning in _WORDS.items() if sign in said), "")


def broke(error: redis.ConnectionError) -> bool:
    """Whether the connection broke under the call, so that a fresh one may do."""
    own = (PoolExhausted, BreakerOpen, redis.AuthenticationError, redis.BusyLoadingError)
    return not isinstance(error, own)


def _means_not_now(error: ResponseError) -> bool:
    code, text = getattr(error, "status_code", None), str(error)
    # Redis 6 and Dragonfly wrap what a command inside a script was answered.
    if text.startswith("Error running script"):
        return any(sign in text for sign in _NOT_NOW)
    return text.startswith(_NOT_NOW) or f"{code} ".startswith(_NOT_NOW)


def kind_of(error: redis.RedisError) -> str:
    """What an error means, in a word; `refused`: the call was wrong, or is not allowed."""
    if isinstance(error, BreakerOpen):
        return "breaker-open"
    if isinstance(error, PoolExhausted):
        return "pool-exhausted"
    if isinstance(error, redis.BusyLoadingError) or (
        isinstance(error, ResponseError) and _means_not_now(error)
    ):
        return "not-now"
    if isinstance(error, redis.TimeoutError):
        return "timeout"
    return "connection" if isinstance(error, redis.ConnectionError) else "refused"
