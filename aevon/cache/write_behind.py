"""Write-behind (protocol 3.2): updated in Dragonfly at once, in PostgreSQL at the next flush.

The order is what keeps every acknowledged change (docs/design.md): the document, then its mark,
then the acknowledgement; and at the flush read, persist, commit, settle, and only then clear the
marks of what has not changed since.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final, Generic, TypeVar, cast

import msgspec
from django.db import DataError, IntegrityError

from aevon.cache import codec, entries, leases
from aevon.cache.connection import CacheUnavailable, Script, ScriptCall, WrongType, store
from aevon.cache.dirty_index import DirtyIndex
from aevon.cache.entries import Found
from aevon.cache.failsafe import attempt
from aevon.cache.keyspace import InternalKeyspace, Keyspace
from aevon.cache.leases import Lease
from aevon.cache.metrics import FLUSHED
from aevon.cache.projection import Projection

logger = logging.getLogger(__name__)

COMPARE_AND_SET: Final = Script("compare_and_set")
SETTLE: Final = Script("settle")
DROP_SAVED: Final = Script("drop_saved")

FLUSH_BATCH: Final = 500
ATTEMPTS: Final = 200
# Tries after which somebody else's lease on a missing document counts as a dead process's.
PATIENT_ATTEMPTS: Final = 20

D = TypeVar("D", bound=Any)


class Contended(Exception):
    """Too many writers changed the document at once; the change was not made. Try again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteBehind(Generic[D]):
    """A document that lives in Dragonfly and is persisted later.

    The document has `user_id`, `revision` (rises by one with each change), `dirty_since` (Unix
    seconds since when it holds something that PostgreSQL does not; None otherwise) and, as its
    last member, `incarnation`, the life of the server that holds it.
    `empty(user_id)` is the document of a user who has no row. `persist(documents)` upserts in
    one transaction, never an older revision over a newer one, and gives each user's revision
    that is then in PostgreSQL, without the users that no longer exist.
    """

    projection: Projection[D]
    dirty: InternalKeyspace
    empty: Callable[[int], D]
    persist: Callable[[Sequence[D]], dict[int, int]]
    index: DirtyIndex[D] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", DirtyIndex(self.dirty, self.projection))


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
        return _revived(buffer, user_id, held, strict=strict)[0]
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


def _revived(
    buffer: WriteBehind[D], user_id: int, held: Found, *, strict: bool = False
) -> tuple[D, bytes]:
    """The document in place of one of an earlier life of the server, and its bytes: of that and
    its row the one with the higher revision (guarantee G6).

    An older snapshot must not be taken for what has been persisted since; but what is unsaved in
    it, and newer than its row, exists nowhere else.
    """
    assert held.life is not None  # noqa: S101  every outlived one has it
    earlier: Any = codec.decode(held.raw, buffer.projection.document)
    document: Any = _row(buffer, user_id)
    lifetime: object = buffer.projection.lifetime(document)[1]
    if earlier.revision > document.revision:
        since = earlier.dirty_since or time.time()
        document, lifetime = msgspec.structs.replace(earlier, dirty_since=since), ""
    document = msgspec.structs.replace(document, incarnation=held.life.incarnation)
    text = codec.encode(document)

    def put() -> None:
        key = buffer.projection.keyspace.key(user_id)
        store().script(SETTLE.on(key, held.raw, text, lifetime), idempotent=True)
        buffer.index.mark_unsaved([document])

    if strict:
        put()
    else:
        attempt(put, away=None)
    return document, text


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
        changed, revision=revision, dirty_since=since, incarnation=current.incarnation
    )
    return result


def _store(buffer: WriteBehind[D], current: D, following: D) -> bool:
    """Document and mark in one round trip. The mark of a lost compare-and-set is harmless: the
    winner has that revision and marks it too."""
    try:
        outcome, _ = store().pipeline(
            [_replace(buffer, current, following), buffer.index.mark(following)]
        )
    except WrongType:
        # The document may have been stored, and must not be without its mark.
        buffer.index.rebuild(buffer.index.key(following.user_id))
        return bool(entries.get(buffer.projection, following.user_id) == following)
    return bool(outcome == b"stored")


def _store_filled(buffer: WriteBehind[D], current: D, following: D) -> bool:
    """As `_store`, in two round trips, for a document that was only just filled: somebody else may
    hold the lease, and a mark without a document would be taken for a loss."""
    if store().script(_replace(buffer, current, following)) != b"stored":
        return False
    buffer.index.mark_unsaved([following])
    return True


def _replace(buffer: WriteBehind[D], current: D, following: D) -> ScriptCall:
    key = buffer.projection.keyspace.key(following.user_id)
    return COMPARE_AND_SET.on(key, current.revision, codec.encode(following))


@dataclass(slots=True)
class Flushed:
    """What a flush did. `lost`: marked, but the cache's memory of it is gone. `refused`:
    PostgreSQL did not take it; it stays marked."""

    persisted: int = 0
    unchanged: int = 0
    lost: int = 0
    refused: int = 0

    def add(self, keyspace: Keyspace, result: str) -> None:
        """Count one document, here and in the metrics."""
        setattr(self, result, getattr(self, result) + 1)
        FLUSHED.labels(keyspace.name, result).inc()


def flush(buffer: WriteBehind[D], *, progress: Callable[[int], None] | None = None) -> Flushed:
    """Persist every marked document. Safe beside other flushes, updates and its own death.

    No SQL when nothing is marked. Raises `CacheUnavailable`, and what PostgreSQL raises when it
    is away: the marks then stay.
    """
    flushed = Flushed()
    for key in buffer.index.shards():
        for batch in _batches(buffer.index.marks(key)):
            _flush_batch(buffer, batch, flushed)
            if progress is not None:
                progress(len(batch))
    return flushed


def _batches(marks: Mapping[int, int]) -> Iterator[dict[int, int]]:
    items = iter(marks.items())
    while batch := dict(islice(items, FLUSH_BATCH)):
        yield batch


def flush_users(buffer: WriteBehind[D], user_ids: Sequence[int]) -> Flushed:
    """Persist these users' documents now, at a logout for example. Raises as `flush`."""
    flushed = Flushed()
    for batch in _batches(buffer.index.marks_of(user_ids)):
        _flush_batch(buffer, batch, flushed)
    return flushed


def _flush_batch(buffer: WriteBehind[D], marks: dict[int, int], flushed: Flushed) -> None:
    keys = [buffer.projection.keyspace.key(user_id) for user_id in marks]
    (found,), life = store().exchange([("MGET", *keys)], idempotent=True)
    raws = dict(zip(marks, found, strict=True))
    held: dict[int, Any] = {}
    for user_id, raw in raws.items():
        value = entries.understand(buffer.projection, user_id, raw, life)
        if isinstance(value, Found) and value.kind == "outlived":
            value, raws[user_id] = _revived(buffer, user_id, value, strict=True)
        held[user_id] = value
    documents = {u: document for u, document in held.items() if not isinstance(document, Found)}
    in_rows, refused = _persist(buffer, list(documents.values()))
    if gone := [user_id for user_id in marks if user_id not in documents]:
        in_rows |= {u: row.revision for u, row in buffer.projection.documents(gone).items()}
    _settle(buffer, documents, raws, in_rows)
    done = {user_id: mark for user_id, mark in marks.items() if user_id not in refused}
    lost = [user_id for user_id in gone if in_rows.get(user_id, 0) < marks[user_id]]
    # What is lost cannot be persisted any more: its mark goes too.
    buffer.index.clear({u: marks[u] if u in lost else in_rows.get(u, m) for u, m in done.items()})
    _report_lost(buffer, lost)
    _overtake(buffer, documents, in_rows)
    # Users that no longer exist: nothing else would ever end their documents.
    discard(buffer, [u for u in documents if u not in in_rows and u not in refused])
    for user_id, mark in marks.items():
        persisted = in_rows.get(user_id, 0)
        verdict = _verdict(documents.get(user_id), mark, persisted, user_id in refused)
        flushed.add(buffer.projection.keyspace, verdict)


def _overtake(
    buffer: WriteBehind[D], documents: Mapping[int, D], in_rows: Mapping[int, int]
) -> None:
    """A live document whose row is ahead, because SQL wrote the row, would never be persisted: it
    goes on from above the row, and waits for the next flush."""
    behind = [u for u, document in documents.items() if document.revision < in_rows.get(u, 0)]
    # Looked at again: mostly it is only this flush that is behind, overtaken by another.
    live: Mapping[int, Any] = entries.peek_many(buffer.projection, behind)
    for user_id, document in live.items():
        dirty = getattr(document, "dirty_since", None) is not None
        if dirty and document.revision < in_rows[user_id]:
            update(buffer, user_id, lambda document: document, floor=in_rows[user_id])


def _report_lost(buffer: WriteBehind[D], user_ids: Sequence[int]) -> None:
    """Report; and mark again what changed since the flush looked. Such a change starts from the
    row, so its revision may be below the lost mark, which then went in its stead."""
    for user_id in user_ids:
        logger.error("The unsaved document of user %d is gone from the cache", user_id)
    held: Mapping[int, Any] = entries.peek_many(buffer.projection, user_ids)
    buffer.index.mark_unsaved(held.values())


def _verdict(document: Any, mark: int, persisted: int, refused: bool) -> str:
    if refused:
        return "refused"
    if document is None:
        return "unchanged" if persisted >= mark else "lost"
    return "persisted" if persisted == document.revision else "unchanged"


def _persist(buffer: WriteBehind[D], documents: list[D]) -> tuple[dict[int, int], set[int]]:
    """Upsert; where PostgreSQL refuses the batch, one by one, because a poison document must not
    keep the others waiting. The revisions then in PostgreSQL, and the users refused."""
    if not documents:
        return {}, set()
    try:
        return buffer.persist(documents), set()
    except (DataError, IntegrityError):
        if len(documents) == 1:
            logger.error("PostgreSQL refuses the document of user %d", documents[0].user_id)
            return {}, {documents[0].user_id}
    in_rows: dict[int, int] = {}
    refused: set[int] = set()
    for document in documents:
        revisions, bad = _persist(buffer, [document])
        in_rows |= revisions
        refused |= bad
    return in_rows, refused


def _settle(
    buffer: WriteBehind[D],
    documents: Mapping[int, D],
    raws: Mapping[int, bytes | None],
    in_rows: Mapping[int, int],
) -> None:
    """Give the documents that are in PostgreSQL, as they are, a lifetime."""
    calls = [
        SETTLE.on(
            buffer.projection.keyspace.key(user_id),
            raws[user_id],
            codec.encode(msgspec.structs.replace(document, dirty_since=None)),
            buffer.projection.lifetime(document)[1],
        )
        for user_id, document in documents.items()
        if in_rows.get(user_id) == document.revision
    ]
    store().pipeline(calls, idempotent=True)


def discard_saved(buffer: WriteBehind[D], user_ids: Sequence[int]) -> list[int]:
    """Remove the documents that hold nothing unsaved; the users whose document stays."""
    keys = [buffer.projection.keyspace.key(user_id) for user_id in user_ids]
    removed = store().pipeline([DROP_SAVED.on(key) for key in keys], idempotent=True)
    return [user_id for user_id, done in zip(user_ids, removed, strict=True) if not done]


def discard(buffer: WriteBehind[D], user_ids: Sequence[int]) -> None:
    """Remove documents and marks, unsaved or not."""
    keys = [buffer.projection.keyspace.key(user_id) for user_id in user_ids]
    marks = [buffer.index.unmark(user_id) for user_id in user_ids]
    store().pipeline([*(("UNLINK", key) for key in keys), *marks], idempotent=True)


@dataclass(frozen=True, slots=True)
class Exposure:
    """What would be lost with the cache's memory: how many documents, and since when (Unix
    seconds; None when nothing is unsaved)."""

    unsaved: int
    oldest_since: float | None


def exposure(buffer: WriteBehind[D]) -> Exposure:
    """Count the unsaved documents and find the oldest. Reads every one of them, in batches."""
    unsaved, oldest = 0, None
    for key in buffer.index.shards():
        users = list(buffer.index.marks(key))
        for start in range(0, len(users), FLUSH_BATCH):
            held: Mapping[int, Any] = entries.peek_many(
                buffer.projection, users[start : start + FLUSH_BATCH]
            )
            since = [d.dirty_since for d in held.values() if getattr(d, "dirty_since", None)]
            oldest = min([oldest, *since]) if oldest else min(since, default=None)
        unsaved += len(users)
    return Exposure(unsaved, oldest)
