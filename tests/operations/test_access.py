"""Who may see the Reflex Arc, and who may operate it."""

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from aevon.cache.connection import store
from aevon.operations.deeds import DEEDS
from auth_sessions.models import User
from tests.operations.conftest import Browser

pytestmark = pytest.mark.django_db
LINK = 'href="/admin/reflex-arc/"'
BUTTON = "arc-button"


def pages(user: User) -> list[str]:
    """Every address, with what can be done to every key."""
    each = [("all", "warm"), ("canvas", "persist"), ("session", "end-sessions")]
    return [
        reverse("reflex_arc:dashboard"),
        reverse("reflex_arc:state"),
        reverse("reflex_arc:find") + "?q=1",
        reverse("reflex_arc:user", args=[user.pk]),
        *(reverse("reflex_arc:deed", args=[user.pk, *deed]) for deed in each),
    ]


@pytest.mark.parametrize("permissions", [(), ("operate_reflexarc",), ("view_user", "view_session")])
def test_staff_without_the_permission_sees_nothing_of_it(
    browser_of: Browser, member: User, permissions: tuple[str, ...]
) -> None:
    """Neither page nor link; nor do other permissions open it, to operate without looking
    included."""
    client = browser_of(*permissions)
    assert [client.get(page).status_code for page in pages(member)] == [403] * 7
    assert [client.post(page).status_code for page in pages(member)] == [403] * 7
    assert LINK not in client.get("/admin/").content.decode()
    if "view_user" in permissions:
        page = client.get(f"/admin/auth_sessions/user/{member.pk}/change/").content.decode()
        assert "X-ray" not in page


@pytest.mark.parametrize("who", ["nobody", "no staff", "staff no more"])
def test_who_is_no_staff_is_sent_to_the_login(make_user: Any, member: User, who: str) -> None:
    """Whatever permissions they have."""
    client = Client()
    if who != "nobody":
        client.force_login(make_user(is_superuser=True, is_staff=False))
    for page in pages(member):
        assert client.get(page)["Location"].startswith("/admin/login/")


def test_who_may_look_is_offered_nothing_to_do(browser_of: Browser, member: User) -> None:
    """No button on the X-ray, and no question behind its address."""
    client = browser_of("view_reflexarc")
    dashboard, state, find, xray, *questions = pages(member)
    assert [client.get(page).status_code for page in (dashboard, state, xray)] == [200] * 3
    assert client.get(find).status_code == 302
    assert BUTTON not in client.get(xray).content.decode()
    for name in DEEDS:
        address = reverse("reflex_arc:deed", args=[member.pk, "session", name])
        assert (client.get(address).status_code, client.post(address).status_code) == (403, 403)
    assert {client.post(page).status_code for page in questions} == {403}
    assert store().command("EXISTS", f"psyche:{member.pk}") == 1
    assert not LogEntry.objects.exists()


def test_an_operator_sees_links_and_buttons(operator: Client, member: User) -> None:
    """In the sidebar of every page of the admin; no model is shown besides."""
    index = operator.get("/admin/").content.decode()
    assert LINK in index
    assert "/admin/auth_sessions/user/" not in index
    xray = operator.get(reverse("reflex_arc:user", args=[member.pk])).content.decode()
    assert xray.count(BUTTON) == 3 + 4 * 3 + 2


def test_a_superuser_may_do_all_of_it(make_user: Any, member: User) -> None:
    """And finds every model in the sidebar, as before, and the X-ray on a user's own page."""
    client = Client()
    client.force_login(make_user(is_staff=True, is_superuser=True))
    assert [client.get(page).status_code for page in pages(member)] == [200, 200, 302] + [200] * 4
    index = client.get("/admin/").content.decode()
    for model, options in admin.site._registry.items():
        if options.has_view_permission(client.get("/admin/").wsgi_request):
            assert f"/admin/{model._meta.app_label}/{model._meta.model_name}/" in index
    page = client.get(f"/admin/auth_sessions/user/{member.pk}/change/").content.decode()
    assert f"/admin/reflex-arc/users/{member.pk}/" in page


def test_nothing_is_done_by_a_get_or_without_the_csrf_token(operator: Client, member: User) -> None:
    """A link in a mail does nothing; nor does another site's form."""
    address = reverse("reflex_arc:deed", args=[member.pk, "all", "flush"])
    assert operator.get(address).status_code == 200
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(operator.person)  # type: ignore[attr-defined]
    assert strict.post(address).status_code == 403
    assert store().command("EXISTS", f"psyche:{member.pk}") == 1


@pytest.mark.parametrize(
    ("service", "name"),
    [("psyche", "persist"), ("psyche", "end-sessions"), ("all", "persist"), ("celery", "flush"),
     ("psyche", "drop-table"), ("cache", "warm")],
)  # fmt: skip
def test_what_does_not_fit_is_not_there(
    operator: Client, member: User, service: str, name: str
) -> None:
    """404, and nothing is noted."""
    address = reverse("reflex_arc:deed", args=[member.pk, service, name])
    assert (operator.get(address).status_code, operator.post(address).status_code) == (404, 404)
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("user", ["0", "007", "-1", "x", "1e3", "9" * 30, "١٢"])
def test_what_is_no_user_id_has_no_page(operator: Client, user: str) -> None:
    """No key is made of it."""
    assert operator.get(f"/admin/reflex-arc/users/{user}/").status_code == 404
