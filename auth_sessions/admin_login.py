"""The admin's doors: the same limits, and the same refusal, as every other login's."""

from http import HTTPStatus
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.views import PasswordChangeView
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import reverse
from unfold.forms import AdminOwnPasswordChangeForm, AuthenticationForm

from auth_sessions.addresses import client_address
from auth_sessions.credentials import TooManyLogins, WrongCredentials, check_credentials


class AdminLoginForm(AuthenticationForm):  # type: ignore[misc]  # unfold has no types
    """A name and a password; `retry_after_seconds` is set when they were refused unseen."""

    retry_after_seconds = 0

    def clean(self) -> dict[str, Any]:
        """Only staff is let in; anybody else's right password is a wrong one here."""
        username, password = (self.cleaned_data.get(name) for name in ("username", "password"))
        if username and password:
            self.user_cache = self._checked(username, password)
        return self.cleaned_data  # type: ignore[no-any-return]

    def _checked(self, username: str, password: str) -> Any:
        address = client_address(self.request)
        try:
            return check_credentials(
                username=username, password=password, address=address, staff_only=True
            )
        except WrongCredentials:
            raise self.get_invalid_login_error() from None
        except TooManyLogins as refused:
            self.retry_after_seconds = refused.retry_after_seconds
            raise _too_many(refused) from None


class AdminPasswordForm(AdminOwnPasswordChangeForm):  # type: ignore[misc]  # unfold has no types
    """The old password and the new one, twice."""

    def __init__(self, *args: Any, address: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self.address = address

    def clean_old_password(self) -> str:
        """As Django's, under the limits of a login."""
        old: str = self.cleaned_data["old_password"]
        try:
            check_credentials(username=self.user.username, password=old, address=self.address)
        except WrongCredentials:
            message = self.error_messages["password_incorrect"]
            raise forms.ValidationError(message, code="password_incorrect") from None
        except TooManyLogins as refused:
            raise _too_many(refused) from None
        return old


class _PasswordChangeView(PasswordChangeView):
    form_class = AdminPasswordForm

    def get_form_kwargs(self) -> dict[str, Any]:
        return super().get_form_kwargs() | {"address": client_address(self.request)}


def _too_many(refused: TooManyLogins) -> forms.ValidationError:
    return forms.ValidationError(
        f"Too many attempts. Try again in {refused.retry_after_seconds} s.",
        code="too_many_attempts",
    )


def admin_password_change(request: HttpRequest) -> HttpResponseBase:
    """The site's own view, whose form cannot be chosen (unfold)."""
    view = _PasswordChangeView.as_view(
        success_url=reverse("admin:password_change_done"),
        extra_context=admin.site.each_context(request),
    )
    return view(request)


def admin_login(request: HttpRequest) -> HttpResponse:
    """The site's own view; 429 with `Retry-After` where the form was over the limit."""
    response: HttpResponse = admin.site.login(request)
    shown = getattr(response, "context_data", None) or {}  # a redirect shows nothing
    if wait := getattr(shown.get("form"), "retry_after_seconds", 0):
        response.status_code = HTTPStatus.TOO_MANY_REQUESTS
        response["Retry-After"] = str(wait)
    return response
