"""The KLEPSYDRA engine: ranges, odds, streaks, frustration and rest."""

import itertools
import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from klepsydra import engine
from klepsydra.engine import (
    FRUSTRATION_CRITICAL,
    FRUSTRATION_HALF_LIFE_SECONDS,
    FRUSTRATION_RELEASE,
    PITY_THRESHOLD,
    StakeOutOfRange,
    frustration_at,
    interact,
    new_psyche,
    odds_for,
    phase_for,
    settle,
    sre_wave,
)
from klepsydra.instruments import (
    WEIGHT_TOTAL,
    Instrument,
    Tier,
    pity_weights,
    weights_at,
)
from tests.klepsydra.psyches import (
    LOSING_ROLL,
    NOW,
    SISYPHUS,
    WINNING_ROLL,
    all_instruments,
    instants,
    phases,
    play,
    psyche,
    rolls,
    throttled,
)

# The sine wave.


@given(instants, phases, st.floats(0, 1), st.floats(0.5, 1e6))
def test_sre_wave_stays_within_its_amplitude(
    at: float, phase: float, amplitude: float, period: float
) -> None:
    """Luck never leaves [-amplitude, amplitude], whatever the clock says."""
    wave = sre_wave(at, phase=phase, amplitude=amplitude, period_seconds=period)
    assert -amplitude <= wave <= amplitude


@pytest.mark.parametrize(("quarter", "wave"), [(0, 0), (1, 0.5), (2, 0), (3, -0.5), (4, 0)])
def test_sre_wave_is_a_sine_of_its_period(quarter: int, wave: float) -> None:
    """A quarter of a period after its zero the wave is at its crest, after three at its trough."""
    seen = sre_wave(3600 * 400_000 + 900 * quarter, phase=0, amplitude=0.5, period_seconds=3600)
    assert seen == pytest.approx(wave, abs=1e-9)


def test_phase_spreads_neighbouring_users_over_the_whole_circle() -> None:
    """A thousand users in a row leave no gap wider than three fair shares of the circle."""
    phases_seen = sorted(phase_for(user_id) for user_id in range(1, 1001))
    gaps = [b - a for a, b in itertools.pairwise(phases_seen)]
    assert max(gaps) < 3 * math.tau / 1000
    assert min(gaps) > 0.3 * math.tau / 1000


@given(st.integers(0, 2**63 - 1))
def test_phase_lies_in_one_turn_and_never_changes(user_id: int) -> None:
    """A phase is in [0, 2π) and depends on nothing but the user."""
    assert 0 <= phase_for(user_id) < math.tau
    assert phase_for(user_id) == phase_for(user_id)


# A play.


@pytest.mark.parametrize("stake", [-5, 0, 1_001])
def test_a_stake_out_of_range_is_refused_with_its_limits(stake: int) -> None:
    """A wrong stake raises with the instrument's limits, also while the player rests."""
    for state in (psyche(), throttled()):
        with pytest.raises(StakeOutOfRange) as caught:
            play(state, LOSING_ROLL, stake=stake)
        assert (caught.value.minimum, caught.value.maximum) == (1, 1_000)


@pytest.mark.parametrize("roll", [-1, WEIGHT_TOTAL])
def test_a_roll_out_of_range_is_refused(roll: int) -> None:
    """A roll outside of [0, 10,000) is a mistake of the caller and decides nothing."""
    with pytest.raises(ValueError, match="roll"):
        play(psyche(), roll)


def test_a_loss_costs_the_stake_and_lengthens_the_streak() -> None:
    """COMMON pays nothing, adds one to the streak and raises the frustration by its step."""
    result = play(psyche(loss_streak=2), LOSING_ROLL)
    after, outcome = result.state, result.outcome
    assert (outcome.tier, outcome.is_win, outcome.payout, outcome.net) == ("COMMON", False, 0, -10)
    assert after.loss_streak == 3
    assert after.frustration_level == engine.FRUSTRATION_PER_LOSS


def test_a_win_pays_and_resets_the_streak() -> None:
    """MYTHIC pays twelve times the stake, ends the streak and soothes."""
    result = play(psyche(loss_streak=4, frustration_level=0.5), WINNING_ROLL)
    assert (result.outcome.tier, result.outcome.payout, result.outcome.net) == ("MYTHIC", 120, 110)
    assert result.state.loss_streak == 0
    assert result.state.frustration_level == pytest.approx(0.4)


@given(rolls, st.integers(PITY_THRESHOLD, 50), all_instruments, phases)
def test_after_the_threshold_every_roll_wins(
    roll: int, streak: int, game: Instrument, phase: float
) -> None:
    """From five losses on, the next interaction wins on any roll and at any wave, and says so."""
    state = psyche(loss_streak=streak, amplitude=1.0, phase=phase)
    result = interact(state, game, 7, now=NOW, roll=roll)
    assert result.outcome.pity
    assert result.outcome.tier in (Tier.UNCOMMON, Tier.DIVINE)
    assert result.outcome.net > 0
    assert result.state.loss_streak == 0


def test_one_loss_short_of_the_threshold_there_is_no_pity() -> None:
    """Four losses in a row promise nothing yet."""
    outcome = play(psyche(loss_streak=PITY_THRESHOLD - 1), LOSING_ROLL).outcome
    assert not outcome.pity
    assert not outcome.is_win


@given(phases, rolls, st.integers(0, 6), instants)
def test_an_outcome_carries_the_odds_that_decided_it(
    phase: float, roll: int, streak: int, now: float
) -> None:
    """From wave, roll and weights in the outcome anybody can recompute its tier."""
    result = play(psyche(phase=phase, amplitude=1.0, loss_streak=streak), roll, now=now)
    outcome = result.outcome
    assert outcome.wave == result.state.sre_wave
    assert outcome.weights == (
        pity_weights(SISYPHUS) if outcome.pity else weights_at(SISYPHUS, outcome.wave)
    )
    assert engine.draw(outcome.weights, roll) == outcome.tier


def test_a_play_is_a_function_of_its_arguments() -> None:
    """The same state, time and roll give the same outcome: no clock, no hidden randomness."""
    assert play(psyche(), 8_000, now=NOW + 5) == play(psyche(), 8_000, now=NOW + 5)


def test_an_outcome_as_dict_is_json_in_camel_case() -> None:
    """The API's form holds every member, survives JSON and names tiers in capitals."""
    plain = json.loads(json.dumps(play(psyche(loss_streak=5), 0).outcome.as_dict()))
    assert plain["tier"] == "UNCOMMON"
    assert (plain["isWin"], plain["pity"], plain["payout"], plain["net"]) == (True, True, 20, 10)
    assert plain["weights"] == {
        "COMMON": 0, "UNCOMMON": 9999, "RARE": 0, "MYTHIC": 0, "DIVINE": 1,
    }  # fmt: skip


# Frustration and rest.


@given(st.floats(0, 1), st.floats(0, 1e7), st.floats(0, 1e7))
def test_frustration_only_falls_while_nobody_plays(level: float, one: float, two: float) -> None:
    """Left alone, frustration never rises and never becomes negative."""
    state = psyche(frustration_level=level)
    sooner, later = (frustration_at(state, now=NOW + wait) for wait in sorted((one, two)))
    assert level >= sooner >= later >= 0


def test_frustration_halves_in_a_half_life() -> None:
    """After one half-life half is left, after two a quarter."""
    settled = settle(psyche(frustration_level=0.6), now=NOW + FRUSTRATION_HALF_LIFE_SECONDS)
    assert settled.frustration_level == pytest.approx(0.3)
    later = settle(settled, now=NOW + 2 * FRUSTRATION_HALF_LIFE_SECONDS)
    assert later.frustration_level == pytest.approx(0.15)


def test_a_clock_that_runs_back_changes_no_frustration() -> None:
    """A server whose clock is behind neither decays the level nor moves its time back."""
    settled = settle(psyche(frustration_level=0.6), now=NOW - 100)
    assert (settled.frustration_level, settled.frustration_at) == (0.6, NOW)


def test_the_loss_that_reaches_the_critical_level_throttles() -> None:
    """The play itself counts; the state after it rests until it has decayed to the release."""
    state = throttled()
    assert state.is_throttled
    wait = FRUSTRATION_HALF_LIFE_SECONDS * math.log2(0.83 / FRUSTRATION_RELEASE)
    assert state.throttled_until == pytest.approx(NOW + wait)


def test_ten_plays_without_a_pause_never_throttle() -> None:
    """A newcomer with the worst of luck still plays ten rounds."""
    state = psyche()
    for _ in range(10):
        state = play(state, LOSING_ROLL).state
    assert not state.is_throttled


def test_the_worst_luck_without_a_pause_throttles_in_the_end() -> None:
    """Losing on, pity included, reaches the critical level within thirty plays."""
    state = psyche()
    for _ in range(30):
        state = play(state, LOSING_ROLL).state
    assert state.is_throttled


@given(rolls, st.integers(1, 1_000))
def test_a_rested_interaction_takes_no_stake_and_rolls_nothing(roll: int, stake: int) -> None:
    """While throttled nothing is at stake, whatever is rolled, and the wait is told."""
    outcome = play(throttled(), roll, stake=stake, now=NOW + 1).outcome
    assert (outcome.kind, outcome.tier, outcome.roll) == ("rested", None, None)
    assert (outcome.stake, outcome.payout, outcome.net) == (0, 0, 0)
    assert outcome.retry_after_seconds == 126


@given(rolls)
def test_rest_changes_nothing_but_what_time_changes(roll: int) -> None:
    """A rested interaction leaves exactly the state that waiting leaves, and no shorter rest."""
    before = throttled()
    after = play(before, roll, now=NOW + 20).state
    assert after == settle(before, now=NOW + 20)
    assert after.loss_streak == before.loss_streak
    assert after.throttled_until == before.throttled_until
    assert after.frustration_level < before.frustration_level


def test_a_player_may_play_at_the_very_moment_the_wait_ends() -> None:
    """Before the end the player rests at least a second more, at the end the throttle lifts."""
    state = throttled()
    assert state.throttled_until is not None
    early = play(state, LOSING_ROLL, now=state.throttled_until - 0.001)
    assert early.outcome.retry_after_seconds == 1
    on_time = play(state, LOSING_ROLL, now=state.throttled_until)
    assert on_time.outcome.kind == "played"
    assert (on_time.state.is_throttled, on_time.state.throttled_until) == (False, None)


def test_a_released_player_is_well_below_the_critical_level() -> None:
    """Hysteresis: at the release the frustration stands at the release level, half the critical."""
    state = throttled()
    assert state.throttled_until is not None
    released = settle(state, now=state.throttled_until)
    assert released.frustration_level == pytest.approx(FRUSTRATION_RELEASE)
    assert FRUSTRATION_RELEASE <= FRUSTRATION_CRITICAL / 2


def test_pity_outlasts_a_rest() -> None:
    """A player who was stopped with five losses gets the sure win after the rest."""
    state = replace(throttled(), loss_streak=PITY_THRESHOLD)
    rested = play(state, LOSING_ROLL, now=NOW + 1).state
    assert rested.loss_streak == PITY_THRESHOLD
    assert play(rested, LOSING_ROLL, now=NOW + 1000).outcome.pity


@pytest.mark.parametrize(("level", "kind"), [(0.8, "rested"), (0.3, "played")])
def test_a_throttle_set_by_hand_lifts_once_the_player_is_calm(level: float, kind: str) -> None:
    """`is_throttled` without an end, as an UPDATE in psql leaves it, does not last for ever."""
    state = psyche(frustration_level=level, is_throttled=True)
    first = play(state, LOSING_ROLL)
    assert first.outcome.kind == kind
    later = play(first.state, LOSING_ROLL, now=NOW + FRUSTRATION_HALF_LIFE_SECONDS + 1)
    assert later.outcome.kind == "played"


@pytest.mark.parametrize(
    "wrong",
    [
        {"sre_wave": 1.01},
        {"sre_wave": math.nan},
        {"loss_streak": -1},
        {"frustration_level": -0.1},
        {"frustration_level": 1.1},
        {"frustration_at": math.inf},
        {"throttled_until": math.nan},
        {"phase": math.inf},
        {"amplitude": 1.5},
        {"period_seconds": 0.0},
    ],
)
def test_a_state_out_of_range_cannot_be_made(wrong: dict[str, object]) -> None:
    """A damaged state is refused by the name of its field instead of being played with."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        psyche(**wrong)


def test_a_new_psyche_is_calm_and_on_its_own_wave() -> None:
    """Two new users start without streak or frustration, at different points of the wave."""
    one, two = new_psyche(1, now=NOW), new_psyche(2, now=NOW)
    assert (one.loss_streak, one.frustration_level, one.is_throttled) == (0, 0.0, False)
    assert one.sre_wave == settle(one, now=NOW).sre_wave
    assert abs(one.sre_wave - two.sre_wave) > 0.1
    assert one.phase == phase_for(1)


class Life(RuleBasedStateMachine):
    """A player's life: interactions and pauses in any order keep every promise."""

    @initialize(user_id=st.integers(1, 10**6))
    def begin(self, user_id: int) -> None:
        """A new player."""
        self.now, self.losses = NOW, 0
        self.state = new_psyche(user_id, now=NOW)

    @rule(seconds=st.floats(0, 300))
    def pause(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @rule(rolls=st.lists(st.one_of(st.just(0), rolls), min_size=1, max_size=12))
    def play(self, rolls: list[int]) -> None:
        """Interact several times in a row; count losses as the player would."""
        for roll in rolls:
            self.interact(roll)

    def interact(self, roll: int) -> None:
        """One interaction, held against the rules."""
        promised = odds_for(settle(self.state, now=self.now), SISYPHUS)
        result = play(self.state, roll, now=self.now)
        assert result.outcome.pity == (result.outcome.kind == "played" and self.losses == 5)
        if result.outcome.kind == "played":
            assert result.outcome.weights == promised
            self.losses = 0 if result.outcome.is_win else self.losses + 1
        self.state = result.state

    @invariant()
    def never_more_losses_than_the_threshold(self) -> None:
        """Nobody loses more than five times in a row, and the state counts as the player does."""
        assert self.losses == self.state.loss_streak <= PITY_THRESHOLD

    @invariant()
    def a_throttle_always_has_an_end(self) -> None:
        """A throttled player knows until when, and it is no longer than the worst case."""
        assert self.state.is_throttled == (self.state.throttled_until is not None)
        longest = FRUSTRATION_HALF_LIFE_SECONDS * math.log2(1 / FRUSTRATION_RELEASE)
        assert (self.state.throttled_until or self.now) <= self.now + longest


TestLife = Life.TestCase
