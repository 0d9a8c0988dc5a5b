"""Canvases in the admin: for looking. A row edited here would race the live document."""

from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.http import HttpRequest
from django.utils.html import format_html
from unfold.admin import ModelAdmin

from aevon.cache import CANVAS
from aevon.cache.admin import CachedStateAdmin, pretty
from canvas.models import AwayEdit, Canvas


class LookingAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """Read-only."""

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:  # noqa: ARG002
        return False

    def has_change_permission(self, request: HttpRequest, *_: Any) -> bool:  # noqa: ARG002
        return False

    def has_delete_permission(self, request: HttpRequest, *args: Any) -> bool:
        """Only along with the user: Django asks here, too, when one is to be deleted."""
        user = get_user_model()._meta  # noqa: SLF001  public by convention
        page = request.resolver_match.url_name if request.resolver_match else None
        with_user = (page or "").startswith(f"{user.app_label}_{user.model_name}_")
        return with_user and bool(super().has_delete_permission(request, *args))


@admin.register(Canvas)
class CanvasAdmin(CachedStateAdmin, LookingAdmin):
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
class AwayEditAdmin(LookingAdmin):
    """Changes that wait for the cache to come back."""

    search_fields = ("user__username",)
    list_display = ("user", "created_at")
    fields = readonly_fields = ("user", "created_at", "pretty_change")

    @admin.display(description="change")
    def pretty_change(self, edit: AwayEdit) -> str:
        """As indented JSON."""
        return format_html("<pre>{}</pre>", pretty(edit.change))
