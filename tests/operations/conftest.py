"""People of the admin, and a user whose keys are there."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from aevon.cache import maintenance
from aevon.cache.connection import store
from auth_sessions.models import User
from tests.cache.test_house import APP

Browser = Callable[..., Client]


@pytest.fixture
def browser_of(make_user: Any) -> Browser:
    """`browser_of("view_reflexarc")`: the browser of a member of staff with these permissions."""

    def make(*permissions: str, **fields: Any) -> Client:
        person: User = make_user(is_staff=True, **fields)
        person.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client = Client()
        client.force_login(person)
        client.person = person  # type: ignore[attr-defined]
        return client

    return make


@pytest.fixture
def operator(browser_of: Browser) -> Client:
    """The browser of somebody who may do everything here, and nothing else."""
    return browser_of("view_reflexarc", "operate_reflexarc")


@pytest.fixture
def member(make_user: Any, client_for: Any) -> User:
    """A user with all four keys, in sync."""
    user: User = make_user()
    client = client_for(user)
    answers = [
        client.post("/api/v1/klepsydra/interactions/", {"instrument": "spinforge", "stake": 1}),
        client.patch("/api/v1/canvas/", {"microApps": {"a": APP}}),
        client.post("/api/v1/beep/commands/", {"text": "help"}),
    ]
    assert [answer.status_code for answer in answers] == [200] * 3
    settle()
    return user


def settle() -> None:
    """Everything persisted, and loaded anew; in a test's transaction no fence ends by a commit."""
    maintenance.flush(maintenance.chosen("all"))
    store().command("FLUSHDB")
    maintenance.warm_up(maintenance.chosen("all"))
