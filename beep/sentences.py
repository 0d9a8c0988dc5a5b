"""What stands around a command in a sentence: courtesies, remarks, "and …?", "no, …". Pure.

`parse` takes it off and says what is left as a command; what is corrected or added is one as well.
"""

import re
from typing import Final

from beep.abilities import NEVER_MIND, UNDO
from beep.grammar import AGAIN, ALSO, DEGREE, INSTEAD, REDO, UNDO_MANY, Command, fragment, whole
from beep.phrases import QUOTED

_FLAGS: Final = re.IGNORECASE | re.DOTALL
_CORRECTION: Final = re.compile(
    r"(?:(?P<strong>no|nope|nah|not (?:that|this|it)(?: one| window)?|(?:the )?wrong (?:one|window)"
    r"|i (?:meant|mean|said)|rather)|sorry|oops|whoops|wait|actually)(?![\w'])[ ,.;:!–—-]*",
    _FLAGS,
)
# "No, undo that" is no correction of what it takes back.
_NO_CORRECTIONS: Final = (UNDO, UNDO_MANY, REDO, NEVER_MIND)
_ONLY_THANKS: Final = re.compile(
    r"(?:no|nope|nah),? (?:thanks|thank you).*|(?:thanks|thank you)(?: a lot| (?:so|very) much)?",
    _FLAGS,
)
_NOT_THAT: Final = r"(?:that(?: one)?|it|the [^,\"]+)"
_INSTEAD_AFTER: Final = re.compile(rf",? (?:instead|rather)(?: of {_NOT_THAT})?\Z", _FLAGS)
_NOT_AFTER: Final = re.compile(rf",? (?:and )?not {_NOT_THAT}\Z", _FLAGS)
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
_GREETINGS: Final = (
    r"hey|hello|hi|ok|okay|beep|so|well|great|thanks|thank you|perfect|good|nice"
    r"|lovely|cool|fine|sure|yes|yeah|hm+|oh|ah|uh|um|ugh|al+ ?right|right|by the way|anyway"
)
_FILLERS: Final = rf"now|and|then|{_GREETINGS}"
_GREETING: Final = re.compile(rf"(?:(?:{_GREETINGS})(?![\w'])[,.!…]* )+", _FLAGS)
# Only these are passed over: what else stands before a command may turn its meaning round.
_REMARKS: Final = (
    r"enough of (?:that|this|it)|(?:that's )?(?:too|so) (?:much|far|big|small|late)|back to work"
    r"|(?:that's|that is|much) (?:better|it|good|great|fine|enough|nice)|not bad"
    r"|well done|good job|got it|i see|one more thing|first|next|finally|my mistake|no problem"
    r"|thanks a lot|thank you very much|let me (?:see|think)|excuse me"
)
_POLITE: Final = re.compile(
    rf"(?:(?:{_REMARKS})[,.!;:…–—-]+ "
    rf"|(?:(?:show|tell)(?: me)?(?= (?:what|which|how|where|who))|{_ASKING}"
    rf"|(?:{_FILLERS})(?![\w'])(?! (?:way|one|click))),?(?:[.!:…]+(?= ))? )+",
    _FLAGS,
)
_THANKS: Final = re.compile(
    r"(?:[,.!]* (?:please|for me|thanks|thank you|beep|right now|now|then|(?:would|will|can) you"
    r"|too|also|as well))+\Z",
    _FLAGS,
)
_THANKS_MAX: Final = 40  # characters
_AFTER_MAX: Final = 80
_SINGLE: Final = re.compile(r"(?<!\w)'([^']+)'(?!\w)")


def parse(text: str) -> Command | None:
    """The command that a text is, or None. Never raises, whatever the text."""
    plain = tidy(text)
    if _ONLY_THANKS.fullmatch(_plain(text)):
        return Command(NEVER_MIND)
    end = max(0, len(plain) - _AFTER_MAX)
    if _INSTEAD_AFTER.search(plain, end) or _NOT_AFTER.search(plain, end):
        return _correction(plain)
    return whole(plain) or _correction(plain) or _addition(text) or fragment(plain)


def _correction(plain: str) -> Command | None:
    """ "No, the other one": what is said instead, a phrase or a command."""
    strong, rest = False, plain
    while found := _CORRECTION.match(rest):
        strong, rest = strong or bool(found["strong"]), rest[found.end() :]
    swapped = _NOT_BUT.fullmatch(rest) or _NOT_BUT.fullmatch(plain)
    rest = swapped["right"] if swapped else rest
    instead, rest = rest, _INSTEAD_AFTER.sub("", rest)
    rest, is_emphasis = _NOT_AFTER.subn("", rest)
    if rest == plain:
        return None
    inner = (whole(tidy(rest)) or fragment(tidy(rest))) if rest else None
    if inner and (inner.name in _NO_CORRECTIONS or (inner.name in (AGAIN, DEGREE) and not strong)):
        return inner
    if inner and inner.name == AGAIN:  # "no more"
        return Command(NEVER_MIND)
    corrects = strong or swapped or (instead != rest and not is_emphasis)
    if inner and not inner.fragment and not corrects:
        return inner  # "actually, close it" and "close Notes, not the clock" correct nothing
    return Command(INSTEAD, tidy(rest), inner=inner)


def _addition(text: str) -> Command | None:
    """ "And the clock?": the same for something else."""
    bare = _plain(text)  # before courtesies are taken off: "and" is one of them
    greeting = _GREETING.match(bare)
    bare = bare[greeting.end() :] if greeting else bare
    found = _ALSO_BEFORE.fullmatch(bare) or _ALSO_AFTER.fullmatch(bare)
    if found is None or fragment(tidy(found["rest"])):
        return None
    return Command(ALSO, tidy(found["rest"]))


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
        text = text.translate({ord(mark): '"' for mark in "“”„«»"} | {ord("’"): "'"})
        text = _SINGLE.sub(r'"\1"', text)
    spaced = re.sub(rf"({QUOTED})|\s+", lambda found: found[1] or " ", text)
    return spaced.strip(" ").rstrip(" .!?…").lstrip(" ,.…")
