"""That what `make bench` is made of runs, and that docs/benchmarks.md shows what it measured."""

import re
import subprocess
import sys

from benchmarks import report
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
