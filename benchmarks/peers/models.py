"""The product's tables, as a project without the cache layer has them."""

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    """As `auth_sessions.User`."""

    sovereignty_class = models.CharField(max_length=16)
    logged_out_at = models.DateTimeField(null=True)
    # The product has them in tables of other names; nobody asks for them here.
    groups = None  # type: ignore[assignment]
    user_permissions = None  # type: ignore[assignment]

    class Meta:
        managed = False
        db_table = "auth_sessions_user"


class PsycheState(models.Model):
    """As `klepsydra.PsycheState`."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, primary_key=True, on_delete=models.CASCADE
    )
    sre_wave = models.FloatField()
    loss_streak = models.PositiveIntegerField()
    frustration_level = models.FloatField()
    frustration_at = models.DateTimeField()
    is_throttled = models.BooleanField()
    throttled_until = models.DateTimeField(null=True)
    phase = models.FloatField()
    amplitude = models.FloatField()
    period_seconds = models.FloatField()
    version = models.BigIntegerField()
    updated_at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "klepsydra_psychestate"


class Canvas(models.Model):
    """As `canvas.Canvas`."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, primary_key=True, on_delete=models.CASCADE
    )
    layout = models.JSONField()
    revision = models.BigIntegerField()
    updated_at = models.DateTimeField()
    persisted_at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "canvas_canvas"
