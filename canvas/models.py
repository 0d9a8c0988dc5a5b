"""A user's layout as last persisted, and the journal of what changed it past the cache."""

from django.conf import settings
from django.db import models
from django.db.models import F, Func, Q, Value
from django.db.models.fields.json import KeyTransform
from django.db.models.functions import Coalesce, Now
from django.db.models.lookups import Exact

from canvas.layout import empty_layout

_MICRO_APPS_TYPE = Func(
    KeyTransform("microApps", F("layout")),
    function="jsonb_typeof",
    output_field=models.CharField(),
)


class Canvas(models.Model):
    """One row per user who ever changed the layout; the live one is in Dragonfly.

    The database raises `revision` when the layout changes without it (migration 0002).
    """

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, primary_key=True, on_delete=models.CASCADE, related_name="canvas"
    )
    layout = models.JSONField(default=empty_layout)
    revision = models.BigIntegerField(default=0)
    updated_at = models.DateTimeField(db_default=Now())
    persisted_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name_plural = "canvases"
        constraints = [
            models.CheckConstraint(condition=Q(revision__gte=0), name="canvas_revision_ge_0"),
            # An object with the object `microApps`: of anything else that member is NULL.
            models.CheckConstraint(
                condition=Exact(Coalesce(_MICRO_APPS_TYPE, Value("")), Value("object")),
                name="canvas_layout_has_micro_apps",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} r{self.revision}"


class AwayEdit(models.Model):
    """A change that the row took because the cache was away.

    When the cache is back it is repeated on the live document, which may hold changes that never
    reached the row; then it is deleted.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="canvas_away_edits"
    )
    change = models.JSONField(help_text='{"patch": …} or {"replace": …}')
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(change__has_key="patch") ^ Q(change__has_key="replace"),
                name="canvas_away_edit_is_a_change",
            )
        ]

    def __str__(self) -> str:
        return f"{self.user_id} #{self.pk}"
