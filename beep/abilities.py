"""What BEEP can be asked for, as a table: docs/beep.md in the words of a program.

For resolvers that do not read it off the grammar the table says what to choose from, and what they
chose is held against it before anything is done.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from beep.resolution import Value

OPEN: Final = "canvas.open"
CLOSE: Final = "canvas.close"
MOVE: Final = "canvas.move"
RESIZE: Final = "canvas.resize"
FRONT: Final = "canvas.front"
BACK: Final = "canvas.back"
TILE: Final = "canvas.tile"
TIDY: Final = "canvas.tidy"
LIST: Final = "canvas.list"
UNSAVED: Final = "canvas.unsaved"
PLAY: Final = "klepsydra.play"
STATUS: Final = "klepsydra.status"
INSTRUMENTS: Final = "klepsydra.instruments"
SESSIONS: Final = "auth_sessions.list"
HELP: Final = "beep.help"
UNDO: Final = "beep.undo"
NEVER_MIND: Final = "beep.never_mind"
# What changes something.
DEEDS: Final = frozenset({OPEN, CLOSE, MOVE, RESIZE, FRONT, BACK, TILE, TIDY, PLAY})

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Distance = Annotated[int, Meta(ge=-1_000_000, le=1_000_000)]
Side = Annotated[int, Meta(ge=1, le=100_000)]
Percent = Annotated[int, Meta(ge=1, le=1_000)]
Stake = Annotated[int, Meta(ge=1, lt=10**18)]
Seq = Annotated[int, Meta(ge=1, lt=2**62)]


class Arguments(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, rename="camel"):
    """Every argument that an intent may have; None where it was not given."""

    micro_apps: Annotated[list[Name], Meta(min_length=1, max_length=500)] | None = None
    dx: Distance | None = None
    dy: Distance | None = None
    x: Distance | None = None
    y: Distance | None = None
    width: Side | None = None
    height: Side | None = None
    width_percent: Percent | None = None
    height_percent: Percent | None = None
    instrument: Name | None = None
    stake: Stake | None = None
    turn: Seq | None = None

    def given(self) -> dict[str, Value]:
        """Those that were given, as an intent has them."""
        given: dict[str, Value] = msgspec.to_builtins(self)
        return given


@dataclass(frozen=True, slots=True)
class Ability:
    """The arguments of an intent: all of `needs`, any of `may`, some of one of the `ways`.

    A way names its arguments with the value that changes nothing, where there is one.
    """

    needs: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    ways: tuple[Mapping[str, int | None], ...] = ()

    def completed(self, given: Mapping[str, Value]) -> dict[str, Value] | None:
        """The arguments of the whole intent, or None where these are none."""
        rest = given.keys() - {*self.needs, *self.may}
        ways = self.ways or ({},)
        way = next((each for each in ways if rest <= each.keys()), None)
        if way is None or not given.keys() >= {*self.needs} or bool(rest) != bool(self.ways):
            return None
        return {name: value for name, value in way.items() if value is not None} | dict(given)

    def __str__(self) -> str:
        """As docs/beep.md writes it: `microApps; dx, dy or x, y`."""
        parts = [*self.needs, *(f"{each} if said" for each in self.may)]
        ways = " or ".join(", ".join(way) for way in self.ways)
        return "; ".join(filter(None, [", ".join(parts), ways])) or "nothing"


_APPS: Final = ("microApps",)
_BY: Final = {"dx": 0, "dy": 0}
_TO: Final = {"x": None, "y": None}
_SIDES: Final = {"width": None, "height": None}
_PERCENT: Final = {"widthPercent": 100, "heightPercent": 100}

ABILITIES: Final[Mapping[str, Ability]] = {
    OPEN: Ability(_APPS),
    CLOSE: Ability(_APPS),
    MOVE: Ability(_APPS, ways=(_BY, _TO)),
    RESIZE: Ability(_APPS, ways=(_SIDES, _PERCENT)),
    FRONT: Ability(_APPS),
    BACK: Ability(_APPS),
    TILE: Ability(),
    TIDY: Ability(),
    LIST: Ability(),
    UNSAVED: Ability(),
    PLAY: Ability(("instrument",), may=("stake",)),
    STATUS: Ability(),
    INSTRUMENTS: Ability(),
    SESSIONS: Ability(),
    UNDO: Ability(("turn",)),
    HELP: Ability(),
    NEVER_MIND: Ability(),
}
