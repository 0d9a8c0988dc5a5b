"""The figures of docs/reliability.md that `make test-faults` writes."""

import re

from tests.consistency.report import PAGE


def measured(row: int, figure: str) -> None:
    """What was measured of a row of the table of faults: its last cell."""
    text = PAGE.read_text()
    pattern = re.compile(rf"^(\| {row} \|.*\|)[^|]*\|$", re.MULTILINE)
    assert len(pattern.findall(text)) == 1, f"{PAGE.name} has no row {row}"
    PAGE.write_text(pattern.sub(lambda found: f"{found[1]} {figure} |", text))
    print(f"\nfault {row}: {figure}")
