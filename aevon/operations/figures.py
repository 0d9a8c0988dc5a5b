"""From the history's slots to what the charts show: quarters of an hour, the worst of each."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from aevon.cache.flush import FlushRecord
from aevon.cache.history import SLOT_SECONDS, Slot
from aevon.cache.keyspace import REGISTRY
from aevon.cache.maintenance import Tally, tally
from aevon.cache.stats import hit_rate
from aevon.operations.charts import Chart, Series

SLOTS_TOGETHER: Final = 3
HOUR_OF_SLOTS: Final = 3600 // SLOT_SECONDS
# Of the reasons why a fill was refused; the other is a full memory.
REFUSALS: Final = ("lease-gone", "fenced")
# What is more has not been counted, but written by somebody else.
COUNT_MAX: Final = 2**53
MIB: Final = 1024 * 1024


class Quarter(Slot):
    """Some slots as one: counts added up, and of each gauge the highest."""

    __slots__ = ()


def quarters(slots: Sequence[Slot]) -> list[Quarter]:
    """The slots by threes, aligned to the clock, so that a point stays where it was drawn."""
    groups: dict[float, list[Slot]] = {}
    for slot in slots:
        span = SLOT_SECONDS * SLOTS_TOGETHER
        groups.setdefault(slot.at // span * span, []).append(slot)
    return [_together(at, group) for at, group in groups.items()]


def _together(at: float, slots: Iterable[Slot]) -> Quarter:
    counts: Counter[tuple[str, ...]] = Counter()
    gauges: dict[str, float] = {}
    for slot in slots:
        counts.update({series: min(n, COUNT_MAX) for series, n in slot.counts.items()})
        for name, value in slot.gauges.items():
            if math.isfinite(value):
                gauges[name] = max(value, gauges.get(name, value))
    return Quarter(at, counts, gauges)


def charts(slots: Sequence[Slot], flushes: Sequence[FlushRecord]) -> list[Chart]:
    """Everything that is drawn over the last day."""
    found = quarters(slots)
    return [
        _by_keyspace("hit-rate", "Hit rate", "% of loads", found, _hit_rate, top=100, foot=90),
        _by_keyspace(
            "refused", "Loads refused by lease or fence", "per ¼ h", found, _refused(found)
        ),
        _of_gauge("unsaved", "Unsaved canvases", "canvases", found, "unsaved"),
        _of_gauge(
            "oldest",
            "Age of the oldest unsaved",
            "minutes",
            found,
            "oldest_unsaved_seconds",
            scale=60,
        ),
        _flush_chart(found, flushes),
        _of_gauge("outbox", "Outbox", "entries", found, "outbox"),
        _of_gauge(
            "outbox-age",
            "Age of the first in the outbox",
            "seconds",
            found,
            "outbox_oldest_seconds",
        ),
        _of_gauge("memory", "Memory used", "MiB", found, "memory", scale=MIB),
        _of_gauge("clients", "Clients connected", "clients", found, "clients"),
        _by_keyspace(
            "consistency", "Consistency, as audited", "% right", found, _right, top=100, foot=99
        ),
    ]


def _number(value: float) -> str:
    """Four digits that count, or the whole number."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _by_keyspace(
    name: str,
    title: str,
    unit: str,
    found: Sequence[Quarter],
    read: Callable[[Quarter, str], float | None],
    *,
    top: float = 0,
    foot: float = 0,
) -> Chart:
    lines = [Series(space, [read(each, space) for each in found]) for space in REGISTRY]
    times = [each.at for each in found]
    return Chart(name, title, unit, times, lines, _number, top=top, foot=foot)


def _hit_rate(quarter: Quarter, keyspace: str) -> float | None:
    loads = {
        labels[1]: n
        for labels, n in quarter.counted("loads").items()
        if len(labels) == 2 and labels[0] == keyspace
    }
    share = hit_rate(loads)
    return None if share is None else share * 100


def _refused(found: Sequence[Quarter]) -> Callable[[Quarter, str], float | None]:
    """Nothing refused in a whole day is nothing counted: then nothing is claimed."""
    counted = any(each.counted("refused_fills") for each in found)

    def read(quarter: Quarter, keyspace: str) -> float | None:
        if not counted or not quarter.counts:
            return None
        refused = quarter.counted("refused_fills")
        return float(sum(refused.get((keyspace, reason), 0) for reason in REFUSALS))

    return read


def _right(quarter: Quarter, keyspace: str) -> float | None:
    share = _audited([quarter], keyspace).consistency
    return None if share is None else 100 * share


def _audited(found: Iterable[Slot], keyspace: str) -> Tally:
    verdicts: Counter[str] = Counter()
    for each in found:
        for labels, count in each.counted("audited").items():
            if len(labels) == 2 and labels[0] == keyspace:
                verdicts[labels[1]] += count
    return tally(verdicts)


def audited_of_late(slots: Sequence[Slot]) -> dict[str, Tally]:
    """What the audit found in the last hour, by keyspace, where anything was cached."""
    late = slots[-HOUR_OF_SLOTS:]
    found = {space: _audited(late, space) for space in REGISTRY}
    return {space: counts for space, counts in found.items() if counts.cached}


def _of_gauge(
    name: str,
    title: str,
    unit: str,
    found: Sequence[Quarter],
    gauge: str,
    *,
    scale: float = 1,
) -> Chart:
    values = [_gauge(each, gauge, scale) for each in found]
    return Chart(name, title, unit, [each.at for each in found], [Series(title, values)], _number)


def _gauge(quarter: Quarter, name: str, scale: float = 1) -> float | None:
    return quarter.gauges[name] / scale if name in quarter.gauges else None


def _flush_chart(found: Sequence[Quarter], flushes: Sequence[FlushRecord]) -> Chart:
    """Persisted and failed in each quarter of an hour in which there was a flush."""
    times = [each.at for each in found]
    persisted: dict[float, float] = {}
    failed: dict[float, float] = {}
    for each in flushes:
        at = each.began // (SLOT_SECONDS * SLOTS_TOGETHER) * (SLOT_SECONDS * SLOTS_TOGETHER)
        persisted[at] = persisted.get(at, 0) + each.counts["persisted"]
        failed[at] = failed.get(at, 0) + went_wrong(each)
    lines = [
        Series("persisted", [persisted.get(at) for at in times]),
        Series("refused, lost, or ended by an outage", [failed.get(at) for at in times]),
    ]
    return Chart("flushes", "Flushes", "canvases per ¼ h", times, lines, bars=True)


def went_wrong(flush: FlushRecord) -> int:
    """Documents refused by PostgreSQL or lost by the cache, and parts ended by an outage."""
    return flush.failed + flush.counts["refused"] + flush.counts["lost"]
