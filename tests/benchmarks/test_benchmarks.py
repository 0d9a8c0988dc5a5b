"""That what `make bench` is made of runs, and that docs/benchmarks.md shows what it measured."""

import re
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import report, saves
from benchmarks.measure import Curve, Figure, Side
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


def test_figures_measured_again_say_when_and_where() -> None:
    """The page goes on to be about the machine of the others, and of no more rounds than theirs."""
    there = {"date": "2026-01-01", "processor": "one"}
    others = [Figure(name, name, "s", {name: [1.0]}) for name in ("P1", "P2", "P10")]
    curve = Curve("by-users", "", "users", "s", {})
    before = report.Results(there, 9, others, [curve])
    again = Figure("P2", "P2", "s", {"P2": [2.0]})
    gathered = report.gathered([again], {"date": "2026-02-02", "processor": "two"}, 50, before)
    measured = replace(again, measured="2026-02-02, two")
    assert gathered == report.Results(there, 9, [others[0], measured, others[2]], [curve])


@given(st.integers(min_value=1), st.integers(0, 1000))
def test_copiers_share_all_users(first: int, count: int) -> None:
    shared = [user_id for share in saves.shares(first, count) for user_id in range(*share)]
    assert sorted(shared) == list(range(first, first + count))


def test_copiers_begin_together_when_all_are_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what counts is all that they copied, and all the time that it took."""
    monkeypatch.setattr(saves, "seconds", lambda call: call() and 2.0)
    told, together = [], threading.Barrier(2, timeout=10)

    def copier(rows: float) -> dict[str, Side]:
        return {
            saves.READY: lambda: told.append("ready") or rows,
            saves.COPIED: lambda: told.append("copied") or together.wait() + 1.0,
        }

    assert saves.copied([copier(3.0), copier(4.0)]) == 3.5
    assert told == ["ready", "ready", "copied", "copied"]
