"""The admin's sidebar: the Reflex Arc first, then every model that the user may see."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse

from aevon.operations.access import may_view


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Unfold's groups of links. Who may not see a page has no link to it."""
    return [*_reflex_arc(request), *map(_group, admin.site.get_app_list(request))]


def _reflex_arc(request: HttpRequest) -> list[dict[str, Any]]:
    if not may_view(request):
        return []
    link = {"title": "Reflex Arc", "icon": "bolt", "link": reverse("reflex_arc:dashboard")}
    return [{"title": "Operations", "items": [link]}]


def _group(app: dict[str, Any]) -> dict[str, Any]:
    links = [
        {"title": model["name"], "link": model["admin_url"]}
        for model in app["models"]
        if model["admin_url"]
    ]
    return {"title": app["name"], "items": links, "collapsible": False}
