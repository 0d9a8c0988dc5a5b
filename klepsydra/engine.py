"""The KLEPSYDRA engine: what one interaction with a Folly Instrument does to a player.

Pure: time and randomness are arguments, so every outcome can be recomputed from its record.
Weights are whole numbers out of `WEIGHT_TOTAL`, stakes and payouts whole ΞCredits, times Unix
seconds. The rules are those of the domain document; the constants below are this project's choice.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from klepsydra.instruments import Instrument, Tier, Weights, pity_weights, weights_at

PITY_THRESHOLD: Final = 5  # losses in a row; the next interaction is then a sure win

FRUSTRATION_PER_LOSS: Final = 0.08
FRUSTRATION_PER_WIN: Final = -0.10
FRUSTRATION_HALF_LIFE_SECONDS: Final = 120.0
# Two levels, not one: a player who has just been released must not be stopped by the next loss.
FRUSTRATION_CRITICAL: Final = 0.80
FRUSTRATION_RELEASE: Final = 0.40

DEFAULT_AMPLITUDE: Final = 1.0
DEFAULT_PERIOD_SECONDS: Final = 3600.0

# 2**64 divided by the golden ratio: steps of it spread any run of ids evenly (Knuth, TAOCP 3, 6.4).
_GOLDEN_STEP: Final = 0x9E3779B97F4A7C15

Kind = Literal["played", "rested"]


class StakeOutOfRange(ValueError):
    """The stake is below the instrument's least or above its greatest (`minimum`, `maximum`)."""

    def __init__(self, stake: int, *, minimum: int, maximum: int) -> None:
        self.stake, self.minimum, self.maximum = stake, minimum, maximum
        super().__init__(f"The stake must be between {minimum} and {maximum} ΞCredits.")


@dataclass(frozen=True)
class PsycheSnapshot:
    """The part of a PsycheState that the engine reads and writes.

    `sre_wave` in [-1, 1] is the wave at the last interaction. `frustration_level` in [0, 1] is as
    it stood at `frustration_at`; `throttled_until` is None unless `is_throttled`. `phase` is in
    radians, `amplitude` in [0, 1], `period_seconds` above 0. Raises ValueError outside of these.
    """

    sre_wave: float
    loss_streak: int
    frustration_level: float
    frustration_at: float
    is_throttled: bool
    throttled_until: float | None
    phase: float
    amplitude: float
    period_seconds: float

    def __post_init__(self) -> None:
        _require("sre_wave", -1 <= self.sre_wave <= 1)
        _require("loss_streak", self.loss_streak >= 0)
        _require("frustration_level", 0 <= self.frustration_level <= 1)
        _require("frustration_at", math.isfinite(self.frustration_at))
        _require("throttled_until", math.isfinite(self.throttled_until or 0))
        _require("phase", math.isfinite(self.phase))
        _require("amplitude", 0 <= self.amplitude <= 1)
        _require("period_seconds", 0 < self.period_seconds < math.inf)


@dataclass(frozen=True)
class Outcome:
    """What one interaction came to, with everything that decided it.

    `weights` are the odds really used, out of `WEIGHT_TOTAL`; `wave` the wave they follow from;
    `roll` in [0, WEIGHT_TOTAL). A rested interaction takes no stake and rolls nothing: `stake`,
    `payout` and `net` are 0, `tier` and `roll` None, `weights` empty, and `retry_after_seconds`
    (at least 1) says when play goes on.
    """

    kind: Kind
    instrument: str
    stake: int
    wave: float
    tier: Tier | None = None
    is_win: bool = False
    payout: int = 0
    pity: bool = False
    roll: int | None = None
    weights: Weights = field(default_factory=dict)
    retry_after_seconds: int | None = None

    @property
    def net(self) -> int:
        """ΞCredits gained (positive) or lost (negative)."""
        return self.payout - self.stake

    def as_dict(self) -> dict[str, object]:
        """The outcome as plain camelCase data, for the API and the record."""
        return {
            "kind": self.kind,
            "instrument": self.instrument,
            "stake": self.stake,
            "tier": self.tier.value if self.tier else None,
            "isWin": self.is_win,
            "payout": self.payout,
            "net": self.net,
            "pity": self.pity,
            "wave": self.wave,
            "roll": self.roll,
            "weights": {tier.value: weight for tier, weight in self.weights.items()},
            "retryAfterSeconds": self.retry_after_seconds,
        }


@dataclass(frozen=True)
class Play:
    """One interaction: the state after it and its outcome."""

    state: PsycheSnapshot
    outcome: Outcome


def new_psyche(user_id: int, *, now: float) -> PsycheSnapshot:
    """The calm state in which a user begins, on a wave of their own."""
    phase = phase_for(user_id)
    wave = sre_wave(
        now, phase=phase, amplitude=DEFAULT_AMPLITUDE, period_seconds=DEFAULT_PERIOD_SECONDS
    )
    return PsycheSnapshot(
        sre_wave=wave,
        loss_streak=0,
        frustration_level=0.0,
        frustration_at=now,
        is_throttled=False,
        throttled_until=None,
        phase=phase,
        amplitude=DEFAULT_AMPLITUDE,
        period_seconds=DEFAULT_PERIOD_SECONDS,
    )


def phase_for(user_id: int) -> float:
    """A phase in [0, 2π) that is always the same for a user and far from the neighbours'."""
    fraction = user_id * _GOLDEN_STEP % 2**64
    return math.tau * ((fraction >> 11) / 2**53)


def sre_wave(at: float, *, phase: float, amplitude: float, period_seconds: float) -> float:
    """The Sine-Rhythm Engine at Unix second `at`: a luck in [-1, 1], 0 being neutral."""
    # The remainder first: the sine of a large angle has few exact digits left.
    turn = math.fmod(at, period_seconds) / period_seconds
    return _clamp(amplitude * math.sin(math.tau * turn + phase), -1.0, 1.0)


def frustration_at(state: PsycheSnapshot, *, now: float) -> float:
    """The frustration in [0, 1] at `now`: it halves every `FRUSTRATION_HALF_LIFE_SECONDS`.

    A clock behind `state.frustration_at` lets nothing decay and nothing grow.
    """
    elapsed = max(0.0, now - state.frustration_at)
    return state.frustration_level * math.exp2(-elapsed / FRUSTRATION_HALF_LIFE_SECONDS)


def settle(state: PsycheSnapshot, *, now: float) -> PsycheSnapshot:
    """The state at `now` when nobody plays: wave moved on, frustration decayed, throttle lifted."""
    until = _release_at(state)
    resting = state.is_throttled and now < until
    return replace(
        state,
        sre_wave=_wave(state, now),
        frustration_level=frustration_at(state, now=now),
        frustration_at=max(now, state.frustration_at),
        is_throttled=resting,
        throttled_until=until if resting else None,
    )


def interact(
    state: PsycheSnapshot, instrument: Instrument, stake: int, *, now: float, roll: int
) -> Play:
    """Play once at Unix second `now`, decided by `roll`, a fair draw from [0, WEIGHT_TOTAL).

    A throttled player rests: no stake is taken and nothing is rolled, but time passes in the
    state. Raises `StakeOutOfRange` for a wrong stake and ValueError for a wrong roll.
    """
    if not instrument.min_stake <= stake <= instrument.max_stake:
        raise StakeOutOfRange(stake, minimum=instrument.min_stake, maximum=instrument.max_stake)
    settled = settle(state, now=now)
    if settled.is_throttled:
        return _rest(settled, instrument, now)
    outcome = _outcome(settled, instrument, stake, roll)
    return Play(_after(settled, is_win=outcome.is_win), outcome)


def draw(weights: Weights, roll: int) -> Tier:
    """The tier on which `roll` falls when the tiers lie end to end, the commonest first."""
    edge = 0
    for tier in Tier:
        edge += weights[tier]
        if 0 <= roll < edge:
            return tier
    raise ValueError(f"The roll {roll} lies outside of the weights' total, {edge}.")


def odds_for(state: PsycheSnapshot, instrument: Instrument) -> Weights:
    """The weights that decide an interaction in this (settled) state."""
    if state.loss_streak >= PITY_THRESHOLD:
        return pity_weights(instrument)
    return weights_at(instrument, state.sre_wave)


def _outcome(state: PsycheSnapshot, instrument: Instrument, stake: int, roll: int) -> Outcome:
    weights = odds_for(state, instrument)
    tier = draw(weights, roll)
    return Outcome(
        kind="played",
        instrument=instrument.slug,
        stake=stake,
        wave=state.sre_wave,
        tier=tier,
        is_win=instrument.is_win(tier),
        payout=instrument.payout(tier, stake),
        pity=state.loss_streak >= PITY_THRESHOLD,
        roll=roll,
        weights=weights,
    )


def _rest(state: PsycheSnapshot, instrument: Instrument, now: float) -> Play:
    wait = math.ceil(_release_at(state) - now)
    outcome = Outcome(
        kind="rested",
        instrument=instrument.slug,
        stake=0,
        wave=state.sre_wave,
        retry_after_seconds=max(1, wait),
    )
    return Play(state, outcome)


def _after(state: PsycheSnapshot, *, is_win: bool) -> PsycheSnapshot:
    step = FRUSTRATION_PER_WIN if is_win else FRUSTRATION_PER_LOSS
    played = replace(
        state,
        loss_streak=0 if is_win else state.loss_streak + 1,
        frustration_level=_clamp(state.frustration_level + step, 0.0, 1.0),
    )
    if played.frustration_level < FRUSTRATION_CRITICAL:
        return played
    return replace(played, is_throttled=True, throttled_until=_calm_at(played))


def _release_at(state: PsycheSnapshot) -> float:
    """When the throttle lifts; a throttle set by hand, without an end, lifts once calm."""
    return _calm_at(state) if state.throttled_until is None else state.throttled_until


def _calm_at(state: PsycheSnapshot) -> float:
    """The Unix second at which the frustration has decayed to the release level."""
    excess = max(1.0, state.frustration_level / FRUSTRATION_RELEASE)
    return state.frustration_at + FRUSTRATION_HALF_LIFE_SECONDS * math.log2(excess)


def _wave(state: PsycheSnapshot, now: float) -> float:
    return sre_wave(
        now, phase=state.phase, amplitude=state.amplitude, period_seconds=state.period_seconds
    )


def _require(field: str, in_range: bool) -> None:
    if not in_range:
        raise ValueError(f"{field} is out of its range")


def _clamp(value: float, low: float, high: float) -> float:
    return max(low, min(high, value))
