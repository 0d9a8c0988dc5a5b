"""The doors: staff with the permission of the page, everybody else is refused."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse

VIEW: Final = "operations.view_reflexarc"
OPERATE: Final = "operations.operate_reflexarc"

View = Callable[..., HttpResponse]


def may_view(request: HttpRequest) -> bool:
    """Whether the user may look."""
    return request.user.has_perm(VIEW)


def may_operate(request: HttpRequest) -> bool:
    """Whether the user may do something about what they see; who cannot look cannot either."""
    return may_view(request) and request.user.has_perm(OPERATE)


def viewers(view: View) -> View:
    """A page of the admin for those who may look."""
    return _only(may_view, view)


def operators(view: View) -> View:
    """A page of the admin for those who may operate."""
    return _only(may_operate, view)


def _only(allowed: Callable[[HttpRequest], bool], view: View) -> View:
    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not allowed(request):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return admin.site.admin_view(checked)
