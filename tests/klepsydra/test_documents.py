"""The stored formats, byte for byte."""

import json
from typing import Any

import msgspec
import pytest

from aevon.cache import CorruptValue
from aevon.cache.codec import decode, encode
from klepsydra.documents import PsycheDocument, answer_of, outcome_of, snapshot_of
from klepsydra.engine import interact
from klepsydra.instruments import Tier
from tests.klepsydra.psyches import NOW, SISYPHUS, psyche

STATE = PsycheDocument(
    user_id=7,
    sre_wave=-0.25,
    loss_streak=3,
    frustration_level=0.5,
    is_throttled=True,
    version=12,
    updated_at="2026-11-24T10:00:00.000000Z",
    throttled_until="2026-11-24T10:01:00.500000Z",
    frustration_at="2026-11-24T09:59:00.000001Z",
    phase=1.5,
    amplitude=1.0,
    period_seconds=3600.0,
)
GOLDEN = (
    b'{"userId":7,"sreWave":-0.25,"lossStreak":3,"frustrationLevel":0.5,"isThrottled":true,'
    b'"version":12,"updatedAt":"2026-11-24T10:00:00.000000Z",'
    b'"throttledUntil":"2026-11-24T10:01:00.500000Z",'
    b'"frustrationAt":"2026-11-24T09:59:00.000001Z",'
    b'"phase":1.5,"amplitude":1.0,"periodSeconds":3600.0}'
)


def test_the_bytes_of_a_psyche_are_golden() -> None:
    """Other programs read these; a change needs a way from the old to the new."""
    assert encode(STATE) == GOLDEN
    assert decode(GOLDEN, PsycheDocument) == STATE


@pytest.mark.parametrize(
    "members",
    [
        {"sreWave": 1.01},
        {"lossStreak": -1},
        {"lossStreak": 2**31},
        {"lossStreak": 10**30},
        {"frustrationLevel": -0.1},
        {"version": 0},
        {"version": 2**63},
        {"phase": 7},
        {"amplitude": 2},
        {"periodSeconds": 0},
        {"frustrationAt": "yesterday"},
        {"updatedAt": None},
        {"isThrottled": 1},
    ],
)
def test_a_cached_member_out_of_its_range_is_corrupt(members: dict[str, Any]) -> None:
    """So it is read from PostgreSQL, and cannot reach the engine."""
    raw = json.dumps({**json.loads(GOLDEN), **members}).encode()
    with pytest.raises(CorruptValue):
        decode(raw, PsycheDocument)


def test_the_engine_sees_the_documents_times_in_unix_seconds() -> None:
    """To the microsecond."""
    snapshot = snapshot_of(STATE)
    assert snapshot.frustration_at == 1795514340.000001
    assert snapshot.throttled_until == 1795514460.5
    assert snapshot_of(msgspec.structs.replace(STATE, throttled_until=None)).throttled_until is None


def test_a_time_that_is_none_is_refused() -> None:
    """It looks like one to the codec."""
    with pytest.raises(ValueError, match="month must be in"):
        snapshot_of(msgspec.structs.replace(STATE, frustration_at="2026-13-01T00:00:00.000000Z"))


def test_an_outcome_is_what_the_engine_tells() -> None:
    """Members, order and weights."""
    told = interact(psyche(), SISYPHUS, 10, now=NOW, roll=5).outcome.as_dict()
    assert encode(outcome_of(told)) == json.dumps(told, separators=(",", ":")).encode()


def test_an_answer_keeps_its_order_when_jsonb_has_shuffled_it() -> None:
    """jsonb sorts members by their length."""
    told = interact(psyche(), SISYPHUS, 10, now=NOW, roll=5).outcome.as_dict()
    answer = {"outcome": told, "psyche": msgspec.to_builtins(STATE)}
    shuffled = json.loads(json.dumps(answer, sort_keys=True))
    assert json.dumps(msgspec.to_builtins(answer_of(shuffled))) == json.dumps(answer)
    assert list(answer_of(shuffled).outcome.weights) == list(Tier)
