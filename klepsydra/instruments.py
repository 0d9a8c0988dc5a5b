"""The Folly Instruments: their rarity tables, what the wave does to them, and the disclosure.

A weight is a whole number out of `WEIGHT_TOTAL`; a multiplier is kept in hundredths, so that
weights, payouts and disclosed odds are exact. `disclosed_odds` is computed by the very functions
that decide a play: it cannot say anything else than what happens.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

WEIGHT_TOTAL: Final = 10_000


class Tier(StrEnum):
    """The tiers of rarity, the commonest first."""

    COMMON = "COMMON"
    UNCOMMON = "UNCOMMON"
    RARE = "RARE"
    MYTHIC = "MYTHIC"
    DIVINE = "DIVINE"


Weights = Mapping[Tier, int]

WINS: Final = (Tier.UNCOMMON, Tier.RARE, Tier.MYTHIC, Tier.DIVINE)

# By how many per cent a full wave (+1 or -1) moves a tier's weight: the rarer, the more.
WAVE_PERCENT: Final[Mapping[Tier, int]] = MappingProxyType(
    {Tier.UNCOMMON: 10, Tier.RARE: 20, Tier.MYTHIC: 30}
)


class UnknownInstrument(LookupError):
    """There is no instrument of that slug."""

    def __init__(self, slug: str) -> None:
        self.slug = slug
        super().__init__("There is no instrument of that name.")


@dataclass(frozen=True)
class Instrument:
    """A game of chance. Stakes are whole ΞCredits; raises ValueError for a table that cannot be.

    `weights` are the base weights, `hundredths` the payout multipliers times 100. COMMON loses,
    every other tier wins. No win may pay back less than was staked: a loss that is dressed up
    as a win deceives (Dixon et al., "Losses disguised as wins", Addiction 105, 2010).
    """

    slug: str
    name: str
    description: str
    min_stake: int
    max_stake: int
    weights: Weights
    hundredths: Mapping[Tier, int]

    def __post_init__(self) -> None:
        if sum(self.weights[tier] for tier in Tier) != WEIGHT_TOTAL:
            raise ValueError(f"{self.slug}: the weights must add up to {WEIGHT_TOTAL}")
        if min(self.weights.values()) < 0 or not 1 <= self.min_stake <= self.max_stake:
            raise ValueError(f"{self.slug}: a weight or stake is out of its range")
        if weights_at(self, 1.0)[Tier.COMMON] < 0 or self.hundredths[Tier.COMMON] != 0:
            raise ValueError(f"{self.slug}: COMMON must stay possible at a crest, and lose")
        if any(self.payout(tier, self.min_stake) <= self.min_stake for tier in WINS):
            raise ValueError(f"{self.slug}: a win must pay more than its stake")

    def payout(self, tier: Tier, stake: int) -> int:
        """What `stake` pays in this tier: stake times multiplier, rounded down."""
        return stake * self.hundredths[tier] // 100

    def is_win(self, tier: Tier) -> bool:
        """Whether this tier pays."""
        return tier in WINS


def weights_at(instrument: Instrument, wave: float) -> Weights:
    """The weights of an ordinary play at `wave` in [-1, 1]; they add up to `WEIGHT_TOTAL`.

    Each winning tier is moved by the wave and rounded by itself, and COMMON takes what is left
    over, with DIVINE's base weight, which only pity may draw. So every win is monotone in the
    wave; apportioning by largest remainders is not (Balinski & Young, "Fair Representation").
    """
    if not -1 <= wave <= 1:
        raise ValueError("wave must lie in [-1, 1]")
    wins = {
        tier: _moved(instrument.weights[tier], percent * wave)
        for tier, percent in WAVE_PERCENT.items()
    }
    return MappingProxyType(
        {Tier.COMMON: WEIGHT_TOTAL - sum(wins.values()), **wins, Tier.DIVINE: 0}
    )


def pity_weights(instrument: Instrument) -> Weights:
    """The weights of a pity play, at any wave: DIVINE with its base weight, else UNCOMMON."""
    divine = instrument.weights[Tier.DIVINE]
    return MappingProxyType(
        dict.fromkeys(Tier, 0) | {Tier.UNCOMMON: WEIGHT_TOTAL - divine, Tier.DIVINE: divine}
    )


def _moved(weight: int, percent: float) -> int:
    return math.floor(weight * (100 + percent) / 100 + 0.5)


def disclosed_odds(
    instrument: Instrument, *, wave: float = 0.0, amplitude: float = 1.0
) -> dict[str, object]:
    """Every table that can decide a play, as plain camelCase data.

    `now` is at the given wave; `crest` and `trough` are the extremes of a wave of that amplitude.
    All numbers are exact in decimals: probabilities to four places, returns to six.
    """
    return {
        "outOf": WEIGHT_TOTAL,
        "baseWeights": {tier.value: instrument.weights[tier] for tier in Tier},
        "now": {"wave": wave, **_table(instrument, weights_at(instrument, wave))},
        "neutral": {"wave": 0.0, **_table(instrument, weights_at(instrument, 0.0))},
        "crest": {"wave": amplitude, **_table(instrument, weights_at(instrument, amplitude))},
        "trough": {"wave": -amplitude, **_table(instrument, weights_at(instrument, -amplitude))},
        "pity": _table(instrument, pity_weights(instrument)),
        "note": (
            "DIVINE is drawn in a pity play only, with its base weight; "
            "in every other play that weight belongs to COMMON, which loses."
        ),
    }


def _table(instrument: Instrument, weights: Weights) -> dict[str, object]:
    returned = sum(weights[tier] * instrument.hundredths[tier] for tier in Tier)
    return {
        "tiers": [_row(instrument, tier, weights[tier]) for tier in Tier],
        "expectedReturn": returned / (WEIGHT_TOTAL * 100),
    }


def _row(instrument: Instrument, tier: Tier, weight: int) -> dict[str, object]:
    return {
        "tier": tier.value,
        "weight": weight,
        "probability": weight / WEIGHT_TOTAL,
        "multiplier": instrument.hundredths[tier] / 100,
        "isWin": instrument.is_win(tier),
    }


def _by_tier(*values: int) -> Mapping[Tier, int]:
    return MappingProxyType(dict(zip(Tier, values, strict=True)))


INSTRUMENTS: Final[Mapping[str, Instrument]] = MappingProxyType(
    {
        each.slug: each
        for each in (
            Instrument(
                slug="sisyphus-ascent",
                name="Sisyphus's Ascent",
                description="Push the boulder up the hill; now and then it stays there.",
                min_stake=1,
                max_stake=1_000,
                weights=_by_tier(7499, 1500, 850, 150, 1),
                hundredths=_by_tier(0, 200, 300, 1200, 10_000),
            ),
            Instrument(
                slug="oracle-of-delphi",
                name="Oracle of Delphi",
                description="Ask the Pythia in the valley: frequent answers, mostly small ones.",
                min_stake=1,
                max_stake=500,
                weights=_by_tier(6997, 2200, 700, 100, 3),
                hundredths=_by_tier(0, 200, 300, 1000, 5_000),
            ),
            Instrument(
                slug="spinforge",
                name="SpinForge",
                description="A wheel of hot iron: seldom a strike, but a bright one.",
                min_stake=1,
                max_stake=2_000,
                weights=_by_tier(8495, 900, 450, 150, 5),
                hundredths=_by_tier(0, 200, 500, 2000, 7_700),
            ),
        )
    }
)


def instrument(slug: str) -> Instrument:
    """The instrument of that slug. Raises `UnknownInstrument`."""
    try:
        return INSTRUMENTS[slug]
    except KeyError:
        raise UnknownInstrument(slug) from None
