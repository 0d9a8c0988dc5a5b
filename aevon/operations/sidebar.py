"""The admin's sidebar: the Reflex Arc first, then every model that the user may see."""

from typing import Any, Final

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse

from aevon.operations.access import may_view

# The app whose models stand beside the dashboard.
CACHE: Final = "cache"


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Unfold's groups of links. Who may not see a page has no link to it."""
    apps = {app["app_label"]: app for app in admin.site.get_app_list(request)}
    first = [*_dashboard(request), *_links(apps.pop(CACHE, None))]
    groups = [{"title": app["name"], "items": _links(app)} for app in apps.values()]
    return [{"title": "Reflex Arc", "items": first}, *groups] if first else groups


def _dashboard(request: HttpRequest) -> list[dict[str, Any]]:
    if not may_view(request):
        return []
    return [{"title": "Dashboard", "icon": "bolt", "link": reverse("reflex_arc:dashboard")}]


def _links(app: dict[str, Any] | None) -> list[dict[str, Any]]:
    return [
        {"title": model["name"], "link": model["admin_url"]}
        for model in (app or {}).get("models", [])
        if model["admin_url"]
    ]
