"""What BEEP can do: each service registers a handler for its own intents.

So BEEP commands the services without importing them, and they answer without knowing BEEP. All it
remembers of an answer is its text: names and lists are written here in the one form that it reads
back, so that "the second one" means something afterwards.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

# user id, arguments as BEEP's engine resolved them -> what BEEP answers
Handler = Callable[[int, Mapping[str, Any]], str]

# A name that needs no quotes: no comma, full stop or bracket that would end it in a list.
PLAIN: Final = r"\w(?:[\w '’&/+-]*[\w'’+])?"
WHICH_ONE: Final = "Which one do you mean"

_handlers: Final[dict[str, Handler]] = {}


class IntentRefused(Exception):
    """The intent cannot be carried out; the message is what BEEP answers. Nothing was changed."""


def register(intent: str, handler: Handler) -> None:
    """Answer `intent` (a dotted name such as `canvas.open`) with `handler`."""
    _handlers[intent] = handler


def perform(intent: str, user_id: int, arguments: Mapping[str, Any]) -> str:
    """Carry out an intent and return the answer.

    Raises `IntentRefused`, also for an intent that nobody registered.
    """
    handler = _handlers.get(intent)
    if handler is None:
        raise IntentRefused(f"I do not know how to do {intent} yet.")
    return handler(user_id, arguments)


def quoted(name: str) -> str:
    """The name as a JSON string, so that any name can be read back."""
    inner = json.dumps(name, ensure_ascii=False)[1:-1]
    # No quotation mark inside, so that a reader may simply look for the next one.
    return '"' + inner.replace('\\"', "\\u0022") + '"'


def written(name: str) -> str:
    """The name as it is, or quoted where BEEP could not tell its end."""
    return name if re.fullmatch(PLAIN, name) else quoted(name)


def enumerated(names: Iterable[str]) -> str:
    """`1. Notes, 2. Ledger`: the list form that "the second one" can point into."""
    return ", ".join(f"{number}. {written(name)}" for number, name in enumerate(names, 1))


def which_one(names: Sequence[str]) -> str:
    """The question that lists the candidates; the next command may be its answer."""
    if not names:
        return f"{WHICH_ONE}? Please say its name."
    return f"{WHICH_ONE}: {enumerated(names)}?"
