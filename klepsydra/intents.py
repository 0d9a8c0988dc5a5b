"""What BEEP can do here: play, tell how the player stands, list the instruments."""

import time
from collections.abc import Mapping
from typing import Any, Final

from aevon import intents
from aevon.intents import Done
from klepsydra import services
from klepsydra.documents import OutcomeDocument, PsycheDocument, snapshot_of
from klepsydra.engine import PITY_THRESHOLD, StakeOutOfRange, settle
from klepsydra.instruments import INSTRUMENTS, Instrument

PLAY: Final = "klepsydra.play"
STATUS: Final = "klepsydra.status"
LIST: Final = "klepsydra.instruments"


def connect() -> None:
    """Register the handlers, and what can be played."""
    intents.register(PLAY, play)
    intents.register(STATUS, status)
    intents.register(LIST, list_instruments)
    intents.offer("instruments", _names())


def play(user_id: int, arguments: Mapping[str, Any]) -> Done:
    """Play once; without a stake, for the instrument's least. Nothing takes it back.

    Raises `IntentRefused`.
    """
    chosen = _instrument(arguments.get("instrument"))
    stake = arguments.get("stake", chosen.min_stake)
    try:
        played = services.play(user_id, chosen.slug, stake)
    except StakeOutOfRange as refusal:
        raise intents.IntentRefused(f"{chosen.name}: {refusal}") from None
    except services.NoSuchUser:
        raise _unknown_player() from None
    return Done(_told(chosen, played.answer.outcome, played.answer.psyche))


def status(user_id: int, _arguments: Mapping[str, Any]) -> Done:
    """How the player stands now. Raises `IntentRefused`."""
    try:
        document = services.psyche(user_id)
    except services.NoSuchUser:
        raise _unknown_player() from None
    now = time.time()
    state = settle(snapshot_of(document), now=now)
    standing = (
        f"Your luck wave is at {state.sre_wave:+z.2f}, your loss streak is {state.loss_streak} "
        f"and your frustration is at {state.frustration_level:.0%}."
    )
    if state.is_throttled:
        resting = "You are resting: KLEPSYDRA lets you play again when you are calm."
        return Done(f"{standing} {resting}")
    return Done(standing + _pity(state.loss_streak))


def list_instruments(_user_id: int, _arguments: Mapping[str, Any]) -> Done:
    """The instruments' names, as a list that "the second one" can point into."""
    return Done(f"You can play: {_enumerated()}.")


def _instrument(name: object) -> Instrument:
    wanted = str(name or "").casefold()
    for each in INSTRUMENTS.values():
        if wanted in (each.slug, each.name.casefold()):
            return each
    raise intents.IntentRefused(f"I know no such instrument. You can play: {_enumerated()}.")


def _enumerated() -> str:
    return intents.enumerated(_names())


def _names() -> list[str]:
    return [each.name for each in INSTRUMENTS.values()]


def _told(chosen: Instrument, outcome: OutcomeDocument, psyche: PsycheDocument) -> str:
    if outcome.kind == "rested":
        return (
            f"You are resting; no stake was taken. {chosen.name} can be played again in "
            f"{outcome.retry_after_seconds} s."
        )
    if not outcome.is_win:
        lost = f"{chosen.name}: {outcome.tier}. You lost your stake of {outcome.stake} Ξ."
        return lost + _pity(psyche.loss_streak)
    return f"{chosen.name}: {outcome.tier}! {outcome.stake} Ξ brought {outcome.payout} Ξ."


def _pity(loss_streak: int) -> str:
    return " The next play is a sure win." if loss_streak >= PITY_THRESHOLD else ""


def _unknown_player() -> intents.IntentRefused:
    return intents.IntentRefused("I do not know you as a player.")
