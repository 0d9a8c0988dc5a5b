"""One cached entry: what projects a user's rows into it, and the scripts that may change it.

The protocol (docs/design.md): a missing entry is filled only by the holder of a lease that was
left *before* PostgreSQL was read; a committed state replaces an older one and deletes a lease; an
empty key is never filled by anybody without a lease. So a slow reader cannot put an old state
over a new one, and an eviction or a flush at any moment is harmless.
"""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from aevon.cache import codec, conf, outbox
from aevon.cache.codec import MISS, CorruptValue
from aevon.cache.connection import (
    CacheError,
    CacheUnavailable,
    Script,
    ScriptCall,
    WrongType,
    store,
)
from aevon.cache.failsafe import attempt, in_transaction
from aevon.cache.keyspace import Keyspace, registered
from aevon.cache.metrics import LOADS, PUBLISHES

LEASE: Final = Script("lease")
FILL: Final = Script("fill")
PUBLISH: Final = Script("publish")


class UserDocument(Protocol):
    """What every cached document has."""

    @property
    def user_id(self) -> int: ...


D = TypeVar("D", bound=Any)


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection(Generic[D]):
    """How a user's rows become the document under `keyspace`.

    `read(user_ids)` gives the documents of those users from PostgreSQL, in one query; a user
    without rows is left out. `user_ids()` gives every user that has a document, in constant
    memory. `version(document)` rises with every change. `expires_at(document)`, in Unix seconds,
    where the document itself says when it ends; otherwise the keyspace's lifetime counts.
    `current(document)` is the document without the parts that have ended since it was read, so
    that a comparison with the row does not take the passing of time for a difference.
    """

    keyspace: Keyspace
    document: type[D]
    read: Callable[[Sequence[int]], dict[int, D]]
    user_ids: Callable[[], Iterator[int]]
    version: Callable[[D], int]
    expires_at: Callable[[D], float] | None = None
    current: Callable[[D], D] = lambda document: document

    def __post_init__(self) -> None:
        registered(self.keyspace)

    def read_one(self, user_id: int) -> D | None:
        """The document of one user from PostgreSQL."""
        return self.read([user_id]).get(user_id)

    def lifetime(self, document: D) -> tuple[str, int]:
        """The SET option and its number, in milliseconds."""
        if self.expires_at is not None:
            return "PXAT", int(self.expires_at(document) * 1000)
        assert self.keyspace.ttl_ms is not None  # noqa: S101  every other keyspace has one
        return "PX", self.keyspace.ttl_ms()

    def ended(self, document: D) -> bool:
        """Whether the document's own end has passed."""
        return self.expires_at is not None and self.expires_at(document) <= time.time()


@dataclass(frozen=True, slots=True)
class Found:
    """What a key held that is not a state: nothing, bytes that do not decode, or another type."""

    corrupt: bytes = b""
    foreign_type: bool = False


EMPTY: Final = Found()


def understand(projection: Projection[D], user_id: int, raw: bytes | None) -> D | Found:
    """The document in `raw`, or what stands in its place."""
    if raw is None:
        return EMPTY
    try:
        value: Any = codec.decode(raw, projection.document)
        if value is not MISS and value.user_id != user_id:
            raise CorruptValue("The document belongs to another user.")
    except CorruptValue:
        # An empty text cannot be told from "nothing found" by its bytes.
        return Found(corrupt=raw, foreign_type=not raw)
    return EMPTY if value is MISS else value


def interpret(projection: Projection[D], user_id: int, raw: bytes | None) -> D | Found:
    """As `understand`, and counts the load's result."""
    value: Any = understand(projection, user_id, raw)
    if isinstance(value, Found):
        _count(projection, "miss" if value == EMPTY else "corrupt")
    else:
        _count(projection, "hit")
    return value  # type: ignore[no-any-return]  # as understood


def peek_many(projection: Projection[D], user_ids: Sequence[int]) -> dict[int, D | Found]:
    """As `get_many`, for those who look after the cache: not counted; raises `CacheUnavailable`."""
    keys = [projection.keyspace.key(user_id) for user_id in user_ids]
    raws = store().command("MGET", *keys) if keys else []
    held: dict[int, Any] = {}
    for user_id, raw in zip(user_ids, raws, strict=True):
        held[user_id] = understand(projection, user_id, raw)
    return held


def get(projection: Projection[D], user_id: int) -> D | Found | None:
    """One entry, one round trip. None when the cache is away."""
    try:
        raw = store().command("GET", projection.keyspace.key(user_id))
    except WrongType:
        _count(projection, "corrupt")
        return Found(foreign_type=True)
    except CacheUnavailable:
        _count(projection, "away")
        return None
    return interpret(projection, user_id, raw)


def get_many(projection: Projection[D], user_ids: Sequence[int]) -> dict[int, D | Found] | None:
    """Several entries, one round trip (MGET, to which a key of another type looks empty)."""
    keys = [projection.keyspace.key(user_id) for user_id in user_ids]
    if not keys:
        return {}
    raws = attempt(lambda: store().command("MGET", *keys), away=None)
    if raws is None:
        _count(projection, "away")
        return None
    held: dict[int, Any] = {}
    for user_id, raw in zip(user_ids, raws, strict=True):
        held[user_id] = interpret(projection, user_id, raw)
    return held


def fill(
    projection: Projection[D],
    found: Mapping[int, Found],
    *,
    in_transaction_too: bool = False,
    strict: bool = False,
) -> dict[int, D]:
    """The documents of these users from PostgreSQL, put into their entries where that is safe.

    Two round trips and one query for all. An entry that somebody else is filling, or that has
    been written meanwhile, is left alone; so is every entry inside a transaction, which may read
    what is rolled back later (`in_transaction_too` for rows that no transaction writes first).
    With the cache away it fills nothing, or, if `strict`, raises `CacheUnavailable`.
    """
    if in_transaction() and not in_transaction_too:
        return projection.read(list(found))
    leases = _lease(projection, found, strict=strict)
    documents = projection.read(list(found))
    calls = [
        FILL.on(
            projection.keyspace.key(user_id), lease, *_content(projection, documents.get(user_id))
        )
        for user_id, lease in leases.items()
    ]
    _sent(calls, strict=strict)
    return documents


def _sent(calls: Sequence[ScriptCall], *, strict: bool) -> list[Any]:
    """Their results; with the cache away, unless `strict`, as if each had done nothing."""
    if strict:
        return store().pipeline(calls)
    return attempt(lambda: store().pipeline(calls), away=[0] * len(calls))


def _lease(
    projection: Projection[D], found: Mapping[int, Found], *, strict: bool = False
) -> dict[int, bytes]:
    """Leave leases; the users whose entry is now ours to fill."""
    lifetime_ms = int(conf.current().lease_seconds * 1000)
    leases = {user_id: codec.encode({"_lease": secrets.token_hex(8)}) for user_id in found}
    calls = [
        LEASE.on(
            projection.keyspace.key(user_id),
            lease,
            lifetime_ms,
            found[user_id].corrupt,
            int(found[user_id].foreign_type),
        )
        for user_id, lease in leases.items()
    ]
    taken = _sent(calls, strict=strict)
    return {user_id: leases[user_id] for user_id, ok in zip(leases, taken, strict=True) if ok}


def _content(projection: Projection[D], document: D | None) -> tuple[Any, ...]:
    if document is None or projection.ended(document):
        return (b"", "", 0)
    return (codec.encode(document), *projection.lifetime(document))


def publish(projection: Projection[D], document: D) -> str:
    """Put a committed state in: `stored`, `newer` (a newer one is there), `filled`, `full` (the
    older one was removed) or `away`; `dropped` when the document's end has passed, or when what
    is there is newer than PostgreSQL.

    One round trip where an entry is there; an empty one is filled from PostgreSQL. When the cache
    is away, the outbox makes it follow. Never raises for the cache's sake.
    """
    user_id: int = document.user_id
    if projection.ended(document):
        return drop(projection, [user_id])
    call = PUBLISH.on(
        projection.keyspace.key(user_id),
        codec.encode(document),
        projection.version(document),
        *projection.lifetime(document),
    )
    try:
        result = store().script(call, idempotent=True).decode()
    except CacheError:
        outbox.add(projection.keyspace, [user_id])
        result = "away"
    if result == "empty":
        fill(projection, {user_id: EMPTY})
        result = "filled"
    elif result == "newer" and _is_impossible(projection, user_id):
        result = drop(projection, [user_id])
    PUBLISHES.labels(projection.keyspace.name, result).inc()
    return str(result)


def _is_impossible(projection: Projection[D], user_id: int) -> bool:
    """Whether the entry is newer than its row: nobody committed that, and it would outlast every
    publish. The entry is read first, because its row can only have become newer since."""
    nothing: dict[int, Any] = {user_id: EMPTY}
    held: Any = attempt(lambda: peek_many(projection, [user_id]), away=nothing)[user_id]
    if isinstance(held, Found):
        return False
    row = projection.read_one(user_id)
    return row is None or projection.version(row) < projection.version(held)


def drop(projection: Projection[D], user_ids: Sequence[int]) -> str:
    """Remove entries, and leases, so that no reader under way can fill: `dropped`, `away`."""
    keys = [projection.keyspace.key(user_id) for user_id in user_ids]
    try:
        if keys:
            store().pipeline([("UNLINK", key) for key in keys], idempotent=True)
    except CacheError:
        outbox.add(projection.keyspace, user_ids)
        return "away"
    return "dropped"


def _count(projection: Projection[D], result: str) -> None:
    LOADS.labels(projection.keyspace.name, result).inc()
