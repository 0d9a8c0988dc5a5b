"""What a layout is, what a valid one is, and how a change applies to it. Pure.

A change is `{"patch": …}` (JSON Merge Patch, RFC 7396) or `{"replace": …}` (a whole layout).
"""

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypedDict

MICRO_APPS_MAX: Final = 500
ID_MAX: Final = 64
# Not the name that a JavaScript reader cannot use as a member.
ID: Final = re.compile(rf"(?!(?:__proto__|\.\.?)\Z)[A-Za-z0-9_.-]{{1,{ID_MAX}}}", re.ASCII)
ID_RULE: Final = f"An id is 1 to {ID_MAX} of A-Z, a-z, 0-9, '_', '.' and '-'."
COORDINATE_MAX: Final = 1_000_000
SIDE_MAX: Final = 100_000
Z_INDEX_MAX: Final = 2**31
TYPE_MAX: Final = 64
TITLE_MAX: Final = 200


class Position(TypedDict):
    """The upper left corner, in pixels."""

    x: int | float
    y: int | float


class Size(TypedDict):
    """In pixels."""

    width: int | float
    height: int | float


class MicroApp(TypedDict):
    """One window. A higher `zIndex` is nearer to the user."""

    type: str
    title: str
    position: Position
    size: Size
    zIndex: int


class Layout(TypedDict):
    """Everything on a canvas, by the micro-apps' ids."""

    microApps: dict[str, MicroApp]


class Change(TypedDict, total=False):
    """Exactly one of the two."""

    patch: dict[str, Any]
    replace: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: the member's path, a code for programs, a sentence for people."""

    field: str
    code: str
    detail: str

    def within(self, name: str) -> "Problem":
        """The same, as it is called from outside: paths grow from the inside, with a dot in front
        of each name, even of an empty one."""
        return Problem(f".{name}{self.field}", self.code, self.detail)

    @property
    def of_the_layout(self) -> "Problem":
        """The same, with its whole path; "" is the layout, which is the whole body of a request."""
        return Problem(self.field[1:], self.code, self.detail)


class InvalidLayout(Exception):
    """A change would make the layout invalid; it was not made."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(f"{each.field}: {each.detail}" for each in problems[:3]))
        self.problems = problems


def empty_layout() -> Layout:
    """A canvas with nothing on it."""
    return {"microApps": {}}


def merge_patch(target: Any, patch: Any) -> Any:
    """`target` with `patch` merged in (RFC 7396, section 2); the arguments stay as they are."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            merged[name] = merge_patch(merged.get(name), value)
        else:
            merged[name] = value
    return merged


def inverse(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch that takes this one back: applied after it, `target` is what it was."""
    return {name: _former(target, name, value) for name, value in patch.items()}


def _former(target: Mapping[str, Any], name: str, value: Any) -> Any:
    before = target.get(name)
    if isinstance(before, dict) and isinstance(value, dict):
        return inverse(before, value)
    return before


def apply(layout: Layout, change: Change) -> Any:
    """The layout after the change, not validated."""
    return change["replace"] if "replace" in change else merge_patch(layout, change["patch"])


def touched(change: Change) -> Collection[str] | None:
    """The ids that a change names; None when it may have touched all of them."""
    named = change.get("patch", {}).get("microApps")
    return named.keys() if isinstance(named, dict) else None


def problems(layout: Any, ids: Collection[str] | None = None) -> list[Problem]:
    """What is wrong with a layout; empty when nothing is.

    With `ids` only these micro-apps are looked at, so that a small change of a large layout is
    cheap: the others were valid before it.
    """
    found = [*_LAYOUT(layout)]
    apps = layout.get("microApps") if isinstance(layout, dict) else None
    if isinstance(apps, dict) and (wrong := _micro_apps(apps, ids)):
        found += [each.within("microApps") for each in wrong]
    return _told(found)


def _told(found: list[Problem]) -> list[Problem]:
    return [each.of_the_layout for each in found] if found else found


def _micro_apps(apps: dict[str, Any], ids: Collection[str] | None) -> list[Problem]:
    if len(apps) > MICRO_APPS_MAX:
        detail = f"At most {MICRO_APPS_MAX} micro-apps fit on a canvas."
        return [Problem("", "too_many", detail)]
    found: list[Problem] = []
    for app_id in apps.keys() if ids is None else apps.keys() & ids:
        if wrong := _micro_app(app_id, apps[app_id]):
            found += [each.within(app_id) for each in wrong]
    return found


def _micro_app(app_id: str, app: Any) -> Sequence[Problem]:
    return _MICRO_APP(app) if ID.fullmatch(app_id) else [Problem("", "invalid_id", ID_RULE)]


def unknown(change: Change) -> list[Problem]:
    """What a patch names that no layout has. To remove it would change nothing, and so a slip would
    pass unseen; set to anything else it is a problem of the layout."""
    return _told([] if "replace" in change else _unknown(change["patch"], _SHAPE))


def _unknown(patch: Mapping[str, Any], shape: Mapping[str, Any]) -> list[Problem]:
    found: list[Problem] = []
    for name, value in patch.items():
        inner = shape[name] if name in shape else shape.get(_ANY, _NOWHERE)
        if inner is _NOWHERE:
            if value is None:
                found.append(_STRANGE.within(name))
        elif inner is not None and isinstance(value, dict) and (wrong := _unknown(value, inner)):
            found += [each.within(name) for each in wrong]
    return found


_STRANGE: Final = Problem("", "unknown_member", "This member is not known.")
_MISSING: Final = Problem("", "required", "This member is required.")
_NO_OBJECT: Final = Problem("", "not_an_object", "This must be an object.")
_NO_CHARACTER: Final = re.compile("[\0\ud800-\udfff]")

# What is wrong with a value, as it is called from inside: "" is the value itself.
Check = Callable[[Any], Sequence[Problem]]


def _object(**members: Check) -> Check:
    """An object with exactly these members."""

    def check(value: Any) -> Sequence[Problem]:
        if not isinstance(value, dict):
            return [_NO_OBJECT]
        found: list[Problem] = []
        if value.keys() != members.keys():
            found += [_STRANGE.within(name) for name in sorted(value.keys() - members.keys())]
        for name, member in members.items():
            if name not in value:
                found.append(_MISSING.within(name))
            elif wrong := member(value[name]):
                found += [each.within(name) for each in wrong]
        return found

    return check


def _text(shortest: int, longest: int) -> Check:
    """A text of so many characters, that PostgreSQL can hold."""

    def check(value: Any) -> Sequence[Problem]:
        if not isinstance(value, str) or not shortest <= len(value) <= longest:
            detail = f"This must be a text of {shortest} to {longest} characters."
            return [Problem("", "invalid_text", detail)]
        # What is printable holds none of these, and that takes a tenth of the search's time.
        if not value.isprintable() and _NO_CHARACTER.search(value):
            return [Problem("", "invalid_text", "This text holds what is not a character.")]
        return ()

    return check


def _number(least: int, most: int) -> Check:
    """A finite number within these bounds."""

    def check(value: Any) -> Sequence[Problem]:
        if type(value) is not int and not (type(value) is float and math.isfinite(value)):
            return [Problem("", "not_a_number", "This must be a number.")]
        if not least <= value <= most:
            return [Problem("", "out_of_range", f"This must be from {least:,} to {most:,}.")]
        return ()

    return check


def _integer(least: int, most: int) -> Check:
    """A whole number within these bounds, written as one."""
    number = _number(least, most)

    def check(value: Any) -> Sequence[Problem]:
        if type(value) is int:
            return number(value)
        return [Problem("", "not_an_integer", "This must be a whole number.")]

    return check


def _any_object(value: Any) -> Sequence[Problem]:
    return () if isinstance(value, dict) else [_NO_OBJECT]


_coordinate: Final = _number(-COORDINATE_MAX, COORDINATE_MAX)
_side: Final = _number(1, SIDE_MAX)
_LAYOUT: Final = _object(microApps=_any_object)
_MICRO_APP: Final = _object(
    type=_text(1, TYPE_MAX),
    title=_text(0, TITLE_MAX),
    position=_object(x=_coordinate, y=_coordinate),
    size=_object(width=_side, height=_side),
    zIndex=_integer(-Z_INDEX_MAX, Z_INDEX_MAX),
)
# The names of members; None where a value has none.
_ANY: Final = "*"
_NOWHERE: Final = object()
_SHAPE: Final = {
    "microApps": {
        _ANY: {
            **dict.fromkeys(("type", "title", "zIndex")),
            "position": dict.fromkeys(("x", "y")),
            "size": dict.fromkeys(("width", "height")),
        }
    }
}
