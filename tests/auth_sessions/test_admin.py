"""An administrator ends the sessions of others, and it is noted who did."""

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from auth_sessions import services
from auth_sessions.models import Session, User
from tests.auth_sessions.rows import admitted, session

pytestmark = pytest.mark.django_db(transaction=True)


def act(client: Client, model: type[Model], action: str, *rows: Model) -> str:
    """What the administrator is told."""
    options = model._meta
    url = reverse(f"admin:{options.app_label}_{options.model_name}_changelist")
    data = {"action": action, "_selected_action": [row.pk for row in rows]}
    return client.post(url, data, follow=True).content.decode()


def staff(make_user: Any, *codenames: str) -> tuple[User, Client]:
    """Somebody of the staff who may do this, and their browser."""
    clerk: User = make_user(is_staff=True)
    clerk.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(clerk)
    return clerk, client


def noted() -> list[tuple[int, str, str]]:
    """Who did what to which row."""
    rows = LogEntry.objects.order_by("pk").values_list("user_id", "object_id", "change_message")
    return list(rows)


def test_an_administrator_ends_one_session_or_all_of_a_user(make_user: Any) -> None:
    """Refused on the next request; the log says who did it; what has ended is not ended again."""
    clerk, client = staff(make_user, "view_session", "change_session", "view_user")
    ada, bob = make_user(username="ada"), make_user(username="bob")
    (first, a), (_, b), (theirs, c) = map(services.open_session, (ada, ada, bob))
    assert "Sessions ended: 1." in act(client, Session, "end_selected", session(first))
    assert [admitted(pair.access) for pair in (a, b, c)] == [False, True, True]
    assert session(first).end_reason == Session.EndReason.ADMIN
    assert "Sessions ended: 0." in act(client, Session, "end_selected", session(first))
    told = act(client, User, "log_out_everywhere", ada, bob)
    assert "Users logged out: 2." in told
    assert not any(admitted(pair.access) for pair in (a, b, c))
    assert session(theirs).end_reason == Session.EndReason.ADMIN
    assert sorted(noted()) == sorted(
        [
            (clerk.pk, str(first), "Ended a session of ada."),
            *[(clerk.pk, str(each.pk), "Ended all sessions.") for each in (bob, ada)],
        ]
    )
    assert "messages" not in client.cookies  # they are in the session, which nobody else can set
    page = client.get(reverse("admin:auth_sessions_session_changelist")).content.decode()
    assert "Ended by an administrator" in page


def test_who_may_change_users_but_no_sessions_logs_nobody_out(make_user: Any) -> None:
    """Nothing happens, and nothing is noted."""
    _, client = staff(make_user, "view_user", "change_user", "view_session")
    ada = make_user(username="ada")
    _, pair = services.open_session(ada)
    act(client, User, "log_out_everywhere", ada)
    act(client, Session, "end_selected", Session.objects.get())
    assert admitted(pair.access)
    assert noted() == []


def test_the_notes_are_for_looking(make_user: Any) -> None:
    """Nobody changes what was noted."""
    _, client = staff(make_user, "view_logentry", "change_logentry", "delete_logentry")
    ada = make_user(username="ada")
    entry = LogEntry.objects.log_actions(ada.pk, [ada], 2, change_message="Looked.")
    page = client.get(reverse("admin:admin_logentry_changelist"))
    assert "Looked." in page.content.decode()
    change = reverse("admin:admin_logentry_change", args=[LogEntry.objects.get().pk])
    assert client.post(change, {"change_message": "Nothing."}).status_code == 403
    assert entry is not None
    assert LogEntry.objects.get().get_change_message() == "Looked."
