"""Conversations and turns in the admin: to look at and to delete."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from aevon.cache import CONVO_HISTORY
from aevon.cache.admin import CachedStateAdmin
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
    """One row per user who has spoken to BEEP."""

    list_display = ("user", "last_seq", "forgotten_through")
    list_select_related = ("user",)
    search_fields = ("user__username",)


@admin.register(Turn)
class TurnAdmin(RecordAdmin):
    """Every turn that is not forgotten."""

    cache_user_field = "conversation_id"
    list_display = ("conversation", "seq", "command", "response", "at")
    list_select_related = ("conversation",)
    search_fields = ("conversation__user__username", "command")
    date_hierarchy = "at"
