"""Attempts to log in: under what they are counted, and what a refusal costs."""

import time
from typing import Any

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.db import OperationalError
from django.test import RequestFactory
from rest_framework.test import APIClient

from aevon.cache import LOGIN_ATTEMPTS_BY_ADDRESS, LOGIN_ATTEMPTS_BY_NAME
from aevon.cache.connection import store
from auth_sessions import credentials, services
from auth_sessions.addresses import client_address
from auth_sessions.credentials import TooManyLogins, WrongCredentials
from auth_sessions.models import Session, User

TOKEN = "/api/v1/auth/token/"
ADDRESS = "192.0.2.1"

pytestmark = pytest.mark.django_db


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
        headers = {k: v for k, v in answer.headers.items() if k != "X-Request-ID"}
        told.add((answer.status_code, answer.content, tuple(sorted(headers.items()))))
    assert [status for status, *_ in told] == [401]


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


def test_a_password_from_elsewhere_is_hashed_anew(user: User, hashes: list[str]) -> None:
    """At its user's login."""
    User.objects.filter(pk=user.pk).update(password=OLDER)
    assert log_in(user.username).status_code == 200
    assert hashes == ["encode"]
    user.refresh_from_db()
    assert user.password.startswith("argon2$argon2id$")


def test_a_password_that_is_no_text(user: User) -> None:
    """Half a character is refused as any other wrong password, and is no failure."""
    body = f'{{"username": "{user.username}", "password": "\\ud800"}}'
    assert APIClient().post(TOKEN, body, content_type="application/json").status_code == 400


# --- What counts -----------------------------------------------------------------------------


def attempt(username: str = "ada", password: str = "wrong", address: str = ADDRESS) -> str:
    """What comes of an attempt."""
    try:
        services.log_in(username=username, password=password, address=address, user_agent="")
    except (WrongCredentials, TooManyLogins) as refusal:
        return type(refusal).__name__
    return "in"


def counted(username: str = "ada", address: str = ADDRESS) -> tuple[int, int]:
    """The attempts that count against a name and an address."""
    name, place = credentials.name_part(username), credentials.address_part(address)
    keys = (LOGIN_ATTEMPTS_BY_NAME.key(name), LOGIN_ATTEMPTS_BY_ADDRESS.key(place))
    by_name, by_address = (int(store().command("GET", key) or 0) for key in keys)
    return by_name, by_address


def test_a_failed_attempt_counts_against_name_and_address(ada: User) -> None:
    """For a minute from the first; a name that nobody has counts, too."""
    assert [attempt(), attempt(), attempt("nobody")] == ["WrongCredentials"] * 3
    assert (counted(), counted("nobody")) == ((2, 3), (1, 3))
    lives = [store().command("PTTL", key) for key in store().command("KEYS", "auth:*")]
    assert len(lives) == 3
    assert all(55_000 < ttl_ms <= 60_000 for ttl_ms in lives)


def test_a_successful_attempt_is_taken_back(ada: User) -> None:
    """And the failed ones before it stay."""
    attempt()
    assert attempt(password="lovelace") == "in"
    assert counted() == (1, 1)


def test_a_disabled_users_attempt_has_failed(ada: User) -> None:
    """Whatever the password; no session is opened."""
    User.objects.update(is_active=False)
    assert attempt(password="lovelace") == "WrongCredentials"
    assert counted() == (1, 1)
    assert not Session.objects.exists()


def test_a_refused_attempt_is_not_counted(
    ada: User, settings: Any, django_assert_num_queries: Any
) -> None:
    """Nor is the password looked at, be it right: PostgreSQL is not asked."""
    settings.AUTH_LOGIN_ATTEMPTS_PER_USERNAME = 2
    assert [attempt() for _ in range(4)] == ["WrongCredentials"] * 2 + ["TooManyLogins"] * 2
    with django_assert_num_queries(0):
        assert attempt(password="lovelace") == "TooManyLogins"
    assert counted() == (2, 2)


def test_an_attempt_refused_by_address_is_not_counted_against_the_name(
    ada: User, settings: Any
) -> None:
    """Nobody locks a user out from an address that is locked out itself."""
    settings.AUTH_LOGIN_ATTEMPTS_PER_ADDRESS = 1
    attempt("nobody")
    assert [attempt(), attempt()] == ["TooManyLogins"] * 2
    assert counted() == (0, 1)
    assert attempt(password="lovelace", address="192.0.2.2") == "in"


def test_a_name_is_counted_in_any_spelling(ada: User, settings: Any) -> None:
    """Capitals give nobody more attempts."""
    settings.AUTH_LOGIN_ATTEMPTS_PER_USERNAME = 2
    assert [attempt(name) for name in ("ADA", "Ada", "aDa")][2] == "TooManyLogins"
    assert attempt() == "TooManyLogins"


def test_an_attempt_is_counted_under_any_name(ada: User) -> None:
    """Under a key in three parts that tells the cache no name and no address."""
    name = "ada:*\r\n{x} ü" * 50
    assert attempt(name, address=name) == "WrongCredentials"
    keys = store().command("KEYS", "auth:*")
    assert len(keys) == 2
    assert all(key.count(b":") == 2 and b"ada" not in key for key in keys)


def test_attempts_begin_anew_after_the_window(ada: User, settings: Any) -> None:
    """The refusal has said how long that is."""
    settings.AUTH_LOGIN_ATTEMPTS_PER_USERNAME = 1
    attempt()
    key = LOGIN_ATTEMPTS_BY_NAME.key(credentials.name_part("ada"))
    store().command("PEXPIRE", key, 29_900)
    with pytest.raises(TooManyLogins) as refused:
        services.log_in(username="ada", password="x", address=ADDRESS, user_agent="")
    left_ms = store().command("PTTL", key)
    assert 0 < left_ms <= refused.value.retry_after_seconds * 1000 <= 30_000
    store().command("PEXPIRE", key, 1)
    time.sleep(0.01)
    assert attempt(password="lovelace") == "in"


def test_an_attempt_that_nobody_could_answer_is_not_counted(
    ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL is away: its user has guessed nothing."""

    def fail(**_: Any) -> None:
        raise OperationalError("not today")

    with monkeypatch.context() as patched:
        patched.setattr(credentials, "authenticate", fail)
        with pytest.raises(OperationalError):
            attempt()
    assert counted() == (0, 0)


def test_nobody_is_locked_out_while_the_cache_is_away(
    ada: User, settings: Any, cache_away: Any
) -> None:
    """And nothing is counted afterwards that could not be counted then."""
    settings.AUTH_LOGIN_ATTEMPTS_PER_USERNAME = 1
    attempt()
    with cache_away():
        assert [attempt(), attempt()] == ["WrongCredentials"] * 2
        assert attempt(password="lovelace") == "in"
    assert counted() == (1, 1)
