"""The Folly Instruments: what their tables promise is what is played."""

import json
import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klepsydra.engine import (
    PITY_THRESHOLD,
    PsycheSnapshot,
    interact,
)
from klepsydra.instruments import (
    INSTRUMENTS,
    WEIGHT_TOTAL,
    WINS,
    Instrument,
    Tier,
    UnknownInstrument,
    disclosed_odds,
    instrument,
    pity_weights,
    weights_at,
)
from tests.klepsydra.psyches import (
    NOW,
    SISYPHUS,
    all_instruments,
    play,
    psyche,
    waves,
)


def play_every_roll(state: PsycheSnapshot, game: Instrument) -> Counter[Tier | None]:
    """How often each tier comes out over all the rolls there are."""
    plays = (interact(state, game, 1, now=NOW, roll=roll) for roll in range(WEIGHT_TOTAL))
    return Counter(each.outcome.tier for each in plays)


def long_run_return(game: Instrument, wave: float) -> float:
    """The average payout per ΞCredit of a player who always plays at this wave, pity included."""
    weights, pity = weights_at(game, wave), pity_weights(game)
    loss = weights[Tier.COMMON] / WEIGHT_TOTAL
    plays = sum(loss**played for played in range(PITY_THRESHOLD + 1))
    share = loss**PITY_THRESHOLD / plays
    ordinary, sure = (
        sum(table[tier] * game.hundredths[tier] for tier in Tier) / 1e6 for table in (weights, pity)
    )
    return (1 - share) * ordinary + share * sure


@given(all_instruments, waves)
def test_weights_add_up_at_every_wave(game: Instrument, wave: float) -> None:
    """Whatever the wave, the weights are whole, not negative and add up to 10,000."""
    weights = weights_at(game, wave)
    assert sum(weights.values()) == WEIGHT_TOTAL
    assert all(isinstance(weight, int) and weight >= 0 for weight in weights.values())
    assert list(weights) == list(Tier)


@given(all_instruments, waves, waves)
def test_no_win_gets_rarer_when_the_wave_rises(game: Instrument, one: float, two: float) -> None:
    """Every winning tier is monotone in the wave, and so is the chance to win at all."""
    low, high = weights_at(game, min(one, two)), weights_at(game, max(one, two))
    assert all(low[tier] <= high[tier] for tier in WINS)
    assert low[Tier.COMMON] >= high[Tier.COMMON]


@pytest.mark.parametrize("game", INSTRUMENTS.values(), ids=INSTRUMENTS)
def test_rarer_tiers_gain_more_at_the_crest(game: Instrument) -> None:
    """From trough to crest MYTHIC grows by the largest factor, UNCOMMON by the smallest."""
    trough, crest = weights_at(game, -1), weights_at(game, 1)
    uncommon, rare, mythic = (crest[tier] / trough[tier] for tier in WINS[:3])
    assert 1 < uncommon < rare < mythic


def test_neutral_wave_leaves_the_base_weights_and_gives_divine_to_common() -> None:
    """At wave 0 a play uses the base weights, with DIVINE's one added to COMMON."""
    assert list(weights_at(SISYPHUS, 0).values()) == [7500, 1500, 850, 150, 0]


@pytest.mark.parametrize("game", INSTRUMENTS.values(), ids=INSTRUMENTS)
@pytest.mark.parametrize("moment", ["neutral", "crest", "trough", "pity"])
def test_all_rolls_together_give_exactly_the_disclosed_odds(game: Instrument, moment: str) -> None:
    """Played with each of the 10,000 rolls, a game hits each tier as often as it says."""
    wave = {"crest": 1.0, "trough": -1.0}.get(moment, 0.0)
    phase = math.asin(wave) - math.tau * math.fmod(NOW, 3600) / 3600
    streak = PITY_THRESHOLD if moment == "pity" else 0
    state = psyche(phase=phase, amplitude=1.0, loss_streak=streak)
    table = disclosed_odds(game)[moment]["tiers"]  # type: ignore[index]
    assert play_every_roll(state, game) == Counter({row["tier"]: row["weight"] for row in table})


def test_divine_comes_from_pity_only() -> None:
    """DIVINE has no weight in an ordinary play, and its base weight in a pity play."""
    for game in INSTRUMENTS.values():
        assert weights_at(game, 1)[Tier.DIVINE] == 0
        assert pity_weights(game)[Tier.DIVINE] == game.weights[Tier.DIVINE] > 0


@given(all_instruments, waves, st.floats(0, 1))
def test_disclosed_odds_are_plain_data_that_add_up(
    game: Instrument, wave: float, amplitude: float
) -> None:
    """Each disclosed table survives JSON, its probabilities are weight / 10,000 and sum to one."""
    odds = json.loads(json.dumps(disclosed_odds(game, wave=wave, amplitude=amplitude)))
    for moment in ("now", "neutral", "crest", "trough", "pity"):
        rows = odds[moment]["tiers"]
        assert sum(row["weight"] for row in rows) == odds["outOf"]
        assert all(row["probability"] == row["weight"] / 10_000 for row in rows)


def test_disclosed_return_is_the_mean_payout_of_all_rolls() -> None:
    """`expectedReturn` is what the average roll pays back per ΞCredit staked."""
    paid = sum(play(psyche(), roll, stake=100).outcome.payout for roll in range(WEIGHT_TOTAL))
    neutral = disclosed_odds(SISYPHUS)["neutral"]
    assert neutral["expectedReturn"] == paid / (100 * WEIGHT_TOTAL)  # type: ignore[index]


@pytest.mark.parametrize("wave", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("game", INSTRUMENTS.values(), ids=INSTRUMENTS)
def test_no_steady_stake_wins_in_the_long_run(game: Instrument, wave: float) -> None:
    """Not even a player who only plays at crests, pity included, beats the house."""
    assert 0.7 < long_run_return(game, wave) < 1


@given(all_instruments, st.sampled_from(Tier), st.data())
def test_a_win_pays_more_than_its_stake_and_a_loss_nothing(
    game: Instrument, tier: Tier, data: st.DataObject
) -> None:
    """No loss is dressed up as a win, at any stake; payouts are rounded down."""
    stake = data.draw(st.integers(game.min_stake, game.max_stake))
    payout = game.payout(tier, stake)
    assert payout > stake if game.is_win(tier) else payout == 0
    assert payout == math.floor(stake * game.hundredths[tier] / 100)


@pytest.mark.parametrize(
    "broken",
    [
        {"weights": {**SISYPHUS.weights, Tier.RARE: 851}},
        {"weights": {**SISYPHUS.weights, Tier.COMMON: 7501, Tier.DIVINE: -1}},
        {"weights": dict(zip(Tier, (500, 9000, 300, 199, 1), strict=True))},
        {"hundredths": {**SISYPHUS.hundredths, Tier.COMMON: 50}},
        {"hundredths": {**SISYPHUS.hundredths, Tier.UNCOMMON: 150}},
        {"min_stake": 0},
        {"max_stake": 0},
    ],
)
def test_an_impossible_instrument_is_refused(broken: dict[str, object]) -> None:
    """A table that does not add up, or whose win pays no more than the stake, cannot be made."""
    with pytest.raises(ValueError, match="sisyphus-ascent"):
        replace(SISYPHUS, **broken)


def test_an_unknown_instrument_is_refused_by_name() -> None:
    """Asking for an instrument that does not exist raises, and carries the slug asked for."""
    with pytest.raises(UnknownInstrument) as caught:
        instrument("roulette")
    assert caught.value.slug == "roulette"
