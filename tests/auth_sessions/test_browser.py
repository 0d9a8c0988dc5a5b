"""The page's sessions: a cookie that no script reads, and requests that no other site can send."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import jwt
import pytest
from rest_framework.test import APIClient

from aevon.cache import SESSION
from aevon.cache.connection import store
from aevon.signals import session_ending
from auth_sessions import services, tokens
from auth_sessions.models import Session, User
from canvas.models import Canvas
from tests.auth_sessions.rows import admitted, behind_a_lock, held, row, session
from tests.threads import in_threads

BROWSER = "/api/v1/auth/browser/"
ACCESS = "/api/v1/auth/browser/access/"
REFRESH = "/api/v1/auth/token/refresh/"
COOKIE = "aevon_refresh"
WEEK_SECONDS = 7 * 86_400

pytestmark = pytest.mark.django_db(transaction=True)
MakeUser = Callable[..., User]
Reason = Session.EndReason


def browser(cookie: str = "") -> APIClient:
    """A browser that shows the page."""
    client = APIClient(headers={"X-Aevon-Page": "1"})
    if cookie:
        client.cookies[COOKIE] = cookie
    return client


def log_in(client: APIClient, username: str = "ada", password: str = "lovelace") -> Any:
    """The response to a login on the page."""
    return client.post(BROWSER, {"username": username, "password": password})


def logged_in() -> tuple[APIClient, Any]:
    """A browser of Ada's, and what its page was told."""
    client = browser()
    return client, log_in(client).json()


def cookie_of(client: APIClient) -> str:
    """The refresh token that the browser holds, or ""."""
    return client.cookies[COOKIE].value if COOKIE in client.cookies else ""


def removed(response: Any) -> bool:
    """Whether the browser is told to forget the cookie."""
    morsel = response.cookies.get(COOKIE)
    return morsel is not None and (morsel.value, morsel["max-age"]) == ("", 0)


def aged(token: str, seconds_left: int, settings: Any) -> str:
    """The same refresh token with another end."""
    claims = jwt.decode(token, options={"verify_signature": False})
    ends = datetime.fromtimestamp(int(time.time()) + seconds_left, UTC)
    Session.objects.filter(sid=claims["sid"]).update(
        access_expires_at=min(datetime.now(UTC), ends), refresh_expires_at=ends
    )
    return jwt.encode({**claims, "exp": ends}, settings.JWT_SIGNING_KEY, algorithm="HS256")


def ends_in(token: str) -> float:
    """How many seconds a token has left."""
    return float(jwt.decode(token, options={"verify_signature": False})["exp"]) - time.time()


# --- Logging in ------------------------------------------------------------------------------


def test_a_login_tells_who_came_and_keeps_the_refresh_token_from_scripts(ada: User) -> None:
    """The answer has all that the page shows; the token is in the cookie alone."""
    client = browser()
    response = log_in(client)
    answer = response.json()
    assert admitted(answer["access"])
    assert {name: answer[name] for name in answer if name != "access"} == {
        "sid": str(Session.objects.get().sid),
        "expiresAt": held(ada)["expiresAt"],
        "userId": ada.pk,
        "username": "ada",
        "sovereigntyClass": "INITIATE",
    }
    assert cookie_of(client) not in response.content.decode()
    assert response["Cache-Control"] == "no-store"


@pytest.mark.parametrize("secure", [False, True])
def test_the_cookie_goes_to_these_endpoints_of_this_site_only(
    ada: User, settings: Any, secure: bool
) -> None:
    """For as long as the refresh token; outside development only over TLS."""
    settings.AUTH_REFRESH_COOKIE_SECURE = secure
    cookie = log_in(browser()).cookies[COOKIE]
    marks = {name: cookie[name] for name in ("httponly", "samesite", "path", "max-age", "domain")}
    assert marks == {
        "httponly": True,
        "samesite": "Strict",
        "path": BROWSER,
        "max-age": WEEK_SECONDS,
        "domain": "",
    }
    assert bool(cookie["secure"]) is secure


def test_wrong_credentials_are_401_and_leave_the_session_there_was(ada: User) -> None:
    """A mistyped password logs nobody out."""
    client, answer = logged_in()
    response = log_in(client, password="wrong")
    assert (response.status_code, COOKIE in response.cookies) == (401, False)
    assert response.json()["detail"] == "No active user has this name and password."
    assert admitted(answer["access"])
    assert client.post(ACCESS).status_code == 200


def test_logins_are_limited_together_with_those_of_programs(ada: User, settings: Any) -> None:
    """429 with `Retry-After`, counted once for both doors."""
    settings.AUTH_LOGIN_ATTEMPTS_PER_USERNAME = 2
    assert log_in(browser(), password="wrong").status_code == 401
    body = {"username": "ada", "password": "wrong"}
    assert APIClient().post("/api/v1/auth/token/", body).status_code == 401
    response = log_in(browser())
    assert (response.status_code, COOKIE in response.cookies) == (429, False)
    assert 1 <= int(response["Retry-After"]) <= 60


@pytest.mark.parametrize("body", [{}, {"username": "ada", "password": "x", "everywhere": True}])
def test_a_malformed_login_is_400(ada: User, body: Any) -> None:
    """As at `token/`."""
    assert browser().post(BROWSER, body).status_code == 400


def test_who_is_logged_in_too_often_can_end_the_others(ada: User, settings: Any) -> None:
    """With the password, and by saying so."""
    settings.AUTH_SESSIONS_PER_USER = 1
    _, first = logged_in()
    client = browser()
    refused = log_in(client)
    assert (refused.status_code, refused.json()["type"]) == (429, "/problems/too-many-sessions")
    body = {"username": "ada", "password": "lovelace", "endOthers": True}
    answer = client.post(BROWSER, body)
    assert answer.status_code == 200
    assert admitted(answer.json()["access"])
    assert session(first["sid"]).end_reason == Reason.ENDED


def test_a_page_without_tls_is_not_this_one_with_it(ada: User) -> None:
    """Who is between browser and server could have written it."""
    for scheme, status in (("http", 403), ("https", 401)):
        client = APIClient(headers={"X-Aevon-Page": "1", "Origin": f"{scheme}://testserver"})
        assert client.post(ACCESS, secure=True).status_code == status


@pytest.mark.parametrize("name", ["ada", "bob"])
def test_a_login_ends_the_session_that_this_browser_had(
    ada: User, make_user: MakeUser, name: str
) -> None:
    """Whoever's: its cookie is overwritten, and nothing could reach it. Others live on."""
    make_user(username="bob", password="lovelace")
    (client, old), (_, elsewhere) = logged_in(), logged_in()
    new = log_in(client, name).json()
    assert session(old["sid"]).end_reason == Reason.ENDED
    assert [admitted(each["access"]) for each in (old, new, elsewhere)] == [False, True, True]


# --- A new access token ----------------------------------------------------------------------


def test_a_new_access_token_is_of_the_same_session(ada: User) -> None:
    """It is told what the login told, and the cookie stays as it is."""
    client, first = logged_in()
    before = cookie_of(client)
    response = client.post(ACCESS)
    second = response.json()
    assert admitted(second["access"])
    assert second["access"] != first["access"]
    assert set(second) == set(first)
    assert [second[name] for name in ("sid", "userId")] == [first["sid"], ada.pk]
    assert (COOKIE in response.cookies, cookie_of(client)) == (False, before)
    assert response["Cache-Control"] == "no-store"


def test_a_session_is_found_again_after_its_access_token_has_run_out(ada: User) -> None:
    """The next morning; the key ends with the new token, to the second."""
    client, first = logged_in()
    Session.objects.update(access_expires_at=datetime.now(UTC))
    assert not admitted(first["access"])
    answer = client.post(ACCESS).json()
    assert admitted(answer["access"])
    ends = time.time() + store().command("PTTL", SESSION.key(ada.pk)) / 1000
    assert abs(ends - answer["expiresAt"]) <= 1
    assert held(ada)["sessions"] == {answer["sid"]: answer["expiresAt"]}
    assert held(ada) == row(ada)


def test_tabs_that_ask_at_once_are_all_answered(ada: User) -> None:
    """Nobody is taken for a thief, and every token is let in."""
    client, _ = logged_in()
    cookie = cookie_of(client)
    answers = in_threads([lambda: browser(cookie).post(ACCESS)] * 8)
    assert [answer.status_code for answer in answers] == [200] * 8
    assert all(admitted(answer.json()["access"]) for answer in answers)
    assert held(ada) == row(ada)


def test_the_page_is_told_who_the_user_is_now(ada: User) -> None:
    """Not who they were when they logged in."""
    client, _ = logged_in()
    User.objects.update(username="augusta", sovereignty_class="ARCHITECT")
    answer = client.post(ACCESS).json()
    assert (answer["username"], answer["sovereigntyClass"]) == ("augusta", "ARCHITECT")


def test_a_cookie_past_half_of_its_life_is_given_a_later_end(ada: User, settings: Any) -> None:
    """A session in daily use goes on, and an answer that never arrives costs nothing."""
    client, answer = logged_in()
    old = aged(cookie_of(client), WEEK_SECONDS // 2 - 60, settings)
    responses = [browser(old).post(ACCESS) for _ in range(2)]
    assert [response.status_code for response in responses] == [200, 200]
    new = responses[1].cookies[COOKIE]
    assert new["max-age"] == WEEK_SECONDS
    assert abs(ends_in(new.value) - WEEK_SECONDS) < 5
    assert session(answer["sid"]).refresh_expires_at.timestamp() - time.time() > WEEK_SECONDS - 5
    for cookie in (new.value, old):
        assert browser(cookie).post(ACCESS).status_code == 200


def test_a_cookie_in_the_first_half_of_its_life_stays(ada: User, settings: Any) -> None:
    """An answer that comes late must not overwrite the cookie of another login."""
    client, answer = logged_in()
    young = aged(cookie_of(client), WEEK_SECONDS // 2 + 60, settings)
    response = browser(young).post(ACCESS)
    assert (response.status_code, COOKIE in response.cookies) == (200, False)
    left = session(answer["sid"]).refresh_expires_at.timestamp() - time.time()
    assert abs(left - WEEK_SECONDS // 2) < 70


def test_a_cookie_is_never_outlived_by_an_access_token(
    ada: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where half of its life has not passed."""
    client, answer = logged_in()
    monkeypatch.setattr(tokens, "REFRESH_LIFETIME", timedelta(days=700))
    old = aged(cookie_of(client), 60, settings)
    response = browser(old).post(ACCESS)
    assert (response.status_code, COOKIE in response.cookies) == (200, True)
    kept = session(answer["sid"])
    assert kept.access_expires_at.timestamp() == response.json()["expiresAt"]
    assert kept.access_expires_at <= kept.refresh_expires_at


@pytest.mark.parametrize("held_by", ["the page", "a program"])
def test_a_refresh_token_where_it_does_not_belong_ends_its_session(ada: User, held_by: str) -> None:
    """No script can read the cookie, and no program has one: somebody has taken the token. They get
    nothing for it, and the session that it is of is over."""
    if held_by == "the page":
        client, answer = logged_in()
        response = APIClient().post(REFRESH, {"refresh": cookie_of(client)})
        assert client.post(ACCESS).status_code == 401
    else:
        body = {"username": "ada", "password": "lovelace"}
        answer = APIClient().post("/api/v1/auth/token/", body).json()
        response = browser(answer["refresh"]).post(ACCESS)
        assert removed(response)
        assert APIClient().post(REFRESH, {"refresh": answer["refresh"]}).status_code == 401
    assert response.status_code == 401
    assert "access" not in response.json()
    assert session(answer["sid"]).end_reason == Reason.REUSE
    assert not admitted(answer["access"])


def _ended(ada: User, cookie: str, settings: Any) -> str:
    services.end_all_sessions(ada.pk)
    return cookie


def _disabled(ada: User, cookie: str, settings: Any) -> str:
    User.objects.update(is_active=False)
    return cookie


def _deleted(ada: User, cookie: str, settings: Any) -> str:
    ada.delete()
    return cookie


NO_SESSION: dict[str, Callable[[User, str, Any], str]] = {
    "none": lambda ada, cookie, settings: "",
    "garbage": lambda ada, cookie, settings: "x.y.z",
    "beyond ASCII": lambda ada, cookie, settings: "é",
    "an access token": lambda ada, cookie, settings: services.open_session(ada)[1].access,
    "expired": lambda ada, cookie, settings: aged(cookie, -1, settings),
    "ended": _ended,
    "of a disabled user": _disabled,
    "of a deleted user": _deleted,
}


@pytest.mark.parametrize("case", NO_SESSION)
def test_without_a_live_session_it_is_401_and_the_cookie_goes(
    ada: User, settings: Any, case: str
) -> None:
    """With a challenge, as everywhere."""
    client, _ = logged_in()
    response = browser(NO_SESSION[case](ada, cookie_of(client), settings)).post(ACCESS)
    assert (response.status_code, removed(response)) == (401, True)
    assert response.cookies[COOKIE]["path"] == BROWSER
    assert response["WWW-Authenticate"].startswith("Bearer")
    assert response["Cache-Control"] == "no-store"


def test_a_session_that_ends_meanwhile_is_401(ada: User) -> None:
    """The request waits for the session's row, and believes what it finds."""
    client, answer = logged_in()
    cookie = cookie_of(client)
    end = partial(Session.objects.filter(sid=answer["sid"]).update, ended_at=datetime.now(UTC))
    [response] = behind_a_lock(
        answer["sid"],
        [lambda: browser(cookie).post(ACCESS)],
        lambda: end(end_reason=Reason.ADMIN),
    )
    assert response.status_code == 401
    assert session(answer["sid"]).end_reason == Reason.ADMIN


# --- Logging out -----------------------------------------------------------------------------


def test_a_logout_persists_the_canvas_and_ends_the_session(ada: User) -> None:
    """At once, and the cookie goes; a second one finds nothing to do."""
    client, answer = logged_in()
    bearer = {"Authorization": f"Bearer {answer['access']}"}
    assert client.patch("/api/v1/canvas/", {"microApps": {}}, headers=bearer).status_code == 200
    response = client.delete(BROWSER)
    assert (response.status_code, removed(response)) == (204, True)
    assert Canvas.objects.get().revision == 1
    assert session(answer["sid"]).end_reason == Reason.LOGOUT
    assert not admitted(answer["access"])
    assert client.delete(BROWSER).status_code == 204


@pytest.mark.parametrize("cookie", ["", "x.y.z"])
def test_a_logout_without_a_session_is_204(ada: User, cookie: str) -> None:
    """Nobody's session ends, and what was in the cookie goes."""
    _, answer = logged_in()
    response = browser(cookie).delete(BROWSER)
    assert (response.status_code, removed(response)) == (204, True)
    assert admitted(answer["access"])


def test_a_logout_that_would_lose_something_keeps_the_cookie(ada: User) -> None:
    """The session goes on, and so it can be tried again."""
    client, answer = logged_in()
    client.raise_request_exception = False

    def fail(**_: Any) -> None:
        raise RuntimeError("not today")

    session_ending.connect(fail)
    try:
        response = client.delete(BROWSER)
    finally:
        session_ending.disconnect(fail)
    assert (response.status_code, COOKIE in response.cookies) == (500, False)
    assert admitted(answer["access"])
    assert client.delete(BROWSER).status_code == 204
    assert not admitted(answer["access"])


# --- Other sites, logs, and outages ----------------------------------------------------------


FORGED: dict[str, dict[str, str]] = {
    "a form": {},
    "a header of another value": {"X-Aevon-Page": "0"},
    "another site": {"X-Aevon-Page": "1", "Sec-Fetch-Site": "cross-site"},
    "a sibling": {"X-Aevon-Page": "1", "Sec-Fetch-Site": "same-site"},
    "a link": {"X-Aevon-Page": "1", "Sec-Fetch-Site": "none"},
    "another origin": {"X-Aevon-Page": "1", "Origin": "https://evil.example"},
    "another port": {"X-Aevon-Page": "1", "Origin": "http://testserver:81"},
    "a host that begins alike": {"X-Aevon-Page": "1", "Origin": "http://testserver.evil.example"},
    "a sandbox": {"X-Aevon-Page": "1", "Origin": "null"},
    "no origin at all": {"X-Aevon-Page": "1", "Origin": ""},
}


@pytest.mark.parametrize("forged", FORGED)
def test_what_does_not_come_from_the_page_is_refused(ada: User, forged: str) -> None:
    """403 at each of the three, before anything is done or a cookie is touched."""
    client, answer = logged_in()
    before = held(ada)
    other = APIClient(headers=FORGED[forged])
    other.cookies = client.cookies
    for response in (log_in(other), other.post(ACCESS), other.delete(BROWSER)):
        assert (response.status_code, response["Content-Type"]) == (
            403,
            "application/problem+json",
        )
        assert (COOKIE in response.cookies, response["Cache-Control"]) == (False, "no-store")
    assert held(ada) == before
    assert Session.objects.count() == 1
    assert admitted(answer["access"])


@pytest.mark.parametrize("origin", ["http://testserver", "https://TESTSERVER"])
def test_what_a_browser_adds_to_the_pages_own_requests_is_let_in(ada: User, origin: str) -> None:
    """The scheme is the proxy's business."""
    headers = {"X-Aevon-Page": "1", "Sec-Fetch-Site": "same-origin", "Origin": origin}
    client = APIClient(headers=headers)
    assert log_in(client).status_code == 200
    assert client.post(ACCESS).status_code == 200
    assert client.delete(BROWSER).status_code == 204


def test_no_token_is_logged(ada: User, caplog: pytest.LogCaptureFixture) -> None:
    """Not even where everything is."""
    for name in (None, "django.request"):
        caplog.set_level(logging.DEBUG, logger=name)
    client, answer = logged_in()
    cookie = cookie_of(client)
    client.post(ACCESS)
    client.delete(BROWSER)
    browser(cookie).post(ACCESS)
    assert "Unauthorized" in caplog.text
    for token in (cookie, answer["access"]):
        assert token.rpartition(".")[2] not in caplog.text


def test_the_page_works_from_postgresql_while_the_cache_is_away(ada: User, cache_away: Any) -> None:
    """Login, new token, logout."""
    with cache_away():
        client, _ = logged_in()
        answer = client.post(ACCESS).json()
        assert admitted(answer["access"])
        assert client.delete(BROWSER).status_code == 204
        assert not admitted(answer["access"])
