"""Canvases in the admin."""

import pytest
from django.contrib.admin import site
from django.contrib.admin.utils import get_deleted_objects
from django.test import Client, RequestFactory
from django.urls import ResolverMatch, reverse

from auth_sessions.models import User
from canvas import services
from canvas.models import AwayEdit, Canvas
from tests.canvas.helpers import patch, window

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin() -> Client:
    """Somebody who may do everything."""
    client = Client()
    client.force_login(User.objects.create_superuser("root", "root@example.org", "unusual-word-1"))
    return client


def test_the_list_shows_canvases_and_their_cached_state(admin: Client, user: User) -> None:
    """Searched by the user's name."""
    patch(user.pk, a=window(), b=window())
    services.persist_now()
    patch(user.pk, a=None)
    page = admin.get(reverse("admin:canvas_canvas_changelist"), {"q": user.username})
    assert page.status_code == 200
    assert f">{user.username}<" in page.content.decode()
    assert "unsaved" in page.content.decode()


def test_a_canvas_cannot_be_edited(admin: Client, user: User) -> None:
    """An edited row would race the live document."""
    Canvas.objects.create(user=user, revision=3)
    url = reverse("admin:canvas_canvas_change", args=[user.pk])
    assert admin.get(url).status_code == 200
    assert admin.post(url, {"revision": 9}).status_code == 403
    assert admin.get(reverse("admin:canvas_canvas_add")).status_code == 403
    assert admin.post(reverse("admin:canvas_canvas_delete", args=[user.pk])).status_code == 403


def test_an_away_edit_is_shown(admin: Client, user: User) -> None:
    """As JSON, escaped."""
    edit = AwayEdit.objects.create(user=user, change={"patch": {"<b>": 1}})
    assert admin.get(reverse("admin:canvas_awayedit_changelist")).status_code == 200
    page = admin.get(reverse("admin:canvas_awayedit_change", args=[edit.pk])).content.decode()
    assert "&lt;b&gt;" in page
    assert "<b>&quot;" not in page


@pytest.mark.parametrize(
    ("url_name", "refused"), [("auth_sessions_user_delete", False), ("x", True)]
)
def test_a_canvas_goes_only_along_with_its_user(
    rf: RequestFactory, user: User, url_name: str, refused: bool
) -> None:
    """Django asks this app for permission when a user is deleted, and names what was refused."""
    Canvas.objects.create(user=user)
    AwayEdit.objects.create(user=user, change={"patch": {}})
    request = rf.get("/")
    request.user = User.objects.create_superuser("root")
    request.resolver_match = ResolverMatch(str, (), {}, url_name)
    _, _, needed, _ = get_deleted_objects([user], request, site)
    assert needed & {"canvas", "away edit"} == ({"canvas", "away edit"} if refused else set())
