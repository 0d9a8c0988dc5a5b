"""The connection manager (protocol 4.2): pools, credentials, TLS, time-outs, breaker.

The only file that imports redis. One `Store` per process, made on first use and made anew in a
forked child. Every call goes through the breaker, and every driver error comes out as one of the
three exceptions below. A call is re-sent once, only when the connection broke (never after a
time-out) and only when repeating it is harmless.
"""

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar

import redis
from django.core.signals import setting_changed
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ResponseError
from redis.retry import Retry

from aevon.cache import conf
from aevon.cache.breaker import Breaker
from aevon.cache.metrics import FAILURES

T = TypeVar("T")


class CacheError(Exception):
    """The cache server refused a call as wrong: a bug here, or a key of a foreign type."""


class WrongType(CacheError):
    """The key holds another data type than the keyspace says."""


class CacheUnavailable(CacheError):
    """The cache cannot serve now: unreachable, too slow, full, read-only, loading or no free
    connection. The caller goes on with PostgreSQL."""


class _PoolExhausted(redis.ConnectionError):
    """No connection came free within the wait. Says nothing about the server."""


class _BreakerOpen(redis.ConnectionError):
    """The breaker is open: the server is not asked."""


# Answers that mean "not now" rather than "wrong"; Dragonfly says the first without a code of its
# own. redis-py keeps the codes that it knows in `status_code` and off the text.
_NOT_NOW: Final = ("Out of memory", "OOM ", "READONLY", "LOADING", "MASTERDOWN", "MISCONF", "BUSY ")
# Kinds of failure that speak of the server rather than of this process.
_SERVER_FAULTS: Final = ("connection", "timeout", "not-now")


@dataclass(frozen=True)
class Script:
    """A Lua script of `lua/`: one key, declared (Dragonfly refuses undeclared ones)."""

    name: str

    @cached_property
    def source(self) -> str:
        """The text that EVAL sends."""
        return (Path(__file__).parent / "lua" / f"{self.name}.lua").read_text("utf-8")

    @cached_property
    def sha(self) -> str:
        """The name that EVALSHA sends."""
        return hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def on(self, key: str, *args: Any) -> "ScriptCall":
        """This script on `key`, for `Store.script` and `Store.pipeline`."""
        return ScriptCall(self, key, args)


@dataclass(frozen=True, slots=True)
class ScriptCall:
    """A script with its one key and its arguments."""

    script: Script
    key: str
    args: tuple[Any, ...]

    @property
    def evalsha(self) -> tuple[Any, ...]:
        """The short form, which a server that was restarted does not know."""
        return ("EVALSHA", self.script.sha, 1, self.key, *self.args)

    @property
    def eval(self) -> tuple[Any, ...]:
        """The long form, which every server knows."""
        return ("EVAL", self.script.source, 1, self.key, *self.args)


Command = tuple[Any, ...] | ScriptCall


class Pool(redis.BlockingConnectionPool):
    """A blocking pool that does not touch the server while the breaker is open.

    django-redis draws from it too, so that Django's cache waits for the server no longer than
    the patterns do.
    """

    breaker: Breaker

    def get_connection(self, *args: Any, **options: Any) -> Any:
        if not self.breaker.allows():
            raise _BreakerOpen("The circuit breaker is open.")
        try:
            return super().get_connection(*args, **options)  # type: ignore[no-untyped-call]
        except redis.ConnectionError as error:
            if str(error) == "No connection available.":
                raise _PoolExhausted(str(error)) from None
            raise


class ReportingClient(redis.Redis):
    """For django-redis: errors stay redis-py's own, and the breaker hears how each call went."""

    breaker: Breaker

    def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            result = super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except redis.RedisError as error:
            _report(self.breaker, error)
            raise
        self.breaker.succeeded()
        return result


class Store:
    """The cache server as this process sees it. Thread-safe.

    Every method raises `CacheUnavailable` or, for a call the server calls wrong, `CacheError`.
    """

    def __init__(self, settings: conf.CacheSettings) -> None:
        self.breaker = Breaker(
            failures=settings.breaker_failures, open_seconds=settings.breaker_open_seconds
        )
        self.pool = Pool.from_url(
            settings.url,
            max_connections=settings.pool_size,
            timeout=settings.pool_wait_seconds,
            socket_connect_timeout=settings.connect_timeout_seconds,
            socket_timeout=settings.read_timeout_seconds,
            health_check_interval=15,
            retry=Retry(NoBackoff(), 0),
            # RESP3 would send CLIENT MAINT_NOTIFICATIONS on every connection.
            protocol=2,
            driver_info=None,
        )
        self.pool.breaker = self.breaker
        self.client = redis.Redis(connection_pool=self.pool)
        self.django_client = ReportingClient(connection_pool=self.pool)
        self.django_client.breaker = self.breaker

    def command(self, *args: Any, idempotent: bool = True) -> Any:
        """One command, one round trip. Reads and plain writes may be repeated."""
        return self._guarded(lambda: self.client.execute_command(*args), idempotent=idempotent)

    def script(self, call: ScriptCall, *, idempotent: bool = False) -> Any:
        """One script by its digest; sent whole where the server does not know it."""

        def run() -> Any:
            try:
                return self.client.execute_command(*call.evalsha)
            except NoScriptError:
                # An answer: a probe that got it has closed the breaker for what follows.
                self.breaker.succeeded()
                return self.client.execute_command(*call.eval)

        return self._guarded(run, idempotent=idempotent)

    def pipeline(self, commands: Sequence[Command], *, idempotent: bool = False) -> list[Any]:
        """Several commands in one round trip, without MULTI: each stands alone.

        A script that the server does not know is sent whole in a second round trip; the other
        commands have been done by then, so commands of one pipeline may not rely on order.
        """
        if not commands:
            return []
        return self._guarded(lambda: self._pipeline(commands), idempotent=idempotent)

    def _pipeline(self, commands: Sequence[Command]) -> list[Any]:
        results = self._send([c.evalsha if isinstance(c, ScriptCall) else c for c in commands])
        unknown = [i for i, result in enumerate(results) if isinstance(result, NoScriptError)]
        calls = [commands[i] for i in unknown]
        if calls:
            self.breaker.succeeded()  # as in `script`
        again = self._send([c.eval for c in calls if isinstance(c, ScriptCall)]) if calls else []
        for i, result in zip(unknown, again, strict=True):
            results[i] = result
        for result in results:
            if isinstance(result, redis.RedisError):
                raise result
        return results

    def _send(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        pipeline = self.client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return list(pipeline.execute(raise_on_error=False))

    def scan(self, match: str, *, count: int = 500) -> Iterator[str]:
        """Keys that match, by SCAN: each at least once, never KEYS."""
        cursor = "0"
        while True:
            cursor, keys = self.command("SCAN", cursor, "MATCH", match, "COUNT", count)
            yield from (key.decode("utf-8", "replace") for key in keys)
            if int(cursor) == 0:
                return

    def info(self) -> dict[str, Any]:
        """The server's INFO, parsed."""
        return dict(self._guarded(self.client.info, idempotent=True))

    def _guarded(self, call: Callable[[], T], *, idempotent: bool) -> T:
        try:
            try:
                result = call()
            except redis.ConnectionError as error:
                if not idempotent or not _broke(error):
                    raise
                result = call()
        except redis.RedisError as error:
            raise self._translated(error) from error
        self.breaker.succeeded()
        return result

    def _translated(self, error: redis.RedisError) -> CacheError:
        kind = _report(self.breaker, error)
        if kind == "refused":
            wrong = WrongType if str(error).startswith("WRONGTYPE") else CacheError
            return wrong(str(error))
        return CacheUnavailable(f"{kind}: {error}")


def _report(breaker: Breaker, error: redis.RedisError) -> str:
    """Tell the breaker and the metrics what an error means; its kind."""
    kind = _kind(error)
    if kind == "refused":
        breaker.succeeded()
        return kind
    FAILURES.labels(kind).inc()
    if kind in _SERVER_FAULTS:
        breaker.failed()
    return kind


def _broke(error: redis.ConnectionError) -> bool:
    """Whether the connection broke under the call, so that a fresh one may do."""
    own = (_PoolExhausted, _BreakerOpen, redis.AuthenticationError, redis.BusyLoadingError)
    return not isinstance(error, own)


def _means_not_now(error: ResponseError) -> bool:
    code, text = getattr(error, "status_code", None), str(error)
    # Redis 6 and Dragonfly wrap what a command inside a script was answered.
    if text.startswith("Error running script"):
        return any(sign in text for sign in _NOT_NOW)
    return text.startswith(_NOT_NOW) or f"{code} ".startswith(_NOT_NOW)


def _kind(error: redis.RedisError) -> str:
    if isinstance(error, _BreakerOpen):
        return "breaker-open"
    if isinstance(error, _PoolExhausted):
        return "pool-exhausted"
    if isinstance(error, redis.BusyLoadingError) or (
        isinstance(error, ResponseError) and _means_not_now(error)
    ):
        return "not-now"
    if isinstance(error, redis.TimeoutError):
        return "timeout"
    return "connection" if isinstance(error, redis.ConnectionError) else "refused"


_lock = threading.Lock()
_store: Store | None = None


def store() -> Store:
    """This process's store, with the settings in force."""
    global _store  # noqa: PLW0603  one per process is the point
    if _store is None:
        with _lock:
            if _store is None:
                _store = Store(conf.current())
    return _store


def reset() -> None:
    """Close this process's store; the next call makes one anew, with the settings in force."""
    global _store  # noqa: PLW0603
    with _lock:
        if _store is not None:
            _store.pool.disconnect()
        _store = None


def _start_afresh() -> None:
    """In a forked child: the sockets are the parent's, and its lock may have been held."""
    global _store, _lock  # noqa: PLW0603
    _lock = threading.Lock()
    _store = None


def _settings_changed(*, setting: str, **_: Any) -> None:
    if setting == "AEVON_CACHE":
        reset()


os.register_at_fork(after_in_child=_start_afresh)
setting_changed.connect(_settings_changed)
