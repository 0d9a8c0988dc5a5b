"""The flush of a write-behind buffer: what is marked comes into PostgreSQL, the oldest first.

The order is what makes it safe beside changes, other flushes and its own death at any point
(docs/design.md): marks, documents, upsert, commit; then the documents are told, and only then the
marks are cleared of what has not changed since.
"""

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec
from django.db import DatabaseError, DataError, IntegrityError

from aevon.cache import codec, entries
from aevon.cache.connection import Script, ScriptCall, store
from aevon.cache.dirty_index import SHARDS, Refusal
from aevon.cache.entries import Found
from aevon.cache.failsafe import attempt
from aevon.cache.metrics import FLUSHED, FLUSHES
from aevon.cache.write_behind import (
    Contended,
    InRow,
    WriteBehind,
    discard,
    revived,
    settled,
    update,
)

logger = logging.getLogger(__name__)

NOTE_FLUSH: Final = Script("note_flush")
BATCH: Final = 500
# Documents are asked for in parts, and a batch ends early where they are large.
READ: Final = 100
BATCH_BYTES: Final = 8 * 1024 * 1024
# Longer than a change is under way, between its mark and its document or the next try.
UNDER_WAY_SECONDS: Final = 0.05
# SQLSTATE classes by which PostgreSQL refuses a document for what is in it, beside those that have
# exceptions of their own: program limit exceeded, raised by a trigger.
_REFUSALS: Final = ("54", "P0")

D = TypeVar("D", bound=Any)


@dataclass(slots=True)
class Flushed:
    """What a flush did, in documents.

    `unchanged`: PostgreSQL had it already, or waits for changes made past the cache. `lost`: the
    cache's memory of it is gone. `refused`: PostgreSQL did not take it. `postponed`: as before, and
    not tried. `left`: not reached in time. All but the first three stay marked.
    """

    persisted: int = 0
    unchanged: int = 0
    lost: int = 0
    refused: int = 0
    postponed: int = 0
    left: int = 0

    def add(self, keyspace: str, result: str, count: int = 1) -> None:
        """Count documents, here and in the metrics."""
        if count:
            setattr(self, result, getattr(self, result) + count)
            FLUSHED.labels(keyspace, result).inc(count)


class LastFlush(NamedTuple):
    """The record of the last flush: Unix seconds, and counts as in `Flushed`; `failed`: parts that
    PostgreSQL or the cache ended."""

    began: float
    ended: float
    failed: int
    counts: dict[str, int]


def flush(
    buffer: WriteBehind[D],
    *,
    shards: Iterable[int] = range(SHARDS),
    began: float | None = None,
    seconds: float = float("inf"),
    patient: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Flushed:
    """Persist every marked document of these shards. Safe beside other flushes, updates and its own
    death.

    Ends after `seconds`: what is left stays marked. Parts of one flush have `began` (Unix seconds)
    in common. `patient`: what PostgreSQL refused is left alone until its time. No SQL when nothing
    is marked. Raises `CacheUnavailable`, and what PostgreSQL raises when it is away: the marks then
    stay.
    """
    run = _Run(buffer, time.monotonic() + seconds, patient, progress or (lambda _: None))
    now = time.time()
    failed = True
    try:
        counts = buffer.index.counts()
        if waiting := [shard for shard in shards if counts[shard]]:
            run.everything(waiting, until=now)
        failed = False
    finally:
        FLUSHES.labels(buffer.projection.keyspace.name, "failed" if failed else "done").inc()
        _note(buffer, began or now, run.flushed, failed=failed)
    return run.flushed


def flush_users(buffer: WriteBehind[D], user_ids: Sequence[int]) -> Flushed:
    """Persist these users' documents now, at a logout for example: also those that were refused
    before. Raises as `flush`."""
    run = _Run(buffer, float("inf"), patient=False)
    for batch in _batches(iter(user_ids)):
        run.batch(batch)
    return run.flushed


def claim_early(buffer: WriteBehind[D], *, for_seconds: float) -> bool:
    """Whether the caller is the first in so many seconds that wants a flush before its time."""
    claim = ("SET", buffer.keys.flush.key("early"), 1, "NX", "PX", int(for_seconds * 1000))
    return store().command(*claim, idempotent=False) is not None


def last_flush(buffer: WriteBehind[D]) -> LastFlush | None:
    """The record of the last flush, whichever process ran it. Raises `CacheUnavailable`."""
    found = store().command("HGETALL", _record(buffer))
    told = {name.decode(): float(number) for name, number in found.items()}
    if not told:
        return None
    began, ended, failed = told.pop("began"), told.pop("ended"), int(told.pop("failed"))
    return LastFlush(began, ended, failed, {name: int(number) for name, number in told.items()})


def _note(buffer: WriteBehind[D], began: float, flushed: Flushed, *, failed: bool) -> None:
    counts = {**asdict(flushed), "failed": int(failed)}
    pairs = [part for pair in counts.items() for part in pair]
    call = NOTE_FLUSH.on(_record(buffer), repr(began), repr(time.time()), *pairs)
    attempt(lambda: store().script(call), away=None)


def _record(buffer: WriteBehind[D]) -> str:
    return buffer.keys.flush.key("last")


def _batches(user_ids: Iterator[int]) -> Iterator[list[int]]:
    while batch := list(islice(user_ids, BATCH)):
        yield batch


@dataclass(slots=True)
class Taken(Generic[D]):
    """A batch as a flush read it: marks first, then documents. `at`, in Unix seconds, is before
    both."""

    marks: dict[int, int]
    at: float
    documents: dict[int, D] = field(default_factory=dict)
    raws: dict[int, bytes] = field(default_factory=dict)

    def is_lost(self, saved: "Saved", user_id: int) -> bool:
        """Whether the mark is higher than what document and row have."""
        document = self.documents.get(user_id)
        held = document.revision if document is not None else 0
        return self.marks[user_id] > max(held, saved.revision(user_id))

    def clearable(self, saved: "Saved", user_id: int) -> int:
        """Up to which revision the user's mark has served; 0: it has not. A row that is ahead of
        an unsaved document does not count: who wrote it did not have what is in the document."""
        document = self.documents.get(user_id)
        if document is None:
            return saved.revision(user_id)
        clean = document.dirty_since is None
        return int(document.revision) if clean or saved.holds(document) else 0

    def floor(self, saved: "Saved", user_id: int) -> int:
        """Which revision the user's document has to go on above, as it seems; 0: none."""
        if self.is_lost(saved, user_id):
            return self.marks[user_id]
        document, row = self.documents.get(user_id), saved.rows.get(user_id)
        if document is None or document.dirty_since is None or row is None or saved.holds(document):
            return 0
        return row.revision if row.revision >= document.revision else 0


@dataclass(slots=True)
class Saved:
    """What PostgreSQL has after the upsert, and the users whose documents it refused."""

    rows: dict[int, InRow] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)

    def revision(self, user_id: int) -> int:
        """0 for a user without a row."""
        return self.rows[user_id].revision if user_id in self.rows else 0

    def holds(self, document: Any) -> bool:
        """Whether the row is this very document."""
        row = self.rows.get(document.user_id)
        return row is not None and row.same and row.revision == document.revision


@dataclass(slots=True)
class _Run(Generic[D]):
    """One flush under way."""

    buffer: WriteBehind[D]
    deadline: float
    patient: bool
    progress: Callable[[int], None] = lambda _: None
    flushed: Flushed = field(default_factory=Flushed)
    stayed: set[int] = field(default_factory=set)

    def everything(self, shards: Sequence[int], *, until: float) -> None:
        """The oldest first. Then whatever is marked and had no place in that order: the clocks of
        two processes may differ, and one may have died while it marked."""
        index = self.buffer.index
        in_time = self._each(index.oldest_first(shards, until=until))
        counts = index.counts()
        left = sum(counts[shard] for shard in shards) - len(self.stayed)
        if not in_time:
            self._count("left", max(0, left))
        elif left > 0:
            self._each(u for u in index.everybody(shards) if u not in self.stayed)

    def _each(self, user_ids: Iterator[int]) -> bool:
        """Whether all were reached in time."""
        for batch in _batches(user_ids):
            if time.monotonic() > self.deadline:
                return False
            self.batch(batch)
            self.progress(len(batch))
        return True

    def batch(self, user_ids: Sequence[int]) -> None:
        """Persist these, in as many transactions as their size asks for."""
        at = time.time()
        marks = self.buffer.index.marks_of(user_ids)
        self.buffer.index.forget_order({u: at for u in user_ids if u not in marks})
        refusals = self.buffer.index.refusals(list(marks))
        waiting = self._due(marks, refusals) if self.patient else marks
        while waiting:
            taken = take(self.buffer, waiting, at=at)
            self._finish(taken, refusals)
            waiting = {u: mark for u, mark in waiting.items() if u not in taken.marks}

    def _due(self, marks: dict[int, int], refusals: Mapping[int, Refusal]) -> dict[int, int]:
        """The marks without those whose document was refused, has not changed, and has to wait."""
        now = time.time()
        left = {u for u, r in refusals.items() if r.retry_at > now and r.revision == marks[u]}
        self.stayed |= left
        self._count("postponed", len(left))
        return {u: mark for u, mark in marks.items() if u not in left}

    def _finish(self, taken: Taken[D], refusals: Mapping[int, Refusal]) -> None:
        saved = self._save(taken)
        note_refused(self.buffer, taken, saved, refusals)
        floors = overtaken(self.buffer, taken, saved)
        lost = {user_id for user_id in floors if taken.is_lost(saved, user_id)}
        for user_id in lost:
            logger.error("The unsaved document of user %d is gone from the cache", user_id)
        self._count("lost", len(lost))
        self._count_verdicts(taken, saved, without=floors.keys())
        # Once more, and no further: what is overtaken again waits for the next flush.
        lifted = lift(self.buffer, floors)
        again = take(self.buffer, self.buffer.index.marks_of(lifted), at=time.time())
        self._count_verdicts(again, self._save(again), without=lost)

    def _save(self, taken: Taken[D]) -> Saved:
        saved = persist(self.buffer, taken)
        self.stayed |= taken.marks.keys()
        self.stayed -= settle(self.buffer, taken, saved)
        return saved

    def _count_verdicts(self, taken: Taken[D], saved: Saved, *, without: Set[int]) -> None:
        verdicts = Counter(_verdict(taken, saved, u) for u in taken.marks if u not in without)
        for verdict, count in verdicts.items():
            self._count(verdict, count)

    def _count(self, result: str, count: int) -> None:
        self.flushed.add(self.buffer.projection.keyspace.name, result, count)


def take(buffer: WriteBehind[D], marks: Mapping[int, int], *, at: float) -> Taken[D]:
    """Read the documents of the first of these users, as many as make a batch.

    A document of an earlier life of the server is compared with its row first.
    """
    taken: Taken[D] = Taken({}, at)
    size = 0
    for start in range(0, len(marks), READ):
        if size > BATCH_BYTES:
            break
        part = dict(islice(marks.items(), start, start + READ))
        size += _read(buffer, part, taken)
    return taken


def _read(buffer: WriteBehind[D], marks: Mapping[int, int], taken: Taken[D]) -> int:
    """Add these users to the batch; how many bytes they are."""
    keys = [buffer.projection.keyspace.key(user_id) for user_id in marks]
    (raws,), life = store().exchange([("MGET", *keys)], idempotent=True)
    outlived: dict[int, Found] = {}
    for user_id, raw in zip(marks, raws, strict=True):
        held: Any = entries.understand(buffer.projection, user_id, raw, life)
        if not isinstance(held, Found):
            taken.documents[user_id], taken.raws[user_id] = held, raw
        elif held.kind == "outlived":
            outlived[user_id] = held
    for user_id, document in _revived(buffer, outlived).items():
        taken.documents[user_id], taken.raws[user_id] = document, codec.encode(document)
    taken.marks |= marks
    return sum(len(raw or b"") for raw in raws)


def _revived(buffer: WriteBehind[D], outlived: Mapping[int, Found]) -> dict[int, D]:
    return revived(buffer, outlived, strict=True) if outlived else {}


def persist(buffer: WriteBehind[D], taken: Taken[D]) -> Saved:
    """Upsert the documents; what PostgreSQL has then, also of users whose document is gone."""
    saved = Saved()
    _upsert(buffer, list(taken.documents.values()), saved)
    if missing := [user_id for user_id in taken.marks if user_id not in taken.documents]:
        rows = buffer.projection.documents(missing)
        saved.rows |= {user_id: InRow(row.revision) for user_id, row in rows.items()}
    return saved


def _upsert(buffer: WriteBehind[D], documents: list[D], saved: Saved) -> None:
    """Where PostgreSQL refuses, half by half: a poison document must not keep others waiting."""
    if not documents:
        return
    try:
        saved.rows |= buffer.persist(documents)
    except DatabaseError as error:
        if not _refuses(error):
            raise
        if len(documents) == 1:
            logger.error("PostgreSQL refuses the document of user %d", documents[0].user_id)
            saved.refused.add(documents[0].user_id)
            return
        half = len(documents) // 2
        _upsert(buffer, documents[:half], saved)
        _upsert(buffer, documents[half:], saved)


def _refuses(error: DatabaseError) -> bool:
    """Whether PostgreSQL does not take what is in a document, rather than being in trouble."""
    sqlstate = getattr(error.__cause__, "sqlstate", None) or ""
    return isinstance(error, DataError | IntegrityError) or sqlstate[:2] in _REFUSALS


def settle(buffer: WriteBehind[D], taken: Taken[D], saved: Saved) -> set[int]:
    """Tell the documents that they are in PostgreSQL, then clear their marks, as far as nothing
    has changed since; the users that have no mark any more.

    A document that is saved gets a lifetime; one that has changed since is told how much of it is.
    Those of users that no longer exist are removed: nothing else would ever end them.
    """
    told = [document for document in taken.documents.values() if saved.holds(document)]
    calls = [_telling(buffer, document, taken, saved) for document in told]
    replies = store().pipeline(calls, idempotent=True)
    changed = [d.user_id for d, done in zip(told, replies, strict=True) if not done]
    buffer.index.changed_since(changed, taken.at)
    discard(buffer, [u for u in taken.documents if u not in saved.rows and u not in saved.refused])
    in_rows = {u: revision for u in taken.marks if (revision := taken.clearable(saved, u))}
    times = {u: getattr(taken.documents.get(u), "dirty_since", None) or taken.at for u in in_rows}
    return buffer.index.clear(in_rows, times)


def _telling(buffer: WriteBehind[D], document: D, taken: Taken[D], saved: Saved) -> ScriptCall:
    at = saved.rows[document.user_id].persisted_at
    clean = msgspec.structs.replace(
        document, persisted_revision=document.revision, persisted_at=at, dirty_since=None
    )
    raw, lifetime = taken.raws[document.user_id], buffer.projection.lifetime(document)[1]
    told = _members(_persistedRevision=document.revision, **({"_persistedAt": at} if at else {}))
    return settled(buffer, clean, raw, lifetime, told=told, since=_members(_dirtySince=taken.at))


def _members(**members: object) -> bytes:
    """As they stand in the middle of a document."""
    return b"," + codec.encode(members)[1:-1]


def note_refused(
    buffer: WriteBehind[D], taken: Taken[D], saved: Saved, refusals: Mapping[int, Refusal]
) -> None:
    """Note what PostgreSQL did not take, and what it takes again."""
    buffer.index.refuse({user_id: taken.marks[user_id] for user_id in saved.refused}, refusals)
    buffer.index.accept(u for u in taken.marks if u in refusals and u not in saved.refused)


def overtaken(buffer: WriteBehind[D], taken: Taken[D], saved: Saved) -> dict[int, int]:
    """The users whose document must go on above a revision, or would never be persisted; and that
    revision. Their mark is higher than what is left: a loss. Or SQL has written their row."""
    floors = {u: floor for u in taken.marks if (floor := taken.floor(saved, u))}
    if not floors:
        return {}
    # Looked at again: mostly another flush is ahead, or a change that was under way arrives.
    time.sleep(UNDER_WAY_SECONDS)
    live: Mapping[int, Any] = entries.peek_many(buffer.projection, list(floors))
    return {u: floor for u, floor in floors.items() if _is_behind(live[u], floor, taken, saved)}


def _is_behind(live: Any, floor: int, taken: Taken[D], saved: Saved) -> bool:
    if isinstance(live, Found):
        return True
    if taken.is_lost(saved, live.user_id):
        return bool(live.revision < floor)
    # One of the row's very revision is behind if it is the one that was compared with the row.
    last = taken.documents[live.user_id].revision if live.revision == floor else floor
    return live.dirty_since is not None and live.revision <= last


def lift(buffer: WriteBehind[D], floors: Mapping[int, int]) -> list[int]:
    """Take the documents above these revisions, as they are; the users where that was possible.

    The mark is raised with the document. To clear it first, and then to look whether something is
    unsaved, would lose what was changed in between if this process dies there.
    """
    lifted = []
    for user_id, floor in floors.items():
        with contextlib.suppress(Contended, _HighEnough):
            update(buffer, user_id, _unless_above(floor), floor=floor)
            lifted.append(user_id)
    return lifted


class _HighEnough(Exception):
    """Somebody else has taken the document above the floor."""


def _unless_above(floor: int) -> Callable[[D], D]:
    def unchanged(document: D) -> D:
        if document.revision > floor:
            raise _HighEnough
        return document

    return unchanged


def _verdict(taken: Taken[Any], saved: Saved, user_id: int) -> str:
    if user_id in saved.refused:
        return "refused"
    document = taken.documents.get(user_id)
    return "persisted" if document is not None and saved.holds(document) else "unchanged"
