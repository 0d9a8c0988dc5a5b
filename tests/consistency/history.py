"""What many processes read and wrote, and whether that may be: checked in one pass over time.

Versions of a key rise by one with every commit, so a history need not be searched for an order: it
is enough that no read is older than what was acknowledged before it began, that none shows what
nobody had begun to write, and that every write has a version of its own.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

Key = str
# Whether the cache was told of a write, or could not be reached, or the writer knew of no cache.
Told = Literal["cache", "away", "outside"]

SECOND: Final = 1_000_000_000  # all times are nanoseconds by CLOCK_MONOTONIC
# How long after its acknowledgement a write may stay unseen: guarantees G1, G4 and G9.
GRACE: Final[Mapping[Told, int]] = {"cache": 0, "away": 2 * SECOND, "outside": 1 * SECOND}
SHOWN: Final = 5


class Read(NamedTuple):
    """A state that somebody was given; version 0 where there was none."""

    key: Key
    start: int
    end: int
    version: int
    content: int


class Write(NamedTuple):
    """A write that was begun. `end` is its acknowledgement; None: its writer failed or died.
    `version` is what PostgreSQL has of it; None: nothing."""

    key: Key
    start: int
    end: int | None
    version: int | None
    content: int
    told: Told = "cache"


@dataclass
class Verdict:
    """What was checked, and what was wrong."""

    reads: int = 0
    writes: int = 0
    unacknowledged: int = 0  # of writers that failed or died, and committed
    stale: int = 0
    from_the_future: int = 0
    wrong_content: int = 0
    lost: int = 0
    duplicate: int = 0
    # Reads older than a write that is still in its grace, and the largest age of such a write.
    late: Counter[Told] = field(default_factory=Counter)
    late_seconds: dict[Told, float] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)

    @property
    def violations(self) -> int:
        """Of what is promised."""
        wrong_reads = self.stale + self.from_the_future + self.wrong_content
        return wrong_reads + self.lost + self.duplicate

    def note(self, what: str, record: Read | Write, why: str) -> None:
        """Keep the first few of a kind, to look at."""
        if sum(example.startswith(what) for example in self.examples) < SHOWN:
            self.examples.append(f"{what}: {record} {why}")


def merged(*readers: Iterable[Read]) -> Iterator[Read]:
    """The reads of several processes, each in the order of their beginning."""
    return heapq.merge(*readers, key=lambda read: read.start)


def check(
    reads: Iterable[Read],
    writes: Sequence[Write],
    *,
    first: Mapping[Key, Write],
    last: Mapping[Key, int],
    grace: Mapping[Told, int] = GRACE,
) -> Verdict:
    """Check reads, which come in the order of their beginning, and writes in any order.

    `first` is what each key began with, `last` the version that PostgreSQL has at the end.
    """
    verdict = Verdict(writes=len(writes))
    _check_writes(verdict, writes, first, last)
    _check_reads(verdict, reads, [*first.values(), *writes], grace)
    return verdict


def _check_writes(
    verdict: Verdict, writes: Sequence[Write], first: Mapping[Key, Write], last: Mapping[Key, int]
) -> None:
    seen: dict[tuple[Key, int], Write] = {}
    versions = Counter[Key]()
    for write in writes:
        if write.version is None:
            if write.end is not None:
                verdict.lost += 1
                verdict.note("lost", write, "was acknowledged and is not in PostgreSQL")
            continue
        verdict.unacknowledged += write.end is None
        if (write.key, write.version) in seen:
            verdict.duplicate += 1
            verdict.note("duplicate", write, f"and {seen[write.key, write.version]}")
        seen[write.key, write.version] = write
        versions[write.key] += 1
    for key, began in first.items():
        missing = (began.version or 0) + versions[key] - last[key]
        if missing:
            verdict.lost += abs(missing)
            verdict.note("lost", began, f"and {versions[key]} versions do not make {last[key]}")


class _Line:
    """Versions that have to be seen from some time on: the highest of each key by now."""

    def __init__(self, times: Iterable[tuple[int, Key, int]]) -> None:
        self._waiting = sorted(times)
        self._next = 0
        self.highest: dict[Key, int] = {}

    def advance(self, now: int) -> None:
        """To what came before `now`."""
        while self._next < len(self._waiting) and self._waiting[self._next][0] < now:
            _, key, version = self._waiting[self._next]
            self.highest[key] = max(version, self.highest.get(key, 0))
            self._next += 1


def _check_reads(
    verdict: Verdict, reads: Iterable[Read], writes: Sequence[Write], grace: Mapping[Told, int]
) -> None:
    committed = {(w.key, w.version): w for w in writes if w.version is not None}
    done = [w for w in writes if w.end is not None and w.version is not None]
    required = _Line((w.end + grace[w.told], w.key, w.version) for w in done)  # type: ignore[operator,misc]
    acknowledged = _Line((w.end, w.key, w.version) for w in done)  # type: ignore[misc]
    for read in reads:
        verdict.reads += 1
        required.advance(read.start)
        acknowledged.advance(read.start)
        if read.version < required.highest[read.key]:
            verdict.stale += 1
            newest = committed[read.key, required.highest[read.key]]
            verdict.note("stale", read, f"after {newest}")
        elif read.version < acknowledged.highest[read.key]:
            _note_late(verdict, read, committed, acknowledged.highest[read.key])
        write = committed.get((read.key, read.version))
        if write is None or write.start > read.end:
            verdict.from_the_future += 1
            verdict.note("from the future", read, f"of {write}")
        elif write.content != read.content:
            verdict.wrong_content += 1
            verdict.note("wrong content", read, f"of {write}")


def _note_late(
    verdict: Verdict, read: Read, committed: Mapping[tuple[Key, int | None], Write], newest: int
) -> None:
    """A read that may be older. Seldom: so the writes that it does not show are looked through."""
    unseen = [
        write
        for version in range(read.version + 1, newest + 1)
        if (write := committed.get((read.key, version)))
        and write.end is not None
        and write.end < read.start
    ]
    oldest = min(unseen, key=lambda write: write.end or 0)
    seconds = (read.start - (oldest.end or 0)) / SECOND
    verdict.late[oldest.told] += 1
    verdict.late_seconds[oldest.told] = max(seconds, verdict.late_seconds.get(oldest.told, 0))
