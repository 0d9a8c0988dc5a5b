"""A bounded list: the last few elements of a longer record, newest first (protocol 3.4)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from aevon.cache import codec, outbox
from aevon.cache.codec import CorruptValue
from aevon.cache.connection import CacheError, CacheUnavailable, Script, WrongType, store
from aevon.cache.keyspace import Keyspace, registered
from aevon.cache.metrics import LOADS, PUBLISHES

MERGE: Final = Script("merge_list")

E = TypeVar("E", bound=Any)


@dataclass(frozen=True, slots=True)
class Recent(Generic[E]):
    """The last elements in PostgreSQL, newest first, and the epoch they belong to.

    The epoch changes when the record is forgotten.
    """

    epoch: int
    elements: list[E]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundedList(Generic[E]):
    """A list under `keyspace`: at most `limit` elements, each with a `seq` that rises by one.

    `recent(user_ids)` gives the last elements of those users from PostgreSQL in one query.
    """

    keyspace: Keyspace
    element: type[E]
    limit: int
    recent: Callable[[Sequence[int]], dict[int, Recent[E]]]
    user_ids: Callable[[], Iterator[int]]

    def __post_init__(self) -> None:
        registered(self.keyspace)

    def merge(self, user_id: int, elements: Sequence[E], *, only_if_next: bool) -> Any:
        """The script call that merges `elements` (see lua/merge_list.lua)."""
        assert self.keyspace.ttl_ms is not None  # noqa: S101  lists have a lifetime
        pairs = [part for element in elements for part in (element.seq, codec.encode(element))]
        key, ttl_ms = self.keyspace.key(user_id), self.keyspace.ttl_ms()
        return MERGE.on(key, self.limit, ttl_ms, int(only_if_next), *pairs)

    def count(self, result: str) -> None:
        """Count a load's result."""
        LOADS.labels(self.keyspace.name, result).inc()


def read(blist: BoundedList[E], user_id: int) -> list[E]:
    """The last elements, newest first. One round trip on a hit.

    An empty list is a miss: it and a corrupt one are rebuilt from PostgreSQL. Cache away: from
    PostgreSQL.
    """
    try:
        raws = store().command("LRANGE", blist.keyspace.key(user_id), 0, -1)
        if raws:
            elements = [decode_element(blist, raw) for raw in raws]
            _require_order(blist, elements)
            blist.count("hit")
            return elements
        blist.count("miss")
    except (CorruptValue, WrongType):
        blist.count("corrupt")
        # Or the merge would keep what has a `seq` and is no element.
        forget(blist, [user_id])
    except CacheUnavailable:
        blist.count("away")
        return blist.recent([user_id])[user_id].elements
    return rebuild(blist, [user_id])[user_id]


def _require_order(blist: BoundedList[E], elements: list[E]) -> None:
    """Newest first, each once, no more than the limit; raises `CorruptValue`."""
    numbers = [element.seq for element in elements]
    if numbers != sorted(set(numbers), reverse=True) or len(numbers) > blist.limit:
        raise CorruptValue("The list is out of order or too long.")


def decode_element(blist: BoundedList[E], raw: bytes) -> E:
    """One element; raises `CorruptValue`."""
    value = codec.decode(raw, blist.element)
    if value is codec.MISS:
        raise CorruptValue("An element without content.")
    return value  # type: ignore[return-value]  # the decoder made it


def push(blist: BoundedList[E], user_id: int, element: E) -> str:
    """Put a recorded element in: `stored`, `rebuilt` or `away`. One round trip.

    A list that is missing, or whose newest element is not the one before, is rebuilt from
    PostgreSQL. Never raises for the cache's sake: the outbox makes the list follow.
    """
    try:
        call = blist.merge(user_id, [element], only_if_next=True)
        result = store().script(call, idempotent=True).decode()
        if result == "missing":
            rebuild(blist, [user_id])
            result = "rebuilt"
    except CacheError:
        outbox.add(blist.keyspace, [user_id])
        result = "away"
    PUBLISHES.labels(blist.keyspace.name, result).inc()
    return str(result)


def rebuild(blist: BoundedList[E], user_ids: Sequence[int]) -> dict[int, list[E]]:
    """Lists from PostgreSQL, merged into the cache where it answers: one query, one round trip.

    A second query finds out from whose record something was forgotten or deleted meanwhile: their
    lists are removed again, so that nothing of it comes back.
    """
    before = blist.recent(user_ids)
    calls = [
        blist.merge(user_id, recent.elements, only_if_next=False)
        for user_id, recent in before.items()
        if recent.elements
    ]
    try:
        store().pipeline(calls, idempotent=True)
        if calls:
            after = blist.recent(user_ids)
            shrunk = [u for u in user_ids if _shrunk(before[u], after[u], blist.limit)]
            store().pipeline([("UNLINK", blist.keyspace.key(u)) for u in shrunk])
    except CacheError:
        outbox.add(blist.keyspace, user_ids)
    return {user_id: recent.elements for user_id, recent in before.items()}


def _shrunk(before: Recent[E], after: Recent[E], limit: int) -> bool:
    """Whether an element was taken out of the record; newer ones that push it out do not count."""
    left = {element.seq for element in after.elements}
    oldest = min(left) if len(left) == limit else 0
    taken = any(each.seq > oldest and each.seq not in left for each in before.elements)
    return taken or before.epoch != after.epoch


def forget(blist: BoundedList[E], user_ids: Sequence[int]) -> str:
    """Remove the lists, after the record has been forgotten in PostgreSQL: `dropped`, `away`."""
    try:
        store().pipeline([("UNLINK", blist.keyspace.key(u)) for u in user_ids], idempotent=True)
    except CacheError:
        outbox.add(blist.keyspace, user_ids)
        return "away"
    return "dropped"
