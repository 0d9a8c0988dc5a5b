"""A user's layout as last persisted, the journal of what changed it past the cache, and notes."""

from typing import Final

from django.conf import settings
from django.db import models
from django.db.models import F, Func, Q, Value
from django.db.models.fields.json import KeyTransform
from django.db.models.functions import Coalesce, Length, Now
from django.db.models.lookups import Exact, LessThanOrEqual

from canvas.layout import ID_MAX, empty_layout

NOTE_TEXT_MAX: Final = 20_000

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
    found_revision = models.BigIntegerField(
        default=0, help_text="The row's revision before this change."
    )
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


class Note(models.Model):
    """A text that a user keeps in the micro-app with this id. Only PostgreSQL has it."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="canvas_notes"
    )
    app_id = models.CharField(max_length=ID_MAX)
    text = models.TextField(blank=True)
    version = models.BigIntegerField(default=0, help_text="Rises with every change.")
    updated_at = models.DateTimeField()

    class Meta:
        ordering = ["user_id", "app_id"]
        constraints = [
            models.UniqueConstraint(fields=["user", "app_id"], name="canvas_note_one_per_app"),
            models.CheckConstraint(condition=Q(version__gte=1), name="canvas_note_version_ge_1"),
            models.CheckConstraint(
                condition=LessThanOrEqual(Length("text"), NOTE_TEXT_MAX),
                name="canvas_note_is_short",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} {self.app_id} v{self.version}"
