"""One batch of a write-behind flush: saved in one transaction, told, cleared, lifted.

The order is what makes it safe beside changes, other flushes and its own death at any point
(docs/design.md): in one transaction the rows are held, the documents read and saved; then those
that have not changed since are told, and only then their marks are cleared.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec
from django.db import DatabaseError, DataError, IntegrityError, transaction

from aevon.cache import entries, leases
from aevon.cache.connection import Life, Script, ScriptCall, store
from aevon.cache.dirty_index import Refusal
from aevon.cache.entries import Found
from aevon.cache.write_behind import (
    Contended,
    Held,
    LockedRow,
    WriteBehind,
    discard,
    made,
    noted,
    revived,
    same,
    sealed,
    sound,
    sticky,
    taken_over,
    unsealed,
    update,
    with_empty,
)

logger = logging.getLogger(__name__)

SETTLE: Final = Script("settle", uses="told")
# Documents are asked for in parts, and a batch ends early where they are large.
READ: Final = 100
BATCH_BYTES: Final = 8 * 1024 * 1024
# Longer than a change is under way, between its mark and its document or the next try.
UNDER_WAY_SECONDS: Final = 0.05
# SQLSTATE classes by which PostgreSQL refuses a document for what is in it, beside those that have
# exceptions of their own: program limit exceeded, raised by a trigger.
_REFUSALS: Final = ("54", "P0")
# Somebody else's lock: waited for too long, or waiting for ours.
_STUCK: Final = ("55P03", "40P01")
# For how long the row that is locked is looked for, half by half: that of a thousand is found in
# ten waits of `locked`. There is none where somebody holds the table.
STUCK_SECONDS: Final = 2.0

D = TypeVar("D", bound=Any)


class InRow(NamedTuple):
    """What PostgreSQL has of a user's document: the revision, whether it is this very document, and
    then since when (RFC 3339)."""

    revision: int
    same: bool
    persisted_at: str | None = None


@dataclass(slots=True)
class Batch(Generic[D]):
    """What a flush has taken of the marked documents, and what became of it.

    `at`, in Unix seconds, is before everything was read. `rows`: what PostgreSQL has of each user
    then. `written`: this batch has put it there. `refused`: PostgreSQL did not take this document.
    `waiting`: changes made past the cache come first. `locked_out`: somebody else holds the row.
    `gone`: there is no such user.
    """

    marks: dict[int, int]
    at: float
    held: dict[int, Held] = field(default_factory=dict)
    rows: dict[int, InRow] = field(default_factory=dict)
    written: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    waiting: set[int] = field(default_factory=set)
    locked_out: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)

    def is_saved(self, user_id: int) -> bool:
        """Whether PostgreSQL has all that is in the document. A row that is ahead of an unsaved one
        does not count: who wrote it did not have what is in the document."""
        document, row = self.held[user_id].document, self.rows.get(user_id)
        if document.dirty_since is None:
            return True
        return row is not None and row.same and row.revision == document.revision

    def is_lost(self, user_id: int) -> bool:
        """Whether the mark is higher than what is left."""
        return user_id in self.held and self.marks[user_id] > self.held[user_id].document.revision

    @property
    def owed(self) -> set[int]:
        """The users of whom PostgreSQL lacks something that it neither has refused nor has to take
        from elsewhere first."""
        return self.locked_out | {u for u in self.held if self.is_lost(u) or not self.is_saved(u)}

    def floor(self, user_id: int) -> int:
        """Which revision the user's document has to go on above, as it seems; 0: none."""
        if user_id not in self.held:
            return 0
        if self.is_lost(user_id):
            return max(self.marks[user_id], self._row_revision(user_id))
        return 0 if self.is_saved(user_id) else self._row_revision(user_id)

    def _row_revision(self, user_id: int) -> int:
        row = self.rows.get(user_id)
        return row.revision if row is not None else 0

    def add(self, other: "Batch[D]") -> None:
        """Take the other's part over."""
        self.marks |= other.marks
        self.held |= other.held
        self.rows |= other.rows
        self.written |= other.written
        self.refused |= other.refused
        self.waiting |= other.waiting
        self.locked_out |= other.locked_out
        self.gone |= other.gone


def persist(
    buffer: WriteBehind[D],
    marks: Mapping[int, int],
    *,
    at: float,
    wait: bool = False,
    until: float | None = None,
) -> Batch[D]:
    """Save the documents of the first of these users, as many as make a batch, and commit.

    The rows are held before the documents are read: nobody can change a row past the cache in
    between, or bring such a change to the live document, and be overwritten. One that somebody
    else holds is left out, unless `wait`. Where PostgreSQL refuses, or there is a deadlock, half by
    half: one document must not keep others waiting. For locks that goes on `until` then, by the
    monotonic clock.
    """
    try:
        with transaction.atomic(durable=True), buffer.locked(list(marks), wait=wait) as rows:
            batch = _take(buffer, marks, rows, at)
            _save(buffer, batch, rows)
    except DatabaseError as error:
        stuck = sqlstate(error) in _STUCK and not wait
        if not stuck and not refuses(error):
            raise
        until = until or time.monotonic() + STUCK_SECONDS
        if len(marks) > 1 and not (stuck and time.monotonic() > until):
            return _halves(buffer, marks, at, wait=wait, until=until)
        return _failed(marks, at, stuck=stuck)
    return batch


def _halves(
    buffer: WriteBehind[D], marks: Mapping[int, int], at: float, *, wait: bool, until: float
) -> Batch[D]:
    batch: Batch[D] = Batch({}, at)
    users = list(marks)
    for half in (users[: len(users) // 2], users[len(users) // 2 :]):
        part = {user_id: marks[user_id] for user_id in half}
        batch.add(persist(buffer, part, at=at, wait=wait, until=until))
    return batch


def _failed(marks: Mapping[int, int], at: float, *, stuck: bool) -> Batch[Any]:
    batch: Batch[Any] = Batch({**marks}, at)
    if stuck:
        batch.locked_out |= marks.keys()
    else:
        batch.refused |= marks.keys()
        logger.error("PostgreSQL refuses the document of user %d", *marks)
    return batch


def refuses(error: DatabaseError) -> bool:
    """Whether PostgreSQL does not take what is in a document, rather than being in trouble."""
    return isinstance(error, DataError | IntegrityError) or sqlstate(error)[:2] in _REFUSALS


def sqlstate(error: DatabaseError) -> str:
    """PostgreSQL's own name of the error; "" for one of the driver's."""
    return getattr(error.__cause__, "sqlstate", None) or ""


def _take(
    buffer: WriteBehind[D],
    marks: Mapping[int, int],
    rows: Mapping[int, LockedRow | None],
    at: float,
) -> Batch[D]:
    """Read the documents: of an earlier life of the server as they compare with their rows, and
    where there is none, what their rows fill in."""
    batch: Batch[D] = Batch({}, at)
    size = 0
    for start in range(0, len(marks), READ):
        if size > BATCH_BYTES:
            break
        part = dict(islice(marks.items(), start, start + READ))
        batch.marks |= part
        size += _read(buffer, [u for u in part if _is_due(u, rows, batch)], rows, batch)
    return batch


def _is_due(user_id: int, rows: Mapping[int, LockedRow | None], batch: Batch[Any]) -> bool:
    """Whether the user's document is to be saved now; else the batch says why not."""
    if user_id not in rows:
        batch.locked_out.add(user_id)
        return False
    row = rows[user_id]
    if row is None:
        batch.gone.add(user_id)
        return False
    if row.before_away is not None:
        batch.waiting.add(user_id)
        return False
    return True


def _read(
    buffer: WriteBehind[D],
    user_ids: list[int],
    rows: Mapping[int, LockedRow | None],
    batch: Batch[D],
) -> int:
    """Add these users' documents to the batch; how many bytes they are."""
    if not user_ids:
        return 0
    keys = [buffer.projection.keyspace.key(user_id) for user_id in user_ids]
    (raws,), life = store().exchange([("MGET", *keys)], idempotent=True)
    found: dict[int, Found] = {}
    for user_id, raw in zip(user_ids, raws, strict=True):
        value: Any = sound(entries.understand(buffer.projection, user_id, raw, life), raw or b"")
        if isinstance(value, Found):
            found[user_id] = value
        else:
            batch.held[user_id] = sealed(buffer, Held(value, raw))
    outlived = {u: each for u, each in found.items() if each.kind == "outlived"}
    if outlived:
        batch.held |= revived(buffer, outlived, rows, strict=True)
    if missing := {u: each for u, each in found.items() if u not in outlived}:
        batch.held |= _filled(buffer, missing, life)
    return sum(len(raw or b"") for raw in raws)


def _filled(buffer: WriteBehind[D], missing: Mapping[int, Found], life: Life) -> dict[int, Held]:
    """The rows, put into the documents' place, or the documents that have come meanwhile; where one
    comes later, settling finds another than these."""
    # No lease is waited for, with the rows held: whoever left it may have died, and the mark would
    # stay for another period.
    taken = {user_id: taken_over(each) for user_id, each in missing.items()}
    rows: Mapping[int, Any] = leases.resolve_many(
        with_empty(buffer), taken, in_transaction_too=True, strict=True
    )
    stamped = msgspec.structs.replace
    return {u: made(stamped(row, incarnation=life.incarnation)) for u, row in rows.items()}


def _save(buffer: WriteBehind[D], batch: Batch[D], rows: Mapping[int, LockedRow | None]) -> None:
    """Write what is newer than its row, and compare what is of its very revision."""
    revisions = {user_id: row.revision for user_id, row in rows.items() if row is not None}
    documents = [held.document for held in batch.held.values()]
    newer = [d for d in documents if d.revision > revisions[d.user_id]]
    saved_at = buffer.save(newer) if newer else {}
    batch.written = {document.user_id for document in newer}
    batch.rows = {user_id: InRow(revisions[user_id], same=False) for user_id in batch.held}
    batch.rows |= {d.user_id: InRow(d.revision, True, saved_at.get(d.user_id)) for d in newer}
    equal = [d.user_id for d in documents if d.revision == revisions[d.user_id] and d.dirty_since]
    stored: Mapping[int, Any] = buffer.projection.documents(equal) if equal else {}
    for user_id, row in stored.items():
        is_same = same(buffer, row, unsealed(buffer, batch.held[user_id]))
        batch.rows[user_id] = InRow(row.revision, is_same, row.persisted_at)


def settle(buffer: WriteBehind[D], batch: Batch[D]) -> set[int]:
    """Tell the documents that they are in PostgreSQL, and clear the marks of those that still are
    what was read, up to their revision; the users that have no mark any more.

    Such a document gets a lifetime; one that has changed since is told how much of it is saved, and
    keeps its mark: somebody else may have given the same revision to something else, where the
    memory was lost. Those of users that no longer exist are removed: nothing else would ever end
    them.
    """
    told = [user_id for user_id in batch.held if batch.is_saved(user_id)]
    since, stick = noted(_dirtySince=batch.at), sticky()
    calls = [_telling(buffer, batch, user_id, since, stick) for user_id in told]
    replies = store().pipeline(calls, idempotent=True)
    settled = {user_id for user_id, done in zip(told, replies, strict=True) if done}
    buffer.index.changed_since([u for u in told if u not in settled], batch.at)
    revisions = {u: batch.held[u].document.revision for u in settled}
    times = {u: batch.held[u].document.dirty_since or batch.at for u in settled}
    discard(buffer, list(batch.gone))
    return buffer.index.clear(revisions, times) | batch.gone


def _telling(
    buffer: WriteBehind[D], batch: Batch[D], user_id: int, since: bytes, stick: str
) -> ScriptCall:
    held, row = batch.held[user_id], batch.rows[user_id]
    revision, at = held.document.persisted_revision, held.document.persisted_at
    if row.same:
        revision, at = row.revision, row.persisted_at
    told = b',"_persistedRevision":%d' % revision
    if at is not None:
        told += b',"_persistedAt":"%s"' % at.encode()
    key = buffer.projection.keyspace.key(user_id)
    lifetime = buffer.projection.lifetime(held.document)[1]
    return SETTLE.on(key, held.head, held.stamp, told, lifetime, since, stick)


def note_refused(buffer: WriteBehind[D], batch: Batch[D], refusals: Mapping[int, Refusal]) -> None:
    """Note what PostgreSQL did not take, and what it takes again."""
    buffer.index.refuse({user_id: batch.marks[user_id] for user_id in batch.refused}, refusals)
    buffer.index.accept(u for u in batch.held if u in refusals)


def overtaken(buffer: WriteBehind[D], batch: Batch[D]) -> dict[int, int]:
    """The users whose document must go on above a revision, or would never be persisted; and that
    revision. Their mark is higher than what is left: a loss. Or SQL has written their row."""
    floors = {user_id: floor for user_id in batch.marks if (floor := batch.floor(user_id))}
    if not floors:
        return {}
    # Looked at again: a change that was under way may arrive.
    time.sleep(UNDER_WAY_SECONDS)
    live: Mapping[int, Any] = entries.peek_many(buffer.projection, list(floors))
    return {u: floor for u, floor in floors.items() if not _is_there(live[u], floor, batch)}


def _is_there(live: Any, floor: int, batch: Batch[D]) -> bool:
    if isinstance(live, Found):
        return False
    arrived = batch.is_lost(live.user_id) and live.revision == floor
    return bool(live.revision > floor or arrived)


def lift(buffer: WriteBehind[D], floors: Mapping[int, int], *, lost: Set[int]) -> list[int]:
    """Take the documents above these revisions, as they are; the users where that was possible.

    The mark is raised with the document. To clear it first, and then to look whether something is
    unsaved, would lose what was changed in between if this process dies there.
    """
    lifted = []
    for user_id, floor in floors.items():
        with contextlib.suppress(Contended, _NoNeed):
            update(buffer, user_id, _as_it_is(floor, lost=user_id in lost), floor=floor)
            lifted.append(user_id)
    return lifted


class _NoNeed(Exception):
    """The document is saved by now, or above the floor."""


def _as_it_is(floor: int, *, lost: bool) -> Callable[[D], D]:
    def unchanged(document: D) -> D:
        there = document.revision == floor if lost else document.dirty_since is None
        if document.revision > floor or there:
            raise _NoNeed
        return document

    return unchanged
