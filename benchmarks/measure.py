"""What is measured, and how: sides that take turns, and the figures that come of it.

Depends on nothing but the standard library, so that a process of any settings can import it.
"""

import multiprocessing
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

# A side of a comparison: does its work once and tells a number, without what it had to prepare:
# the seconds of one call, so many in a second, or how many are ready.
Side = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Options:
    """How long to measure. `short`: only to see that everything runs."""

    rounds: int
    short: bool = False

    @property
    def many(self) -> int:
        """Rounds of what takes a moment: the more there are, the less counts who else was busy."""
        return self.rounds if self.short else 5 * self.rounds

    def scaled(self, count: int, short: int) -> int:
        """`count`, or `short` of them in a short run."""
        return short if self.short else count


@dataclass(frozen=True, slots=True)
class Spread:
    """A value, and the quartiles of what it was in the single rounds."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The median of all rounds."""
        return cls(statistics.median(values), *_quartiles(values))


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be reached, in words, and what was: a ratio or a count."""

    text: str
    reached: Spread
    at_most: float | None = None
    at_least: float | None = None

    @property
    def met(self) -> bool:
        """Whether it was. False where nothing could be measured (NaN)."""
        below = self.at_most is None or self.reached.value <= self.at_most
        return below and (self.at_least is None or self.reached.value >= self.at_least)


@dataclass(frozen=True, slots=True)
class Figure:
    """A comparison. `sides`: what each side told, in each round; the first is ours, and so is
    each in `ours`. `unit`: "s" of one call, or what is counted in a second: "requests/s".
    `measured`: when and where, if that is not what the page is about."""

    id: str
    title: str
    unit: str
    sides: dict[str, list[float]]
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ours: list[str] = field(default_factory=list)
    measured: str = ""


@dataclass(frozen=True, slots=True)
class Curve:
    """How something grows. `series`: (x, y) of each; both axes may span powers of ten."""

    id: str
    title: str
    x_label: str
    unit: str
    series: dict[str, list[tuple[float, float]]]
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    measured: str = ""


Result = Figure | Curve


def seconds(call: Callable[[], Any], *, times: int = 1) -> float:
    """Of one call, averaged over so many."""
    started = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - started) / times


def in_turns(sides: Mapping[str, Side], *, rounds: int) -> dict[str, list[float]]:
    """What each side tells, in rounds in which they take turns, after one that does not count.

    In another order each time: on which core a process wakes up, and what is in its caches, is left
    behind by who came before.
    """
    for side in sides.values():
        side()
    taken: dict[str, list[float]] = {name: [] for name in sides}
    order, chance = list(sides), random.Random(1)
    for _ in range(rounds):
        chance.shuffle(order)
        for name in order:
            taken[name].append(sides[name]())
    return taken


def at_once(sides: Sequence[Side]) -> float:
    """What all of them tell at the same time, added up."""
    with ThreadPoolExecutor(len(sides)) as pool:
        return sum(pool.map(lambda side: side(), sides))


def ratio(one: Sequence[float], other: Sequence[float]) -> Spread:
    """Of each round's ratio the median: what slows a machine down for a while slows both sides."""
    return Spread.of([a / b for a, b in zip(one, other, strict=True)])


def exactly(value: float) -> Spread:
    """A count: the same in every round."""
    return Spread(value, value, value)


def measured(module: str, options: Options) -> list[Result]:
    """The figures of this module, from a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_figures_of, module, options).result()


def _figures_of(module: str, options: Options) -> list[Result]:
    return list(import_module(module).figures(options))


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high
