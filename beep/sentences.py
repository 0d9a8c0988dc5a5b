"""What stands around a command in a sentence: courtesies, remarks, "and …?", "no, …". Pure.

`parse` takes it off and says what is left as a command; what is corrected or added is one as well.
"""

import re
from typing import Final

from beep.abilities import NEVER_MIND, UNDO
from beep.grammar import AGAIN, ALSO, INSTEAD, OTHER_WAY, REDO, UNDO_MANY, Command, fragment, whole
from beep.phrases import QUOTED

_FLAGS: Final = re.IGNORECASE | re.DOTALL
_CORRECTION: Final = re.compile(
    r"(?:(?P<strong>no|nope|nah|not (?:that|this|it)(?: one| window)?|(?:the )?wrong (?:one|window)"
    r"|i (?:meant|mean|said)|rather)|sorry|oops|whoops|wait|actually)(?![\w'])[ ,.;:!–—-]*",
    _FLAGS,
)
# "No, undo that" is no correction of what it takes back.
_NO_CORRECTIONS: Final = (UNDO, UNDO_MANY, REDO, NEVER_MIND, AGAIN, OTHER_WAY)
_NOT_THAT: Final = r"(?:that(?: one)?|it|the [^,\"]+)"
_INSTEAD_AFTER: Final = re.compile(
    rf"(?:,? (?:instead|rather)(?: of {_NOT_THAT})?|,? (?:and )?not {_NOT_THAT})\Z", _FLAGS
)
_NOT_BUT: Final = re.compile(r"not [^,\"]+?(?:, (?:but )?| but )(?P<right>.+)", _FLAGS)
_ALSO_BEFORE: Final = re.compile(
    r"(?:(?:and(?: now| also)?|also|now|then|what about|how about"
    r"|(?:do )?(?:the )?same (?:again )?(?:for|with|to|goes for)),? )+(?P<rest>.+)",
    _FLAGS,
)
_ALSO_AFTER: Final = re.compile(
    r"(?P<rest>.+?),? (?:too|also|as well)(?:,? (?:please|thanks|thank you))*", _FLAGS
)
_ASKING: Final = (
    r"(?:can|could|would|will) you|i(?:'d| would) like you to|i(?:'d| would) like to(?! see)"
    r"|i (?:want|need) to(?! see)|let's|go ahead and|just|kindly|please"
)
_FILLERS: Final = (
    r"hey|hello|hi|ok|okay|beep|now|and|then|so|well|great|thanks|thank you|perfect|good|nice"
    r"|lovely|cool|fine|sure|yes|yeah|hm+|oh|ah|uh|um|ugh|al+ ?right|right|by the way|anyway"
)
_POLITE: Final = re.compile(
    rf"(?:(?:(?:show|tell)(?: me)?(?= (?:what|which|how|where|who))|{_ASKING}"
    rf"|(?:{_FILLERS})(?![\w'])(?! (?:way|one|click))),?(?:[.!…]+(?= ))? )+",
    _FLAGS,
)
_THANKS: Final = re.compile(
    r"(?:[,.!]* (?:please|for me|thanks|thank you|beep|right now|now|then|(?:would|will|can) you"
    r"|too|also|as well))+\Z",
    _FLAGS,
)
_THANKS_MAX: Final = 40  # characters
_REMARK: Final = re.compile(r"[^\"]*[.!;:,–—] ", _FLAGS)


def parse(text: str) -> Command | None:
    """The command that a text is, or None. Never raises, whatever the text."""
    plain = tidy(text)
    if _INSTEAD_AFTER.search(plain, max(0, len(plain) - 80)):
        return _correction(plain)
    return (
        whole(plain)
        or _correction(plain)
        or _addition(text)
        or fragment(plain)
        or _after_a_remark(plain)
    )


def _correction(plain: str) -> Command | None:
    """ "No, the other one": what is said instead, a phrase or a command."""
    strong, rest = False, plain
    while found := _CORRECTION.match(rest):
        strong, rest = strong or bool(found["strong"]), rest[found.end() :]
    swapped = _NOT_BUT.fullmatch(rest) or _NOT_BUT.fullmatch(plain)
    rest = swapped["right"] if swapped else _INSTEAD_AFTER.sub("", rest)
    if rest == plain:
        return None
    inner = (whole(tidy(rest)) or fragment(tidy(rest))) if rest else None
    if inner and inner.name in _NO_CORRECTIONS:
        return inner
    goes_on = strong or swapped or rest != plain[len(plain) - len(rest) :]
    if inner and not inner.fragment and not goes_on:
        return inner  # "actually, close it" corrects nothing
    return Command(INSTEAD, tidy(rest), inner=inner)


def _addition(text: str) -> Command | None:
    """ "And the clock?": the same for something else."""
    bare = _plain(text)  # before courtesies are taken off: "and" is one of them
    found = _ALSO_BEFORE.fullmatch(bare) or _ALSO_AFTER.fullmatch(bare)
    if found is None or fragment(tidy(found["rest"])):
        return None
    return Command(ALSO, tidy(found["rest"]))


def _after_a_remark(plain: str) -> Command | None:
    """ "Enough of that. Close it": what the last sentence says."""
    found = _REMARK.match(plain)
    return whole(tidy(plain[found.end() :])) if found else None


def tidy(text: str) -> str:
    """The text without courtesies, closing marks and superfluous space; quoted parts untouched."""
    bare = _plain(text)
    polite = _POLITE.match(bare)
    bare = bare[polite.end() :] if polite else bare
    # Searched for at the end only: a search from the left is quadratic in a text of "please"s.
    thanks = _THANKS.search(bare, max(0, len(bare) - _THANKS_MAX))
    return bare[: thanks.start()] if thanks else bare


def _plain(text: str) -> str:
    if '"' not in text:
        text = text.translate({ord("“"): '"', ord("”"): '"', ord("’"): "'"})
    spaced = re.sub(rf"({QUOTED})|\s+", lambda found: found[1] or " ", text)
    return spaced.strip(" ").rstrip(" .!?…").lstrip(" ,.…")
