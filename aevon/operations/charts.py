"""Charts as SVG, made of lists of numbers: no script, nothing from elsewhere.

Each has a title and a description for who cannot see it, and stands beside a table of the same
numbers. Colours are in the style sheet; series differ in their dashes as well. A time of which
nothing is known is a gap in the line, and shaded.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Final

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

WIDTH, HEIGHT = 440, 200
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 24, 26
TICKS: Final = 4
HOUR: Final = 3600.0
# The style sheet has as many colours and dashes.
STYLES: Final = 5

Format = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Series:
    """A line: one value for each time, None where nothing is known."""

    name: str
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Chart:
    """Some series over the same times (Unix seconds, oldest first). The axis goes up to `top` at
    least, and begins at `foot` or below. `bars` instead of lines: None is then nothing, not
    unknown."""

    name: str
    title: str
    unit: str
    times: Sequence[float]
    series: Sequence[Series]
    show: Format = lambda value: f"{value:,.0f}"
    top: float = 0.0
    foot: float = 0.0
    bars: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all is known."""
        return not any(value is not None for each in self.series for value in each.values)

    @property
    def svg(self) -> SafeString:
        """The picture."""
        return drawn(self)

    @property
    def legend(self) -> SafeString:
        """The names of the series, each with a piece of its line."""
        items = ((n % STYLES, each.name) for n, each in enumerate(self.series))
        return format_html_join(
            "",
            '<li><svg class="key" viewBox="0 0 24 8" aria-hidden="true">'
            '<path class="line s{}" d="M0 4L24 4"/></svg>{}</li>',
            items,
        )

    @property
    def rows(self) -> list[tuple[str, list[str]]]:
        """The same numbers, newest first, without the times of which nothing is known."""
        return [
            (moment(at), ["—" if value is None else self.show(value) for value in values])
            for at, values in reversed(list(zip(self.times, self._columns(), strict=True)))
            if any(value is not None for value in values)
        ]

    def _columns(self) -> list[tuple[float | None, ...]]:
        columns = list(zip(*(each.values for each in self.series), strict=True))
        return columns or [()] * len(self.times)

    @property
    def summary(self) -> str:
        """The last value of each series, and its range, in words."""
        return "; ".join(filter(None, (self._summary(each) for each in self.series)))

    def _summary(self, series: Series) -> str:
        known = [value for value in series.values if value is not None]
        if not known:
            return f"{series.name}: nothing known"
        low, high, last = (self.show(each) for each in (min(known), max(known), known[-1]))
        return f"{series.name}: {last} last, between {low} and {high}"


def moment(at: float) -> str:
    """`Sat 03:15`, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%a %H:%M")


def ticks(lowest: float, highest: float, count: int = TICKS) -> list[float]:
    """Round numbers from `lowest` or less to `highest` or more: steps of 1, 2 or 5 times a power
    of ten."""
    rough = max(highest - lowest, 1e-9) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * each for each in (1, 2, 5, 10) if power * each >= rough * (1 - 1e-9))
    first, last = math.floor(lowest / step + 1e-9), math.ceil(highest / step - 1e-9)
    return [step * number for number in range(first, max(last, first + 1) + 1)]


def runs(values: Sequence[float | None]) -> Iterator[list[tuple[int, float]]]:
    """The stretches without a gap: places and values."""
    for known, group in groupby(enumerate(values), key=lambda pair: pair[1] is not None):
        if known:
            yield [(place, value) for place, value in group if value is not None]


def gaps(series: Iterable[Series], length: int) -> Iterator[tuple[int, int]]:
    """The stretches of which nothing is known, each as its first place and the one after it."""
    lines = [each.values for each in series]
    blank = [all(line[place] is None for line in lines) for place in range(length)]
    for is_blank, group in groupby(range(length), key=lambda place: blank[place]):
        if is_blank:
            places = list(group)
            yield places[0], places[-1] + 1


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where times and values are in the picture."""

    times: Sequence[float]
    lowest: float
    highest: float

    def x(self, at: float) -> float:
        first, last = self.times[0], self.times[-1]
        share = (at - first) / (last - first) if last > first else 0.5
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        share = min(1.0, max(0.0, (value - self.lowest) / (self.highest - self.lowest)))
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def drawn(chart: Chart) -> SafeString:
    """The chart as an SVG element."""
    values = [value for each in chart.series for value in each.values if value is not None]
    marks = ticks(min([*values, chart.foot]), max([*values, chart.top]))
    frame = _Frame(chart.times, marks[0], marks[-1])
    parts = [_value_axis(chart, frame, marks), _time_axis(frame)]
    if not chart.bars:
        parts.insert(0, _shading(chart, frame))
    draw = _bars if chart.bars else _line
    parts += [draw(frame, each, number % STYLES) for number, each in enumerate(chart.series)]
    return format_html(
        '<svg class="arc-chart" viewBox="0 0 {w} {h}" role="img"'
        ' aria-labelledby="{n}-title {n}-text"><title id="{n}-title">{t}</title>'
        '<desc id="{n}-text">{d}</desc>{p}</svg>',
        w=WIDTH,
        h=HEIGHT,
        n=chart.name,
        t=f"{chart.title}, {chart.unit}",
        d=chart.summary,
        p=mark_safe("".join(parts)),  # noqa: S308  each part is escaped
    )


def _value_axis(chart: Chart, frame: _Frame, marks: Sequence[float]) -> SafeString:
    lines = (
        (LEFT, WIDTH - RIGHT, frame.y(mark), LEFT - 6, frame.y(mark) + 4, chart.show(mark))
        for mark in marks
    )
    return format_html(
        '<text class="unit" x="{}" y="{}">{}</text>{}',
        4,
        13,
        chart.unit,
        format_html_join(
            "",
            '<line class="grid" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/>'
            '<text class="tick" x="{3}" y="{4}" text-anchor="end">{5}</text>',
            lines,
        ),
    )


def _time_axis(frame: _Frame) -> SafeString:
    """Full hours, as few as can be read."""
    first, last = frame.times[0], frame.times[-1]
    every = next((h for h in (1, 2, 4, 6) if (last - first) / (h * HOUR) <= 7), 12) * HOUR
    hours = range(math.ceil(first / every), math.floor(last / every) + 1)
    labels = ((frame.x(h * every), HEIGHT - 8, _clock(h * every)) for h in hours)
    return format_html_join(
        "", '<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>', labels
    )


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M")


def _shading(chart: Chart, frame: _Frame) -> SafeString:
    """What nobody knows, behind everything else."""
    times, half = chart.times, _half(chart.times)
    spans = (
        (max(LEFT, frame.x(times[a] - half)), min(WIDTH - RIGHT, frame.x(times[b - 1] + half)))
        for a, b in gaps(chart.series, len(times))
    )
    rows = ((x, TOP, max(0.0, round(end - x, 1)), HEIGHT - TOP - BOTTOM) for x, end in spans)
    return format_html_join("", '<rect class="gap" x="{}" y="{}" width="{}" height="{}"/>', rows)


def _half(times: Sequence[float]) -> float:
    return (times[1] - times[0]) / 2 if len(times) > 1 else 0.0


def _line(frame: _Frame, series: Series, style: int) -> SafeString:
    points = [
        [(frame.x(frame.times[place]), frame.y(value)) for place, value in run]
        for run in runs(series.values)
    ]
    path = "".join(_path(run) for run in points if len(run) > 1)
    dots = [run[0] for run in points if len(run) == 1]
    return format_html(
        '<path class="line s{}" d="{}"/>{}',
        style,
        path,
        format_html_join(
            "", '<circle class="dot s{}" cx="{}" cy="{}" r="2"/>', ((style, *dot) for dot in dots)
        ),
    )


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in points)


def _bars(frame: _Frame, series: Series, style: int) -> SafeString:
    """Thin ones, those of the next series beside them; none for nothing, and one among thousands
    is seen all the same."""
    foot = frame.y(frame.lowest)
    bars = (
        (frame.x(frame.times[place]) - 1.5 + 3 * style, min(frame.y(value), foot - 4))
        for run in runs(series.values)
        for place, value in run
        if value
    )
    return format_html_join(
        "",
        '<rect class="bar s{}" x="{}" y="{}" width="3" height="{}"/>',
        ((style, x, y, round(foot - y, 1)) for x, y in bars),
    )
