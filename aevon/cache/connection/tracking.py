"""Values that this process keeps for itself, told by the server of every change (CLIENT TRACKING).

One connection of its own asks for them over RESP3, and one thread hears what the server says on it:
replies and invalidations, in the order in which it says them. So what is kept was read after the
last invalidation that the server had sent by then, and goes with the next one. With the connection
goes everything.

How old what is kept can be is known from the server's last answer: of whatever had changed when
its question was sent we have been told by now. While anything is kept the server is asked ten times
a second; without an answer nothing is given away any more.
"""

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import redis
from redis.exceptions import ResponseError

from aevon.cache.breaker import Breaker
from aevon.cache.connection.errors import kind_of
from aevon.cache.metrics import NEAR_EVENTS, round_trips_of

logger = logging.getLogger(__name__)

# What is kept is given away until this long after the question whose answer came last.
FRESH_SECONDS: Final = 0.5
BEAT_SECONDS: Final = 0.1
# Until another connection is tried; after a server that refuses to track.
RETRY_SECONDS: Final = 1.0
REFUSED_SECONDS: Final = 60.0

# Instead of a value: ask over the pool.
ASIDE: Final = object()


class Answer(NamedTuple):
    """What a reply means, and until when it may be kept (`time.monotonic`); None: not at all."""

    value: Any
    until: float | None


class _Push(NamedTuple):
    """What the server says unasked: the keys that have changed, or None for all."""

    keys: list[bytes] | None


@dataclass(eq=False, slots=True)
class _Question:
    """One that the server has yet to answer: for the entry of a user, or for its role."""

    entry: tuple[str, int] | None = None
    read: Callable[[bytes | None, Any], Answer] | None = None
    sent_at: float = 0.0
    # Not once the entry has changed: a server that tells so before it replies is believed.
    keep: bool = True
    answer: "Future[Any]" = field(default_factory=Future)


def _refuse(_: Any) -> None:
    """redis-py connects a broken connection anew whenever it is used: nobody would be told by it of
    what has changed meanwhile."""
    raise redis.ConnectionError("A connection that is told of changes is made once.")


class Tracking:
    """What this process keeps: of each keyspace in `limits` so many values, those that were used
    last. Thread-safe.

    `connect()` makes a connection that knows its `life`, or raises. It is made when something is
    asked for first, by the thread that listens on it; until it stands, and without it, everybody
    asks over the pool. Nothing is given away while the breaker is not closed.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        breaker: Breaker,
        limits: Mapping[str, int],
        *,
        patience_seconds: float,
    ) -> None:
        self.limits = limits
        self._connect = connect
        self._breaker = breaker
        self._patience_seconds = patience_seconds
        # Around every use of the connection, and what goes with it; held while nobody waits.
        self._lock = threading.Lock()
        self._connection: Any = None
        self._thread: threading.Thread | None = None
        self._questions: deque[_Question] = deque()
        self._fresh_until = self._beat_at = self._retry_at = 0.0
        self._closed = self._warned = False
        self._kept = self._nothing()

    def _nothing(self) -> dict[str, OrderedDict[int, tuple[Any, float]]]:
        return {name: OrderedDict() for name in self.limits}

    def held(self, name: str, user_id: int) -> Any:
        """The user's value; None where none is kept that may be given away."""
        now = time.monotonic()
        kept = self._kept[name]
        value, until = kept.get(user_id, (None, 0.0))
        if now >= until or now >= self._fresh_until or self._breaker.state != "closed":
            return None
        try:
            kept.move_to_end(user_id)
        except KeyError:  # it has just gone
            return None
        return value

    def ask(
        self, name: str, user_id: int, key: str, read: Callable[[bytes | None, Any], Answer]
    ) -> Any:
        """What `read` makes of the key's value and the server's life, kept if it says so; `ASIDE`
        where the server cannot be asked like this."""
        if self._breaker.state != "closed":
            return ASIDE
        question = _Question((name, user_id), read)
        began = time.perf_counter()
        try:
            with self._lock:
                if self._connection is None:
                    self._begin()
                    return ASIDE
                self._send(question, "GET", key)
            return question.answer.result(self._patience_seconds)
        except (redis.RedisError, TimeoutError):
            return ASIDE
        finally:
            if question.sent_at:
                round_trips_of("near").observe(time.perf_counter() - began)

    def forget(self, name: str, user_ids: Collection[int]) -> None:
        """Drop these users' values, and keep none that is on its way."""
        if name in self.limits:
            with self._lock:
                self._drop({(name, user_id) for user_id in user_ids})

    def empty(self) -> None:
        """Drop everything. Waits for nobody: the breaker calls it."""
        kept, self._kept = self._kept, self._nothing()
        for name, values in kept.items():
            NEAR_EVENTS.labels(name, "emptied").inc(len(values))

    def close(self) -> None:
        """Drop everything, and ask for nothing any more."""
        with self._lock:
            self._closed = True
            if self._connection is not None:
                self._connection.disconnect()
        self.empty()

    def _begin(self) -> None:
        if self._thread is not None or self._closed or time.monotonic() < self._retry_at:
            return
        self._thread = threading.Thread(target=self._run, name="near-cache", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no more threads, or the process is ending
            self._thread = None
            self._retry_at = time.monotonic() + RETRY_SECONDS

    def _run(self) -> None:
        """The thread: from a connection's beginning to its end."""
        connection, pause = None, RETRY_SECONDS
        try:
            connection = self._connect()
            self._listen(connection)
        except Exception as error:  # noqa: BLE001  whatever it is ends this connection, and no more
            # Among them what redis-py makes of a socket that somebody else has closed.
            if isinstance(error, redis.RedisError) and kind_of(error) == "refused":
                pause = REFUSED_SECONDS
                self._warn()
            logger.debug("The near cache has lost its connection: %r", error)
        finally:
            self._lose(connection, pause)

    def _warn(self) -> None:
        if not self._warned:
            logger.warning(
                "The server refuses HELLO 3 or CLIENT TRACKING (its version, or its ACL):"
                " nothing is kept near, everything is asked for as ever"
            )
        self._warned = True

    def _listen(self, connection: Any) -> None:
        # What a push is made of here can fail nowhere: redis-py would take that for a reply.
        parser = connection._parser  # noqa: SLF001  as redis-py's own client-side cache does
        parser.set_invalidation_push_handler(lambda push: _Push(push[1]))
        parser.set_pubsub_push_handler(lambda _: _Push([]))
        connection.send_command("CLIENT", "TRACKING", "ON", check_health=False)
        connection.read_response()
        connection.redis_connect_func = _refuse
        with self._lock:
            self._connection = connection
        while not self._closed:
            # One waits for the server without the lock, and reads with it: TLS wants one at a time.
            speaks = connection.can_read(self._until_beat())
            with self._lock:
                if speaks:
                    self._hear(connection)
                elif self._is_silent():
                    raise redis.TimeoutError("The server does not answer.")
                self._beat()

    def _until_beat(self) -> float:
        if not self._questions and not any(self._kept.values()):
            return 1.0  # whoever asks is answered at once all the same
        return max(0.0, self._beat_at + BEAT_SECONDS - time.monotonic())

    def _is_silent(self) -> bool:
        sent_at = self._questions[0].sent_at if self._questions else float("inf")
        return time.monotonic() >= sent_at + FRESH_SECONDS

    def _beat(self) -> None:
        """Ask the server whether it still is a primary: that it answers is what is wanted most."""
        now = time.monotonic()
        if now >= self._beat_at + BEAT_SECONDS:
            self._beat_at = now
            if any(self._kept.values()):
                self._send(_Question(), "ROLE")

    def _send(self, question: _Question, *command: str) -> None:
        question.sent_at = time.monotonic()
        self._questions.append(question)
        connection = self._connection
        packed = connection.pack_command(*command)
        connection.send_packed_command(packed, check_health=False)

    def _hear(self, connection: Any) -> None:
        """One thing that the server says, all of which is there or about to come."""
        try:
            said = connection.read_response(push_request=True, disconnect_on_error=False)
        except ResponseError as error:
            said = error
        if isinstance(said, _Push):
            self._told(said.keys)
        else:
            self._answered(self._questions.popleft(), said, connection.life)

    def _told(self, keys: list[bytes] | None) -> None:
        if keys is None:
            self.empty()
            for question in self._questions:
                question.keep = False
            return
        changed = [key.decode("ascii", "replace").partition(":") for key in keys]
        entries = {
            (name, int(number))
            for name, _, number in changed
            if name in self.limits and number.isdecimal()
        }
        for name, _ in self._drop(entries):
            NEAR_EVENTS.labels(name, "invalidated").inc()

    def _drop(self, entries: Collection[tuple[str, int]]) -> list[tuple[str, int]]:
        """Which of them were kept."""
        for question in self._questions:
            if question.entry in entries:
                question.keep = False
        return [each for each in entries if self._kept[each[0]].pop(each[1], None)]

    def _answered(self, question: _Question, said: Any, life: Any) -> None:
        if question.entry is None:
            # Who may not ask for the role is refused; the pool's connections are as lenient.
            if isinstance(said, list) and said[0] not in (b"master", "master"):
                raise redis.ReadOnlyError("READONLY The server is a replica.")
        elif isinstance(said, ResponseError):
            question.answer.set_result(ASIDE)
        else:
            assert question.read is not None  # noqa: S101  it comes with the entry
            answer = question.read(said, life)
            if question.keep and answer.until is not None:
                self._keep(*question.entry, answer.value, answer.until)
            question.answer.set_result(answer.value)
        self._fresh_until = question.sent_at + FRESH_SECONDS

    def _keep(self, name: str, user_id: int, value: Any, until: float) -> None:
        kept = self._kept[name]
        kept[user_id] = value, until
        kept.move_to_end(user_id)
        NEAR_EVENTS.labels(name, "kept").inc()
        if len(kept) > self.limits[name]:
            kept.popitem(last=False)
            NEAR_EVENTS.labels(name, "evicted").inc()

    def _lose(self, connection: Any, pause: float) -> None:
        with self._lock:
            self._connection = self._thread = None
            self._retry_at = time.monotonic() + pause
            self._fresh_until = 0.0
            questions, self._questions = self._questions, deque()
            self.empty()
        if connection is not None:
            connection.disconnect()
        for question in questions:
            question.answer.set_result(ASIDE)
