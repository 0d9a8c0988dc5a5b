"""How often what is repeated is repeated, and what `make test-faults` writes into
docs/reliability.md: the last cell of a row.

FAULTS_SHARE, 1 if unset, is the share of the repetitions that pass marks ask for; with less than
all of them nothing is written.
"""

import os
import re
from typing import Final

from tests.consistency.report import PAGE

SHARE: Final = float(os.environ.get("FAULTS_SHARE", "1"))


def share(count: int) -> int:
    """Of so many repetitions those that are made."""
    return max(1, round(count * SHARE))


def measured(row: int, figure: str) -> None:
    """What was measured of a row of the table of faults."""
    _fill(str(row), figure)


def tried(name: str, count: int) -> None:
    """How often the bad input of that row was tried; every one was answered as the row says."""
    _fill(name, f"{count:,}")


def _fill(first: str, last: str) -> None:
    print(f"\n{first}: {last}")
    if SHARE < 1:
        return
    text = PAGE.read_text()
    pattern = re.compile(rf"^(\| {re.escape(first)} \|.*\|)[^|]*\|$", re.MULTILINE)
    assert len(pattern.findall(text)) == 1, f"{PAGE.name} has no row {first!r}"
    PAGE.write_text(pattern.sub(lambda found: f"{found[1]} {last} |", text))
