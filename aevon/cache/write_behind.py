"""Write-behind (protocol 3.2): updated in Dragonfly at once, in PostgreSQL at the next flush.

The order is what keeps every acknowledged change (docs/design.md): the document, then its mark,
then the acknowledgement. How the marked documents come into PostgreSQL is in `flush.py`.
"""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, NamedTuple, TypeVar, cast

import msgspec

from aevon.cache import codec, entries, leases
from aevon.cache.connection import CacheUnavailable, Script, ScriptCall, WrongType, store
from aevon.cache.dirty_index import DirtyIndex
from aevon.cache.entries import Found
from aevon.cache.failsafe import attempt
from aevon.cache.keyspace import IndexKeys
from aevon.cache.leases import Lease
from aevon.cache.projection import Projection

COMPARE_AND_SET: Final = Script("compare_and_set", uses="told")
SETTLE: Final = Script("settle", uses="told")
DROP_SAVED: Final = Script("drop_saved")

ATTEMPTS: Final = 200
# Tries after which somebody else's lease on a missing document counts as a dead process's.
PATIENT_ATTEMPTS: Final = 20

D = TypeVar("D", bound=Any)


class Contended(Exception):
    """Too many writers changed the document at once; the change was not made. Try again."""


class InRow(NamedTuple):
    """What PostgreSQL has of a document after it was persisted: the revision, whether that is this
    document's content, where the revisions are equal, and since when (RFC 3339)."""

    revision: int
    same: bool = True
    persisted_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteBehind(Generic[D]):
    """A document that lives in Dragonfly and is persisted later.

    The document has `user_id`, `revision` (rises by one with each change) and, as its last members,
    `persisted_revision` (the highest that is known to be in PostgreSQL), `persisted_at` (when it
    came there, RFC 3339; None: never), `dirty_since` (Unix seconds since when it holds something
    that PostgreSQL does not; None otherwise) and `incarnation`, the life of the server that holds
    it. `empty(user_id)` is the document of a user who has no row. `persist(documents)` upserts in
    one transaction, never an older revision over a newer one, and tells what is then in each user's
    row, without the users that no longer exist.
    """

    projection: Projection[D]
    keys: IndexKeys
    empty: Callable[[int], D]
    persist: Callable[[Sequence[D]], dict[int, InRow]]
    index: DirtyIndex[D] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", DirtyIndex(self.keys, self.projection))


# Requests of one process that change the same document take turns here instead of losing the
# compare-and-set to each other; across processes the script decides.
_turns = [threading.Lock() for _ in range(64)]


def load(buffer: WriteBehind[D], user_id: int) -> D:
    """The live document: from Dragonfly, else PostgreSQL, else the empty one. A hit is one
    round trip. Cache away: what PostgreSQL has."""
    held: Any = entries.get(buffer.projection, user_id)
    if held is None:
        return _row(buffer, user_id)
    return _open(buffer, user_id, held)


def _row(buffer: WriteBehind[D], user_id: int) -> D:
    return buffer.projection.read_one(user_id) or buffer.empty(user_id)


def _open(buffer: WriteBehind[D], user_id: int, held: Any, *, strict: bool = False) -> D:
    """The document, filled from its row or from the empty document when the entry is not there.

    With the cache away or full it fills nothing, or, if `strict`, raises `CacheUnavailable`.
    """
    if not isinstance(held, Found):
        return cast("D", held)
    if held.kind == "outlived":
        return revived(buffer, {user_id: held}, strict=strict)[user_id]
    # Inside a transaction too: the row follows the document, not the other way round, so there is
    # nothing uncommitted in it.
    projection = _with_empty(buffer)
    leased = leases.lease(projection, {user_id: held}, strict=strict).get(user_id)
    if leased is not None and not isinstance(leased, Found | Lease):
        return cast("D", leased)
    row: Any = projection.read([user_id])[user_id]
    if isinstance(leased, Lease):
        leases.fill(projection, {user_id: leased}, {user_id: row}, strict=strict)
        row = msgspec.structs.replace(row, incarnation=leased.life.incarnation)
    return cast("D", row)


def revived(
    buffer: WriteBehind[D], found: Mapping[int, Found], *, strict: bool = False
) -> dict[int, D]:
    """The documents in place of those of an earlier life of the server: of each and its row the one
    with the higher revision (guarantee G6).

    An older snapshot must not be taken for what has been persisted since; but what is unsaved in
    it, and newer than its row, exists nowhere else. One query and two round trips for all.
    """
    rows: Mapping[int, Any] = _with_empty(buffer).documents(list(found))
    documents = {u: _newer(buffer, held, rows[u]) for u, held in found.items()}

    def put() -> None:
        calls = [_put_back(buffer, held, documents[u]) for u, held in found.items()]
        store().pipeline(calls, idempotent=True)
        buffer.index.mark_unsaved(documents.values())

    if strict:
        put()
    else:
        attempt(put, away=None)
    return documents


def _newer(buffer: WriteBehind[D], held: Found, row: D) -> D:
    assert held.life is not None  # noqa: S101  every outlived one has it
    document: Any = row
    earlier: Any = codec.decode(held.raw, buffer.projection.document)
    if earlier.revision > row.revision:
        document = msgspec.structs.replace(
            earlier,
            dirty_since=earlier.dirty_since or time.time(),
            persisted_revision=row.revision,
            persisted_at=row.persisted_at,
        )
    return msgspec.structs.replace(document, incarnation=held.life.incarnation)  # type: ignore[no-any-return]


def _put_back(buffer: WriteBehind[D], held: Found, document: D) -> ScriptCall:
    lifetime = buffer.projection.lifetime(document)[1] if document.dirty_since is None else ""
    return settled(buffer, document, held.raw, lifetime)


def settled(
    buffer: WriteBehind[D],
    document: D,
    raw: bytes,
    lifetime: object,
    *,
    told: bytes = b"",
    since: bytes = b"",
) -> ScriptCall:
    """The script that puts `document` in place of `raw`; in one that has changed since, the members
    `told` and `since`."""
    key = buffer.projection.keyspace.key(document.user_id)
    return SETTLE.on(key, raw, codec.encode(document), lifetime, sticky(), told, since)


def sticky() -> str:
    """What keeps a key from being evicted, where the server can."""
    return "STICK" if store().sticky else ""


def _with_empty(buffer: WriteBehind[D]) -> Projection[D]:
    """The projection in which every user has a document."""

    def read(user_ids: Sequence[int]) -> dict[int, D]:
        rows = buffer.projection.documents(user_ids)
        return {user_id: buffer.empty(user_id) for user_id in user_ids} | rows

    return replace(buffer.projection, read=read)


def update(buffer: WriteBehind[D], user_id: int, change: Callable[[D], D], *, floor: int = 0) -> D:
    """Apply `change` to the live document atomically and acknowledge the new revision.

    `change(document)` gives the next content and raises to refuse; revision and mark are set
    here, the revision above `floor`. Two round trips and no SQL while the document is there.
    Raises `CacheUnavailable` when the cache cannot take it (then change the row), `Contended`,
    and whatever `change` raises.
    """
    with _turns[user_id % len(_turns)]:
        for tried in range(ATTEMPTS):
            held = _held(buffer, user_id, patient=tried < PATIENT_ATTEMPTS)
            current = _open(buffer, user_id, held, strict=True)
            following = _next(current, change(current), floor)
            store_it = _store_filled if isinstance(held, Found) else _store
            if store_it(buffer, current, following):
                return following
            time.sleep(random.uniform(0, 0.0005 * min(tried, 20)))  # noqa: S311  not a secret
    raise Contended


def _held(buffer: WriteBehind[D], user_id: int, *, patient: bool) -> D | Found:
    """What the key holds. Without patience a lease is something to be replaced: whoever left it
    has died, or is too slow, and cannot fill with it any more."""
    held: Any = entries.get(buffer.projection, user_id)
    if held is None:
        raise CacheUnavailable("The live document cannot be read.")
    if not patient and isinstance(held, Found) and held.kind == "lease":
        return Found("corrupt", held.raw)
    return held  # type: ignore[no-any-return]


def _next(current: D, changed: D, floor: int) -> D:
    revision = max(current.revision, floor) + 1
    since = current.dirty_since or time.time()
    result: D = msgspec.structs.replace(
        changed,
        revision=revision,
        persisted_revision=current.persisted_revision,
        persisted_at=current.persisted_at,
        dirty_since=since,
        incarnation=current.incarnation,
    )
    return result


def _store(buffer: WriteBehind[D], current: D, following: D) -> bool:
    """Document and mark in one round trip. The mark of a lost compare-and-set is harmless: the
    winner has that revision and marks it too."""
    calls = [_replace(buffer, current, following), *buffer.index.mark(following)]
    try:
        return bool(store().pipeline(calls)[0] == b"stored")
    except WrongType:
        # The document may have been stored, and must not be without its mark.
        buffer.index.mark_unsaved([following])
        return bool(entries.peek(buffer.projection, following.user_id) == following)


def _store_filled(buffer: WriteBehind[D], current: D, following: D) -> bool:
    """As `_store`, in two round trips, for a document that was only just filled: somebody else may
    hold the lease, and a mark without a document would be taken for a loss."""
    if store().script(_replace(buffer, current, following)) != b"stored":
        return False
    buffer.index.mark_unsaved([following])
    return True


def _replace(buffer: WriteBehind[D], current: D, following: D) -> ScriptCall:
    key = buffer.projection.keyspace.key(following.user_id)
    seen = (current.revision, current.persisted_revision)
    return COMPARE_AND_SET.on(key, *seen, codec.encode(following), sticky(), repr(time.time()))


def discard_saved(buffer: WriteBehind[D], user_ids: Sequence[int]) -> list[int]:
    """Remove the documents that hold nothing unsaved; the users whose document stays."""
    keys = [buffer.projection.keyspace.key(user_id) for user_id in user_ids]
    removed = store().pipeline([DROP_SAVED.on(key) for key in keys], idempotent=True)
    return [user_id for user_id, done in zip(user_ids, removed, strict=True) if not done]


def discard(buffer: WriteBehind[D], user_ids: Sequence[int]) -> None:
    """Remove documents and marks, unsaved or not."""
    keys = [buffer.projection.keyspace.key(user_id) for user_id in user_ids]
    marks = [command for user_id in user_ids for command in buffer.index.unmark(user_id)]
    store().pipeline([*(("UNLINK", key) for key in keys), *marks], idempotent=True)
