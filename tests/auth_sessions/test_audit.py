"""The audit of `session:{userId}`."""

from datetime import timedelta

import pytest
from django.utils import timezone

from aevon.cache import maintenance, resources
from auth_sessions import services
from auth_sessions.models import Session, User
from auth_sessions.projection import SESSIONS

pytestmark = pytest.mark.django_db(transaction=True)


def verdict(user: User) -> str:
    """What the audit says about the user's key."""
    return maintenance.judge(resources.resource("session"), [user.pk])[user.pk]


def test_a_session_whose_access_token_ran_out_since_is_no_difference(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row's document leaves it out, the cached one still names it, with its expiry."""
    short, _ = services.open_session(user)
    services.open_session(user)
    resource = resources.resource("session")
    resource.drop([user.pk])
    soon = timezone.now() + timedelta(seconds=60)
    Session.objects.filter(sid=short).update(access_expires_at=soon)
    resource.warm([user.pk])
    later = soon.timestamp() + 5
    monkeypatch.setattr("auth_sessions.selectors.time.time", lambda: later)
    assert str(short) in resources.held(SESSIONS.keyspace, user.pk).value["sessions"]
    assert verdict(user) == "in sync"


def test_a_session_that_the_row_does_not_know_is_a_difference(user: User) -> None:
    """Rows deleted behind the cache's back."""
    first, _ = services.open_session(user)
    services.open_session(user)
    resources.resource("session").warm([user.pk])
    Session.objects.filter(sid=first)._raw_delete("default")
    assert verdict(user) == "stale"


def test_a_user_without_a_live_session_has_nothing_to_cache(user: User) -> None:
    """Neither here nor there."""
    assert verdict(user) == "absent"
    assert resources.resource("session").rows([user.pk]) == set()
