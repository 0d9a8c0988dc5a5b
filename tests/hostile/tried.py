"""How often each kind of bad input was tried: the last column of its table in reliability.md."""

import re

from tests.consistency.report import PAGE


def tried(name: str, count: int) -> None:
    """Write it into the row that begins with `name`; every one of them was answered as it says."""
    text = PAGE.read_text()
    pattern = re.compile(rf"^(\| {re.escape(name)} \|.*\|)[^|]*\|$", re.MULTILINE)
    assert len(pattern.findall(text)) == 1, f"{PAGE.name} has no row {name!r}"
    PAGE.write_text(pattern.sub(lambda found: f"{found[1]} {count:,} |", text))
    print(f"\n{name}: {count:,}")
