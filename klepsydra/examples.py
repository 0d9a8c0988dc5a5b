"""Examples for the OpenAPI document."""

from typing import Any, Final

from drf_spectacular.utils import OpenApiExample

from klepsydra.engine import PITY_THRESHOLD
from klepsydra.instruments import disclosed_odds, instrument

_WAVE: Final = 0.5
_SPINFORGE: Final = instrument("spinforge")
_STATE: Final[dict[str, Any]] = {
    "userId": 1,
    "sreWave": _WAVE,
    "lossStreak": 0,
    "frustrationLevel": 0.0,
    "isThrottled": False,
    "version": 8,
    "updatedAt": "2026-11-24T10:00:00.000000Z",
    "throttledUntil": None,
    "frustrationAt": "2026-11-24T10:00:00.000000Z",
    "phase": 3.883222077450933,
    "amplitude": 1.0,
    "periodSeconds": 3600.0,
}
_PLAYED: Final[dict[str, Any]] = {
    "kind": "played",
    "instrument": "spinforge",
    "stake": 5,
    "tier": "UNCOMMON",
    "isWin": True,
    "payout": 10,
    "net": 5,
    "pity": False,
    "wave": _WAVE,
    "roll": 8_600,
    "weights": {"COMMON": 8387, "UNCOMMON": 945, "RARE": 495, "MYTHIC": 173, "DIVINE": 0},
    "retryAfterSeconds": None,
}
_RESTED: Final[dict[str, Any]] = _PLAYED | {
    "kind": "rested",
    "stake": 0,
    "tier": None,
    "isWin": False,
    "payout": 0,
    "net": 0,
    "roll": None,
    "weights": {},
    "retryAfterSeconds": 84,
}
_RESTING_STATE: Final = _STATE | {
    "lossStreak": 4,
    "frustrationLevel": 0.65,
    "isThrottled": True,
    "throttledUntil": "2026-11-24T10:01:24.000000Z",
}

PSYCHE: Final = OpenApiExample("a calm player", _STATE, response_only=True)
INTERACTION: Final = OpenApiExample(
    "SpinForge for 5 Ξ", {"instrument": "spinforge", "stake": 5}, request_only=True
)
PLAYED: Final = OpenApiExample(
    "a small win", {"outcome": _PLAYED, "psyche": _STATE}, response_only=True, status_codes=["200"]
)
RESTED: Final = OpenApiExample(
    "a throttled player rests",
    {"outcome": _RESTED, "psyche": _RESTING_STATE},
    response_only=True,
    status_codes=["200"],
)
INSTRUMENTS: Final = OpenApiExample(
    "one instrument",
    {
        "wave": _WAVE,
        "lossStreak": 0,
        "pityThreshold": PITY_THRESHOLD,
        "pityNext": False,
        "instruments": [
            {
                "slug": _SPINFORGE.slug,
                "name": _SPINFORGE.name,
                "description": _SPINFORGE.description,
                "minStake": _SPINFORGE.min_stake,
                "maxStake": _SPINFORGE.max_stake,
                "odds": disclosed_odds(_SPINFORGE, wave=_WAVE),
            }
        ],
    },
    response_only=True,
)
