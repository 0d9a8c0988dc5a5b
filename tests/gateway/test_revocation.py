"""Who is logged out, deactivated, demoted or taken out of a group is refused at the gateway from
the very next request on, also under load, and whatever is flushed meanwhile."""

import itertools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
import pytest

from tests.waiting import eventually

from .conftest import Gateway
from .crowd import Crowd
from .hands import FLUSH, Hands

PASSWORD = "a-password-that-nobody-guesses-7"
MAKE_USER = """
from django.contrib.auth.models import Group, Permission
from auth_sessions.models import User
user = User.objects.create_user({name!r}, password={password!r}, sovereignty_class="SOVEREIGN")
group = Group.objects.create(name={name!r})
group.permissions.add(Permission.objects.get(codename="change_canvas"))
user.groups.add(group)
print(user.pk)
"""
_numbers = itertools.count(1)


@dataclass
class Person:
    """Somebody of class SOVEREIGN whose group may change canvases, with a session."""

    name: str
    user_id: int
    bearer: dict[str, str]
    client: httpx.Client
    hands: Hands
    database_url: str

    def on_user(self, code: str) -> None:
        """Through Django, somewhere else."""
        user = f"User.objects.get(pk={self.user_id})"
        self.hands.do(f"from auth_sessions.models import User; user = {user}\n{code}")

    def sql(self, statement: str) -> None:
        """Past Django."""
        with psycopg.connect(self.database_url) as connection:
            connection.execute(statement, [self.user_id])


def log_out(person: Person) -> None:
    answer = person.client.post("/api/v1/auth/logout/", json={}, headers=person.bearer)
    assert answer.status_code == 204


def log_out_everywhere(person: Person) -> None:
    everywhere = {"everywhere": True}
    answer = person.client.post("/api/v1/auth/logout/", json=everywhere, headers=person.bearer)
    assert answer.status_code == 204


def deactivate(person: Person) -> None:
    person.on_user("user.is_active = False; user.save()")


def demote(person: Person) -> None:
    person.on_user("user.sovereignty_class = 'INITIATE'; user.save()")


def change_password(person: Person) -> None:
    body = {"currentPassword": PASSWORD, "newPassword": PASSWORD[::-1]}
    answer = person.client.post("/api/v1/auth/password/", json=body, headers=person.bearer)
    assert answer.status_code == 204, answer.text


def leave_group(person: Person) -> None:
    person.on_user("user.groups.clear()")


def take_from_group(person: Person) -> None:
    person.on_user("user.groups.get().permissions.clear()")


@dataclass(frozen=True)
class Change:
    """What is done to somebody, the route that it closes, and what they are told there."""

    act: Callable[[Person], None]
    path: str
    status: int


CHANGES = {
    "logout": Change(log_out, "/orders/", 401),
    "logout everywhere": Change(log_out_everywhere, "/orders/", 401),
    "deactivation": Change(deactivate, "/orders/", 401),
    "demotion": Change(demote, "/treasury/", 403),
    "password": Change(change_password, "/orders/", 401),
    "leaving a group": Change(leave_group, "/canvas-admin/", 403),
    "a group's permissions": Change(take_from_group, "/canvas-admin/", 403),
}
# Of the two ways out of a session, and out of a group's permission, one each.
UNDER_LOAD = ("logout", "deactivation", "demotion", "password", "a group's permissions")


def somebody(gateway: Gateway, hands: Hands, site: dict[str, Any]) -> Person:
    """Made and logged in."""
    name = f"person{next(_numbers)}"
    user_id = int(hands.do(MAKE_USER.format(name=name, password=PASSWORD)))
    client = gateway.client()
    credentials = {"username": name, "password": PASSWORD}
    tokens = client.post("/api/v1/auth/token/", json=credentials).json()
    bearer = {"Authorization": f"Bearer {tokens['access']}"}
    return Person(name, user_id, bearer, client, hands, site["databaseUrl"])


@pytest.fixture
def person(running: Gateway, hands: Hands, site: dict[str, Any]) -> Any:
    """Behind each gateway."""
    made = somebody(running, hands, site)
    yield made
    made.client.close()


@pytest.mark.parametrize("name", CHANGES)
def test_the_very_next_request_is_refused(person: Person, name: str) -> None:
    """After the change was acknowledged; before, the service learns who it is."""
    change = CHANGES[name]
    before = person.client.get(change.path, headers=person.bearer)
    assert before.status_code == 200
    told = before.json()["headers"]
    assert told["X-User-Id"] == str(person.user_id)
    assert told["X-Sovereignty-Class"] == "SOVEREIGN"
    assert told["X-Permissions"] == "canvas.change_canvas"
    change.act(person)
    assert person.client.get(change.path, headers=person.bearer).status_code == change.status
    still = person.client.get("/orders/", headers=person.bearer).status_code
    assert still == (401 if change.status == 401 else 200)


def under_load(nginx: Gateway, person: Person, change: Change) -> Crowd:
    """Flushed once before, and once more after the change."""
    with Crowd(nginx, change.path, person.bearer) as crowd:
        crowd.go_on(15)
        person.hands.do(FLUSH)
        crowd.go_on(10)
        crowd.change(lambda: change.act(person))
        crowd.go_on(20)
        person.hands.do(FLUSH)
        crowd.go_on(20)
    person.client.close()
    return crowd


@pytest.mark.parametrize("name", UNDER_LOAD)
def test_nobody_slips_through_under_load(
    nginx: Gateway, hands: Hands, site: dict[str, Any], name: str
) -> None:
    """Fifty requests a second in parallel: none that begins after the acknowledgement is let in,
    and the flushes revive nothing."""
    change = CHANGES[name]
    crowd = under_load(nginx, somebody(nginx, hands, site), change)
    assert crowd.accepted() >= 20
    assert crowd.slipped_through() == []
    assert crowd.refusals() == {change.status}


def test_the_crowd_catches_a_gateway_that_keeps_answers(
    nginx: Gateway, hands: Hands, site: dict[str, Any]
) -> None:
    """The check can fail: with nginx's cache before `validate/`, which docs/gateway.md forbids."""
    change = Change(log_out, "/kept/", 401)
    assert under_load(nginx, somebody(nginx, hands, site), change).slipped_through()


BY_SQL = {
    "deactivation": ("UPDATE auth_sessions_user SET is_active = false WHERE id = %s", "/orders/"),
    "demotion": (
        "UPDATE auth_sessions_user SET sovereignty_class = 'INITIATE' WHERE id = %s",
        "/treasury/",
    ),
    "leaving a group": (
        "DELETE FROM auth_sessions_user_groups WHERE user_id = %s",
        "/canvas-admin/",
    ),
}


@pytest.mark.parametrize("name", BY_SQL)
def test_what_sql_changes_is_followed(
    nginx: Gateway, hands: Hands, site: dict[str, Any], name: str
) -> None:
    """Not on the very next request, but soon, and for good; a flush revives nothing here either."""
    statement, path = BY_SQL[name]
    person = somebody(nginx, hands, site)

    def refused() -> bool:
        return person.client.get(path, headers=person.bearer).status_code != 200

    with Crowd(nginx, path, person.bearer) as crowd:
        crowd.go_on(5)
        person.sql(statement)
        crowd.change(lambda: eventually(refused))
        hands.do(FLUSH)
        crowd.go_on(10)
    person.client.close()
    assert crowd.accepted()
    assert crowd.slipped_through() == []
    assert crowd.refusals() <= {401, 403}


@pytest.mark.soak
def test_nobody_slips_through_for_long(nginx: Gateway, hands: Hands, site: dict[str, Any]) -> None:
    """A minute of changes at random, each with its flushes."""
    end, seen = time.monotonic() + 60, 0
    while time.monotonic() < end:
        change = CHANGES[random.choice(list(CHANGES))]
        crowd = under_load(nginx, somebody(nginx, hands, site), change)
        assert crowd.slipped_through() == []
        assert crowd.refusals() == {change.status}
        seen += len(crowd.seen)
    print(f"\ngateway: {seen:,} requests around changes, none let in after its acknowledgement")
