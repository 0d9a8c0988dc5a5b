"""One cached entry: what projects a user's rows into it, and the scripts that may change it.

The protocol (docs/design.md, docs/models/entry_protocol.py): a missing entry is filled only by the
holder of a lease that was left *before* PostgreSQL was read. A writer puts a mark on the entry, a
fence, *before* its commit can happen, and takes it away afterwards together with putting in what
it committed, if nothing newer has been. So no interleaving of readers, writers, evictions and
crashes leaves an older state where a newer one has been acknowledged.

Everything that is obtained from the server, a lease or a mark, carries the life of the server that
gave it; what is put in by right of it is stamped with that life.
"""

import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Literal, Protocol, TypeVar

from aevon.cache import codec, conf
from aevon.cache.codec import MISS, CorruptValue
from aevon.cache.connection import (
    CacheError,
    CacheUnavailable,
    Life,
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
FENCE: Final = Script("fence", uses="marks")
INSTALL: Final = Script("install", uses="marks")
DROP: Final = Script("drop", uses="marks")

# A safety lifetime is shortened by up to this share, so that what was written together does not
# end together.
JITTER: Final = 0.1
# What a reader sleeps between two looks at another's lease.
PAUSES_SECONDS: Final = (0.002, 0.004, 0.008, 0.016, 0.032)
UNKNOWN_VERSION: Final = 2**53


class UserDocument(Protocol):
    """What every cached document has."""

    @property
    def user_id(self) -> int: ...


D = TypeVar("D", bound=Any)


@dataclass(frozen=True, slots=True)
class Gone:
    """PostgreSQL has no row for the user, as of this version: a tombstone, `{"_gone": version}`."""

    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection(Generic[D]):
    """How a user's rows become the document under `keyspace`.

    `read(user_ids)` gives the documents of those users from PostgreSQL, in one statement. A user
    without rows is `Gone`, where PostgreSQL knows the version of that, and is then cached as such;
    otherwise left out. `user_ids()` gives every user that has a document, in constant memory.
    `version(document)` rises with every change, also across a deletion. `expires_at(document)`, in
    Unix seconds, where the document itself says when it ends; otherwise the keyspace's lifetime
    counts. `current(document)` is the document without the parts that have ended since it was read,
    so that a comparison with the row does not take the passing of time for a difference. `anchor`
    is the table whose triggers tell the outbox of every change; the checks look for them (W006).
    """

    keyspace: Keyspace
    document: type[D]
    read: Callable[[Sequence[int]], Mapping[int, D | Gone]]
    user_ids: Callable[[], Iterator[int]]
    version: Callable[[D], int]
    expires_at: Callable[[D], float] | None = None
    current: Callable[[D], D] = lambda document: document
    anchor: str | None = None

    def __post_init__(self) -> None:
        registered(self.keyspace)

    def documents(self, user_ids: Sequence[int]) -> dict[int, D]:
        """The documents of those of the users who have one, from PostgreSQL."""
        rows = self.read(user_ids)
        return {user_id: row for user_id, row in rows.items() if not isinstance(row, Gone)}

    def read_one(self, user_id: int) -> D | None:
        """The document of one user from PostgreSQL."""
        return self.documents([user_id]).get(user_id)

    def lifetime(self, document: D) -> tuple[str, int]:
        """The SET option and its number, in milliseconds."""
        if self.expires_at is not None:
            return "PXAT", int(self.expires_at(document) * 1000)
        assert self.keyspace.ttl_ms is not None  # noqa: S101  every other keyspace has one
        return "PX", int(self.keyspace.ttl_ms() * random.uniform(1 - JITTER, 1))  # noqa: S311

    def ended(self, document: D) -> bool:
        """Whether the document's own end has passed."""
        return self.expires_at is not None and self.expires_at(document) <= time.time()


Kind = Literal["empty", "lease", "fence", "outlived", "corrupt", "foreign type"]


@dataclass(frozen=True, slots=True)
class Found:
    """What a key held that is no state to go by, and the bytes that a lease may replace: a state
    of another life of the server than `life` (`outlived`), what does not decode (`corrupt`), or a
    `lease` with a longer life than a reader's. A state of an earlier life is not believed: what
    was written since has been forgotten (G5)."""

    kind: Kind
    raw: bytes = b""
    life: Life | None = field(default=None, compare=False)


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
        return _without_state(projection, raw, life, own=own)
    return value if value.user_id == user_id else Found("corrupt", raw)


def _without_state(projection: Projection[D], raw: bytes, life: Life, *, own: bool) -> Gone | Found:
    members = codec.members_of_the_layer(raw)
    if members is None:
        return _outlived(projection, raw, life)
    if "_fence" in members:
        return Found("fence")
    if "_lease" in members:
        return Found("lease", raw)
    version = members.get("_gone")
    if own and isinstance(version, int):
        return Gone(version)
    return Found("outlived", raw, life)


def _outlived(projection: Projection[D], raw: bytes, life: Life) -> Found:
    try:
        codec.decode(raw, projection.document)
    except CorruptValue:
        return _unreadable(raw)
    return Found("outlived", raw, life)


def _unreadable(raw: bytes) -> Found:
    # An empty text cannot be told from "nothing found" by its bytes.
    return Found("corrupt", raw) if raw else FOREIGN_TYPE


def _interpret(projection: Projection[D], user_id: int, raw: bytes | None, life: Life) -> Any:
    """As `understand`, and counts the load's result."""
    return _counted(projection, understand(projection, user_id, raw, life))


def _counted(projection: Projection[D], value: Any) -> Any:
    if value is None:
        result = "away"
    elif not isinstance(value, Found):
        result = "hit"
    elif value.kind in ("corrupt", "foreign type"):
        result = "corrupt"
    else:
        result = "miss"
    _count(projection, result)
    return value


def peek_many(projection: Projection[D], user_ids: Sequence[int]) -> dict[int, D | Gone | Found]:
    """As `get_many`, for those who look after the cache: not counted; raises `CacheUnavailable`."""
    if not user_ids:
        return {}
    keys = [projection.keyspace.key(user_id) for user_id in user_ids]
    (raws,), life = store().exchange([("MGET", *keys)], idempotent=True)
    pairs = zip(user_ids, raws, strict=True)
    return {user_id: understand(projection, user_id, raw, life) for user_id, raw in pairs}


def get(projection: Projection[D], user_id: int) -> D | Gone | Found | None:
    """One entry, one round trip. None when the cache is away."""
    return _counted(projection, _look(projection, user_id))  # type: ignore[no-any-return]


def _look(projection: Projection[D], user_id: int) -> Any:
    """As `get`, not counted."""
    try:
        (raw,), life = store().exchange(
            [("GET", projection.keyspace.key(user_id))], idempotent=True
        )
    except WrongType:
        return FOREIGN_TYPE
    except CacheUnavailable:
        return None
    return understand(projection, user_id, raw, life)


def get_many(
    projection: Projection[D], user_ids: Sequence[int]
) -> dict[int, D | Gone | Found] | None:
    """Several entries, one round trip (MGET, to which a key of another type looks empty)."""
    keys = [projection.keyspace.key(user_id) for user_id in user_ids]
    if not keys:
        return {}
    try:
        (raws,), life = store().exchange([("MGET", *keys)], idempotent=True)
    except CacheUnavailable:
        _count(projection, "away")
        return None
    pairs = zip(user_ids, raws, strict=True)
    return {user_id: _interpret(projection, user_id, raw, life) for user_id, raw in pairs}


# --- readers -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to fill an entry, until somebody commits."""

    text: bytes
    life: Life


def resolve(projection: Projection[D], user_id: int, found: Found) -> D | Gone | None:
    """What belongs where `found` is: leased and filled, waited for where another reader is about
    to fill it, else from PostgreSQL alone."""
    held: Any = found
    patience = time.monotonic() + conf.current().lease_wait_seconds
    tried = 0
    while not in_transaction() and held.kind != "fence" and time.monotonic() < patience:
        if held.kind == "lease" and tried:
            time.sleep(PAUSES_SECONDS[min(tried, len(PAUSES_SECONDS)) - 1] * random.uniform(0.5, 1))  # noqa: S311
            held = _look(projection, user_id)
        else:
            held = lease(projection, {user_id: held}).get(user_id)
        tried += 1
        if isinstance(held, Lease):
            return _filled(projection, {user_id: held}).get(user_id)
        if not isinstance(held, Found):
            break
    if held is None or isinstance(held, Found):
        return projection.read([user_id]).get(user_id)
    return held  # type: ignore[no-any-return]


def resolve_many(
    projection: Projection[D],
    found: Mapping[int, Found],
    *,
    in_transaction_too: bool = False,
    strict: bool = False,
) -> dict[int, D | Gone]:
    """What belongs where `found` is; two round trips and one query for all, and no waiting.

    An entry that somebody else is filling or writing is left alone; so is every entry inside a
    transaction, which may read what is rolled back later (`in_transaction_too` for rows that no
    transaction writes first). With the cache away or full it fills nothing, or, if `strict`,
    raises `CacheUnavailable`.
    """
    if in_transaction() and not in_transaction_too:
        return dict(projection.read(list(found)))
    held = lease(projection, found, strict=strict)
    there = {u: value for u, value in held.items() if not isinstance(value, Found | Lease)}
    leases = {u: value for u, value in held.items() if isinstance(value, Lease)}
    alone = [user_id for user_id in found if user_id not in there and user_id not in leases]
    return there | _filled(projection, leases, alone, strict=strict)


def lease(
    projection: Projection[D], found: Mapping[int, Found], *, strict: bool = False
) -> dict[int, Any]:
    """Leave leases where `found` still is: a `Lease`, or what is there by now. A user whose entry
    cannot be leased is left out."""
    lifetime_ms = int(conf.current().lease_seconds * 1000)
    texts = {user_id: codec.encode({"_lease": secrets.token_hex(8)}) for user_id in found}
    calls = [
        LEASE.on(
            projection.keyspace.key(user_id),
            text,
            lifetime_ms,
            found[user_id].raw,
            found[user_id].kind,
        )
        for user_id, text in texts.items()
    ]
    try:
        replies, life = store().exchange(calls, idempotent=True) if calls else ([], None)
    except CacheUnavailable:
        if strict:
            raise
        return {}
    if strict:
        _require_memory(replies)
    held: dict[int, Any] = {}
    for user_id, reply in zip(texts, replies, strict=True):
        if reply in (1, texts[user_id]):  # sent twice, it finds itself
            held[user_id] = Lease(texts[user_id], life)  # type: ignore[arg-type]
        elif isinstance(reply, bytes):
            held[user_id] = understand(projection, user_id, reply, life)  # type: ignore[arg-type]
    return held


def _filled(
    projection: Projection[D],
    leases: Mapping[int, Lease],
    alone: Sequence[int] = (),
    *,
    strict: bool = False,
) -> dict[int, D | Gone]:
    """Rows of the leased users, put into their entries, and of those that are read `alone`."""
    rows = dict(projection.read([*leases, *alone]))
    fill(projection, leases, rows, strict=strict)
    return rows


def fill(
    projection: Projection[D],
    leases: Mapping[int, Lease],
    rows: Mapping[int, D | Gone],
    *,
    strict: bool = False,
) -> None:
    """Turn leases into what was read of the rows since they were left."""
    calls = [
        FILL.on(
            projection.keyspace.key(user_id),
            held.text,
            *_content(projection, rows.get(user_id), held.life),
        )
        for user_id, held in leases.items()
    ]
    if strict:
        _require_memory(store().pipeline(calls, idempotent=True))
    else:
        attempt(lambda: store().pipeline(calls, idempotent=True), away=None)


def _require_memory(replies: Sequence[Any]) -> None:
    if -1 in replies:
        raise CacheUnavailable("The cache is full.")


def _content(projection: Projection[D], row: Any, life: Life) -> tuple[Any, ...]:
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


# --- writers -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mark:
    """A writer's mark in an entry's fence."""

    token: str
    life: Life


def _fence_calls(projection: Projection[D], tokens: Mapping[int, str]) -> list[ScriptCall]:
    lifetime_ms = int(conf.current().fence_seconds * 1000)
    return [
        FENCE.on(projection.keyspace.key(user_id), token, lifetime_ms, _stick())
        for user_id, token in tokens.items()
    ]


def _stick() -> str:
    return "STICK" if store().sticky else ""


def fence(projection: Projection[D], user_ids: Sequence[int]) -> dict[int, Mark]:
    """Put a mark of one's own on these users' entries, before the commit: one round trip.

    With the cache away, or full, nobody is marked: the outbox row that PostgreSQL writes in the
    same transaction makes the entry follow.
    """
    tokens = {user_id: secrets.token_hex(8) for user_id in user_ids}
    if not tokens:
        return {}
    try:
        replies, life = store().exchange(
            _fence_calls(projection, tokens), idempotent=True, telling=True
        )
    except CacheError:
        return {}
    _count_full(projection, [fenced for fenced, _ in replies])
    pairs = zip(tokens.items(), replies, strict=True)
    return {user_id: Mark(token, life) for (user_id, token), (fenced, _) in pairs if fenced}


def _count_full(projection: Projection[Any], fenced: Sequence[int]) -> None:
    """Where there was no memory for a fence, the entry has been removed instead."""
    PUBLISHES.labels(projection.keyspace.name, "full").inc(fenced.count(0))


def fence_and_get(projection: Projection[Any], user_id: int) -> tuple[Any, Mark | None]:
    """The entry's state (or `Gone`, or None) and a mark in its place, in one round trip: for a
    write that is computed from it, and guarded by its version."""
    token = secrets.token_hex(8)
    try:
        ((fenced, raw),), life = store().exchange(
            _fence_calls(projection, {user_id: token}), idempotent=True, telling=True
        )
    except CacheError:
        _count(projection, "away")
        return None, None
    _count_full(projection, [fenced])
    held = _interpret(projection, user_id, raw or None, life)
    return None if isinstance(held, Found) else held, Mark(token, life) if fenced else None


def install(
    projection: Projection[D],
    rows: Mapping[int, D | Gone | None],
    marks: Mapping[int, Mark],
) -> dict[int, str]:
    """Make entries follow what has been committed, and take the marks away: one round trip.

    A user's row is None where it is gone and nobody knows the version of that. Without a mark
    nothing is put in, but what is older is removed. The results are those of `install.lua`, or
    `dropped` where what is there is newer than PostgreSQL, or `away`. Never raises for the cache's
    sake: when it is away, the outbox makes the entries follow.
    """
    replies = _sent(
        lambda: [_install_call(projection, u, row, marks.get(u)) for u, row in rows.items()],
        len(rows),
    )
    results = dict(zip(rows, replies, strict=True))
    for user_id, result in results.items():
        if result == "newer" and _is_impossible(projection, user_id):
            results[user_id] = drop(projection, [user_id])
        PUBLISHES.labels(projection.keyspace.name, results[user_id]).inc()
    return results


def _sent(calls: Callable[[], list[ScriptCall]], count: int) -> list[str]:
    """Their results. An install may be repeated: it compares versions."""
    away = ["away"] * count
    try:
        return _replies(calls())
    except CacheUnavailable:
        if store().breaker.missed():
            return away
    except CacheError:
        return away
    # Nobody else is going to tell the cache before it is trusted, or it is already.
    try:
        return _replies(calls())
    except CacheError:
        store().breaker.failed()
        return away


def _replies(calls: Sequence[ScriptCall]) -> list[str]:
    return [reply.decode() for reply in store().pipeline(calls, idempotent=True, telling=True)]


def _install_call(projection: Projection[D], user_id: int, row: Any, mark: Mark | None) -> Any:
    if row is None:
        version = UNKNOWN_VERSION
    else:
        version = row.version if isinstance(row, Gone) else projection.version(row)
    content: tuple[Any, ...] = (b"", "", 0)
    # A document that says when it ends takes its key along; only who asks again is told of none.
    if mark and not (isinstance(row, Gone) and projection.expires_at):
        content = _content(projection, row, mark.life)
    token = mark.token if mark else ""
    return INSTALL.on(projection.keyspace.key(user_id), token, version, *content, _stick())


def abandon(projection: Projection[D], user_id: int, mark: Mark) -> None:
    """Take the mark away again: nothing was written."""
    call = INSTALL.on(projection.keyspace.key(user_id), mark.token, "", b"", "", 0, "")
    attempt(lambda: store().script(call, idempotent=True, telling=True), away=None)


def observe(projection: Projection[D], versions: Mapping[int, int]) -> None:
    """Let entries know of versions that somebody has committed: what is older goes, and nothing
    older can come in. One round trip. Raises `CacheUnavailable`."""
    calls = [
        INSTALL.on(projection.keyspace.key(user_id), "", version, b"", "", 0, _stick())
        for user_id, version in versions.items()
    ]
    store().pipeline(calls, idempotent=True)


def _is_impossible(projection: Projection[D], user_id: int) -> bool:
    """Whether the entry is newer than its row: nobody committed that, and it would outlast every
    publish. The entry is read first, because its row can only have become newer since."""
    nothing: dict[int, Any] = {user_id: EMPTY}
    held: Any = attempt(lambda: peek_many(projection, [user_id]), away=nothing)[user_id]
    if isinstance(held, Found):
        return False
    row: Any = projection.read([user_id]).get(user_id)
    return row is None or _version(projection, row) < _version(projection, held)


def _version(projection: Projection[D], held: Any) -> int:
    return held.version if isinstance(held, Gone) else projection.version(held)


def drop(projection: Projection[D], user_ids: Sequence[int]) -> str:
    """Remove entries, and leases, so that no reader under way can fill: `dropped`, `away`. A fence
    stays, and takes nothing in any more."""
    try:
        discard(projection, user_ids)
    except CacheError:
        return "away"
    return "dropped"


def discard(projection: Projection[D], user_ids: Sequence[int]) -> None:
    """As `drop`; raises `CacheUnavailable`."""
    keys = [projection.keyspace.key(user_id) for user_id in user_ids]
    store().pipeline([DROP.on(key, _stick()) for key in keys], idempotent=True)


def _count(projection: Projection[D], result: str) -> None:
    LOADS.labels(projection.keyspace.name, result).inc()
