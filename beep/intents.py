"""What BEEP does itself, without another service."""

from collections.abc import Mapping
from typing import Any, Final

from aevon import intents
from aevon.intents import Done
from beep.grammar import HELP

# No numbered list: "the second one" after it would point into the help.
HELP_TEXT: Final = (
    'I open, close, move and raise micro-apps ("open Notes", "move it left 40", "bring the '
    'second one to front") and list them ("list windows"). I play Folly Instruments ("play '
    'SpinForge with stake 5"), list them with their odds ("list instruments") and tell how you '
    'are ("status"). "again" repeats.'
)


def connect() -> None:
    """Register BEEP's own intent."""
    intents.register(HELP, answer_help)


def answer_help(user_id: int, arguments: Mapping[str, Any]) -> Done:  # noqa: ARG001  a handler's shape
    """The answer to `beep.help`, the same for everybody."""
    return Done(HELP_TEXT)
