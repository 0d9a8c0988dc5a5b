"""What BEEP says of itself."""

from collections.abc import Mapping
from typing import Any, Final

# No numbered list: "the second one" after it would point into the help.
HELP: Final = (
    'I open, close, move and raise micro-apps ("open Notes", "move it left 40", "bring the '
    'second one to front") and list them ("list windows"). I play Folly Instruments ("play '
    'SpinForge with stake 5"), list them with their odds ("list instruments") and tell how you '
    'are ("status"). "again" repeats.'
)


def answer(user_id: int, arguments: Mapping[str, Any]) -> str:  # noqa: ARG001  a handler's shape
    """The answer to the intent `beep.help`."""
    return HELP
