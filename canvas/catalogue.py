"""The Micro-Apps that the page has (aevon/page/static/page/apps), as far as BEEP opens them."""

import re
from typing import Final

from aevon import intents
from canvas.layout import Size

APPS: Final[dict[str, Size]] = {
    "Notes": {"width": 360, "height": 280},
    "Psyche": {"width": 440, "height": 304},
    "Clock": {"width": 320, "height": 184},
    "Sessions": {"width": 400, "height": 264},
}
INSTRUMENT: Final[Size] = {"width": 360, "height": 464}
OTHER: Final[Size] = {"width": 360, "height": 240}
# The page shows no window smaller than this (geometry.js).
LEAST: Final[Size] = {"width": 224, "height": 120}
_SLUG_MAX: Final = 60  # leaves room for a number in an id of 64 characters


def title_of(name: str) -> str:
    """The name as people write it; of one that is not known, with a capital to begin with."""
    known = {each.casefold(): each for each in (*APPS, *intents.offered("instruments"))}
    return known.get(name.casefold()) or _capitalized(name)


def _capitalized(name: str) -> str:
    # "ß" has no capital of one letter.
    first = name[:1].upper()
    return first + name[1:] if len(first) == 1 else name


def size_of(title: str) -> Size:
    """How large the page opens a window of this title."""
    is_instrument = title in intents.offered("instruments")
    return dict(APPS.get(title, INSTRUMENT if is_instrument else OTHER))  # type: ignore[return-value]  # a copy


def slug(name: str) -> str:
    """The name in the letters that an id may have: the page's type of the app."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:_SLUG_MAX].strip("-") or "app"
