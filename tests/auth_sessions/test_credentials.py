"""Attempts to log in: under what they are counted, and what a refusal costs."""

from typing import Any

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.test import RequestFactory
from rest_framework.test import APIClient

from auth_sessions import credentials
from auth_sessions.models import User
from auth_sessions.views import client_address

TOKEN = "/api/v1/auth/token/"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8:0:0:ffff::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("2001:DB8::1", "2001:db8::1", True),
        ("fe80::1%eth0", "fe80::2", True),
        ("::1", "::ffff:1", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("junk", "junk", True),
        ("junk", "other junk", False),
        ("", "unix:", False),
        ("\ud800", "\ud800", True),
    ],
)
def test_addresses_that_are_counted_together(one: str, other: str, same: bool) -> None:
    """IPv6 by what one customer holds; IPv4 however it is written; what is none by itself."""
    assert (credentials.address_part(one) == credentials.address_part(other)) is same


@pytest.mark.parametrize(
    ("hop", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("unknown", "unknown"),
        ("a:b:c", "a:b:c"),
    ],
)
def test_port_that_a_proxy_writes(settings: Any, hop: str, address: str) -> None:
    """It differs with each connection, and is no part of the address."""
    settings.AEVON_TRUSTED_PROXIES = 1
    request = RequestFactory().get("/", headers={"X-Forwarded-For": f"6.6.6.6, {hop}"})
    assert client_address(request) == address


# --- What a refusal costs ----------------------------------------------------------------------

OLDER = PBKDF2PasswordHasher().encode("lovelace", "salt", iterations=1000)
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"username": "somebody else"}, "lovelace"),
    "wrong": ({}, "wrong"),
    "disabled": ({"is_active": False}, "lovelace"),
    "disabled, wrong": ({"is_active": False}, "wrong"),
    "unusable": ({"password": "!unusable"}, "lovelace"),
    "no hash": ({"password": ""}, "lovelace"),
    "unknown hasher": ({"password": "crypt$x$y"}, "lovelace"),
    "older": ({"password": OLDER}, "wrong"),
    "older, disabled": ({"password": OLDER, "is_active": False}, "lovelace"),
}


def log_in(username: str = "ada", password: str = "lovelace") -> Any:
    """The answer to an attempt."""
    return APIClient().post(TOKEN, {"username": username, "password": password})


@pytest.mark.django_db
def test_every_refusal_costs_and_says_the_same(make_user: Any, hashes: list[str]) -> None:
    """One Argon2id, whoever it was and whatever was wrong."""
    user = make_user(username="ada", password="lovelace")
    before = User.objects.values("username", "password", "is_active").get(pk=user.pk)
    told = set()
    for case, (fields, password) in REFUSED.items():
        User.objects.filter(pk=user.pk).update(**{**before, **fields})
        hashes.clear()
        answer = log_in(password=password)
        assert len(hashes) == 1, case
        told.add((answer.status_code, answer.content, tuple(sorted(answer.headers.items()))))
    assert [status for status, *_ in told] == [401]


@pytest.mark.django_db
def test_a_refusal_over_the_limit_costs_nothing(
    make_user: Any, hashes: list[str], settings: Any
) -> None:
    """Whatever the name, and the password be it right."""
    settings.AUTH_LOGIN_ATTEMPTS_PER_USERNAME = 1
    make_user(username="ada", password="lovelace")
    assert {log_in(name, "wrong").status_code for name in ("ada", "nobody")} == {401}
    hashes.clear()
    refused = [log_in(name) for name in ("ada", "nobody")]
    assert [answer.status_code for answer in refused] == [429, 429]
    assert refused[0].headers.keys() == refused[1].headers.keys()
    assert hashes == []


@pytest.mark.django_db
def test_a_password_from_elsewhere_is_hashed_anew(user: User, hashes: list[str]) -> None:
    """At its user's login."""
    User.objects.filter(pk=user.pk).update(password=OLDER)
    assert log_in(user.username).status_code == 200
    assert hashes == ["encode"]
    user.refresh_from_db()
    assert user.password.startswith("argon2$argon2id$")


@pytest.mark.django_db
def test_a_password_that_is_no_text(user: User) -> None:
    """Half a character is refused as any other wrong password, and is no failure."""
    body = f'{{"username": "{user.username}", "password": "\\ud800"}}'
    assert APIClient().post(TOKEN, body, content_type="application/json").status_code == 400
