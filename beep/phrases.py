"""The forms of text that BEEP reads back from a cached turn, and those that it alone writes.

A turn in `convo_history:{userId}` is nothing but command and response, so what a later command
may refer to stands in the response: lists as `1. Notes, 2. Ledger`, what was understood as a
first line `Understood: close "Notes".`, what was refused behind `Not done:`, and questions that
end in `Which one do you mean: …?` or ask for what a command lacked.
"""

import json
import re
from collections.abc import Sequence
from typing import Final

from aevon.intents import DO_YOU_MEAN, PLAIN, WHICH_ONE, quoted

_UNDERSTOOD: Final = "Understood: "
_INSTEAD: Final = re.compile(r"instead of turn ([0-9]{1,18}), ")
_NOT_DONE: Final = "Not done: "
_WHAT_WITH: Final = "What should I do with "
_WHERE: Final = "Where should I move "
_HOW_LARGE: Final = "How large should I make "
NOT_UNDERSTOOD: Final = 'I did not understand that. What would you like me to do? Try "help".'
NOTHING_TO_REPEAT: Final = "There is nothing to repeat. What would you like me to do?"
NOTHING_TO_TAKE_BACK: Final = "There is nothing that I could take back."
A_PLAY_STANDS: Final = "A play cannot be taken back."
A_PLAY_STANDS_SAY_IT: Final = "A play cannot be taken back. Say what to play, if you like."
NO_OTHER_WAY: Final = "There is no other way round for that."
ONE_AT_A_TIME: Final = "One at a time, please: what should I do first?"
NOTHING_OPEN: Final = "Nothing is open."
# What is understood and cannot be done, and what can be instead.
NO_FAR_EDGE: Final = "I cannot know how large your screen is: name a place, such as 800 400."
NO_FULL_SCREEN: Final = (
    "I cannot fill your screen: a double click on the title bar does, or say a size."
)
NO_MINIMISING: Final = (
    'Windows have no small form here: close it, and "undo" brings it back as it was.'
)
NO_UNDOING_MANY: Final = "I take back one thing at a time: say it again for the one before."
NO_SWAPPING: Final = "I move one window at a time: say where each of them should go."
# After these nothing has been done, nor asked that a word could answer.
_NOTHING_DONE: Final = (
    NOT_UNDERSTOOD, NOTHING_TO_REPEAT, NOTHING_TO_TAKE_BACK, A_PLAY_STANDS, A_PLAY_STANDS_SAY_IT,
    NO_OTHER_WAY, ONE_AT_A_TIME, NOTHING_OPEN, NO_FAR_EDGE, NO_FULL_SCREEN, NO_MINIMISING,
    NO_UNDOING_MANY, NO_SWAPPING,
)  # fmt: skip
INSTEAD_WHAT: Final = "What should I have done it to? Please say its name."

QUOTED: Final = r'"[^"]*"'
_ITEM: Final = re.compile(rf"({QUOTED}|{PLAIN})(?: \([^()]*\))?")
_FIRST: Final = re.compile(rf"{QUOTED}|(?<!\S)(1\. )")


def unquoted(text: str) -> str:
    """The name in a quoted text: JSON where it is, else what stands between the marks."""
    try:
        return str(json.loads(text))
    except ValueError:
        return text[1:-1]


def read_enumeration(text: str) -> tuple[str, ...]:
    """The names of the first list in a text, empty if there is none.

    Each item may be followed by a remark in brackets; commas, semicolons or lines divide them.
    """
    start = next((found.end() for found in _FIRST.finditer(text) if found[1]), None)
    names: list[str] = []
    while start is not None and (item := _ITEM.match(text, start)):
        names.append(unquoted(item[1]) if item[1].startswith('"') else item[1])
        following = re.compile(rf"[,;]?\s*\b{len(names) + 1}\. ").match(text, item.end())
        start = following.end() if following else None
    return tuple(names)


def read_listed(text: str) -> tuple[str, ...]:
    """The names of the first list, or the one that a question offers."""
    offered = re.search(rf"{DO_YOU_MEAN} ({QUOTED}|{PLAIN})\?\Z", text)
    if offered is None:
        return read_enumeration(text)
    return (unquoted(offered[1]) if offered[1].startswith('"') else offered[1],)


def what_with(name: str) -> str:
    """The question after a reference without a verb."""
    return f"{_WHAT_WITH}{quoted(name)}?"


def where_to(names: Sequence[str]) -> str:
    """The question after a move without a direction."""
    return f"{_WHERE}{', '.join(map(quoted, names))}?"


def how_large(names: Sequence[str]) -> str:
    """The question after a change of size without a size."""
    return f"{_HOW_LARGE}{', '.join(map(quoted, names))}?"


def not_done(reason: str) -> str:
    """The answer when nothing was changed; a question says so by itself."""
    return reason if asks_which(reason) else f"{_NOT_DONE}{reason}"


def was_done(response: str) -> bool:
    """Whether the response tells of something that was done, not of a refusal or a question."""
    answer = answer_of(response)
    # What a correction took back is told before what it could not do.
    refused = _NOT_DONE in re.sub(QUOTED, "", answer) or answer.endswith(_NOTHING_DONE)
    return not (refused or asks_which(answer) or left_open(answer))


def read_kinds(answer: str, names: Sequence[str]) -> tuple[str, ...]:
    """What an answer says in brackets behind one of these names: `Closed Paris (clock).`"""
    either = "|".join(re.escape(form) for name in names for form in (name, quoted(name)))
    return tuple(re.findall(rf"(?:{either}) \(([^()]*)\)", answer, re.IGNORECASE) if names else ())


def with_echo(command: str, answer: str, *, instead_of: int | None = None) -> str:
    """The answer under a line that says what was understood, and which turn that corrects."""
    correcting = "" if instead_of is None else f"instead of turn {instead_of}, "
    return f"{_UNDERSTOOD}{correcting}{command}.\n{answer}"


def read_echo(response: str) -> tuple[str | None, int | None]:
    """The command in the first line of an echoing response, and the turn that it corrected."""
    line = response.partition("\n")[0]
    if not (line.startswith(_UNDERSTOOD) and line.endswith(".")):
        return None, None
    command = line[len(_UNDERSTOOD) : -1]
    correcting = _INSTEAD.match(command)
    return (command[correcting.end() :], int(correcting[1])) if correcting else (command, None)


def answer_of(response: str) -> str:
    """The response without its echo."""
    return response.partition("\n")[2] if read_echo(response)[0] is not None else response


def asks_which(response: str) -> bool:
    """Whether the response ends by asking which one was meant."""
    tail = re.sub(QUOTED, "", answer_of(response))
    asked = (WHICH_ONE in tail or DO_YOU_MEAN in tail) and tail.rstrip().endswith("?")
    return asked or tail == INSTEAD_WHAT or tail.endswith(f"{WHICH_ONE}? Please say its name.")


def left_open(response: str) -> tuple[str, tuple[str, ...]] | None:
    """What a response asked for, `what`, `where` or `how large`, and about which names."""
    for kind, begins in (("what", _WHAT_WITH), ("where", _WHERE), ("how large", _HOW_LARGE)):
        if found := re.fullmatch(rf"{begins}({QUOTED}(?:, {QUOTED})*)\?", response):
            return kind, tuple(map(unquoted, re.findall(QUOTED, found[1])))
    return None
