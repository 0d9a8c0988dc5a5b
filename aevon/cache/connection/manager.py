"""The one `Store` of this process, on top of its pool.

Made on first use and made anew in a forked child. Every call goes through the breaker. A call is
re-sent once, only when the connection broke (never after a time-out) and only when repeating it is
harmless.

Each connection learns, before anything else is sent on it, which life of the server it speaks to:
a restart breaks every connection, so what comes over one is of one life.
"""

import hashlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import hiredis
import psycopg
import redis
from django.core.signals import setting_changed
from django.db import Error as DjangoDatabaseError
from django.db import connections
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ResponseError
from redis.retry import Retry

from aevon.cache import conf
from aevon.cache.breaker import Breaker
from aevon.cache.connection.errors import (
    CacheError,
    CacheUnavailable,
    Unanswered,
    WrongType,
    broke,
    report,
)
from aevon.cache.connection.pool import Places, Pool
from aevon.cache.connection.replies import NOT_YET, Replies
from aevon.cache.connection.scripts import Command, ScriptCall
from aevon.cache.connection.tracking import Tracking
from aevon.cache.keyspace import PROBE
from aevon.cache.metrics import breaker_became, breaker_is, round_trips_of

logger = logging.getLogger(__name__)

_A_REPLICA: Final = "READONLY The server is a replica."
# How long a connection believes that its server is a primary.
ROLE_SECONDS: Final = 1.0


class Life(NamedTuple):
    """One life of the server, from its start to its end.

    `incarnation` is the short form of what is new at every start: `run_id`, and on Dragonfly,
    which has none, `master_replid`, which differs on a promoted replica too. `sticky`: the server
    can keep a key from being evicted (Dragonfly's STICK).
    """

    incarnation: str
    sticky: bool


class Exchange(NamedTuple):
    """The replies to some commands, in order, and the life of the server that gave them."""

    replies: list[Any]
    life: Life


class ReportingClient(redis.Redis):
    """For django-redis: errors stay redis-py's own, and the breaker hears how each call went."""

    breaker: Breaker

    def execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except redis.RedisError as error:
            report(self.breaker, error)
            raise


class Store:
    """The cache server as this process sees it. Thread-safe.

    Every method raises `CacheUnavailable` or, for a call the server calls wrong, `CacheError`.
    """

    def __init__(self, settings: conf.CacheSettings) -> None:
        self.breaker = Breaker(
            open_seconds=settings.breaker_open_seconds,
            recover=self._recover,
            changed=self._breaker_became,
        )
        breaker_is("closed")
        self.tracking = (
            Tracking(
                self._introduced,
                self.breaker,
                settings.near_cache,
                patience_seconds=settings.read_timeout_seconds,
            )
            if settings.near_cache
            else None
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
            redis_connect_func=_introduce,
            parser_class=Replies,
            queue_class=Places,
        )
        self.pool.breaker = self.breaker
        self.client = redis.Redis(connection_pool=self.pool)
        self.django_client = ReportingClient(connection_pool=self.pool)
        self.django_client.breaker = self.breaker
        self._life: Life | None = None

    def _introduced(self) -> Any:
        """A connection of no pool, over RESP3, on which the server may speak unasked."""
        options = {**self.pool.connection_kwargs, "protocol": 3, "health_check_interval": 0}
        connection = self.pool.connection_class(**options)
        connection.connect()
        return connection

    def _breaker_became(self, state: str) -> None:
        breaker_became(state)
        if state == "open" and self.tracking is not None:
            self.tracking.empty()

    def close(self) -> None:
        """End its connections, those in use as well."""
        if self.tracking is not None:
            self.tracking.close()
        self.pool.disconnect()

    @property
    def sticky(self) -> bool:
        """Whether the server can keep a key from being evicted. Asks it once, for a writer."""
        if self._life is None:
            self.exchange([("PING",)], idempotent=True, telling=True)
        return self._life is not None and self._life.sticky

    @property
    def dragonfly(self) -> bool:
        """Whether the server is Dragonfly, the only one that has STICK, and CL.THROTTLE."""
        return self.sticky

    @property
    def life(self) -> Life:
        """The life of the server that answers now. Raises `CacheUnavailable`."""
        return self.exchange([("PING",)], idempotent=True).life

    def command(self, *args: Any, idempotent: bool = True) -> Any:
        """One command, its name in capitals; one round trip. Reads and plain writes may be
        repeated."""
        return self.exchange([args], idempotent=idempotent).replies[0]

    def script(self, call: ScriptCall, *, idempotent: bool = False, telling: bool = False) -> Any:
        """One script by its digest; sent whole where the server does not know it."""
        return self.exchange([call], idempotent=idempotent, telling=telling).replies[0]

    def pipeline(
        self, commands: Sequence[Command], *, idempotent: bool = False, telling: bool = False
    ) -> list[Any]:
        """Several commands in one round trip, without MULTI: each stands alone."""
        if not commands:
            return []
        return self.exchange(commands, idempotent=idempotent, telling=telling).replies

    def exchange(
        self, commands: Sequence[Command], *, idempotent: bool = False, telling: bool = False
    ) -> Exchange:
        """As `pipeline`, with the life of the server that answered.

        `telling`: what a writer says of its commit, which a recovery lets through (`Breaker`).
        A script that the server does not know is sent whole in a second round trip; the other
        commands have been done by then, so commands of one pipeline may not rely on order.
        """
        exchange = self._replies(commands, idempotent, telling)
        for reply in exchange.replies:
            if isinstance(reply, redis.RedisError):
                raise self._translated(reply) from reply
        return exchange

    def answers(self, commands: Sequence[Command], *, idempotent: bool = False) -> Exchange:
        """As `exchange`; where a command was refused its `CacheError` stands for the reply."""
        replies, life = self._replies(commands, idempotent, telling=False)
        return Exchange(
            [
                self._translated(each) if isinstance(each, redis.RedisError) else each
                for each in replies
            ],
            life,
        )

    def tries(self, commands: Sequence[Command]) -> Exchange:
        """As `exchange`, of commands that may be repeated; None for what the server refused, which
        is not held against it: the caller asks again by a script, and learns why."""
        replies, life = self._replies(commands, idempotent=True, telling=False)
        return Exchange(
            [None if isinstance(each, redis.RedisError) else each for each in replies], life
        )

    def _replies(self, commands: Sequence[Command], idempotent: bool, telling: bool) -> Exchange:
        try:
            try:
                return self._exchange(commands, telling)
            except redis.ConnectionError as error:
                if not idempotent or not broke(error):
                    raise
                return self._exchange(commands, telling)
        except redis.RedisError as error:
            raise self._translated(error) from error

    def _exchange(self, commands: Sequence[Command], telling: bool) -> Exchange:
        """Over one connection, so that all replies are of one life."""
        began = time.perf_counter()
        connection = self.pool.take(telling=telling)
        held = [connection]
        try:  # nothing was called in between (pool.py)
            began = time.perf_counter()  # to wait for a place is no round trip
            replies = self._send_as_primary(
                connection, [c.evalsha if isinstance(c, ScriptCall) else c for c in commands]
            )
            unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unknown:
                whole = [commands[i].eval for i in unknown]  # type: ignore[union-attr]
                for i, reply in zip(unknown, self._send(connection, whole), strict=True):
                    replies[i] = reply
            self._life = connection.life
            return Exchange(replies, connection.life)
        except BaseException:
            # A reply may be under way that the next caller must not take for theirs.
            connection.disconnect()
            raise
        finally:
            try:
                self.pool.give_back(held)
            except BaseException:
                self.pool.give_back(held)
                raise
            round_trips_of(_kind_of(commands)).observe(time.perf_counter() - began)

    def _send_as_primary(self, connection: Any, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Their replies. Once a second the server is asked, in the same packet, whether it still
        is a primary: one that has become a replica would go on answering reads."""
        now = time.monotonic()
        if now - connection.asked_at < ROLE_SECONDS:
            return self._send(connection, commands)
        role, *replies = self._send(connection, [("ROLE",), *commands])
        if isinstance(role, list) and role[0] not in (b"master", "master"):
            raise redis.ReadOnlyError(_A_REPLICA)
        connection.asked_at = now
        return replies

    def _send(self, connection: Any, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        # In one piece, and packed in C: redis-py's own way costs as much as the server's answer.
        connection.send_packed_command([b"".join(map(hiredis.pack_command, commands))])
        return [self._reply(connection, command[0]) for command in commands]

    def _reply(self, connection: Any, name: str) -> Any:
        reply = connection.replies.received()
        if reply is NOT_YET:
            try:
                reply = connection.read_response()
            except ResponseError as error:
                return error
        elif isinstance(reply, redis.ConnectionError):  # it cannot serve: as it loads its data
            raise reply
        elif isinstance(reply, redis.RedisError):
            return reply
        # Past redis-py's own `get`, which makes capitals of each name: these are.
        understood = dict.get(self.client.response_callbacks, name)
        return reply if understood is None else understood(reply)

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
        return dict(self.command("INFO"))

    def _translated(self, error: redis.RedisError) -> CacheError:
        kind = report(self.breaker, error)
        if kind == "refused":
            wrong = WrongType if str(error).startswith("WRONGTYPE") else CacheError
            return wrong(str(error))
        if isinstance(error, redis.ReadOnlyError) or "READONLY" in str(error):  # or in a script
            # The server has become a replica: the address may lead to another one by now.
            self.pool.disconnect(inuse_connections=False)
        unavailable = Unanswered if kind in ("timeout", "connection") else CacheUnavailable
        return unavailable(f"{kind}: {error}")

    def _recover(self) -> bool:
        """Whether the cache may be trusted again: it takes writes, and what it was not told while
        it was away has been repaired."""
        try:
            self.command("SET", PROBE.key("write"), 1, "PX", 1000)
            self.breaker.can_be_told()
            for repair in _repairs:
                repair()
        except (CacheError, DjangoDatabaseError, psycopg.Error) as error:
            logger.debug("The cache stays untrusted: %s", error)
            return False
        finally:
            connections.close_all()
        logger.warning("The cache is back and has been repaired", extra={"ends": "dragonfly"})
        return True


def around_round_trips(wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Have what `wrapper` makes of it stand around each round trip from now on (tracing)."""
    Store._exchange = wrapper(Store._exchange)  # type: ignore[method-assign]  # noqa: SLF001


def _kind_of(commands: Sequence[Command]) -> str:
    if len(commands) > 1:
        return "pipeline"
    return "script" if isinstance(commands[0], ScriptCall) else "command"


def _introduce(connection: Any) -> None:
    """Greet the server on a new connection, and learn which life of it this is."""
    try:
        _greet(connection)
    except BaseException:
        # Else whoever takes it next would believe what it learnt before, of another life.
        connection.disconnect()
        raise


def _greet(connection: Any) -> None:
    connection.on_connect()
    questions = connection.pack_commands([("INFO", "server"), ("INFO", "replication")])
    connection.send_packed_command(questions, check_health=False)
    try:
        told = connection.read_response() + b"\n" + connection.read_response()
    except ResponseError as error:
        # As with a wrong password: nobody can be served like this.
        raise redis.AuthenticationError(f"INFO is refused: {error}") from error
    facts = dict(re.findall(rb"^(\w+):([^\r\n]*)", told, re.MULTILINE))
    if facts.get(b"role", b"master") != b"master":
        raise redis.ReadOnlyError(_A_REPLICA)
    name = facts.get(b"run_id") or facts.get(b"master_replid")
    if not name:
        raise redis.ConnectionError("INFO tells neither run_id nor master_replid.")
    digest = hashlib.sha1(name, usedforsecurity=False).hexdigest()
    connection.life = Life(digest[:12], sticky=b"dragonfly_version" in facts)
    connection.asked_at = time.monotonic()


_repairs: list[Callable[[], object]] = []


def before_trusting(repair: Callable[[], object]) -> None:
    """Have `repair()` called before a cache that was away is trusted again. It may raise
    `CacheError` and database errors: the cache then stays untrusted for a while."""
    _repairs.append(repair)


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
            _store.close()
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
