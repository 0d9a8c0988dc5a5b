"""The phrases that point to something instead of naming it, as forms of text. Pure.

What each points to is found in `beep/scene.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from beep.abilities import CLOSE, FRONT, MOVE, OPEN, PLAY, RESIZE
from beep.patterns import Pattern, expression

Kind = Literal["it", "this", "them", "other", "all", "ordinal", "place", "done"]

_ORDINALS: Final = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth",
)  # fmt: skip
_CARDINALS: Final = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_VERBS: Final = {
    "opened": OPEN, "launched": OPEN, "started": OPEN, "reopened": OPEN, "closed": CLOSE,
    "shut": CLOSE, "hid": CLOSE, "moved": MOVE, "dragged": MOVE, "nudged": MOVE, "pushed": MOVE,
    "shifted": MOVE, "resized": RESIZE, "enlarged": RESIZE, "shrunk": RESIZE, "shrank": RESIZE,
    "widened": RESIZE, "raised": FRONT, "focused": FRONT, "played": PLAY, "spun": PLAY,
    "mentioned": "", "named": "", "talked about": "",
}  # fmt: skip
_SIDES: Final = {
    "left": "left", "leftmost": "left", "left-hand": "left", "right": "right",
    "rightmost": "right", "right-hand": "right", "top": "top", "topmost": "top", "upper": "top",
    "uppermost": "top", "highest": "top", "bottom": "bottom", "bottommost": "bottom",
    "lower": "bottom", "lowest": "bottom", "biggest": "biggest", "bigger": "biggest",
    "largest": "biggest", "larger": "biggest", "smallest": "smallest", "smaller": "smallest",
    "widest": "widest", "wider": "widest", "narrowest": "narrowest", "narrower": "narrowest",
    "tallest": "tallest", "taller": "tallest", "shortest": "shortest", "shorter": "shortest",
    "middle": "middle", "front": "front", "frontmost": "front", "back": "back", "rearmost": "back",
    "in front": "front", "on top": "front", "behind": "back", "at the back": "back",
    "underneath": "back",
}  # fmt: skip
_NOUNS: Final = (
    "(one|ones|window|windows|app|apps|micro-app|micro-apps|panel|panels|instrument|instruments"
    "|game|games|thing|things)"
)
_ONE: Final = "(one|window|app|micro-app|panel|instrument|game|thing)"
_MANY: Final = "(windows|apps|micro-apps|panels)"
_OF_THEM: Final = "[of (them|those|these|the (two|three|lot))]"
_NEWEST: Final = "[last|latest|most recent]"
_SOMEBODY: Final = "(i|we|you|was|were|i have|i've|we have|you have|you've)"
_THAT_IS: Final = "[that's|that is|which is]"
_OF_SIDE: Final = "[side|edge|corner]"
_JUST: Final = "[just|last|previously|recently|only just|most recently]"
_LATELY: Final = "[just now|last|before|earlier|a moment ago|most recently|recently]"
_BUT: Final = "(but|except|except for|besides|other than|apart from|save)"


def _either(words: Mapping[str, str]) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


_SLOTS: Final = {
    "ordinal": f"(?:(?P<word>last|{'|'.join(_ORDINALS)})|(?P<nth>[0-9]{{1,3}})(?:st|nd|rd|th)) ",
    "number": f"(?:(?:number|no\\.?|option) |# ?)(?P<number>[0-9]{{1,3}}|{'|'.join(_CARDINALS)}) ",
    "bare": "(?P<bare>[0-9]{1,3}) ",
    "rest": "(?P<rest>.+?) ",
    "but": "(?P<but>.+) ",
    "verb": f"(?P<verb>{_either(_VERBS)}) ",
    "side": f"(?P<side>{_either(_SIDES)}) ",
    "both": "(?P<both>both|the two) ",
    "others": "(?P<others>others|rest|everything else|other (?:windows|apps|ones)) ",
}
# Tried in this order.
_TEMPLATES: Final[tuple[tuple[Kind, tuple[str, ...]], ...]] = (
    ("this", (f"this [{_ONE}]", f"[the] (current|active|focused) {_ONE}")),
    ("it", ("it", f"that [{_ONE}]", f"[the] same [{_ONE}]", f"the {_ONE}")),
    (
        "them",
        (
            f"<both> {_OF_THEM}",
            "[all] [of] (them|these|those) [two|three|ones|windows|apps]",
            "(them|these|those) <both>",
            f"all (two|three|four|five) {_OF_THEM}",
        ),
    ),
    (
        "all",
        (
            "[all] [of] [the] <others>",
            f"(everything|all) [{_BUT} <but>]",
            f"every [single] {_ONE} [{_BUT} <but>]",
            f"[all] [of] [my|the] [open] {_MANY} [{_BUT} <but>]",
            "all [of] [the|my] <rest>",
            "<both> [of] [the|my] <rest>",
        ),
    ),
    ("other", ("(the other|that other|other) [<rest>]",)),
    ("ordinal", ("[the] <number>", "<bare>")),
    (
        "done",
        (
            f"(the|that) {_NEWEST} {_ONE} [that|which] {_SOMEBODY} {_JUST} <verb> {_LATELY}",
            f"(what|whatever|whichever) {_SOMEBODY} {_JUST} <verb> {_LATELY}",
            f"the (last|latest|most recently|recently|just|newly|previously) <verb> [{_ONE}]",
            f"the <verb> {_ONE}",
        ),
    ),
    ("ordinal", (f"[the] <ordinal> {_OF_THEM} [<rest>] {_OF_THEM} [(on|in) the list]",)),
    (
        "place",
        (
            f"[the] [very] <side> [most] {_OF_THEM} [<rest>] {_OF_THEM}",
            f"the <rest> {_THAT_IS} (on|at|to|in) [the|my] [far|very] <side> {_OF_SIDE}",
            f"the <rest> {_THAT_IS} <side> [of (the others|everything)]",
        ),
    ),
)
_FORMS: Final = tuple((kind, Pattern(*each, slots=_SLOTS)) for kind, each in _TEMPLATES)
_GENERIC: Final = Pattern(f"[the|my|that|this] {_NOUNS}", slots={})
_DESCRIBED: Final = Pattern(
    "[<article>] <words> [<noun>]",
    slots={
        "article": "(?P<article>the|my|that|this|a|an) ",
        "words": "(?P<words>.+?) ",
        "noun": f"(?P<noun>{expression(_NOUNS, {}).replace(' ', '')}) ",
    },
)


@dataclass(frozen=True, slots=True)
class Pointer:
    """A referring phrase, read.

    `position` counts from 1, -1 is the last one. `side` is a place or a size ("left", "biggest").
    `verb` is the intent of what was done to it, "" for any. `words` describe the thing beside.
    `without` is what "all but" leaves out, "" for nothing; with `others`, what was spoken of.
    """

    kind: Kind
    position: int = 0
    side: str = ""
    verb: str = ""
    words: str = ""
    without: str = ""
    others: bool = False
    both: bool = False


def point(phrase: str) -> Pointer | None:
    """The phrase as a pointer; None for a name or a description ("the clock")."""
    for kind, form in _FORMS:
        if (groups := form.match(phrase)) is not None:
            return _pointer(kind, groups)
    return None


def is_reference(phrase: str) -> bool:
    """Whether a phrase needs turns or canvas to be understood: a pointer, or "the notes one"."""
    noun = (_DESCRIBED.match(phrase) or {}).get("noun", "")
    return point(phrase) is not None or noun.lower() in ("one", "ones")


def description(phrase: str) -> tuple[str, bool]:
    """The words that describe a thing, and whether the phrase is a description ("the clock") rather
    than a mere name ("clock")."""
    found = _DESCRIBED.match(phrase)
    if found is None:
        return phrase, False
    definite = found["article"].lower() in ("the", "my", "that", "this")
    return found["words"], definite or found["noun"].lower() in ("one", "window", "app")


def _pointer(kind: Kind, groups: Mapping[str, str]) -> Pointer:
    rest = groups.get("rest", "")
    return Pointer(
        kind,
        position=_position(groups),
        side=_SIDES.get(groups.get("side", "").lower(), ""),
        verb=_VERBS.get(groups.get("verb", "").lower(), ""),
        words="" if not rest or _GENERIC.match(rest) is not None else description(rest)[0],
        without=groups.get("but", ""),
        others=bool(groups.get("others")),
        both=bool(groups.get("both")),
    )


def _position(groups: Mapping[str, str]) -> int:
    word = groups.get("word", "").lower()
    if word:
        return -1 if word == "last" else _ORDINALS.index(word) + 1
    number = (groups.get("nth") or groups.get("number") or groups.get("bare") or "0").lower()
    return _CARDINALS.index(number) + 1 if number in _CARDINALS else int(number)
