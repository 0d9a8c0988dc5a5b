"""The admin's search for its own pages."""

from typing import Final

from django.contrib import admin
from django.contrib.admin import AdminSite
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

PER_PAGE: Final = 100
TERM_MAX: Final = 200


def search(request: HttpRequest) -> HttpResponse:
    """`s`: apps and models with that in their name, of those that the user may see; `extended`: as
    the palette of commands shows them.

    Unfold's own view keeps its results in Django's cache, as objects, which JSON cannot hold.
    """
    term = request.GET.get("s", "").lower()[:TERM_MAX]
    if not term:
        return HttpResponse()
    apps = AdminSite.get_app_list(admin.site, request)
    pages = Paginator(admin.site._search_apps(apps, term), PER_PAGE)  # type: ignore[attr-defined]  # noqa: SLF001
    page = pages.get_page(request.GET.get("page"))
    shape = "command" if "extended" in request.GET else "search"
    context = {
        "page_obj": pages,
        "results": page,
        "page_counter": (page.number - 1) * PER_PAGE,
        "command_show_history": False,
    }
    return TemplateResponse(
        request, f"unfold/helpers/{shape}_results.html", context, headers={"HX-Trigger": "search"}
    )
