"""Canvases in the admin: for looking. A row edited here would race the live document."""

from django.contrib import admin
from django.utils.html import format_html

from aevon.cache import CANVAS
from aevon.cache.admin import CachedStateAdmin, ReadOnlyAdmin
from aevon.cache.shown import pretty
from canvas.models import AwayEdit, Canvas, Note


@admin.register(Canvas)
class CanvasAdmin(CachedStateAdmin, ReadOnlyAdmin):
    """Canvases as last persisted, beside the live ones."""

    cache_keyspace = CANVAS
    search_fields = ("user__username",)
    list_select_related = ("user",)
    list_display = ("user", "revision", "micro_apps", "updated_at", "persisted_at")
    fields = ("user", "revision", "updated_at", "persisted_at")

    @admin.display(description="micro-apps")
    def micro_apps(self, canvas: Canvas) -> int:
        """How many are on it."""
        return len(canvas.layout["microApps"])


@admin.register(AwayEdit)
class AwayEditAdmin(ReadOnlyAdmin):
    """Changes that wait for the cache to come back."""

    search_fields = ("user__username",)
    list_display = ("user", "created_at")
    fields = readonly_fields = ("user", "created_at", "pretty_change")

    @admin.display(description="change")
    def pretty_change(self, edit: AwayEdit) -> str:
        """As indented JSON."""
        return format_html("<pre>{}</pre>", pretty(edit.change))


@admin.register(Note)
class NoteAdmin(ReadOnlyAdmin):
    """What users keep in their micro-apps."""

    search_fields = ("user__username", "app_id")
    list_select_related = ("user",)
    list_display = ("user", "app_id", "version", "updated_at")
    fields = readonly_fields = ("user", "app_id", "version", "updated_at", "text")
