"""A user's PsycheState and the record of every interaction."""

import math
from datetime import UTC, datetime
from typing import ClassVar, Final, Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from aevon.cache import PSYCHE, Cached, CachedManager
from klepsydra.documents import PERIOD_MAX_SECONDS, PERIOD_MIN_SECONDS, PsycheDocument
from klepsydra.instruments import WEIGHT_TOTAL, Tier

# Python has no `infinity` and no year 10000; a throttle may end a little after its beginning.
FRUSTRATION_AT_MAX: Final = datetime(2200, 1, 1, tzinfo=UTC)
THROTTLED_UNTIL_MAX: Final = datetime(2300, 1, 1, tzinfo=UTC)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

TIERS: Final = [tier.value for tier in Tier]
IDEMPOTENCY_KEY_MAX: Final = 200
ONE_ANSWER_PER_KEY: Final = "interaction_one_answer_per_key"


class PsycheState(models.Model):
    """What KLEPSYDRA knows of a user (domain.md), behind `psyche:{userId}`.

    `version` and `updated_at` are raised by the database on every update, whoever writes
    (migration 0003); what is assigned to them here is ignored. NaN is greater than every number
    to PostgreSQL, so a range's upper end refuses it.
    """

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        primary_key=True,
        on_delete=models.CASCADE,
        related_name="psyche_state",
    )
    sre_wave = models.FloatField(default=0.0, help_text="The wave at the last interaction, -1 … 1")
    loss_streak = models.PositiveIntegerField(default=0)
    frustration_level = models.FloatField(default=0.0, help_text="0 … 1, as of frustration_at")
    frustration_at = models.DateTimeField(default=timezone.now)
    is_throttled = models.BooleanField(default=False)
    throttled_until = models.DateTimeField(
        null=True, blank=True, help_text="Only while throttled; empty: until the player is calm"
    )
    phase = models.FloatField(help_text="Radians, 0 … 2π: the user's own place on the wave")
    amplitude = models.FloatField(default=1.0, help_text="0 … 1")
    period_seconds = models.FloatField(default=3600.0)
    version = models.BigIntegerField(db_default=1, editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    objects: ClassVar["CachedManager[Self]"] = CachedManager()
    cached = Cached(PSYCHE, PsycheDocument)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(sre_wave__gte=-1, sre_wave__lte=1), name="psyche_sre_wave_range"
            ),
            models.CheckConstraint(
                condition=Q(loss_streak__gte=0), name="psyche_loss_streak_range"
            ),
            models.CheckConstraint(
                condition=Q(frustration_level__gte=0, frustration_level__lte=1),
                name="psyche_frustration_level_range",
            ),
            models.CheckConstraint(
                condition=Q(frustration_at__gte=EPOCH, frustration_at__lt=FRUSTRATION_AT_MAX),
                name="psyche_frustration_at_range",
            ),
            models.CheckConstraint(
                condition=Q(throttled_until=None)
                | Q(
                    is_throttled=True,
                    throttled_until__gte=EPOCH,
                    throttled_until__lt=THROTTLED_UNTIL_MAX,
                ),
                name="psyche_throttled_until_range",
            ),
            models.CheckConstraint(
                condition=Q(phase__gte=0, phase__lte=math.tau), name="psyche_phase_range"
            ),
            models.CheckConstraint(
                condition=Q(amplitude__gte=0, amplitude__lte=1), name="psyche_amplitude_range"
            ),
            models.CheckConstraint(
                condition=Q(
                    period_seconds__gte=PERIOD_MIN_SECONDS, period_seconds__lte=PERIOD_MAX_SECONDS
                ),
                name="psyche_period_range",
            ),
            models.CheckConstraint(condition=Q(version__gte=1), name="psyche_version_ge_1"),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} v{self.version}"

    def clean(self) -> None:
        """A player who is not throttled has no end of it."""
        if not self.is_throttled:
            self.throttled_until = None


class Interaction(models.Model):
    """One interaction with a Folly Instrument, and everything that decided it. Append-only.

    The database refuses updates and deletes (migration 0002); the record goes with its user only.
    `psyche_version` is the version that the interaction raised the PsycheState to, `created_at`
    the moment of that. `response` is the answer as first given, kept for requests with an
    `Idempotency-Key` only. A rested interaction has no tier and no roll.
    """

    class Kind(models.TextChoices):
        PLAYED = "played", "Played"
        RESTED = "rested", "Rested"

    # The database cascades, so that the trigger can tell a user's end from a deleted record.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="interactions",
    )
    psyche_version = models.BigIntegerField()
    instrument = models.CharField(max_length=64)
    kind = models.CharField(max_length=8, choices=Kind.choices)
    stake = models.PositiveIntegerField(help_text="ΞCredits")
    payout = models.PositiveBigIntegerField(help_text="ΞCredits")
    tier = models.CharField(max_length=16, blank=True, choices=[(tier, tier) for tier in TIERS])
    is_win = models.BooleanField()
    pity = models.BooleanField()
    wave = models.FloatField()
    roll = models.PositiveSmallIntegerField(null=True)
    weights = models.JSONField(help_text="The odds really used, out of 10,000")
    idempotency_key = models.CharField(  # noqa: DJ001  absent, not empty
        max_length=IDEMPOTENCY_KEY_MAX, null=True
    )
    request_digest = models.CharField(max_length=64, blank=True)
    response = models.JSONField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["user", "psyche_version"], name="interaction_one_per_version"
            ),
            models.UniqueConstraint(
                fields=["user", "idempotency_key"],
                # Requests without a key pay for no index entry.
                condition=Q(idempotency_key__isnull=False),
                name=ONE_ANSWER_PER_KEY,
            ),
            models.CheckConstraint(
                condition=Q(idempotency_key=None, request_digest="", response__isnull=True)
                | (
                    Q(idempotency_key__isnull=False, response__isnull=False)
                    & ~Q(idempotency_key="")
                    & ~Q(request_digest="")
                ),
                name="interaction_key_has_answer",
            ),
            models.CheckConstraint(
                condition=Q(kind="rested", tier="", roll=None, stake=0, payout=0, is_win=False)
                | Q(
                    kind="played",
                    tier__in=TIERS,
                    roll__isnull=False,  # a comparison with NULL refuses nothing
                    roll__gte=0,
                    roll__lt=WEIGHT_TOTAL,
                ),
                name="interaction_kind_consistent",
            ),
            models.CheckConstraint(
                condition=Q(wave__gte=-1, wave__lte=1), name="interaction_wave_range"
            ),
            models.CheckConstraint(
                condition=Q(psyche_version__gte=1), name="interaction_version_ge_1"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} v{self.psyche_version} {self.instrument} {self.kind}"
