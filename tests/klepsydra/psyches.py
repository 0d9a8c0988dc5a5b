"""Players to test with: states at NOW, and one interaction with Sisyphus's Ascent."""

import math
from dataclasses import replace

from hypothesis import strategies as st

from klepsydra.engine import Play, PsycheSnapshot, interact, new_psyche
from klepsydra.instruments import INSTRUMENTS, WEIGHT_TOTAL, instrument

NOW = 1_760_000_000.0
SISYPHUS = instrument("sisyphus-ascent")
LOSING_ROLL, WINNING_ROLL = 0, 9_998

waves = st.floats(-1, 1)
instants = st.floats(0, 4e9)
phases = st.floats(0, math.tau)
rolls = st.integers(0, WEIGHT_TOTAL - 1)
all_instruments = st.sampled_from(list(INSTRUMENTS.values()))


def psyche(**overrides: object) -> PsycheSnapshot:
    """A calm state at NOW whose wave is flat unless told otherwise."""
    return replace(new_psyche(1, now=NOW), **{"amplitude": 0.0, "sre_wave": 0.0, **overrides})


def play(state: PsycheSnapshot, roll: int, *, now: float = NOW, stake: int = 10) -> Play:
    """One interaction with Sisyphus's Ascent."""
    return interact(state, SISYPHUS, stake, now=now, roll=roll)


def throttled() -> PsycheSnapshot:
    """The state after the loss that crossed the critical level, at NOW."""
    return play(psyche(frustration_level=0.75), LOSING_ROLL).state
