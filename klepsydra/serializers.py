"""What KLEPSYDRA's endpoints take and give."""

from rest_framework import serializers

from aevon.api.serializers import StrictCharField, StrictIntegerField, StrictSerializer
from klepsydra.instruments import Tier

TIERS = [tier.value for tier in Tier]


class InteractionSerializer(StrictSerializer):
    """One play."""

    instrument = StrictCharField(max_length=64, help_text="The slug of an instrument.")
    stake = StrictIntegerField(help_text="Whole ΞCredits, within the instrument's limits.")


class PsycheSerializer(serializers.Serializer[object]):
    """A PsycheState as Dragonfly and PostgreSQL hold it: as of the user's last interaction."""

    userId = serializers.IntegerField()
    sreWave = serializers.FloatField(min_value=-1, max_value=1)
    lossStreak = serializers.IntegerField(min_value=0)
    frustrationLevel = serializers.FloatField(
        min_value=0, max_value=1, help_text="As it stood at frustrationAt; it halves in 2 minutes."
    )
    isThrottled = serializers.BooleanField()
    version = serializers.IntegerField(min_value=1, help_text="Rises with every change.")
    updatedAt = serializers.DateTimeField()
    throttledUntil = serializers.DateTimeField(allow_null=True)
    frustrationAt = serializers.DateTimeField()
    phase = serializers.FloatField(help_text="Radians: the user's own place on the wave.")
    amplitude = serializers.FloatField(min_value=0, max_value=1)
    periodSeconds = serializers.FloatField()


class OutcomeSerializer(serializers.Serializer[object]):
    """What an interaction came to, with everything that decided it."""

    kind = serializers.ChoiceField(
        ["played", "rested"], help_text="rested: throttled; no stake was taken, nothing was rolled."
    )
    instrument = serializers.CharField()
    stake = serializers.IntegerField(min_value=0)
    tier = serializers.ChoiceField(TIERS, allow_null=True)
    isWin = serializers.BooleanField()
    payout = serializers.IntegerField(min_value=0)
    net = serializers.IntegerField(help_text="payout less stake.")
    pity = serializers.BooleanField(help_text="A sure win after five losses in a row.")
    wave = serializers.FloatField(min_value=-1, max_value=1)
    roll = serializers.IntegerField(allow_null=True, min_value=0, max_value=9_999)
    weights = serializers.DictField(
        child=serializers.IntegerField(), help_text="The odds really used, out of 10,000."
    )
    retryAfterSeconds = serializers.IntegerField(allow_null=True, min_value=1)


class AnswerSerializer(serializers.Serializer[object]):
    """The outcome and the state that it led to."""

    outcome = OutcomeSerializer()
    psyche = PsycheSerializer()


class TierSerializer(serializers.Serializer[object]):
    """One tier in a table of odds."""

    tier = serializers.ChoiceField(TIERS)
    weight = serializers.IntegerField(help_text="Out of `outOf`.")
    probability = serializers.FloatField()
    multiplier = serializers.FloatField(help_text="Of the stake, rounded down to whole ΞCredits.")
    isWin = serializers.BooleanField()


class PityTableSerializer(serializers.Serializer[object]):
    """A table of odds."""

    tiers = TierSerializer(many=True)
    expectedReturn = serializers.FloatField(help_text="Of the stake, before rounding.")


class TableSerializer(PityTableSerializer):
    """The odds of an ordinary play at a wave."""

    wave = serializers.FloatField(min_value=-1, max_value=1)


class OddsSerializer(serializers.Serializer[object]):
    """Every table that can decide a play."""

    outOf = serializers.IntegerField()
    baseWeights = serializers.DictField(child=serializers.IntegerField())
    now = TableSerializer(help_text="At the caller's wave of this moment.")
    neutral = TableSerializer()
    crest = TableSerializer()
    trough = TableSerializer()
    pity = PityTableSerializer()
    note = serializers.CharField()


class InstrumentSerializer(serializers.Serializer[object]):
    """A Folly Instrument."""

    slug = serializers.CharField()
    name = serializers.CharField()
    description = serializers.CharField()
    minStake = serializers.IntegerField()
    maxStake = serializers.IntegerField()
    odds = OddsSerializer()


class InstrumentListSerializer(serializers.Serializer[object]):
    """All of them, and what decides the caller's next play."""

    wave = serializers.FloatField(min_value=-1, max_value=1, help_text="The caller's, now.")
    lossStreak = serializers.IntegerField(min_value=0)
    pityThreshold = serializers.IntegerField()
    pityNext = serializers.BooleanField(help_text="The next play is decided by the pity table.")
    instruments = InstrumentSerializer(many=True)
