"""What a player is told before playing: every table of odds, at their own wave."""

import time
from typing import Any

from klepsydra.documents import PsycheDocument, snapshot_of
from klepsydra.engine import PITY_THRESHOLD, PsycheSnapshot, settle
from klepsydra.instruments import INSTRUMENTS, Instrument, disclosed_odds


def disclosed(document: PsycheDocument) -> dict[str, Any]:
    """The instruments with the odds of this moment, as plain camelCase data."""
    state = settle(snapshot_of(document), now=time.time())
    return {
        "wave": state.sre_wave,
        "lossStreak": state.loss_streak,
        "pityThreshold": PITY_THRESHOLD,
        "pityNext": state.loss_streak >= PITY_THRESHOLD,
        "instruments": [_instrument(each, state) for each in INSTRUMENTS.values()],
    }


def _instrument(each: Instrument, state: PsycheSnapshot) -> dict[str, Any]:
    return {
        "slug": each.slug,
        "name": each.name,
        "description": each.description,
        "minStake": each.min_stake,
        "maxStake": each.max_stake,
        "odds": disclosed_odds(each, wave=state.sre_wave, amplitude=state.amplitude),
    }
