"""The forms of text that BEEP reads back from a cached turn, and those that it alone writes.

A turn in `convo_history:{userId}` is nothing but command and response, so what a later command
may refer to stands in the response: lists as `1. Notes, 2. Ledger`, what was understood as a
first line `Understood: close "Notes".`, and questions that end in `Which one do you mean: …?`.
"""

import json
import re
from typing import Final

from aevon.intents import PLAIN, WHICH_ONE, quoted

_UNDERSTOOD: Final = "Understood: "
_WHAT_WITH: Final = "What should I do with "

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


def what_with(name: str) -> str:
    """The question after a reference without a verb."""
    return f"{_WHAT_WITH}{quoted(name)}?"


def with_echo(command: str, answer: str) -> str:
    """The answer under a line that says which command the references came to."""
    return f"{_UNDERSTOOD}{command}.\n{answer}"


def read_echo(response: str) -> str | None:
    """The command in the first line of an echoing response."""
    line = response.partition("\n")[0]
    if line.startswith(_UNDERSTOOD) and line.endswith("."):
        return line[len(_UNDERSTOOD) : -1]
    return None


def answer_of(response: str) -> str:
    """The response without its echo."""
    return response.partition("\n")[2] if read_echo(response) is not None else response


def asks_which(response: str) -> bool:
    """Whether the response ends by asking which one was meant."""
    tail = re.sub(QUOTED, "", answer_of(response))
    return WHICH_ONE in tail and tail.rstrip().endswith(("?", "Please say its name."))


def read_what_with(response: str) -> str | None:
    """The name in a response that asked what to do with it."""
    found = re.fullmatch(rf"{_WHAT_WITH}({QUOTED})\?", response)
    return unquoted(found[1]) if found else None
