"""The plots, as SVG with real text: on a ground of their own, so that they can be read by night."""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import matplotlib

matplotlib.use("svg")
# The same numbers make the same bytes.
matplotlib.rcParams["svg.hashsalt"] = "aevon"
matplotlib.rcParams["svg.fonttype"] = "none"

from matplotlib import pyplot

from benchmarks.measure import Curve, Figure

GROUND, INK = "#f6f5f1", "#1d1f24"
OURS, OTHERS = "#5b3fd6", "#8a8d96"
# Told apart by who sees no colours, too: each with a mark of its own.
LINES: Final = (
    ("#5b3fd6", "o"),
    ("#b3541e", "s"),
    ("#0b7a75", "^"),
    ("#7a1f4b", "D"),
    ("#555a66", "v"),
)
THOUSANDTHS: Final = 1000


def bars(figure: Figure, path: Path) -> None:
    """One bar for each side, ours in another colour, with its quartiles."""
    scale, unit = (THOUSANDTHS, "ms") if figure.unit == "s" else (1, figure.unit)
    names = list(figure.sides)[::-1]
    rounds = [[value * scale for value in figure.sides[name]] for name in names]
    medians = [statistics.median(values) for values in rounds]
    errors = [_distances(values) for values in rounds]
    with _drawing(path, 0.9 + 0.36 * len(names)) as axes:
        ours = {names[-1], *figure.ours}
        colours = [OURS if name in ours else OTHERS for name in names]
        axes.barh(names, medians, color=colours, height=0.62)
        axes.errorbar(medians, names, xerr=[*zip(*errors, strict=True)], fmt="none", ecolor=INK)
        for name, median, (_, above) in zip(names, medians, errors, strict=True):
            axes.annotate(
                f"{median:,.0f}" if median >= 100 else f"{median:.3g}",
                (median + above, name),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
            )
        axes.set_xlim(
            0, max(m + above for m, (_, above) in zip(medians, errors, strict=True)) * 1.14
        )
        axes.set_xlabel(unit)


def lines(curve: Curve, path: Path) -> None:
    """One line for each series; an axis that spans more than a power of ten is logarithmic."""
    scale, unit = (THOUSANDTHS, "ms") if curve.unit == "s" else (1, curve.unit)
    with _drawing(path, 3.6) as axes:
        for (name, points), (colour, mark) in zip(curve.series.items(), LINES, strict=False):
            xs = [x for x, _ in points]
            axes.plot(xs, [y * scale for _, y in points], color=colour, marker=mark, label=name)
        every = [point for points in curve.series.values() for point in points]
        if _spans([x for x, _ in every]):
            axes.set_xscale("log")
        if _spans([y for _, y in every]):
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.set_xlabel(curve.x_label)
        axes.set_ylabel(unit)
        axes.legend(frameon=False, labelcolor=INK)


@contextmanager
def _drawing(path: Path, height: float) -> Iterator[Any]:
    """Axes, which are saved at the end."""
    drawing, axes = pyplot.subplots(figsize=(8, height), facecolor=GROUND)
    axes.set_facecolor(GROUND)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=INK)
    yield axes
    drawing.savefig(path, bbox_inches="tight", metadata={"Creator": None, "Date": None})
    pyplot.close(drawing)


def _distances(values: list[float]) -> tuple[float, float]:
    """From the median down to one quartile and up to the other."""
    if len(values) < 2:
        return 0, 0
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return median - low, high - median


def _spans(values: list[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) > 10
