"""How far and how large: what follows a verb and its object, and the arguments that it comes to.

Lengths are pixels, changes of size percents of each side (docs/beep.md).
"""

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from beep.resolution import Arguments

STEP: Final = {"": 100, "small": 40, "large": 300}
GROWTH: Final = {"": 125, "small": 110, "large": 150}
SHRINKAGE: Final = {"": 80, "small": 90, "large": 65}
MARGIN: Final = 16

Groups = Mapping[str, str]

_PIXELS: Final = r"(?: ?(?:px|pixels?))?"
_WHOLE: Final = "[0-9]{1,9}"
_SIGNED: Final = "-?[0-9]{1,9}"
_SMALL: Final = r"a (?:(?:little |tiny )?bit|little|touch|tad)|slightly|somewhat"
_LARGE: Final = r"a (?:whole )?lot|lots|much|way|far"
_MORE: Final = r"even|some|more|still|further|farther"
_WAYS: Final = "(?:left|right|up|down|higher|lower)(?:wards?)?"

SLOTS: Final[dict[str, str]] = {
    "target": "(?P<target>.+?) ",
    "by": f"(?:by )?(?P<by>{_WHOLE}){_PIXELS} ",
    # Not the side in "the one on the left".
    "direction": f"(?<!on the )(?<!at the )(?<!in the )(?P<direction>{_WAYS}) ",
    "second": f"(?P<second>{_WAYS}) ",
    "place": (
        rf"\(?(?:x ?=? ?)?(?P<x>{_SIGNED})(?: ?, ?| )(?:y ?=? ?)?(?P<y>{_SIGNED})\)?{_PIXELS} "
    ),
    "axis": f"(?P<axis>[xy]) (?P<value>{_SIGNED}) ",
    "size": (f"(?P<width>{_WHOLE}){_PIXELS} ?(?:x|×|by) ?(?P<height>{_WHOLE}){_PIXELS} "),
    "pair": rf"\(?(?P<first>{_SIGNED}){_PIXELS}(?: ?, ?| )(?P<other>{_SIGNED})\)?{_PIXELS} ",
    "length": f"(?P<length>{_WHOLE}){_PIXELS} ",
    "percentage": r"(?P<more>[0-9]{1,3}) ?(?:%|percent) ",
    "percents": r"(?P<percent>[0-9]{1,4})(?:, (?P<percent2>[0-9]{1,4}))? ?(?:%|percent) ",
    "stake": r"(?P<stake>[0-9]{1,18})(?: ?Ξ?(?:credits?)?) ",
    "vertical": "(?P<vertical>top|upper|bottom|lower)(?:[ -](?P<corner>left|right))? ",
    "horizontal": "(?P<horizontal>left|right)(?:[ -]hand)? (?=edge |border )",
    "compared": (
        "(?P<compared>bigger|larger|greater|smaller|tinier|wider|broader|narrower|thinner|taller"
        "|higher|shorter) "
    ),
    "times": "(?P<times>twice|two times|double|half|three times) ",
    "extent": "(?P<extent>big|large|small|wide|tall|high) ",
    "measure": "(?P<measure>size|width|height) ",
    "degree": f"(?P<degree>(?:(?:{_SMALL}|{_LARGE}|{_MORE}) )+)",
    "degree2": f"(?P<degree2>(?:(?:{_SMALL}|{_LARGE}|{_MORE}) )+)",
}

_IS_SMALL: Final = re.compile(rf"\b(?:{_SMALL})\b", re.IGNORECASE)
_IS_LARGE: Final = re.compile(rf"\b(?:{_LARGE})\b", re.IGNORECASE)
_STEPS: Final = {
    "left": ("dx", -1), "right": ("dx", 1), "up": ("dy", -1), "down": ("dy", 1),
    "higher": ("dy", -1), "lower": ("dy", 1),
}  # fmt: skip
_WIDTH: Final = ("wider", "broader", "narrower", "thinner", "wide", "width")
_HEIGHT: Final = ("taller", "higher", "shorter", "tall", "high", "height")
_SHRINKING: Final = ("smaller", "tinier", "narrower", "thinner", "shorter")


def degree(words: str) -> str:
    """How much words of degree say: "small", "large", or "" for no more than usual."""
    if _IS_SMALL.search(words):
        return "small"
    return "large" if _IS_LARGE.search(words) else ""


def _how_much(groups: Groups) -> str:
    return degree(groups["degree"]) or degree(groups["degree2"])


def _stepped(groups: Groups) -> Arguments | None:
    step = int(groups["by"] or STEP[_how_much(groups)])
    distances = {"dx": 0, "dy": 0}
    for word in filter(None, (groups["direction"], groups["second"])):
        axis, sign = _STEPS[re.sub("wards?$", "", word.lower())]
        if distances[axis]:
            return None  # "left and right"
        distances[axis] = sign * step
    return distances


def _placed(groups: Groups) -> Arguments:
    return {"x": int(groups["x"]), "y": int(groups["y"])}


def _shifted(groups: Groups) -> Arguments:
    return {"dx": int(groups["x"]), "dy": int(groups["y"])}


def _on_axis(groups: Groups) -> Arguments:
    return {groups["axis"].lower(): int(groups["value"])}


def at_edge(groups: Groups) -> Arguments | None:
    """The place at a near edge; None for a far one, which depends on the screen."""
    words = {groups[name].lower() for name in ("vertical", "corner", "horizontal")} - {""}
    if words & {"bottom", "lower", "right"}:
        return None
    across = {"x": MARGIN} if "left" in words else {}
    return {**across, **({"y": MARGIN} if words & {"top", "upper"} else {})}


def _sized(groups: Groups) -> Arguments:
    return {"width": int(groups["width"]), "height": int(groups["height"])}


def _one_side(groups: Groups) -> Arguments:
    side = (groups.get("extent") or groups["measure"]).lower()
    return {"width" if side in _WIDTH else "height": int(groups["length"])}


def _in_percent(groups: Groups) -> Arguments:
    height = int(groups["percent2"] or groups["percent"])
    return {"widthPercent": int(groups["percent"]), "heightPercent": height}


def _compared(groups: Groups) -> Arguments:
    return grown(groups["compared"].lower(), _how_much(groups))


def of_pair(first: str, other: str, groups: Groups) -> Arguments:
    """Two numbers that are a place, or a size, as one was asked for."""
    return {first: int(groups["first"]), other: int(groups["other"])}


def _by_percentage(groups: Groups) -> Arguments:
    word, more = groups["compared"].lower(), int(groups["more"])
    return sides(word, max(1, 100 - more) if word in _SHRINKING else 100 + more)


def grown(becomes: str, much: str = "") -> Arguments:
    """The change of size that makes something "bigger", "narrower", by a degree."""
    return sides(becomes, (SHRINKAGE if becomes in _SHRINKING else GROWTH)[much])


def sides(word: str, percent: int) -> Arguments:
    """A change of the side that the word is about, or of both."""
    return {
        "widthPercent": 100 if word in _HEIGHT else percent,
        "heightPercent": 100 if word in _WIDTH else percent,
    }


def _times(groups: Groups) -> Arguments:
    percent = {"half": 50, "three times": 300}.get(groups["times"].lower(), 200)
    word = (groups.get("extent") or groups.get("measure") or "size").lower()
    return sides(word, 10_000 // percent if word == "small" else percent)


class Tail(NamedTuple):
    """What may follow a verb and its object, and the arguments that its groups come to."""

    template: str
    arguments: Callable[[Groups], Arguments | None]


_TO_THE: Final = "[to the|towards the|toward the]"
_WAY: Final = f"{_TO_THE} <direction> [and {_TO_THE} <second>]"
EDGE: Final = "(<vertical>|<horizontal>) [corner|edge|border|side]"
MOVES: Final = (
    Tail(f"[<degree>] [<by>] {_WAY} [side] [<degree2>]", _stepped),
    Tail(f"[<degree>] {_WAY} <by> [more|further] [<degree2>]", _stepped),
    Tail("(to|at) [position] <place>", _placed),
    Tail("to <axis>", _on_axis),
)
SHIFT: Final = Tail("by <place>", _shifted)
# What a verb says to be a size, and nothing does by itself.
PAIR_SIZE: Final = Tail("[to] <pair>", lambda g: of_pair("width", "height", g))
SIZES: Final = (
    Tail("<percentage> <compared>", _by_percentage),
    Tail("[<degree>] <compared> [by] [<degree2>]", _compared),
    Tail("<times> (as <extent>|(the|its|that) <measure>) [as (before|now|it is)]", _times),
    Tail("[to] <size>", _sized),
    Tail("[to] <length> <extent>", _one_side),
    Tail("to [a] <measure> [of] <length>", _one_side),
    Tail("to <percents>", _in_percent),
    Tail("by <percentage>", lambda groups: sides("", 100 + int(groups["more"]))),
)


def reversed_(arguments: Arguments) -> Arguments | None:
    """The same move or change of size the other way; None where there is none."""
    if "dx" in arguments:
        return _each(arguments, ("dx", "dy"), lambda distance: -distance)
    if "widthPercent" in arguments:
        return _each(arguments, ("widthPercent", "heightPercent"), _inverse)
    return None


def to_degree(arguments: Arguments, much: str) -> Arguments:
    """The same move or change of size, by another step: "a bit more"."""
    if much and "dx" in arguments:
        return _each(arguments, ("dx", "dy"), lambda d: _sign(d) * STEP[much])
    if much and "widthPercent" in arguments:
        return _each(arguments, ("widthPercent", "heightPercent"), lambda p: _by(p, much))
    return arguments


def by_a_step(arguments: Arguments) -> Arguments:
    """The same move, by as much as where no number is said."""
    return _each(arguments, ("dx", "dy"), lambda d: _sign(d) * STEP[""])


def _sign(distance: int) -> int:
    return (distance > 0) - (distance < 0)


def _each(arguments: Arguments, names: tuple[str, ...], change: Callable[[int], int]) -> Arguments:
    numbers = {name: arguments[name] for name in names}
    return {**arguments, **{n: change(v) for n, v in numbers.items() if isinstance(v, int)}}


def _inverse(percent: int) -> int:
    pairs = [(GROWTH[much], SHRINKAGE[much]) for much in GROWTH]
    known = dict(pairs) | {shrunk: grown for grown, shrunk in pairs}
    return known.get(percent) or max(1, round(10_000 / max(1, percent)))


def _by(percent: int, much: str) -> int:
    if percent == 100:
        return percent
    return (GROWTH if percent > 100 else SHRINKAGE)[much]
