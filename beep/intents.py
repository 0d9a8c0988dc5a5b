"""What BEEP does itself, without another service."""

from collections.abc import Mapping
from typing import Any, Final

from aevon import intents
from aevon.intents import Done, IntentRefused
from beep import selectors
from beep.abilities import HELP, NEVER_MIND, UNDO

# No numbered list: "the second one" after it would point into the help.
HELP_TEXT: Final = (
    'I open, close, move, resize and raise micro-apps ("open Notes", "move it to the right", '
    '"make that bigger", "bring the clock to the front"), tile and tidy them ("tidy up") and tell '
    'what is open or not yet saved ("what is open", "what is unsaved"). I play Folly Instruments '
    '("play SpinForge with stake 5", "list instruments"), tell how you are ("status") and where '
    'you are signed in ("my sessions"). "It", "the other one", "again" and "no, the clock" mean '
    'what you would think; "undo" takes back.'
)


def connect() -> None:
    """Register BEEP's own intents."""
    intents.register(HELP, lambda *_: Done(HELP_TEXT))
    intents.register(NEVER_MIND, lambda *_: Done("All right."))
    intents.register(UNDO, take_back)


def take_back(user_id: int, arguments: Mapping[str, Any]) -> Done:
    """Undo what a turn did; so can be undone what this does. Raises `IntentRefused`."""
    deed = selectors.undo_of(user_id, arguments["turn"])
    if deed is None:
        raise IntentRefused("That cannot be taken back.")
    return intents.perform(deed.intent, user_id, deed.arguments)
