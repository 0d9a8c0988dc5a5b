"""PsycheStates, which may be edited, and the record of interactions, which may not."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.db import connection
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from aevon.cache import PSYCHE
from aevon.cache.admin import CachedStateAdmin, ReadOnlyAdmin
from klepsydra.models import Interaction, PsycheState

if TYPE_CHECKING:
    _Form = forms.ModelForm[PsycheState]
else:
    _Form = forms.ModelForm


class PsycheStateForm(_Form):
    """Knows which version was on the page: who plays meanwhile must not lose what they played."""

    shown_version = forms.IntegerField(widget=forms.HiddenInput)

    class Meta:
        model = PsycheState
        fields = (
            "sre_wave",
            "loss_streak",
            "frustration_level",
            "frustration_at",
            "is_throttled",
            "throttled_until",
            "phase",
            "amplitude",
            "period_seconds",
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["shown_version"].initial = self.instance.version

    def clean_shown_version(self) -> int:
        shown: int = self.cleaned_data["shown_version"]
        if shown != self.instance.version:
            raise forms.ValidationError(
                f"The state has changed since you opened it (version {shown}, now "
                f"{self.instance.version}). Nothing was saved; open it again."
            )
        return shown


@admin.register(PsycheState)
class PsycheStateAdmin(CachedStateAdmin, ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """One per user, made at the user's first request. Deleting one starts the user afresh."""

    cache_keyspace = PSYCHE
    form = PsycheStateForm  # type: ignore[assignment]  # the mixin is for any model
    list_display = (
        "user",
        "loss_streak",
        "frustration_level",
        "is_throttled",
        "version",
        "updated_at",
    )
    list_filter = ("is_throttled",)
    list_select_related = ("user",)
    search_fields = ("user__username", "=user__id")
    readonly_fields = ("user", "version", "updated_at")

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002
        return False

    def get_object(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Locked while a form is saved: the version that is compared is the one replaced."""
        found = super().get_object(request, *args, **kwargs)
        if found is not None and request.method == "POST" and connection.in_atomic_block:
            return PsycheState.objects.select_for_update(no_key=True).filter(pk=found.pk).first()
        return found


@admin.register(Interaction)
class InteractionAdmin(ReadOnlyAdmin):
    """For looking: the database refuses changes."""

    list_display = (
        "id",
        "user",
        "created_at",
        "instrument",
        "kind",
        "tier",
        "stake",
        "payout",
        "pity",
        "psyche_version",
    )
    list_filter = ("kind", "tier", "pity", "instrument")
    list_select_related = ("user",)
    search_fields = ("user__username", "=idempotency_key")
    show_full_result_count = False
