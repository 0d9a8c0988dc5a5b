"""What BEEP can do: each service registers a handler for its own intents, and what can be named.

So BEEP commands the services without importing them, and they answer without knowing BEEP. All it
remembers of an answer is its text: names and lists are written here in the one form that it reads
back, so that "the second one" means something afterwards.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aevon.cache import Read


@dataclass(frozen=True, slots=True)
class Deed:
    """An intent with its arguments, ready to be performed."""

    intent: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Done:
    """What BEEP answers, and the deed that takes back what was done, where one does."""

    answer: str
    undo: Deed | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """A window that is open now; places and sizes in pixels, a higher `z_index` is nearer.

    `name` means this window alone: its title, or its id where the title does not tell.
    """

    name: str
    id: str
    title: str
    type: str
    x: float
    y: float
    width: float
    height: float
    z_index: int


# user id, arguments as BEEP's engine resolved them -> what BEEP answers
Handler = Callable[[int, Mapping[str, Any]], Done]
Look = Callable[[int], Read[tuple[Window, ...]]]

# A name that needs no quotes: no comma, full stop or bracket that would end it in a list.
PLAIN: Final = r"\w(?:[\w '’&/+-]*[\w'’+])?"
WHICH_ONE: Final = "Which one do you mean"
DO_YOU_MEAN: Final = "Do you mean"

# Marks of bidirectional text, and separators of lines.
_DIRECTIONS: Final = re.compile("[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")

_handlers: Final[dict[str, Handler]] = {}
_names: Final[dict[str, tuple[str, ...]]] = {}
_looks: Final[list[Look]] = []
_NOTHING: Final[Read[tuple[Window, ...]]] = Read(("PING",), lambda *_: (), lambda: ())


class IntentRefused(Exception):
    """The intent cannot be carried out; the message is what BEEP answers. Nothing was changed."""


def register(intent: str, handler: Handler) -> None:
    """Answer `intent` (a dotted name such as `canvas.open`) with `handler`."""
    _handlers[intent] = handler


def offer(kind: str, names: Iterable[str]) -> None:
    """Say what a service has that commands may name: its `instruments`, its `microApps`."""
    _names[kind] = tuple(names)


def offered(kind: str) -> tuple[str, ...]:
    """The names of this kind; empty where no service has any."""
    return _names.get(kind, ())


def show_windows(look: Look) -> None:
    """Have `look(user_id)` be how it is read what is open now."""
    _looks[:] = [look]


def windows(user_id: int) -> Read[tuple[Window, ...]]:
    """What is open now, the front one first; to be read `together` with other things."""
    return _looks[0](user_id) if _looks else _NOTHING


def perform(intent: str, user_id: int, arguments: Mapping[str, Any]) -> Done:
    """Carry out an intent and say what was done.

    Raises `IntentRefused`, also for an intent that nobody registered.
    """
    handler = _handlers.get(intent)
    if handler is None:
        raise IntentRefused(f"I do not know how to do {intent} yet.")
    return handler(user_id, arguments)


def quoted(name: str) -> str:
    """The name as a JSON string, so that any name can be read back."""
    inner = json.dumps(name, ensure_ascii=False)[1:-1]
    # No quotation mark inside, so that a reader may simply look for the next one; and nothing that
    # turns the direction of what follows.
    plain = _DIRECTIONS.sub(lambda found: f"\\u{ord(found[0]):04x}", inner)
    return '"' + plain.replace('\\"', "\\u0022") + '"'


def written(name: str) -> str:
    """The name as it is, or quoted where BEEP could not tell its end."""
    return name if re.fullmatch(PLAIN, name) else quoted(name)


def enumerated(names: Iterable[str]) -> str:
    """`1. Notes, 2. Ledger`: the list form that "the second one" can point into."""
    return remarked((name, "") for name in names)


def remarked(items: Iterable[tuple[str, str]]) -> str:
    """`1. Firefox (since noon), 2. curl`: such a list with what there is to say of each."""
    return ", ".join(f"{number}. {_item(*item)}" for number, item in enumerate(items, 1))


def _item(name: str, remark: str) -> str:
    # A bracket inside would end the remark.
    inner = re.sub(r"[()]", "", remark)
    return f"{written(name)} ({inner})" if inner else written(name)


def which_one(names: Sequence[str], remarks: Mapping[str, str] | None = None) -> str:
    """The question that lists the candidates, with what there is to say of some; the next command
    may be its answer."""
    if not names:
        return f"{WHICH_ONE}? Please say its name."
    if len(names) == 1:
        return f"{DO_YOU_MEAN} {written(names[0])}?"
    items = remarked((name, (remarks or {}).get(name, "")) for name in names)
    return f"{WHICH_ONE}: {items}?"
