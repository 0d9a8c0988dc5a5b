"""Draws the sequence diagrams of the pages when the site is built: to look at one loads nothing.

Understands what the pages use of Mermaid: `participant`, `->>`, `-->>` and `Note over`.
"""

import html
import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

COLUMN: Final = 260
LINE: Final = 17
GAP: Final = 26
HEAD: Final = 34
# Of the font in which the diagrams are set.
CHARACTER: Final = 6.6

_PARTICIPANT = re.compile(r"participant (\w+) as (.+)")
_MESSAGE = re.compile(r"(\w+)(-{1,2})>>(\w+): (.+)")
_NOTE = re.compile(r"Note over (\w+): (.+)")


class NotUnderstood(ValueError):
    """A line of a diagram that this cannot draw."""


@dataclass(frozen=True, slots=True)
class Step:
    """A message, or a note where `begins` and `ends` are one and `note` is set."""

    begins: str
    ends: str
    text: str
    dashed: bool = False
    note: bool = False


def on_config(config: Any) -> Any:
    """MkDocs' hook: diagrams are ours."""
    fence = {"name": "mermaid", "class": "sequence", "format": _fenced}
    config["mdx_configs"].setdefault("pymdownx.superfences", {})["custom_fences"] = [fence]
    return config


def _fenced(source: str, *_: Any, **__: Any) -> str:
    return draw(source)


def draw(source: str) -> str:
    """The diagram as an SVG element. Raises `NotUnderstood`."""
    names, steps = parse(source)
    columns = {key: COLUMN // 2 + COLUMN * place for place, key in enumerate(names)}
    drawn: list[str] = []
    y = HEAD + GAP
    for step in steps:
        height, shapes = _step(step, columns, y)
        drawn += shapes
        y += height + GAP
    width = COLUMN * len(names)
    lifelines = [
        f'<line class="life" x1="{x}" x2="{x}" y1="{HEAD}" y2="{y}"/>' for x in columns.values()
    ]
    heads = [shape for key, name in names.items() for shape in _head(columns[key], name)]
    said = html.escape(" ".join(_said(names, steps)), quote=True)
    return (
        f'<div class="sequence"><svg role="img" aria-label="{said}" viewBox="0 0 {width} {y}"'
        f' style="max-width:{width}px">{"".join([*lifelines, *heads, *drawn])}</svg></div>'
    )


def parse(source: str) -> tuple[dict[str, str], list[Step]]:
    """The participants, by their short names, and what happens. Raises `NotUnderstood`."""
    names: dict[str, str] = {}
    steps: list[Step] = []
    for line in filter(None, map(str.strip, source.splitlines())):
        if found := _PARTICIPANT.fullmatch(line):
            names[found[1]] = found[2]
        elif found := _MESSAGE.fullmatch(line):
            steps.append(Step(found[1], found[3], found[4], dashed=found[2] == "--"))
        elif found := _NOTE.fullmatch(line):
            steps.append(Step(found[1], found[1], found[2], note=True))
        elif line != "sequenceDiagram":
            raise NotUnderstood(f"In a sequence diagram: {line!r}")
    if unknown := {end for step in steps for end in (step.begins, step.ends)} - names.keys():
        raise NotUnderstood(f"No participants of the diagram: {', '.join(sorted(unknown))}")
    return names, steps


def _said(names: dict[str, str], steps: Iterable[Step]) -> Iterator[str]:
    for step in steps:
        ends = "" if step.begins == step.ends else f" to {names[step.ends]}"
        yield f"{names[step.begins]}{ends}: {step.text}."


def _head(x: int, name: str) -> list[str]:
    wide = max(90, int(len(name) * CHARACTER) + 24)
    return [
        f'<rect class="head" x="{x - wide // 2}" y="1" width="{wide}" height="{HEAD - 2}" rx="4"/>',
        *_text(x, HEAD // 2 + 5, [name]),
    ]


def _step(step: Step, columns: dict[str, int], y: int) -> tuple[int, list[str]]:
    """How high it is, and its shapes, from `y` downwards."""
    begin, end = columns[step.begins], columns[step.ends]
    room = (COLUMN if begin == end else abs(end - begin)) - 24
    lines = textwrap.wrap(step.text, max(12, int(room / CHARACTER)))
    high = LINE * len(lines)
    if step.note:
        box = (
            f'<rect class="note" x="{begin - COLUMN // 2 + 6}" y="{y - LINE}"'
            f' width="{COLUMN - 12}" height="{high + 10}" rx="3"/>'
        )
        return high, [box, *_text(begin, y, lines)]
    below = y + high - LINE + 8
    kind = "dashed" if step.dashed else "solid"
    if begin == end:
        path = f"M{begin} {below} h34 v12 h-28"
        return high + 14, [
            *_text(begin, y, lines),
            _arrow(path, kind),
            _tip(begin + 4, below + 12, -1),
        ]
    way = 1 if end > begin else -1
    return high + 2, [
        *_text((begin + end) // 2, y, lines),
        _arrow(f"M{begin} {below} H{end - 6 * way}", kind),
        _tip(end - way, below, way),
    ]


def _arrow(path: str, kind: str) -> str:
    return f'<path class="{kind}" d="{path}"/>'


def _tip(x: int, y: int, way: int) -> str:
    return f'<path class="tip" d="M{x} {y} l{-8 * way} -4 v8 z"/>'


def _text(x: int, y: int, lines: Iterable[str]) -> list[str]:
    return [
        f'<text x="{x}" y="{y + LINE * place}">{html.escape(line)}</text>'
        for place, line in enumerate(lines)
    ]
