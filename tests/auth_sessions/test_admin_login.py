"""The admin's door."""

from functools import partial
from typing import Any

import pytest
from django.test import Client

from auth_sessions import services
from auth_sessions.models import User
from tests.threads import in_threads

DOOR = "/admin/login/"
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def chief(make_user: Any) -> User:
    """Somebody who is let in."""
    return make_user(username="chief", password="lovelace", is_staff=True)


def knock(name: str = "chief", password: str = "lovelace", **headers: str) -> Any:
    """The answer to an attempt."""
    return Client(headers=headers).post(DOOR, {"username": name, "password": password})


def test_attempts_over_the_limit_are_429_exactly(settings: Any) -> None:
    """Sixteen at once, and the right password is refused as well; the page says for how long."""
    settings.AUTH_LOGIN_ATTEMPTS_PER_USERNAME = 5
    answers = in_threads([partial(knock, password="wrong")] * 16, workers=16)
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(200), statuses.count(429)) == (5, 11)
    answer = knock()
    wait = int(answer["Retry-After"])
    assert (answer.status_code, 1 <= wait <= 60) == (429, True)
    assert f"Too many attempts. Try again in {wait} s." in answer.content.decode()
    assert "sessionid" not in answer.cookies


def test_the_limits_are_those_of_every_login(settings: Any) -> None:
    """Who has tried the API too often is refused here; an address counts as there."""
    settings.AUTH_LOGIN_ATTEMPTS_PER_ADDRESS = settings.AEVON_TRUSTED_PROXIES = 1
    body = {"username": "chief", "password": "wrong"}
    forwarded = {"X-Forwarded-For": "192.0.2.1"}
    token = "/api/v1/auth/token/"
    assert Client(headers=forwarded).post(token, body, "application/json").status_code == 401
    assert knock(**forwarded).status_code == 429
    assert knock(**{"X-Forwarded-For": "192.0.2.2"}).status_code == 302


def test_a_success_is_not_counted(settings: Any) -> None:
    """Staff comes in as often as it likes, to where it wanted, for a working day."""
    settings.AUTH_LOGIN_ATTEMPTS_PER_USERNAME = 1
    assert [knock().status_code for _ in range(3)] == [302] * 3
    cookie = knock().cookies["sessionid"]
    assert (cookie["max-age"], cookie["httponly"], cookie["samesite"]) == (28_800, True, "Strict")
    client = Client()
    assert client.get("/admin/")["Location"] == f"{DOOR}?next=/admin/"
    client.post(f"{DOOR}?next=/admin/", {"username": "chief", "password": "lovelace"})
    assert client.get("/admin/").status_code == 200


def test_the_door_closes_behind_who_is_disabled_or_has_another_password(chief: User) -> None:
    """On the very next request, as everywhere."""
    for change in ({"is_active": False}, {"is_staff": False}, {"password": "!"}):
        User.objects.filter(pk=chief.pk).update(is_active=True, is_staff=True)
        chief.set_password("lovelace")
        chief.save()
        client = Client()
        client.post(DOOR, {"username": "chief", "password": "lovelace"})
        assert client.get("/admin/").status_code == 200
        User.objects.filter(pk=chief.pk).update(**change)
        assert client.get("/admin/").status_code == 302


def test_every_refusal_is_the_same(make_user: Any, hashes: list[str], settings: Any) -> None:
    """Of somebody who is no staff, too, whose right password counts as a wrong one."""
    settings.AUTH_LOGIN_ATTEMPTS_PER_USERNAME = 1
    make_user(username="ada", password="lovelace")
    make_user(username="gone", password="lovelace", is_staff=True, is_active=False)
    cases = [("ada", "lovelace"), ("chief", "wrong"), ("gone", "lovelace"), ("none", "lovelace")]
    hashes.clear()
    said = {_said(knock(*case), case[0]) for case in cases}
    assert len(said) == 1
    assert len(hashes) == len(cases)
    assert [knock(*case).status_code for case in cases] == [429] * len(cases)
    assert len(hashes) == len(cases)


def _said(answer: Any, name: str) -> tuple[int, str]:
    """Status and page, but for the name that was typed in, and the token."""
    html = answer.content.decode().replace(f'value="{name}"', "")
    return answer.status_code, html.replace(str(answer.context["csrf_token"]), "")


@pytest.mark.parametrize("form", [{}, {"username": "chief"}, {"username": "", "password": "x"}])
def test_half_a_form(form: dict[str, str], hashes: list[str]) -> None:
    """It is shown again; nothing was tried."""
    answer = Client().post(DOOR, form)
    assert answer.status_code == 200
    assert "This field is required." in answer.content.decode()
    assert hashes == []


def test_guesses_at_the_own_password_are_limited_as_logins_are(settings: Any) -> None:
    """Whoever finds an admin's browser open does not find out the password in it; who knows it
    changes it, and goes on. By address as by name."""
    settings.AUTH_LOGIN_ATTEMPTS_PER_USERNAME = 2
    client, path = Client(), "/admin/password_change/"
    client.post(DOOR, {"username": "chief", "password": "lovelace"})
    assert "ΛΞVON OS" in client.get(path).content.decode()
    new = {"new_password1": "analytical engine", "new_password2": "analytical engine"}
    assert client.post(path, {"old_password": "wrong", **new}).status_code == 200
    done = client.post(path, {"old_password": "lovelace", **new})
    assert (done.status_code, done["Location"]) == (302, f"{path}done/")
    assert client.get("/admin/").status_code == 200
    settings.AUTH_LOGIN_ATTEMPTS_PER_ADDRESS = 1
    refused = client.post(path, {"old_password": "analytical engine", **new})
    assert "Too many attempts." in refused.content.decode()
    settings.AUTH_LOGIN_ATTEMPTS_PER_ADDRESS = 100
    for password in ("wrong", "analytical engine"):
        answer = client.post(path, {"old_password": password, **new})
    assert "Too many attempts." in answer.content.decode()
    assert knock(password="analytical engine").status_code == 429


def test_a_new_secret_of_djangos_logs_nobody_out(chief: User, settings: Any) -> None:
    """As long as the old one is named (`SECRET_KEY_FALLBACKS`); also after an everywhere."""
    services.end_all_sessions(chief.pk)
    client = Client()
    client.post(DOOR, {"username": "chief", "password": "lovelace"})
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another secret of at least thirty-two characters"
    assert client.get("/admin/").status_code == 200


def test_an_end_of_all_sessions_is_one_of_the_admins_as_well(chief: User) -> None:
    """Everywhere is here, too; who was disabled and is not any more has to come in again."""
    for end in (
        lambda: services.end_all_sessions(chief.pk),
        lambda: User.objects.filter(pk=chief.pk).update(is_active=False),
    ):
        client = Client()
        client.post(DOOR, {"username": "chief", "password": "lovelace"})
        assert client.get("/admin/").status_code == 200
        end()
        User.objects.filter(pk=chief.pk).update(is_active=True)
        assert client.get("/admin/").status_code == 302
