"""That what `make bench` is made of runs, and that docs/benchmarks.md shows what it measured."""

import re
import subprocess
import sys

import pytest

from benchmarks import report
from benchmarks.measure import Figure
from tests.servers import ROOT


def test_a_figure_is_measured_from_servers_to_table() -> None:
    """Of those that need no package but ours; what is counted is as it should be, however short."""
    command = [sys.executable, "-m", "benchmarks", "P4", "P5", "P8", "--short"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    counts = re.findall(r"(✓|✗) (?:round trips|statements): ", ended.stdout)
    assert counts == ["✓"] * 8, ended.stdout


def test_the_page_shows_the_raw_numbers() -> None:
    """`python -m benchmarks.report` makes it of them anew."""
    results = report.read()
    assert report.page(results) == (report.DOCS / "benchmarks.md").read_text()
    plots = {path.stem for path in (report.DOCS / "benchmarks").glob("*.svg")}
    assert plots == {each.id for each in [*results.figures, *results.curves]}


@pytest.mark.parametrize(("processor", "notes"), [("one", 0), ("another", 1)])
def test_what_is_measured_again_says_where_that_was_another_machine(
    processor: str, notes: int
) -> None:
    there = {"date": "2026-01-01", "processor": "one"}
    others = [Figure(name, name, "s", {name: [1.0]}, []) for name in ("P1", "P2", "P10")]
    before = report.Results(there, 9, others, [])
    again = Figure("P2", "P2", "s", {"P2": [2.0]}, [])
    here = {"date": "2026-02-02", "processor": processor}
    gathered = report.gathered([again], here, 5, before)
    assert gathered.figures == [others[0], again, others[2]]
    assert len(again.notes) == notes
    assert (gathered.machine, gathered.rounds) == ((there, 9) if notes else (here, 5))
