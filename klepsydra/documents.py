"""What Dragonfly holds under `psyche:{userId}`, and the answer to an interaction."""

import math
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from aevon.cache import Document, Version
from klepsydra.engine import PsycheSnapshot
from klepsydra.instruments import Tier

COUNT_MAX: Final = 2**31 - 1
PERIOD_MIN_SECONDS: Final = 1.0
PERIOD_MAX_SECONDS: Final = 31_536_000.0

# The ranges are the table's: an entry outside of them is corrupt, and is read from PostgreSQL.
Wave = Annotated[float, Meta(ge=-1, le=1)]
Unit = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0, le=COUNT_MAX)]
Time = Annotated[str, Meta(pattern=r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{6}Z\Z")]


class PsycheDocument(Document, frozen=True):
    """A row of PsycheState: the members are its columns. Times are RFC 3339 in UTC."""

    user_id: int
    sre_wave: Wave
    loss_streak: Count
    frustration_level: Unit
    is_throttled: bool
    version: Version
    updated_at: Time
    throttled_until: Time | None
    frustration_at: Time
    phase: Annotated[float, Meta(ge=0, le=math.tau)]
    amplitude: Unit
    period_seconds: Annotated[float, Meta(ge=PERIOD_MIN_SECONDS, le=PERIOD_MAX_SECONDS)]


class OutcomeDocument(Document, frozen=True):
    """An outcome as `engine.Outcome.as_dict` tells it; stakes and payouts in whole ΞCredits."""

    kind: Literal["played", "rested"]
    instrument: str
    stake: int
    tier: Tier | None
    is_win: bool
    payout: int
    net: int
    pity: bool
    wave: float
    roll: int | None
    weights: dict[Tier, int]
    retry_after_seconds: int | None


class Answer(Document, frozen=True):
    """What an interaction answers: the outcome, and the state that it led to."""

    outcome: OutcomeDocument
    psyche: PsycheDocument


def outcome_of(members: Any) -> OutcomeDocument:
    """The outcome in plain data, its members and weights in the order of the types: jsonb has
    an order of its own."""
    outcome = msgspec.convert(members, OutcomeDocument)
    weights = {tier: outcome.weights[tier] for tier in Tier if tier in outcome.weights}
    return msgspec.structs.replace(outcome, weights=weights)


def answer_of(members: Any) -> Answer:
    """The answer in plain data, as it was first given."""
    psyche = msgspec.convert(members["psyche"], PsycheDocument)
    return Answer(outcome=outcome_of(members["outcome"]), psyche=psyche)


def snapshot_of(document: PsycheDocument) -> PsycheSnapshot:
    """The engine's view of a state. Raises ValueError for a time that is none."""
    until = document.throttled_until
    return PsycheSnapshot(
        sre_wave=document.sre_wave,
        loss_streak=document.loss_streak,
        frustration_level=document.frustration_level,
        frustration_at=_unix(document.frustration_at),
        is_throttled=document.is_throttled,
        throttled_until=None if until is None else _unix(until),
        phase=document.phase,
        amplitude=document.amplitude,
        period_seconds=document.period_seconds,
    )


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
