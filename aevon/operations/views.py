"""The pages: the dashboard, with a part that is fetched anew; a user's X-ray; "are you sure?"."""

from datetime import UTC, datetime
from typing import Any

from django.contrib import admin, messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from aevon.cache import InvalidKey, canonical_user_id, inspection, resources
from aevon.cache.inspection import NoSuchUser
from aevon.cache.resources import Resource
from aevon.cache.shown import visible
from aevon.operations import deeds, facts, records, xray
from aevon.operations.access import may_operate, operators, viewers
from aevon.operations.deeds import Deed

ALL = "all"
RECORDS_SHOWN = 20


def _page(request: HttpRequest, title: str, **context: Any) -> dict[str, Any]:
    return {**admin.site.each_context(request), "title": title, **context}


@viewers
@require_safe
def dashboard(request: HttpRequest) -> HttpResponse:
    """The state in one line, and everything that it is made of."""
    context = _page(request, "Reflex Arc", **facts.state())
    return render(request, "operations/dashboard.html", context)


@viewers
@require_safe
def state(request: HttpRequest) -> HttpResponse:
    """What of the dashboard changes, for its script."""
    return render(request, "operations/state.html", facts.state())


@viewers
@require_safe
def find(request: HttpRequest) -> HttpResponse:
    """From an id or a name to the X-ray."""
    wanted = request.GET.get("q", "").strip()
    try:
        user_id = inspection.user_of(wanted)
    except NoSuchUser as error:
        messages.warning(request, visible(str(error)))
        return redirect("reflex_arc:dashboard")
    return redirect("reflex_arc:user", user_id)


@viewers
@require_safe
def user(request: HttpRequest, user: str) -> HttpResponse:
    """The X-ray."""
    user_id = _canonical(user)
    found = xray.take(user_id)
    context = _page(
        request,
        f"X-ray of user {user_id}",
        xray=found,
        keys=[(key, deeds.suiting(resources.resource(key.service))) for key in found.keys],
        for_all=[deed for deed in deeds.DEEDS.values() if _suits_all(deed)],
        records=records.latest(RECORDS_SHOWN, user_id=user_id),
        may_operate=may_operate(request),
        taken_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
    )
    return render(request, "operations/xray.html", context)


def _canonical(user: str) -> int:
    try:
        return canonical_user_id(user)
    except InvalidKey as error:
        raise Http404(str(error)) from None


def _suits_all(deed: Deed) -> bool:
    return all(deed.suits(resource) for resource in resources.resources())


@operators
@require_http_methods(["GET", "HEAD", "POST"])
def deed(request: HttpRequest, user: str, service: str, name: str) -> HttpResponse:
    """Asks whether one is sure; then does it, notes it, and says what came of it."""
    user_id = _canonical(user)
    wanted, chosen = _chosen(service, name)
    if request.method == "POST":
        for resource in chosen:
            _do(request, wanted, resource, user_id)
        return redirect("reflex_arc:user", user_id)
    context = _page(
        request,
        f"{wanted.title}?",
        deed=wanted,
        user_id=user_id,
        keys=[resource.keyspace.key(user_id) for resource in chosen],
        is_oneself=user_id == request.user.pk and wanted.act is deeds.end_sessions,
    )
    return render(request, "operations/confirm.html", context)


def _chosen(service: str, name: str) -> tuple[Deed, list[Resource]]:
    wanted = deeds.DEEDS.get(name)
    known = {each.keyspace.name: each for each in resources.resources()}
    chosen = (
        list(known.values()) if service == ALL else [known[service]] if service in known else []
    )
    if wanted is None or not chosen or not all(wanted.suits(each) for each in chosen):
        raise Http404("There is no such operation.")
    return wanted, chosen


def _do(request: HttpRequest, wanted: Deed, resource: Resource, user_id: int) -> None:
    what = f"{wanted.title} {resource.keyspace.key(user_id)}"
    assert request.user.pk is not None  # noqa: S101  operators are somebody
    entry = records.begin(operator_id=request.user.pk, user_id=user_id, what=what)
    told = wanted.carry_out(resource, user_id)
    records.finish(entry, told.text)
    level = messages.SUCCESS if told.well else messages.ERROR
    messages.add_message(request, level, f"{what}: {told.text}")
