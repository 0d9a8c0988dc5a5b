"""The tables of docs/reliability.md that `make soak` writes."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from tests.consistency.enumerator import Result
from tests.consistency.site import Figures

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"


def history_lines(figures: Figures) -> list[str]:
    """A history run, figure by figure."""
    verdict = figures.verdict
    ways = [(f"operations: {way}", count) for way, count in sorted(figures.operations.items())]
    faults = [(f"faults: {name}", count) for name, count in sorted(figures.faults.items())]
    late = [
        (f"{what}, at most {verdict.late_seconds.get(told, 0):.2f} s", verdict.late[told])
        for told, what in (
            ("away", "late: of a write that could not be told to the cache"),
            ("outside", "late: of SQL from outside"),
        )
    ]
    rows: list[tuple[str, object]] = [
        ("seconds", round(figures.seconds)),
        ("reads checked", verdict.reads),
        ("… hits, by entry", figures.hits),
        ("… misses, and calls while the cache was away", figures.misses),
        ("writes checked", verdict.writes),
        ("… committed without acknowledgement (the writer died)", verdict.unacknowledged),
        *ways,
        *faults,
        *late,  # type: ignore[list-item]
        ("**stale reads**", verdict.stale),
        ("**reads from the future, or of another content**", _unreal(figures)),
        ("**lost or doubled writes**", verdict.lost + verdict.duplicate),
        ("**entries that differ from PostgreSQL in the end**", len(figures.inconsistent)),
    ]
    return table("figure", "count", rows)


def _unreal(figures: Figures) -> int:
    return figures.verdict.from_the_future + figures.verdict.wrong_content


def table(left: str, right: str, rows: Iterable[tuple[str, object]]) -> list[str]:
    """A table of two columns."""
    lines = [f"| {name} | {value:,} |" for name, value in rows]
    return [f"| {left} | {right} |", "|---|---:|", *lines]


SCHEDULES_HEAD: Final = (
    "| processes | faults, one of each | worlds | schedules | violations |",
    "|---|---|---:|---:|---:|",
)
FAULTS: Final = {
    "evictions": "eviction",
    "flushes": "flush",
    "crashes": "death",
    "lease_expiries": "lease runs out",
    "restarts": "restart",
}


def schedule_line(mix: str, faults: NamedTuple, result: Result) -> str:
    """One enumeration."""
    which = faults._asdict()
    names = [name for fault, name in FAULTS.items() if which[fault]]
    names += ["drain" if which["drain"] else "fences stay, no drain"]
    violations = int(result.violation is not None)
    return (
        f"| {mix} | {', '.join(names)} | {result.worlds:,} | {result.schedules:,} | {violations} |"
    )


def write(section: str, lines: Iterable[str]) -> None:
    """Put lines between the marks of that section of the page."""
    begin, end = f"<!-- {section} -->", f"<!-- /{section} -->"
    text = PAGE.read_text()
    body = "\n".join([begin, *lines, end])
    pattern = re.escape(begin) + ".*?" + re.escape(end)
    assert re.search(pattern, text, re.DOTALL), f"{PAGE.name} has no section {section}"
    PAGE.write_text(re.sub(pattern, lambda _: body, text, flags=re.DOTALL))
