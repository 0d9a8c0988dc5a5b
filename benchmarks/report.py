"""Results as a table on the terminal, and as docs/benchmarks.md with its plots and raw numbers."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Result


def show(results: Sequence[Result]) -> None:
    """On the terminal."""
    raise NotImplementedError


def write(results: Sequence[Result], docs: Path) -> None:
    """`benchmarks.md`, and `benchmarks/` with `results.json` and a plot of each figure."""
    raise NotImplementedError
