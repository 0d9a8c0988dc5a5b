"""Conversations and turns in the admin."""

from typing import Any

import pytest
from django.test import Client

from auth_sessions.models import User
from beep import services
from beep.models import Conversation, Turn
from tests.beep.lists import cached, seqs, speak

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def staff(make_user: Any) -> Client:
    """A browser in which a superuser is logged in."""
    client = Client()
    client.force_login(make_user(is_staff=True, is_superuser=True))
    return client


def test_the_lists_show_rows_and_their_cached_state(user: User, staff: Client) -> None:
    """One page each."""
    speak(user.pk, 2)
    for model in ("conversation", "turn"):
        page = staff.get(f"/admin/beep/{model}/")
        assert page.status_code == 200
        assert b"in sync" in page.content


def test_a_turn_can_be_looked_at_but_not_changed(user: User, staff: Client) -> None:
    """There is no form to save."""
    speak(user.pk, 1)
    path = f"/admin/beep/turn/{Turn.objects.get().pk}/change/"
    assert b"words 1" in staff.get(path).content
    assert staff.post(path, {"response": "other"}).status_code == 403


@pytest.mark.parametrize("model", ["conversation", "turn"])
def test_nothing_can_be_added(staff: Client, model: str) -> None:
    """Only BEEP writes turns."""
    assert staff.get(f"/admin/beep/{model}/add/").status_code == 403


def test_a_deleted_turn_leaves_the_list(user: User, staff: Client) -> None:
    """After the commit."""
    speak(user.pk, 2)
    newest = Turn.objects.get(seq=2)
    staff.post(f"/admin/beep/turn/{newest.pk}/delete/", {"post": "yes"})
    assert cached(user.pk) == []
    assert seqs(services.history(user.pk)) == [1]


def test_conversations_are_forgotten_and_never_deleted(user: User, staff: Client) -> None:
    """By the action on the list of rows; numbers go on. The user can still be deleted, with all."""
    speak(user.pk, 2)
    form = {"action": "forget_turns", "_selected_action": [user.pk], "post": "yes"}
    staff.post("/admin/beep/conversation/", form)
    assert cached(user.pk) == services.history(user.pk) == []
    assert speak(user.pk, 1)[0].seq == 3
    staff.post("/admin/beep/conversation/", form | {"action": "delete_selected"})
    path = f"/admin/beep/conversation/{user.pk}/delete/"
    assert staff.post(path, {"post": "yes"}).status_code == 403
    assert Conversation.objects.exists()
    staff.post(f"/admin/auth_sessions/user/{user.pk}/delete/", {"post": "yes"})
    assert not Conversation.objects.exists()


def test_searching_finds_a_users_turns(user: User, make_user: Any, staff: Client) -> None:
    """By name of the user or words of the command."""
    speak(user.pk, 1)
    speak(make_user().pk, 1)
    page = staff.get("/admin/beep/turn/", {"q": user.username})
    assert page.context["cl"].result_count == 1
