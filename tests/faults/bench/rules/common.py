"""What all rules share: the verdict, and what was broken when."""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Final

from tests.consistency.history import GRACE, SECOND, Told
from tests.faults.bench.api import Operation
from tests.faults.bench.line import NOBODY

Span = tuple[int, int]  # nanoseconds by CLOCK_MONOTONIC, both ends

# After so long nothing comes of a request that nobody was answered: the client's patience and the
# server's limits are shorter.
LATEST: Final = 60 * SECOND


def may_come(operation: Operation, after: int) -> bool:
    """Whether it may have been done after that moment."""
    return operation.end + (0 if operation.is_acknowledged else LATEST) >= after


@dataclass
class Verdict:
    """How much was checked, and each violation in words."""

    operations: int = 0
    stale: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    let_in: list[str] = field(default_factory=list)  # after the session's end was acknowledged
    refused: list[str] = field(default_factory=list)  # a live session, or a request that is sound
    turns: list[str] = field(default_factory=list)
    # Older than a write that is still in its grace: G4.
    late: Counter[str] = field(default_factory=Counter)
    latest: float = 0.0  # seconds, of PsycheStates
    # Older than what somebody else has just been shown of a write still unacknowledged.
    unsettled: int = 0

    @property
    def violations(self) -> list[str]:
        """All of them."""
        kinds = (self.stale, self.lost, self.foreign, self.let_in, self.refused, self.turns)
        return [each for kind in kinds for each in kind]


@dataclass(frozen=True)
class Circumstances:
    """`outages`: while the cache was away, up to when every process had it again. A write that was
    acknowledged in one, or `grace` nanoseconds after it, may be seen so much later: its process may
    not have reached a cache that another one reads (G4).
    `lost_memory`: from the beginning of the last flush to the moment in which the cache lost its
    memory. What was changed on a canvas in between may be lost (G6).
    `flushes`: of all canvases. While the cache is away a canvas is shown as it was last persisted.
    """

    outages: Sequence[Span] = ()
    lost_memory: Sequence[Span] = ()
    flushes: Sequence[Span] = ()
    grace: int = GRACE["away"]

    def told(self, write: Operation) -> Told:
        """Whether the cache can be held to have been told of it."""
        spans = [(begun, end + self.grace) for begun, end in self.outages]
        away = any(begun <= write.end and write.start <= end for begun, end in spans)
        return "away" if away else "cache"

    def seen_from(self, write: Operation) -> int:
        """The time from which on it must be seen."""
        return write.end + self.graces[self.told(write)]

    @property
    def graces(self) -> dict[Told, int]:
        """For how long a write may stay unseen."""
        return {**GRACE, "away": self.grace}

    @cached_property
    def _losses(self) -> list[Span]:
        return sorted(self.lost_memory, key=lambda span: span[1])

    @cached_property
    def _moments(self) -> list[int]:
        return [at for _, at in self._losses]

    def lives(self, operation: Operation) -> tuple[int, int]:
        """How often the cache had lost its memory before it began, and before it ended."""
        moments = self._moments
        return bisect_left(moments, operation.start), bisect_right(moments, operation.end)

    def may_be_lost(self, patch: Operation, losses: int) -> bool:
        """Whether one of the first `losses` excuses that it is not there any more."""
        spans = self._losses[:losses]
        return any(since <= patch.end and patch.start <= at for since, at in spans)


class Rising:
    """The highest of the numbers whose time has come."""

    def __init__(self, numbers: Iterable[tuple[int, int]]) -> None:
        ordered = sorted(numbers)
        self._times = [at for at, _ in ordered]
        self._highest = [0, *accumulate((number for _, number in ordered), max)]

    def before(self, time: int) -> int:
        """0 where none has."""
        return self._highest[bisect_left(self._times, time)]


def is_refused(operation: Operation) -> bool:
    """Whether it certainly was not carried out."""
    return 400 <= operation.status < 500


def may_come_later(operation: Operation) -> bool:
    """Whether it may still be carried out after its client has given up."""
    return operation.status == NOBODY


def by_user(noted: Iterable[Operation], *kinds: str) -> Iterator[tuple[int, list[Operation]]]:
    """The operations of these kinds, user by user."""
    found: dict[int, list[Operation]] = defaultdict(list)
    for each in noted:
        if each.kind in kinds:
            found[each.user].append(each)
    yield from found.items()
