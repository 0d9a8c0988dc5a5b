"""Conversations and turns in the admin: to look at and to delete."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.admin import ModelAdmin

from aevon.cache import CONVO_HISTORY
from aevon.cache.admin import CachedStateAdmin
from beep import services
from beep.models import Conversation, Turn


class RecordAdmin(CachedStateAdmin, ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """Only BEEP writes; what is deleted here leaves the list too."""

    cache_keyspace = CONVO_HISTORY

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:  # noqa: ARG002
        return False

    def has_change_permission(self, request: HttpRequest, *_: Any) -> bool:  # noqa: ARG002
        return False


@admin.register(Conversation)
class ConversationAdmin(RecordAdmin):
    """One row per user who has spoken to BEEP. It stays as long as its user: a new one would give
    the same numbers again, to turns that may still be on their way into the list."""

    actions = ("forget_turns",)
    list_display = ("user", "last_seq", "forgotten_through")
    list_select_related = ("user",)
    search_fields = ("user__username",)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        found: dict[str, Any] = super().get_actions(request)
        found.pop("delete_selected", None)
        return found

    def delete_view(self, request: HttpRequest, *_: Any, **__: Any) -> HttpResponse:  # noqa: ARG002
        raise PermissionDenied

    @admin.action(
        description="Forget the turns of the selected conversations", permissions=["delete"]
    )
    def forget_turns(self, request: HttpRequest, queryset: QuerySet[Conversation]) -> None:
        """Rows and lists, at once."""
        users = list(queryset.values_list("pk", flat=True))
        for user_id in users:
            services.forget(user_id)
        self.message_user(request, f"The turns of {len(users)} conversations are forgotten.")


@admin.register(Turn)
class TurnAdmin(RecordAdmin):
    """Every turn that is not forgotten."""

    cache_user_field = "conversation_id"
    list_display = ("conversation", "seq", "command", "response", "at")
    list_select_related = ("conversation",)
    search_fields = ("conversation__user__username", "command")
    date_hierarchy = "at"
