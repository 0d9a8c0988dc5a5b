"""One cached entry: what its key holds, and what that means.

The protocol (docs/design.md, docs/models/entry_protocol.py): a missing entry is filled only by the
holder of a lease that was left *before* PostgreSQL was read (`leases`). A writer puts a mark on the
entry, a fence, *before* its commit can happen, and takes it away afterwards together with putting
in what it committed, if nothing newer has been (`fences`). So no interleaving of readers, writers,
evictions and crashes leaves an older state where a newer one has been acknowledged.

Everything that is obtained from the server, a lease or a mark, carries the life of the server that
gave it; what is put in by right of it is stamped with that life.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

from aevon.cache import codec, conf
from aevon.cache.codec import MISS, CorruptValue
from aevon.cache.connection import CacheUnavailable, Life, WrongType, store
from aevon.cache.metrics import load_of
from aevon.cache.projection import Gone, Projection
from aevon.cache.together import Read

D = TypeVar("D", bound=Any)
T = TypeVar("T")

Kind = Literal["empty", "lease", "fence", "stray fence", "outlived", "corrupt", "foreign type"]
# No writer's deadline is further away (lua/marks.lua), whichever host's clock it is read by.
FENCE_MAX_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class Found:
    """What a key held that is no state to go by, and the bytes that a lease may replace: a state
    of another life of the server than `life` (`outlived`), what does not decode (`corrupt`), a
    `lease` with a longer life than a reader's, or a fence that no writer can have left (`stray
    fence`), if it has no end. A state of an earlier life is not believed: what was written since
    has been forgotten (G5)."""

    kind: Kind
    raw: bytes = b""
    life: Life | None = field(default=None, compare=False)

    @property
    def is_wrong(self) -> bool:
        """Whether it should never have been there: as long as the layer alone writes, it is not."""
        return self.kind in ("corrupt", "foreign type", "stray fence")


EMPTY: Final = Found("empty")
FOREIGN_TYPE: Final = Found("foreign type")


def understand(projection: Projection[D], user_id: int, raw: bytes | None, life: Life) -> Any:
    """The document in `raw`, `Gone`, or what stands in its place (`Found`).

    `life` is that of the server which `raw` comes from.
    """
    if raw is None:
        return EMPTY
    own = codec.is_stamped(raw, life.incarnation)
    try:
        value: Any = codec.decode(raw, projection.document) if own else MISS
    except CorruptValue:
        return _unreadable(raw)
    if value is MISS:
        return _without_state(projection, user_id, raw, life, own=own)
    return value if value.user_id == user_id else Found("corrupt", raw)


def _without_state(
    projection: Projection[D], user_id: int, raw: bytes, life: Life, *, own: bool
) -> Gone | Found:
    members = codec.members_of_the_layer(raw)
    if members is None:
        return _outlived(projection, user_id, raw, life)
    if "_fence" in members:
        return (
            Found("fence") if _is_left_by_writers(members["_fence"]) else Found("stray fence", raw)
        )
    if "_lease" in members:
        return Found("lease", raw)
    version = members.get("_gone")
    if own and isinstance(version, int):
        return Gone(version)
    return Found("outlived", raw, life)


def _is_left_by_writers(marks: Any) -> bool:
    """Whether the last of the deadlines is near: its key ends with it."""
    deadlines = [*marks.values()] if isinstance(marks, dict) else []
    if not deadlines or not all(isinstance(each, int | float) for each in deadlines):
        return False
    return bool(abs(max(deadlines) - time.time() * 1000) < FENCE_MAX_MS)


def _outlived(projection: Projection[D], user_id: int, raw: bytes, life: Life) -> Found:
    try:
        value: Any = codec.decode(raw, projection.document)
    except CorruptValue:
        return _unreadable(raw)
    return Found("outlived" if value.user_id == user_id else "corrupt", raw, life)


def _unreadable(raw: bytes) -> Found:
    # An empty text cannot be told from "nothing found" by its bytes.
    return Found("corrupt", raw) if raw else FOREIGN_TYPE


def get(projection: Projection[D], user_id: int) -> D | Gone | Found | None:
    """One entry, one round trip. None when the cache is away."""
    return counted(projection, peek(projection, user_id))  # type: ignore[no-any-return]


def peek(projection: Projection[D], user_id: int) -> Any:
    """As `get`, not counted."""
    return look(projection, user_id)[0]


def look(projection: Projection[D], user_id: int) -> tuple[Any, bytes]:
    """As `peek`, and the bytes."""
    key = projection.keyspace.key(user_id)
    try:
        (raw,), life = store().exchange([("GET", key)], idempotent=True)
    except WrongType:
        return FOREIGN_TYPE, b""
    except CacheUnavailable:
        return None, b""
    return understand(projection, user_id, raw, life), raw or b""


def reading(projection: Projection[D], user_id: int, found: Callable[[Any, bytes], T]) -> Read[T]:
    """The read of one entry: `found(value, raw)` makes the result of what is there and its bytes,
    or of None when the cache is away."""

    def answered(reply: Any, life: Life) -> T:
        if isinstance(reply, WrongType):
            return found(FOREIGN_TYPE, b"")
        return found(understand(projection, user_id, reply, life), reply or b"")

    command = ("GET", projection.keyspace.key(user_id))
    return Read(command, answered, lambda: found(None, b""))


def get_many(
    projection: Projection[D], user_ids: Sequence[int]
) -> dict[int, D | Gone | Found] | None:
    """Several entries, one round trip (MGET, to which a key of another type looks empty)."""
    try:
        found = peek_many(projection, user_ids)
    except CacheUnavailable:
        count_load(projection, "away")
        return None
    return {user_id: counted(projection, held) for user_id, held in found.items()}


def peek_many(projection: Projection[D], user_ids: Sequence[int]) -> dict[int, D | Gone | Found]:
    """As `get_many`, for those who look after the cache: not counted; raises `CacheUnavailable`."""
    if not user_ids:
        return {}
    keys = [projection.keyspace.key(user_id) for user_id in user_ids]
    (raws,), life = store().exchange([("MGET", *keys)], idempotent=True)
    pairs = zip(user_ids, raws, strict=True)
    return {user_id: understand(projection, user_id, raw, life) for user_id, raw in pairs}


def counted(projection: Projection[D], value: Any) -> Any:
    """What was found, after it has been counted as a load's result."""
    if value is None:
        result = "away"
    elif not isinstance(value, Found):
        result = "hit"
    elif value.is_wrong:
        result = "corrupt"
    else:
        result = "miss"
    count_load(projection, result)
    return value


def count_load(projection: Projection[D], result: str, count: int = 1) -> None:
    """So many loads more of this result: `hit`, `near`, `miss`, `corrupt`, `away`."""
    load_of(projection.keyspace.name, result).inc(count)


def content(projection: Projection[D], row: Any, life: Life) -> tuple[Any, ...]:
    """The bytes to put in, the SET option of their lifetime, and its number."""
    nothing = (b"", "", 0)
    if row is None:
        return nothing
    if isinstance(row, Gone):
        text = codec.encode({"_gone": row.version})
        lifetime = ("PX", conf.current().gone_ttl_seconds * 1000)
    elif projection.ended(row):
        return nothing
    else:
        text, lifetime = codec.encode(row), projection.lifetime(row)
    return (codec.stamped(text, life.incarnation), *lifetime)
