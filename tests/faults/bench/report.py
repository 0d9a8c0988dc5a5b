"""The figures of docs/reliability.md that `make test-faults` writes: the last cell of a row."""

import re

from tests.consistency.report import PAGE


def measured(row: int, figure: str) -> None:
    """What was measured of a row of the table of faults."""
    _fill(str(row), figure)


def tried(name: str, count: int) -> None:
    """How often the bad input of that row was tried; every one was answered as the row says."""
    _fill(name, f"{count:,}")


def _fill(first: str, last: str) -> None:
    text = PAGE.read_text()
    pattern = re.compile(rf"^(\| {re.escape(first)} \|.*\|)[^|]*\|$", re.MULTILINE)
    assert len(pattern.findall(text)) == 1, f"{PAGE.name} has no row {first!r}"
    PAGE.write_text(pattern.sub(lambda found: f"{found[1]} {last} |", text))
    print(f"\n{first}: {last}")
