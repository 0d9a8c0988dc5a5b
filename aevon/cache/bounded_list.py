"""A bounded list: the last few elements of a longer record, newest first (protocol 3.4).

The protocol (docs/design.md, docs/models/bounded_list.py): a missing list is filled only by the
holder of a lease that was left *before* PostgreSQL was read, and an element is put in front only of
the one before it. So a list that is there lacks nothing up to its newest element, and nothing that
was forgotten comes back. Each element is stamped with the life of the server in which its list was
filled: a list that an older snapshot brings back is not believed (G5).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

from aevon.cache import codec, conf, outbox
from aevon.cache.codec import CorruptValue
from aevon.cache.connection import (
    CacheError,
    Life,
    Script,
    WrongType,
    store,
)
from aevon.cache.failsafe import attempt, in_transaction
from aevon.cache.keyspace import Keyspace, registered
from aevon.cache.leases import (
    Warmth,
    given_back_if_stopped,
    new_lease_text,
    new_lease_texts,
    warmth,
)
from aevon.cache.metrics import PUBLISHES, REFUSED_FILLS, load_of
from aevon.cache.together import Read, together

APPEND: Final = Script("append_list")
LEASE: Final = Script("lease_list")
FILL: Final = Script("fill_list")
OBSERVE: Final = Script("observe_list")

E = TypeVar("E", bound=Any)


@dataclass(frozen=True, slots=True)
class Recent(Generic[E]):
    """The last elements in PostgreSQL, newest first, and the last `seq` that was ever given.

    Without the element of that `seq` the list is not cached: it was deleted, and whoever recorded
    it may be slow, and put it in front of the one before yet.
    """

    last: int
    elements: list[E]

    @property
    def to_cache(self) -> list[E]:
        """The elements that the list may hold; none where it may hold none."""
        return self.elements if self.elements and self.elements[0].seq == self.last else []

    def held_in(self, life: Life) -> list[bytes]:
        """Them as the list holds them in that life of the server."""
        texts = map(codec.encode, self.to_cache)
        return [codec.stamped(text, life.incarnation) for text in texts]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundedList(Generic[E]):
    """A list under `keyspace`: at most `limit` elements, each with a `seq` that rises by one.

    `recent(user_ids)` gives the last elements of those users from PostgreSQL in one query. Of every
    change of the record the outbox is told (`triggers.listed`).
    """

    keyspace: Keyspace
    element: type[E]
    limit: int
    recent: Callable[[Sequence[int]], dict[int, Recent[E]]]
    user_ids: Callable[[], Iterator[int]]

    def __post_init__(self) -> None:
        registered(self.keyspace)

    def ttl_ms(self) -> int:
        """How long a list lives after its last element."""
        assert self.keyspace.ttl_ms is not None  # noqa: S101  lists have a lifetime
        return self.keyspace.ttl_ms()

    def count(self, result: str) -> None:
        """Count a load's result."""
        load_of(self.keyspace.name, result).inc()


def read(blist: BoundedList[E], user_id: int) -> list[E]:
    """The last elements, newest first. One round trip on a hit.

    An empty list is a miss: it and a corrupt one are rebuilt from PostgreSQL. Cache away: from
    PostgreSQL.
    """
    return together(reading(blist, user_id))[0]


def reading(blist: BoundedList[E], user_id: int) -> Read[list[E]]:
    """What `read` does, to be read `together` with other things."""
    command = ("LRANGE", blist.keyspace.key(user_id), 0, -1)
    return Read(command, partial(_answered, blist, user_id), partial(_away, blist, user_id))


def _answered(blist: BoundedList[E], user_id: int, reply: Any, life: Life) -> list[E]:
    try:
        elements = understand(blist, reply, life)
    except CorruptValue:
        blist.count("corrupt")
        return rebuild(blist, [user_id], replacing={user_id: WHATEVER})[user_id]
    blist.count("hit" if elements else "miss")
    return elements or rebuild(blist, [user_id], replacing={user_id: _newest(reply)})[user_id]


# What a lease may replace: the newest element as it was read, if it still is that, or anything.
# Another reader's lease is not to be replaced.
Replaced = bytes
WHATEVER: Final = b"*"


def _newest(reply: Any) -> Replaced:
    return reply[0] if reply else b""


def _away(blist: BoundedList[E], user_id: int) -> list[E]:
    blist.count("away")
    return blist.recent([user_id])[user_id].elements


def understand(blist: BoundedList[E], reply: Any, life: Life) -> list[E]:
    """The elements that a key holds in that life of the server; none for a missing list, one that
    is about to be filled, and one of another life. Raises `CorruptValue`."""
    if isinstance(reply, WrongType):
        raise CorruptValue(str(reply))
    if _is_lease(reply):
        return []
    elements = [_decoded(blist, raw) for raw in reply]
    numbers = [element.seq for element in elements]
    if numbers != sorted(set(numbers), reverse=True) or len(numbers) > blist.limit:
        raise CorruptValue("The list is out of order or too long.")
    own = all(codec.is_stamped(raw, life.incarnation) for raw in reply)
    return elements if own else []


def _is_lease(reply: Sequence[bytes]) -> bool:
    return len(reply) == 1 and "_lease" in (codec.members_of_the_layer(reply[0]) or ())


def _decoded(blist: BoundedList[E], raw: bytes) -> E:
    value = codec.decode(raw, blist.element)
    if value is codec.MISS:
        raise CorruptValue("An element without content.")
    return value  # type: ignore[return-value]  # the decoder made it


def push(blist: BoundedList[E], user_id: int, element: E) -> str:
    """Put a recorded element in: `stored`, `rebuilt`, `full` or `away`. One round trip.

    A list that is missing, or whose newest element is not the one before, is rebuilt from
    PostgreSQL: one query and one round trip more. Never raises for the cache's sake: the outbox
    makes the list follow.
    """
    lease = new_lease_text()
    key, text = blist.keyspace.key(user_id), codec.encode(element)
    call = APPEND.on(key, blist.limit, blist.ttl_ms(), element.seq, text, lease, _lease_ms())
    try:
        (reply,), life = store().exchange([call], idempotent=True)
        result = reply.decode()
    except CacheError:
        outbox.add(blist.keyspace, [user_id])
        result = "away"
    if result == "leased":
        _fill(blist, {user_id: _Lease(lease, life)}, blist.recent([user_id]))
        result = "rebuilt"
    PUBLISHES.labels(blist.keyspace.name, result).inc()
    return str(result)


def rebuild(
    blist: BoundedList[E],
    user_ids: Sequence[int],
    *,
    replacing: Mapping[int, Replaced] = MappingProxyType({}),
) -> dict[int, list[E]]:
    """Lists from PostgreSQL, put into the cache where they are missing, or to be replaced, and
    nobody else is about to: one query, two round trips.

    Inside a transaction nothing is put in: what it reads may yet be rolled back.
    """
    replaced = {user_id: replacing.get(user_id, b"") for user_id in user_ids}
    leases: Mapping[int, _Lease] = {}
    if not in_transaction():
        leases = attempt(
            lambda: _leased(blist, replaced, new_lease_texts(replaced))[0], away=leases
        )
    found = blist.recent(user_ids)
    _fill(blist, leases, found)
    return {user_id: recent.elements for user_id, recent in found.items()}


def warm(blist: BoundedList[E], user_ids: Sequence[int]) -> dict[int, Warmth]:
    """Put missing lists in from PostgreSQL, and say what became of each; users with nothing to be
    cached are left out.

    One round trip; two more and a query where something is missing. Raises `CacheUnavailable`.
    """
    there, missing = _sorted_out(blist, user_ids)
    return there | (_warmed(blist, missing) if missing else {})


def would_warm(blist: BoundedList[E], user_ids: Sequence[int]) -> dict[int, Warmth]:
    """What `warm` would say, as far as one can see: nothing is changed."""
    there, missing = _sorted_out(blist, user_ids)
    found = blist.recent(list(missing)) if missing else {}
    would = {u: missing[u] for u, recent in found.items() if recent.to_cache}
    return there | {u: "busy" if _is_lease([raw]) else "loaded" for u, raw in would.items()}


def _sorted_out(
    blist: BoundedList[E], user_ids: Sequence[int]
) -> tuple[dict[int, Warmth], dict[int, Replaced]]:
    """The lists that are there, and what the others hold."""
    there: dict[int, Warmth] = {}
    missing: dict[int, Replaced] = {}
    held, life = held_by(blist, user_ids)
    for user_id, reply in held.items():
        try:
            if understand(blist, reply, life):
                there[user_id] = "there"
            else:
                missing[user_id] = _newest(reply)
        except CorruptValue:
            missing[user_id] = WHATEVER
    return there, missing


def _warmed(blist: BoundedList[E], missing: Mapping[int, Replaced]) -> dict[int, Warmth]:
    if in_transaction():
        return dict.fromkeys(_to_cache(blist.recent(list(missing))), "busy")
    texts = new_lease_texts(missing)
    key, ttl_ms = blist.keyspace.key, blist.ttl_ms()
    with given_back_if_stopped(FILL.on(key(u), text, ttl_ms) for u, text in texts.items()):
        held, leased = _leased(blist, missing, texts)
        found = blist.recent(list(missing))
        stored = dict(zip(held, _fill_each(blist, held, found), strict=True))
    return {u: warmth(leased[u], stored.get(u)) for u in _to_cache(found)}


def _to_cache(found: Mapping[int, Recent[Any]]) -> list[int]:
    """The users of whom there is something to be cached."""
    return [user_id for user_id, recent in found.items() if recent.to_cache]


def _lease_ms() -> int:
    return int(conf.current().lease_seconds * 1000)


@dataclass(frozen=True, slots=True)
class _Lease:
    """The right to fill a list, until somebody adds to its record or removes from it."""

    text: bytes
    life: Life


def _leased(
    blist: BoundedList[E], missing: Mapping[int, Replaced], texts: Mapping[int, bytes]
) -> tuple[dict[int, _Lease], dict[int, int]]:
    """Leases on the lists that are missing, and what the script says of each."""
    calls = [
        LEASE.on(blist.keyspace.key(user_id), text, _lease_ms(), _no_lease(missing[user_id]))
        for user_id, text in texts.items()
    ]
    replies, life = store().exchange(calls, idempotent=True)
    said = dict(zip(texts, replies, strict=True))
    return {u: _Lease(texts[u], life) for u, reply in said.items() if reply == 1}, said


def _no_lease(replaced: Replaced) -> Replaced:
    return b"" if _is_lease([replaced]) else replaced


def _fill(
    blist: BoundedList[E], leases: Mapping[int, _Lease], found: Mapping[int, Recent[E]]
) -> None:
    """Turn leases into the elements that were read since they were left."""
    attempt(lambda: _fill_each(blist, leases, found), away=[])


def _fill_each(
    blist: BoundedList[E], leases: Mapping[int, _Lease], found: Mapping[int, Recent[E]]
) -> list[int]:
    """What the script says of each."""
    contents = [found[user_id].held_in(lease.life) for user_id, lease in leases.items()]
    calls = [
        FILL.on(blist.keyspace.key(user_id), lease.text, blist.ttl_ms(), *content)
        for (user_id, lease), content in zip(leases.items(), contents, strict=True)
    ]
    replies = store().pipeline(calls, idempotent=True)
    for reply, content in zip(replies, contents, strict=True):
        if reply == -1 or (reply == 0 and content):
            reason = "full" if reply == -1 else "lease-gone"
            REFUSED_FILLS.labels(blist.keyspace.name, reason).inc()
    return replies


def observe(blist: BoundedList[E], versions: Mapping[int, int | None]) -> None:
    """Make lists follow elements that were recorded, up to this `seq`; None: whatever has happened
    to the record. A list that is right already stays. Raises `CacheUnavailable`.

    One round trip; where a list has to be compared with PostgreSQL one query and one or two more.
    """
    recorded = {user_id: seq for user_id, seq in versions.items() if seq is not None}
    calls = [OBSERVE.on(blist.keyspace.key(u), seq) for u, seq in recorded.items()]
    store().pipeline(calls, idempotent=True)
    _compare(blist, [user_id for user_id in versions if user_id not in recorded])


def _compare(blist: BoundedList[E], user_ids: Sequence[int]) -> None:
    """Remove lists, and leases, that are not what PostgreSQL has. What changes meanwhile is noted
    anew."""
    if not user_ids:
        return
    held, life = held_by(blist, user_ids)
    found = blist.recent(user_ids)
    _remove(blist, [u for u in user_ids if held[u] != [] and held[u] != found[u].held_in(life)])


def held_by(blist: BoundedList[E], user_ids: Sequence[int]) -> tuple[dict[int, Any], Life]:
    """What the users' keys hold, a `WrongType` for what is no list, and in which life of the
    server: one round trip; raises `CacheUnavailable`."""
    calls = [("LRANGE", blist.keyspace.key(user_id), 0, -1) for user_id in user_ids]
    replies, life = store().answers(calls, idempotent=True)
    for reply in replies:
        if isinstance(reply, CacheError) and not isinstance(reply, WrongType):
            raise reply
    return dict(zip(user_ids, replies, strict=True)), life


def _remove(blist: BoundedList[Any], user_ids: Iterable[int]) -> None:
    keys = [blist.keyspace.key(user_id) for user_id in user_ids]
    store().pipeline([("UNLINK", key) for key in keys], idempotent=True)


def forget(blist: BoundedList[E], user_ids: Sequence[int]) -> str:
    """Remove the lists, and leases on them, after something has been forgotten in PostgreSQL:
    `dropped`, `away`."""
    try:
        _remove(blist, user_ids)
    except CacheError:
        outbox.add(blist.keyspace, user_ids)
        return "away"
    return "dropped"
