import datetime

import django.db.models.deletion
import django.db.models.functions.datetime
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("auth_sessions", "0002_anchor_triggers"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="VersionFloor",
            fields=[
                (
                    "user",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("version", models.BigIntegerField()),
            ],
        ),
        migrations.CreateModel(
            name="PsycheState",
            fields=[
                (
                    "user",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="psyche_state",
                        serialize=False,
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "sre_wave",
                    models.FloatField(
                        default=0.0, help_text="The wave at the last interaction, -1 … 1"
                    ),
                ),
                ("loss_streak", models.PositiveIntegerField(default=0)),
                (
                    "frustration_level",
                    models.FloatField(default=0.0, help_text="0 … 1, as of frustration_at"),
                ),
                ("frustration_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("is_throttled", models.BooleanField(default=False)),
                (
                    "throttled_until",
                    models.DateTimeField(
                        blank=True,
                        help_text="Only while throttled; empty: until the player is calm",
                        null=True,
                    ),
                ),
                (
                    "phase",
                    models.FloatField(
                        help_text="Radians, 0 … 2π: the user's own place on the wave"
                    ),
                ),
                ("amplitude", models.FloatField(default=1.0, help_text="0 … 1")),
                ("period_seconds", models.FloatField(default=3600.0)),
                ("version", models.BigIntegerField(db_default=1, editable=False)),
                (
                    "updated_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("sre_wave__gte", -1), ("sre_wave__lte", 1)),
                        name="psyche_sre_wave_range",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("loss_streak__gte", 0)), name="psyche_loss_streak_range"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("frustration_level__gte", 0), ("frustration_level__lte", 1)
                        ),
                        name="psyche_frustration_level_range",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "frustration_at__gte",
                                datetime.datetime(1970, 1, 1, 0, 0, tzinfo=datetime.UTC),
                            ),
                            (
                                "frustration_at__lt",
                                datetime.datetime(2200, 1, 1, 0, 0, tzinfo=datetime.UTC),
                            ),
                        ),
                        name="psyche_frustration_at_range",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("throttled_until", None),
                            models.Q(
                                ("is_throttled", True),
                                (
                                    "throttled_until__gte",
                                    datetime.datetime(1970, 1, 1, 0, 0, tzinfo=datetime.UTC),
                                ),
                                (
                                    "throttled_until__lt",
                                    datetime.datetime(2300, 1, 1, 0, 0, tzinfo=datetime.UTC),
                                ),
                            ),
                            _connector="OR",
                        ),
                        name="psyche_throttled_until_range",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("phase__gte", 0), ("phase__lte", 6.283185307179586)),
                        name="psyche_phase_range",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("amplitude__gte", 0), ("amplitude__lte", 1)),
                        name="psyche_amplitude_range",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("period_seconds__gte", 1.0), ("period_seconds__lte", 31536000.0)
                        ),
                        name="psyche_period_range",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("version__gte", 1)), name="psyche_version_ge_1"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Interaction",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("psyche_version", models.BigIntegerField()),
                ("instrument", models.CharField(max_length=64)),
                (
                    "kind",
                    models.CharField(
                        choices=[("played", "Played"), ("rested", "Rested")], max_length=8
                    ),
                ),
                ("stake", models.PositiveIntegerField(help_text="ΞCredits")),
                ("payout", models.PositiveBigIntegerField(help_text="ΞCredits")),
                (
                    "tier",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("COMMON", "COMMON"),
                            ("UNCOMMON", "UNCOMMON"),
                            ("RARE", "RARE"),
                            ("MYTHIC", "MYTHIC"),
                            ("DIVINE", "DIVINE"),
                        ],
                        max_length=16,
                    ),
                ),
                ("is_win", models.BooleanField()),
                ("pity", models.BooleanField()),
                ("wave", models.FloatField()),
                ("roll", models.PositiveSmallIntegerField(null=True)),
                ("weights", models.JSONField(help_text="The odds really used, out of 10,000")),
                ("idempotency_key", models.CharField(max_length=200, null=True)),
                ("request_digest", models.CharField(blank=True, max_length=64)),
                ("response", models.JSONField(null=True)),
                ("created_at", models.DateTimeField()),
                (
                    "user",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="interactions",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("user", "psyche_version"), name="interaction_one_per_version"
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("idempotency_key__isnull", False)),
                        fields=("user", "idempotency_key"),
                        name="interaction_one_answer_per_key",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("idempotency_key", None),
                                ("request_digest", ""),
                                ("response__isnull", True),
                            ),
                            models.Q(
                                ("idempotency_key__isnull", False),
                                ("response__isnull", False),
                                models.Q(("idempotency_key", ""), _negated=True),
                                models.Q(("request_digest", ""), _negated=True),
                            ),
                            _connector="OR",
                        ),
                        name="interaction_key_has_answer",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("is_win", False),
                                ("kind", "rested"),
                                ("payout", 0),
                                ("roll", None),
                                ("stake", 0),
                                ("tier", ""),
                            ),
                            models.Q(
                                ("kind", "played"),
                                ("roll__gte", 0),
                                ("roll__isnull", False),
                                ("roll__lt", 10000),
                                ("tier__in", ["COMMON", "UNCOMMON", "RARE", "MYTHIC", "DIVINE"]),
                            ),
                            _connector="OR",
                        ),
                        name="interaction_kind_consistent",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("wave__gte", -1), ("wave__lte", 1)),
                        name="interaction_wave_range",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("psyche_version__gte", 1)),
                        name="interaction_version_ge_1",
                    ),
                ],
            },
        ),
    ]
