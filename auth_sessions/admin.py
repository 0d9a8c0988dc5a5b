"""Users and their sessions in the admin."""

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from aevon.cache import SESSION
from aevon.cache.admin import CachedStateAdmin, ReadOnlyAdmin, may_change
from auth_sessions import services
from auth_sessions.models import Session, SessionAnchor, User

admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(CachedStateAdmin, DjangoUserAdmin, ModelAdmin):  # type: ignore[misc,type-arg]  # no types
    """Accounts."""

    cache_keyspace = SESSION
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "sovereignty_class", "is_active", "is_staff")
    list_filter = ("sovereignty_class", "is_active", "is_staff", "groups")
    fieldsets = (
        *(DjangoUserAdmin.fieldsets or ()),
        ("ΛΞVON OS", {"fields": ("sovereignty_class",)}),
    )
    actions = ("log_out_everywhere",)

    def has_end_permission(self, request: HttpRequest) -> bool:
        """Whether the user may end sessions."""
        return may_change(request, Session)

    @admin.action(description="Log out everywhere", permissions=["end"])
    def log_out_everywhere(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """End all sessions of the selected users, the admin's too; they may log in again."""
        users = list(queryset)
        for user in users:
            services.end_all_sessions(user.pk, Session.EndReason.ADMIN)
            self.log_change(request, user, "Ended all sessions.")
        self.message_user(request, f"Users logged out: {len(users)}.")


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """Groups."""


@admin.register(Session)
class SessionAdmin(CachedStateAdmin, ReadOnlyAdmin):
    """Logins, live and ended."""

    cache_keyspace = SESSION
    cache_user_field = "user_id"
    list_display = (
        "sid", "user", "created_at", "last_seen_at", "address", "ended_at", "end_reason",
    )  # fmt: skip
    list_filter = ("end_reason",)
    search_fields = ("user__username",)
    exclude = ("refresh_digest",)
    actions = ("end_selected",)

    def has_end_permission(self, request: HttpRequest) -> bool:
        """Whether the user may end sessions, and not only look at them."""
        return may_change(request, Session)

    @admin.action(description="End the selected sessions", permissions=["end"])
    def end_selected(self, request: HttpRequest, queryset: QuerySet[Session]) -> None:
        """The users are refused on their next request. Each is noted, with who did it."""
        ended = [
            session
            for session in queryset.filter(ended_at=None).select_related("user")
            if services.end_session(session.user_id, session.sid, Session.EndReason.ADMIN)
        ]
        for session in ended:
            self.log_change(request, session, f"Ended a session of {session.user}.")
        self.message_user(request, f"Sessions ended: {len(ended)}.")


@admin.register(SessionAnchor)
class SessionAnchorAdmin(CachedStateAdmin, ReadOnlyAdmin):
    """Versions of what `session:{userId}` shows."""

    cache_keyspace = SESSION
    list_display = ("user", "version")
    search_fields = ("user__username",)


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnlyAdmin):
    """Who did what in the admin, sessions that were ended included."""

    list_display = ("action_time", "user", "content_type", "object_repr", "change_message")
    list_filter = ("content_type", "action_flag")
    search_fields = ("user__username", "object_repr")
