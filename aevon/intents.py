"""What BEEP can do: each service registers a handler for its own intents.

So BEEP commands the services without importing them, and they answer without knowing BEEP.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

# user id, arguments as BEEP's engine resolved them -> what BEEP answers
Handler = Callable[[int, Mapping[str, Any]], str]

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
