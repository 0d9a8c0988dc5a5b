"""The flush of a write-behind buffer: what is marked comes into PostgreSQL, the oldest first, batch
by batch (`batch.py`)."""

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, Final, Generic, NamedTuple, TypeVar

from aevon.cache.batch import Batch, lift, note_refused, overtaken, persist, refuses, settle
from aevon.cache.connection import Script, WrongType, store
from aevon.cache.dirty_index import SHARDS, Exposure, Refusal
from aevon.cache.failsafe import attempt
from aevon.cache.metrics import FLUSH_ROWS, FLUSH_SECONDS, FLUSHED, FLUSHES
from aevon.cache.write_behind import WriteBehind

__all__ = [
    "SHARDS",
    "Exposure",
    "FlushRecord",
    "Flushed",
    "claim_early",
    "flush",
    "flush_users",
    "flushes",
    "last_flush",
    "refuses",
]

logger = logging.getLogger(__name__)

NOTE_FLUSH: Final = Script("note_flush")
BATCH: Final = 1_000
KEPT: Final = 300  # flushes on record: those of a day, at a period of five minutes
# How often what could not be saved is tried again, after which pause, and for how long at most,
# because each try may have to wait for locks.
TRIES: Final = 10
PAUSE_SECONDS: Final = 0.1
PATIENCE_SECONDS: Final = 3.0

D = TypeVar("D", bound=Any)


@dataclass(slots=True)
class Flushed:
    """What a flush did, in documents.

    `unchanged`: PostgreSQL had it already. `lost`: the cache's memory of it is gone. `refused`:
    PostgreSQL did not take it. `postponed`: as before, and not tried. `left`: not reached in time;
    or not saved after some tries, because somebody else holds its row or keeps changing it; or
    changes made past the cache come first. The last three stay marked. Each is counted once, but
    what is lost may be left as well.
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


class FlushRecord(NamedTuple):
    """What is on record of a flush: Unix seconds, and counts as in `Flushed`; `failed`: parts that
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
    run = _Run(buffer, time.monotonic() + seconds, patient, progress=progress or (lambda _: None))
    now = time.time()
    failed = True
    waiting: list[int] = []
    try:
        counts = buffer.index.counts()
        waiting += [shard for shard in shards if counts[shard]]
        if waiting:
            run.everything(waiting, until=now)
        failed = False
    finally:
        _measure(buffer, run, time.time() - now if waiting else None, failed=failed)
        _note(buffer, began or now, run.flushed, failed=failed)
    return run.flushed


def _measure(
    buffer: WriteBehind[D], run: "_Run[D]", seconds: float | None, *, failed: bool
) -> None:
    """For `/metrics`; what it took only where something was to be done."""
    keyspace = buffer.projection.keyspace.name
    FLUSHES.labels(keyspace, "failed" if failed else "done").inc()
    if seconds is not None:
        FLUSH_SECONDS.labels(keyspace).observe(max(0.0, seconds))
        FLUSH_ROWS.labels(keyspace).observe(run.flushed.persisted)


def flush_users(buffer: WriteBehind[D], user_ids: Sequence[int]) -> Flushed:
    """Persist these users' documents now, at a logout for example: also those that were refused
    before, and after somebody else who holds their rows. Raises as `flush`, also where they hold
    them for longer than a statement may take."""
    run = _Run(buffer, float("inf"), patient=False, wait=True)
    run.users(user_ids)
    return run.flushed


def claim_early(buffer: WriteBehind[D], *, for_seconds: float) -> bool:
    """Whether the caller is the first in so many seconds that wants a flush before its time."""
    claim = ("SET", buffer.keys.flush.key("early"), 1, "NX", "PX", int(for_seconds * 1000))
    return store().command(*claim, idempotent=False) is not None


def last_flush(buffer: WriteBehind[D]) -> FlushRecord | None:
    """The last flush, whichever process ran it. Raises `CacheUnavailable`."""
    return next(iter(flushes(buffer, most=1)), None)


def flushes(buffer: WriteBehind[D], *, most: int = KEPT) -> list[FlushRecord]:
    """The last flushes, the newest first; without what somebody else has put between them. Raises
    `CacheUnavailable`."""
    try:
        found = store().command("LRANGE", _record(buffer), 0, most - 1)
    except WrongType:
        return []  # the next flush makes it anew
    return [record for raw in found if (record := _understood(raw)) is not None]


def _understood(raw: bytes) -> FlushRecord | None:
    try:
        told = json.loads(raw)
        counts = {name: int(told[name]) for name in Flushed.__dataclass_fields__}
        return FlushRecord(float(told["began"]), float(told["ended"]), int(told["failed"]), counts)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return None


def _note(buffer: WriteBehind[D], began: float, flushed: Flushed, *, failed: bool) -> None:
    counts = {**asdict(flushed), "failed": int(failed)}
    pairs = [part for pair in counts.items() for part in pair]
    call = NOTE_FLUSH.on(_record(buffer), repr(began), repr(time.time()), KEPT, *pairs)
    attempt(lambda: store().script(call), away=None)


def _record(buffer: WriteBehind[D]) -> str:
    return buffer.keys.flush.key("recent")


def _batches(user_ids: Iterator[int]) -> Iterator[list[int]]:
    while batch := list(islice(user_ids, BATCH)):
        yield batch


@dataclass(slots=True)
class _Run(Generic[D]):
    """One flush under way."""

    buffer: WriteBehind[D]
    deadline: float
    patient: bool
    wait: bool = False
    progress: Callable[[int], None] = lambda _: None
    flushed: Flushed = field(default_factory=Flushed)
    # Whose mark stays though PostgreSQL has what was read of it, or does not take it.
    stayed: set[int] = field(default_factory=set)
    # As of `Batch`; of the lost, all that were told.
    owed: set[int] = field(default_factory=set)
    waiting: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)

    def everything(self, shards: Sequence[int], *, until: float) -> None:
        """The oldest first. Then whatever else is marked: what had no place in that order, because
        the clocks of two processes differ, or one has died while it marked."""
        oldest = self.buffer.index.oldest_first(shards, until=until)
        in_time = self._each(oldest) and self._each(self._others(shards))
        if in_time:
            self._try_again()
        self._count("left", self._unsaved() if in_time else self._not_reached(shards))

    def users(self, user_ids: Sequence[int]) -> None:
        """These, in no order."""
        self._each(iter(user_ids))
        self._try_again()
        self._count("left", self._unsaved())

    def _unsaved(self) -> int:
        return len(self.owed | self.waiting)

    def _others(self, shards: Sequence[int]) -> Iterator[int]:
        counts = self.buffer.index.counts()
        marked = [shard for shard in shards if counts[shard]]
        # By name: as many marks as have stayed may be others' by now, because other flushes clear.
        everybody = self.buffer.index.everybody(marked)
        return (u for u in everybody if not self._is_met(u))

    def _is_met(self, user_id: int) -> bool:
        return any(user_id in met for met in (self.stayed, self.owed, self.waiting))

    def _not_reached(self, shards: Sequence[int]) -> int:
        """How many are marked beside those whose mark stays."""
        index = self.buffer.index
        counts = index.counts()
        stayed = sum(len(index.marks_of(batch)) for batch in _batches(iter(self.stayed)))
        return max(0, sum(counts[shard] for shard in shards) - stayed)

    def _try_again(self) -> None:
        """What is owed, for a moment: mostly another flush is about to save it."""
        self.deadline = min(self.deadline, time.monotonic() + PATIENCE_SECONDS)
        for _ in range(TRIES):
            if not self.owed:
                return
            time.sleep(PAUSE_SECONDS)
            if not self._each(iter(list(self.owed)), counted=False):
                return

    def _each(self, user_ids: Iterator[int], *, counted: bool = True) -> bool:
        """Whether all were reached in time; `counted` as progress."""
        for batch in _batches(user_ids):
            if time.monotonic() > self.deadline:
                return False
            self.batch(batch)
            if counted:
                self.progress(len(batch))
        return True

    def batch(self, user_ids: Sequence[int]) -> None:
        """Persist these, in as many transactions as their size asks for."""
        at = time.time()
        marks = self.buffer.index.marks_of(user_ids)
        self.owed -= set(user_ids) - marks.keys()
        self.buffer.index.forget_order({u: at for u in user_ids if u not in marks})
        refusals = self.buffer.index.refusals(list(marks))
        waiting = self._due(marks, refusals) if self.patient else marks
        while waiting:
            batch = persist(self.buffer, waiting, at=at, wait=self.wait)
            self._finish(batch, refusals)
            waiting = {u: mark for u, mark in waiting.items() if u not in batch.marks}

    def _due(self, marks: dict[int, int], refusals: Mapping[int, Refusal]) -> dict[int, int]:
        """The marks without those whose document was refused, has not changed, and has to wait."""
        now = time.time()
        left = {u for u, r in refusals.items() if r.retry_at > now and r.revision == marks[u]}
        self.stayed |= left
        self.owed -= left
        self._count("postponed", len(left))
        return {u: mark for u, mark in marks.items() if u not in left}

    def _finish(self, batch: Batch[D], refusals: Mapping[int, Refusal]) -> None:
        self._settle(batch)
        note_refused(self.buffer, batch, refusals)
        floors = overtaken(self.buffer, batch)
        lost = {user_id for user_id in floors if batch.is_lost(user_id)}
        for user_id in lost - self.lost:
            logger.error("The unsaved document of user %d is gone from the cache", user_id)
        self._count("lost", len(lost - self.lost))
        self.lost |= lost
        self._count_verdicts(batch)
        # What is overtaken again is tried again with what else is owed.
        if lifted := self.buffer.index.marks_of(lift(self.buffer, floors, lost=lost)):
            again = persist(self.buffer, lifted, at=time.time(), wait=self.wait)
            self._settle(again)
            note_refused(self.buffer, again, refusals)
            self._count_verdicts(again)

    def _settle(self, batch: Batch[D]) -> None:
        cleared = settle(self.buffer, batch)
        owed, waiting = batch.owed - cleared, batch.waiting - cleared
        for kept in (self.stayed, self.owed, self.waiting):
            kept.difference_update(batch.marks)
        self.owed |= owed
        self.waiting |= waiting
        self.stayed |= batch.marks.keys() - owed - waiting - cleared

    def _count_verdicts(self, batch: Batch[D]) -> None:
        done = batch.marks.keys() - batch.owed - batch.waiting - self.lost
        verdicts = Counter(_verdict(batch, user_id) for user_id in done)
        for verdict, count in verdicts.items():
            self._count(verdict, count)

    def _count(self, result: str, count: int) -> None:
        self.flushed.add(self.buffer.projection.keyspace.name, result, count)


def _verdict(batch: Batch[Any], user_id: int) -> str:
    if user_id in batch.refused:
        return "refused"
    return "persisted" if user_id in batch.written else "unchanged"
