"""The last day of the cache, kept in the cache itself: what all processes counted, and how it was.

A day is 288 slots of five minutes, each one hash that ends by itself a little after a day. An
ordinary day takes some 300 KiB, one in which everything that can be counted is counted in every
slot 1.2 MiB, however much is asked of the cache. Every process adds what it has counted since it
last did (`processes.py`); a task notes once a minute how the server is. While the cache is away
nothing is noted: what was counted meanwhile stands in the slot in which it came back, and how it
was is a gap.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import Counter

from aevon.cache.connection import CacheError, Command, store
from aevon.cache.keyspace import HISTORY
from aevon.cache.metrics import AUDITED, FAILURES, FLUSHED, LOADS, PUBLISHES, REFUSED_FILLS

SLOT_SECONDS: Final = 300
SLOTS: Final = 288
KEPT_SECONDS: Final = (SLOTS + 12) * SLOT_SECONDS
# The counters that have a history, by the name that stands in the slots.
TRACKED: Final[Mapping[str, Counter]] = {
    "loads": LOADS,
    "publishes": PUBLISHES,
    "refused_fills": REFUSED_FILLS,
    "failures": FAILURES,
    "flushed": FLUSHED,
    "audited": AUDITED,
}
GAUGE: Final = "gauge"

# A counter's name here, and its labels.
Series = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Slot:
    """Five minutes: `at` is their start in Unix seconds. `counts` by series, of all processes that
    could tell; `gauges` as last noted, empty where nobody did."""

    at: float
    counts: dict[Series, int] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)

    def counted(self, name: str) -> dict[Series, int]:
        """The counts of one counter by its labels."""
        return {series[1:]: n for series, n in self.counts.items() if series[0] == name}


class Counted:
    """What this process has counted, and how much of it stands in the history."""

    def __init__(self) -> None:
        self._told = dict(_counted())

    def calls(self) -> tuple[list[Command], dict[Series, int]]:
        """The commands that add the rest to the history, and what `told` is to be given once they
        have been carried out."""
        now = dict(_counted())
        slot = HISTORY.key(_slot(time.time()))
        more = {series: n - self._told.get(series, 0) for series, n in now.items()}
        calls: list[Command] = [
            ("HINCRBY", slot, ":".join(series), n) for series, n in more.items() if n
        ]
        return (_lasting(slot, calls), now)

    def told(self, now: dict[Series, int]) -> None:
        """So much stands in the history."""
        self._told = now


def _counted() -> Iterator[tuple[Series, int]]:
    for name, counter in TRACKED.items():
        for metric in counter.collect():
            for sample in metric.samples:
                if sample.name.endswith("_total"):
                    yield (name, *sample.labels.values()), int(sample.value)


def note(gauges: Mapping[str, float]) -> None:
    """How it is now. Raises `CacheUnavailable`."""
    slot = HISTORY.key(_slot(time.time()))
    calls: list[Command] = [
        ("HSET", slot, f"{GAUGE}:{name}", repr(float(value))) for name, value in gauges.items()
    ]
    store().pipeline(_lasting(slot, calls), idempotent=True)


def _lasting(slot: str, calls: list[Command]) -> list[Command]:
    return [*calls, ("EXPIRE", slot, KEPT_SECONDS)] if calls else []


def slots() -> list[Slot]:
    """The slots of the last day, the oldest first: every one, empty ones included. One round trip.
    Raises `CacheUnavailable`."""
    newest = _slot(time.time())
    wanted = range(newest - SLOTS + 1, newest + 1)
    found = store().answers([("HGETALL", HISTORY.key(n)) for n in wanted], idempotent=True)
    return [_read(n, held) for n, held in zip(wanted, found.replies, strict=True)]


def _read(number: int, held: object) -> Slot:
    slot = Slot(at=float(number * SLOT_SECONDS))
    if isinstance(held, CacheError) or not isinstance(held, dict):
        return slot  # of another type: somebody else's
    for raw_name, raw in held.items():
        name, *labels = raw_name.decode("utf-8", "replace").split(":")
        try:
            if name == GAUGE:
                slot.gauges[labels[0]] = float(raw)
            else:
                slot.counts[name, *labels] = int(raw)
        except (ValueError, IndexError):
            continue
    return slot


def _slot(at: float) -> int:
    return int(at // SLOT_SECONDS)
