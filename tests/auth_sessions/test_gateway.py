"""`validate/`: whom a gateway hears of, what it may ask for, and which tokens are none."""

import base64
import json
import time
from typing import Any

import jwt
import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from rest_framework.request import Request
from rest_framework.test import APIClient, APIRequestFactory

from auth_sessions.authentication import SessionTokenAuthentication
from auth_sessions.models import User
from tests.auth_sessions.asking import SESSIONS, VALIDATE, bearer, log_in

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_gateway_hears_who_is_calling(ada: User) -> None:
    """In headers, without a body."""
    ada.user_permissions.add(Permission.objects.get(codename="view_user"))
    tokens = log_in().json()
    answer = bearer(tokens["access"]).get(VALIDATE)
    assert answer.status_code == 204
    assert answer["X-User-Id"] == str(ada.pk)
    assert answer["X-Session-Id"] == tokens["sid"]
    assert answer["X-Sovereignty-Class"] == "INITIATE"
    assert answer["X-Permissions"] == "auth_sessions.view_user"


def test_a_gateways_question_costs_one_round_trip_and_no_sql(
    ada: User, trips: Any, django_assert_num_queries: Any
) -> None:
    """A hit, whatever the route requires; so does a request to the API, to be let in."""
    token = log_in().json()["access"]
    client = bearer(token)
    client.get(VALIDATE)
    for path in (VALIDATE, f"{VALIDATE}?class=INITIATE"):
        with trips() as sent, django_assert_num_queries(0):
            assert client.get(path).status_code == 204
        assert sent.count == 1
    request = APIRequestFactory().get("/", headers={"Authorization": f"Bearer {token}"})
    with trips() as sent, django_assert_num_queries(0):
        assert SessionTokenAuthentication().authenticate(Request(request)) is not None
    assert sent.count == 1


def test_a_gateway_may_ask_with_any_method(ada: User) -> None:
    """That of the request which it asks about, from a browser or not."""
    client = Client(enforce_csrf_checks=True)
    headers = {"Authorization": f"Bearer {log_in().json()['access']}"}
    for method in ("get", "head", "post", "put", "patch", "delete", "options"):
        assert getattr(client, method)(VALIDATE, headers=headers).status_code == 204


NEEDS: list[tuple[str, dict[str, str], int]] = [
    ("?class=INITIATE", {}, 204),
    ("?class=SOVEREIGN", {}, 204),
    ("?class=ARCHITECT", {}, 403),
    ("?class=INITIATE&class=ARCHITECT", {}, 403),
    ("", {"X-Require-Class": "ARCHITECT"}, 403),
    ("?permission=auth_sessions.view_user", {}, 204),
    ("?permission=auth_sessions.view_user,auth_sessions.change_user", {}, 403),
    ("?permission=auth_sessions.view_user&permission=auth_sessions.change_user", {}, 403),
    ("?permission=auth_sessions.view_user", {"X-Require-Permission": "canvas.add_canvas"}, 403),
    ("?class=SOVEREIGN", {"X-Require-Permission": "auth_sessions.view_user"}, 204),
    ("?class=ARCHITECT", {"X-Require-Class": "INITIATE"}, 403),
    ("?" + "a=1&" * 2_000, {}, 400),
    ("?class=sovereign", {}, 400),
    ("?class=", {}, 400),
    ("?permission=", {}, 400),
    ("?permission=view_user", {}, 400),
    ("?permission=auth_sessions.view_user,", {}, 400),
    ("", {"X-Require-Class": ""}, 400),
    ("?Class=ARCHITECT&next=1", {}, 204),
    ("?ok=200", {}, 200),
    ("?ok=200&class=ARCHITECT", {}, 403),
    ("?ok=201", {}, 204),
]


def test_a_gateway_asks_for_a_class_and_for_permissions(
    ada: User, django_assert_num_queries: Any
) -> None:
    """At least the class, all of the permissions; no SQL on a hit. Without a session it is 401."""
    ada.user_permissions.add(Permission.objects.get(codename="view_user"))
    User.objects.filter(pk=ada.pk).update(sovereignty_class="SOVEREIGN")
    client = bearer(log_in().json()["access"])
    with django_assert_num_queries(0):
        answers = [client.get(VALIDATE + query, headers=headers) for query, headers, _ in NEEDS]
    assert [answer.status_code for answer in answers] == [status for *_, status in NEEDS]
    refused = answers[2]
    assert refused["Content-Type"] == "application/problem+json"
    assert refused.json()["detail"] == "This needs the class ARCHITECT or a higher one."
    assert "X-User-Id" not in refused
    assert APIClient().get(f"{VALIDATE}?class=INITIATE").status_code == 401


def test_a_strange_permission_is_asked_for_as_the_header_spells_it(ada: User) -> None:
    """Its comma does not part it."""
    permission = Permission.objects.get(codename="view_user")
    permission.codename = "a,b"
    permission.save()
    ada.user_permissions.add(permission)
    client = bearer(log_in().json()["access"])
    spelled = client.get(VALIDATE)["X-Permissions"]
    assert client.get(VALIDATE, {"permission": spelled}).status_code == 204
    assert client.get(VALIDATE, {"permission": "auth_sessions.a,b"}).status_code == 403


def test_a_strange_permission_cannot_break_the_header(ada: User) -> None:
    """What a header cannot hold is percent-encoded."""
    permission = Permission.objects.get(codename="view_user")
    permission.codename = "a,b\nc é"
    permission.save()
    ada.user_permissions.add(permission)
    answer = bearer(log_in().json()["access"]).get(VALIDATE)
    assert answer["X-Permissions"] == "auth_sessions.a%2Cb%0Ac%20%C3%A9"


def _signed(settings: Any, **changes: Any) -> str:
    claims = {
        "typ": "access",
        "sub": "1",
        "sid": "0d5ce2a4-2d0c-4a43-a2a9-5ac7d1d53c0c",
        "jti": "x",
        "iss": "aevon",
        "aud": "aevon",
        "email": "ada@example.org",
        "sovereigntyClass": "INITIATE",
        "iat": int(time.time()),
        "exp": int(time.time()) + 600,
        **changes,
    }
    return jwt.encode(claims, settings.JWT_SIGNING_KEY, algorithm="HS256")


BAD_CLAIMS: list[dict[str, Any]] = [
    {"exp": 1},
    {"exp": 10**13},
    {"exp": 10**17},
    {"exp": 10**18},
    {"exp": "soon"},
    {"iss": "elsewhere"},
    {"aud": "elsewhere"},
    {"typ": "refresh"},
    {"sub": "one"},
    {"sub": "01"},
    {"sub": "1\n"},
    {"sub": str(2**63)},
    {"sid": "no-uuid"},
    {"sid": 5},
    {},
]


@pytest.mark.parametrize("changes", BAD_CLAIMS)
@pytest.mark.parametrize("path", [VALIDATE, SESSIONS])
def test_a_token_with_bad_claims_is_401(settings: Any, changes: Any, path: str) -> None:
    """Properly signed, and yet not ours: never 500."""
    answer = bearer(_signed(settings, **changes)).get(path)
    assert answer.status_code == 401
    assert "Bearer" in answer["WWW-Authenticate"]


def _unsigned(claims: dict[str, Any]) -> str:
    parts = [{"alg": "none", "typ": "JWT"}, claims]
    encoded = [base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=") for p in parts]
    return b".".join([*encoded, b""]).decode()


@pytest.mark.parametrize("path", [VALIDATE, SESSIONS])
def test_a_token_that_is_not_signed_by_us_is_401(ada: User, settings: Any, path: str) -> None:
    """No token, garbage, `alg: none`, another key, letters beyond ASCII, a huge one."""
    good = log_in().json()["access"]
    claims = jwt.decode(good, options={"verify_signature": False})
    foreign = jwt.encode(claims, "k" * 40, algorithm="HS256")
    for token in ["", "x", "a.b.c", _unsigned(claims), foreign, good + "x", "é.é.é", "a" * 9000]:
        headers = {"HTTP_AUTHORIZATION": f"Bearer {token}"}
        answer = Client().get(path, **headers)
        assert answer.status_code == 401, token[:20]
        assert "Bearer" in answer["WWW-Authenticate"]
    assert Client().get(path).status_code == 401
