"""Sessions over HTTP: opened, rotated, listed and ended."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from rest_framework.test import APIClient

from aevon.cache import SESSION, resources
from aevon.cache.connection import store
from auth_sessions import tokens
from auth_sessions.models import Session, SessionAnchor, User
from canvas.models import Canvas
from tests.auth_sessions.asking import SESSIONS, TOKEN, VALIDATE, bearer, log_in, validated
from tests.auth_sessions.rows import grace_runs_out
from tests.cache.entry_states import life
from tests.threads import in_threads

REFRESH = "/api/v1/auth/token/refresh/"
LOGOUT = "/api/v1/auth/logout/"
AWAY = "redis://127.0.0.1:1/0"

pytestmark = pytest.mark.django_db(transaction=True)
MakeUser = Callable[..., User]


def document(user: User) -> Any:
    """What Dragonfly holds on the user's sessions."""
    return resources.held(SESSION, user.pk).value


def test_a_login_fills_the_session_key_for_as_long_as_the_token(ada: User) -> None:
    """The key ends with the token, to the second."""
    answer = log_in().json()
    held = document(ada)
    ends = time.time() + store().command("PTTL", f"session:{ada.pk}") / 1000
    assert held["sessions"] == {answer["sid"]: answer["expiresAt"]}
    assert abs(ends - answer["expiresAt"]) <= 1
    assert list(held) == [
        "userId", "username", "status", "sovereigntyClass", "permissions", "sessions", "version",
        "expiresAt", "_incarnation",
    ]  # fmt: skip


def test_the_session_key_tells_which_life_of_the_server_it_is_of(
    ada: User, django_assert_num_queries: Any
) -> None:
    """At its very end; that of another life lets nobody in without PostgreSQL."""
    token, key = log_in().json()["access"], f"session:{ada.pk}"
    now = store().command("GET", key)
    assert now.endswith(f',"_incarnation":"{life().incarnation}"}}'.encode())
    older = now.replace(life().incarnation.encode(), b"0123456789ab")
    store().command("SET", key, older)
    with django_assert_num_queries(1):
        assert validated(token) == 204
    assert store().command("GET", key) == now


def test_the_key_lives_to_the_last_of_two_sessions(ada: User, settings: Any) -> None:
    """A second, longer session moves the end; the first keeps its own."""
    first = log_in().json()
    Session.objects.filter(sid=first["sid"]).update(
        access_expires_at=datetime.now(UTC) + timedelta(seconds=60)
    )
    second = log_in().json()
    held = document(ada)
    assert held["sessions"][first["sid"]] < held["sessions"][second["sid"]] == held["expiresAt"]


@pytest.mark.parametrize(("name", "password"), [("ada", "wrong"), ("nobody", "lovelace")])
def test_wrong_credentials_are_401(ada: User, name: str, password: str) -> None:
    """With a challenge, and without telling which was wrong."""
    answer = log_in(name, password)
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")
    assert answer.json()["detail"] == "No active user has this name and password."


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"username": "ada"},
        {"username": "ada", "password": 1},
        {"username": "ada", "password": "x", "isStaff": True},
        {"username": "a\u0000", "password": "x"},
        {"username": "x" * 151, "password": "x"},
    ],
)
def test_a_malformed_login_is_400(ada: User, body: Any) -> None:
    """Missing, of a wrong type, unknown, or too long."""
    answer = APIClient().post(TOKEN, body)
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"


def test_logins_over_the_limit_are_429_exactly(ada: User, settings: Any) -> None:
    """Sixteen at once: as many refused by password as the limit says, the others unseen."""
    settings.AUTH_LOGIN_ATTEMPTS_PER_USERNAME = 5

    answers = in_threads([partial(log_in, password="wrong")] * 16, workers=16)
    refused = [answer for answer in answers if answer.status_code == 429]
    assert sum(answer.status_code == 401 for answer in answers) == 5
    assert len(refused) == 11
    assert all(1 <= int(answer["Retry-After"]) <= 60 for answer in refused)


def test_an_address_over_its_limit_is_429_for_every_name(ada: User, settings: Any) -> None:
    """And the name's own count is given back."""
    settings.AUTH_LOGIN_ATTEMPTS_PER_ADDRESS = 2
    assert [log_in(f"n{n}", "x").status_code for n in range(3)] == [401, 401, 429]


def test_successful_logins_are_not_counted(ada: User, settings: Any) -> None:
    """A busy user is not locked out."""
    settings.AUTH_LOGIN_ATTEMPTS_PER_USERNAME = 2
    assert [log_in().status_code for _ in range(4)] == [200] * 4


def test_only_trusted_proxies_name_the_address(ada: User, settings: Any) -> None:
    """The first entries of X-Forwarded-For are the client's own invention."""
    settings.AUTH_LOGIN_ATTEMPTS_PER_ADDRESS = 1
    settings.AEVON_TRUSTED_PROXIES = 1

    def attempt(forwarded: str) -> int:
        body = {"username": "x", "password": "y"}
        return APIClient().post(TOKEN, body, headers={"X-Forwarded-For": forwarded}).status_code

    assert [attempt("9.9.9.9, 1.1.1.1"), attempt("8.8.8.8, 1.1.1.1")] == [401, 429]
    assert attempt("2.2.2.2") == 401


def test_a_refresh_rotates_both_tokens(ada: User) -> None:
    """The new access token is let in and the document follows its expiry."""
    old = log_in().json()
    new = APIClient().post(REFRESH, {"refresh": old["refresh"]}).json()
    assert {old["access"], old["refresh"]}.isdisjoint({new["access"], new["refresh"]})
    assert validated(new["access"]) == 204
    assert document(ada)["sessions"] == {old["sid"]: new["expiresAt"]}


def test_twenty_refreshes_of_one_token_at_once_are_all_answered(ada: User) -> None:
    """With one and the same next token, and access tokens that are let in; the session has been
    rotated once. A second device has nothing to do with it."""
    old, other = log_in().json(), log_in().json()
    ask = partial(APIClient().post, REFRESH, {"refresh": old["refresh"]})
    answers = [answer.json() for answer in in_threads([ask] * 20, workers=20)]
    assert {tokens.read_refresh(answer["refresh"]).jti for answer in answers} == {
        tokens.successor(tokens.read_refresh(old["refresh"]).jti)
    }
    assert {validated(answer["access"]) for answer in answers} == {204}
    latest = APIClient().post(REFRESH, {"refresh": answers[0]["refresh"]}).json()
    grace_runs_out()
    assert APIClient().post(REFRESH, {"refresh": answers[1]["refresh"]}).status_code == 401
    assert validated(latest["access"]) == 401
    assert validated(other["access"]) == 204
    assert APIClient().post(REFRESH, {"refresh": other["refresh"]}).status_code == 200


def test_a_refresh_token_used_twice_ends_its_session(ada: User) -> None:
    """Thief and victim are both out, at once."""
    old = log_in().json()
    new = APIClient().post(REFRESH, {"refresh": old["refresh"]}).json()
    grace_runs_out()
    assert APIClient().post(REFRESH, {"refresh": old["refresh"]}).status_code == 401
    assert validated(new["access"]) == 401
    assert APIClient().post(REFRESH, {"refresh": new["refresh"]}).status_code == 401
    assert Session.objects.get(sid=old["sid"]).end_reason == Session.EndReason.REUSE


def test_a_refresh_token_used_twice_loses_no_window(ada: User) -> None:
    """What the session left unsaved is in PostgreSQL before the session ends."""
    old = log_in().json()
    client = bearer(old["access"])
    assert client.patch("/api/v1/canvas/", {"microApps": {}}).status_code == 200
    APIClient().post(REFRESH, {"refresh": old["refresh"]})
    grace_runs_out()
    assert not Canvas.objects.exists()
    assert APIClient().post(REFRESH, {"refresh": old["refresh"]}).status_code == 401
    assert Canvas.objects.get().revision == 1


@pytest.mark.parametrize("which", ["access", "garbage"])
def test_what_is_no_refresh_token_is_401(ada: User, which: str) -> None:
    """An access token does not refresh."""
    token = {"garbage": "x.y.z", **log_in().json()}[which]
    assert APIClient().post(REFRESH, {"refresh": token}).status_code == 401


def test_a_disabled_user_cannot_refresh(ada: User) -> None:
    """Nor with a good token."""
    token = log_in().json()["refresh"]
    User.objects.filter(pk=ada.pk).update(is_active=False)
    assert APIClient().post(REFRESH, {"refresh": token}).status_code == 401


def test_a_logout_ends_this_session_at_once(ada: User) -> None:
    """The other session lives on, and the document lists only it."""
    one, other = log_in().json(), log_in().json()
    assert bearer(one["access"]).post(LOGOUT).status_code == 204
    assert (validated(one["access"]), validated(other["access"])) == (401, 204)
    assert list(document(ada)["sessions"]) == [other["sid"]]


def test_a_logout_everywhere_ends_all(ada: User) -> None:
    """The key says so, with the version of that."""
    one, other = log_in().json(), log_in().json()
    assert bearer(one["access"]).post(LOGOUT, {"everywhere": True}).status_code == 204
    assert (validated(one["access"]), validated(other["access"])) == (401, 401)
    version = SessionAnchor.objects.get(pk=ada.pk).version
    assert document(ada) == {"_gone": version, "_incarnation": life().incarnation}


def test_a_user_without_live_sessions_is_refused_without_sql(
    ada: User, django_assert_num_queries: Any
) -> None:
    """By a tombstone once somebody asked, for a minute at most; a login ends it."""
    token = log_in().json()["access"]
    bearer(token).post(LOGOUT)
    assert document(ada) is None
    assert validated(token) == 401
    assert 0 < store().command("PTTL", f"session:{ada.pk}") <= 60_000
    with django_assert_num_queries(0):
        assert validated(token) == 401
    new = log_in().json()["access"]
    with django_assert_num_queries(0):
        assert (validated(new), validated(token)) == (204, 401)


def test_a_tombstone_that_was_evicted_comes_back(ada: User, django_assert_num_queries: Any) -> None:
    """One query, and then none."""
    token = log_in().json()["access"]
    bearer(token).post(LOGOUT)
    store().command("DEL", f"session:{ada.pk}")
    with django_assert_num_queries(1):
        assert (validated(token), validated(token)) == (401, 401)
    assert document(ada)["_gone"] == SessionAnchor.objects.get(pk=ada.pk).version


def test_flushing_the_key_revives_no_ended_session(ada: User) -> None:
    """PostgreSQL decides anew."""
    token = log_in().json()["access"]
    bearer(token).post(LOGOUT)
    store().command("DEL", f"session:{ada.pk}")
    assert validated(token) == 401


def test_the_list_shows_the_callers_own_sessions(ada: User, make_user: MakeUser) -> None:
    """Newest first, and which of them this request belongs to."""
    make_user(username="bob", password="x")
    log_in("bob", "x")
    one, other = log_in().json(), log_in().json()
    listed = bearer(one["access"]).get(SESSIONS).json()["sessions"]
    shown = [(each["sid"], each["current"]) for each in listed]
    assert shown == [(other["sid"], False), (one["sid"], True)]


def test_the_list_tells_where_and_when(ada: User) -> None:
    """By the network, not by the address."""
    token = log_in().json()["access"]
    [listed] = bearer(token).get(SESSIONS).json()["sessions"]
    assert listed["address"] == "127.0.0.0/24"
    assert listed["createdAt"][:16] == listed["lastSeenAt"][:16]
    assert set(listed) == {
        "sid", "createdAt", "lastSeenAt", "expiresAt", "userAgent", "address", "current",
    }  # fmt: skip


PASSWORD = "/api/v1/auth/password/"


def test_a_changed_password_ends_every_session_and_loses_no_window(ada: User) -> None:
    """This one, too, at once; the new one is let in, and the old one is not."""
    one, other = log_in().json(), log_in().json()
    assert bearer(one["access"]).patch("/api/v1/canvas/", {"microApps": {}}).status_code == 200
    change = {"currentPassword": "lovelace", "newPassword": "analytical engine"}
    assert bearer(one["access"]).post(PASSWORD, change).status_code == 204
    assert Canvas.objects.get().revision == 1
    assert {validated(each["access"]) for each in (one, other)} == {401}
    assert APIClient().post(REFRESH, {"refresh": other["refresh"]}).status_code == 401
    assert {each.end_reason for each in Session.objects.all()} == {Session.EndReason.PASSWORD}
    assert [log_in().status_code, log_in(password="analytical engine").status_code] == [401, 200]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"currentPassword": "wrong", "newPassword": "analytical engine"}, "currentPassword"),
        ({"currentPassword": "lovelace", "newPassword": "short"}, "newPassword"),
        ({"currentPassword": "lovelace", "newPassword": "12345678901"}, "newPassword"),
        ({"newPassword": "analytical engine"}, "currentPassword"),
        ({"currentPassword": "lovelace"}, "newPassword"),
    ],
)
def test_a_password_that_cannot_be_changed_changes_nothing(
    ada: User, change: dict[str, str], field: str
) -> None:
    """400 that names the member; the session lives."""
    token = log_in().json()["access"]
    answer = bearer(token).post(PASSWORD, change)
    assert answer.status_code == 400
    assert {error["field"] for error in answer.json()["errors"]} == {field}
    assert validated(token) == 204
    assert User.objects.get().password == ada.password


def test_guesses_at_the_own_password_are_limited_as_logins_are(ada: User, settings: Any) -> None:
    """Together with them: whoever has found a session open does not find out the password."""
    settings.AUTH_LOGIN_ATTEMPTS_PER_USERNAME = 2
    client, change = bearer(log_in().json()["access"]), {"newPassword": "analytical engine"}
    guesses = [client.post(PASSWORD, {"currentPassword": str(n), **change}) for n in range(3)]
    assert [answer.status_code for answer in guesses] == [400, 400, 429]
    assert 1 <= int(guesses[2]["Retry-After"]) <= 60
    assert log_in().status_code == 429


def test_a_session_too_many_is_429(ada: User, settings: Any) -> None:
    """And opens none; it says how long, and how to end the others with the password alone."""
    settings.AUTH_SESSIONS_PER_USER = 1
    assert log_in().status_code == 200
    answer = log_in()
    assert answer.status_code == 429
    assert 600_000 < int(answer["Retry-After"]) <= 604_800
    assert answer.json()["type"] == "/problems/too-many-sessions"
    assert Session.objects.count() == 1
    body = {"username": "ada", "password": "lovelace", "endOthers": True}
    assert APIClient().post(TOKEN, {**body, "password": "wrong"}).status_code == 401
    assert Session.objects.get().ended_at is None
    new = APIClient().post(TOKEN, body).json()
    assert validated(new["access"]) == 204
    ended = Session.objects.exclude(sid=new["sid"]).get()
    assert ended.end_reason == Session.EndReason.ENDED
    assert [each["sid"] for each in bearer(new["access"]).get(SESSIONS).json()["sessions"]] == [
        new["sid"]
    ]


def test_a_password_of_a_user_who_has_just_gone_is_401(ada: User) -> None:
    """The cache has not been told yet."""
    token, key = log_in().json()["access"], f"session:{ada.pk}"
    document = store().command("GET", key)
    ada.delete()
    store().command("SET", key, document)
    assert validated(token) == 204
    change = {"currentPassword": "lovelace", "newPassword": "analytical engine"}
    assert bearer(token).post(PASSWORD, change).status_code == 401


def test_the_key_ends_with_the_last_token_whatever_happens_to_sessions(ada: User) -> None:
    """Within a second: a login, a refresh, a second device, the logout of one."""

    def ends() -> float:
        return float(time.time() + store().command("PTTL", f"session:{ada.pk}") / 1000)

    first = log_in().json()
    assert abs(ends() - first["expiresAt"]) <= 1
    Session.objects.update(access_expires_at=datetime.now(UTC) + timedelta(seconds=60))
    assert abs(ends() - time.time() - 60) <= 2
    first |= APIClient().post(REFRESH, {"refresh": first["refresh"]}).json()
    assert abs(ends() - first["expiresAt"]) <= 1
    later = datetime.now(UTC) + timedelta(seconds=1_200)
    second = log_in().json()
    Session.objects.filter(sid=second["sid"]).update(access_expires_at=later)
    assert abs(ends() - later.timestamp()) <= 1
    assert bearer(second["access"]).post(LOGOUT).status_code == 204
    assert abs(ends() - first["expiresAt"]) <= 1


def test_one_session_can_end_another(ada: User) -> None:
    """By its id."""
    one, other = log_in().json(), log_in().json()
    assert bearer(one["access"]).delete(f"{SESSIONS}{other['sid']}/").status_code == 204
    assert (validated(one["access"]), validated(other["access"])) == (204, 401)


def test_another_users_session_is_404_and_touches_no_key(ada: User, make_user: MakeUser) -> None:
    """It lives on, and its key's bytes are the same."""
    bob = make_user(username="bob", password="x")
    theirs, mine = log_in("bob", "x").json(), log_in().json()
    before = store().command("GET", f"session:{bob.pk}")
    answer = bearer(mine["access"]).delete(f"{SESSIONS}{theirs['sid']}/")
    assert answer.status_code == 404
    assert store().command("GET", f"session:{bob.pk}") == before
    assert validated(theirs["access"]) == 204


@pytest.mark.parametrize("sid", ["x", "*", "00000000-0000-0000-0000-000000000000"])
def test_a_session_that_is_not_there_is_404(ada: User, sid: str) -> None:
    """Malformed or unknown."""
    token = log_in().json()["access"]
    assert bearer(token).delete(f"{SESSIONS}{sid}/").status_code == 404


def _disable(user: User) -> None:
    user.is_active = False
    user.save()


def _disable_by_admin_form(user: User) -> None:
    User.objects.get(pk=user.pk).delete()


@pytest.mark.parametrize("change", [_disable, _disable_by_admin_form])
def test_a_disabled_or_deleted_user_is_refused_at_once(ada: User, change: Any) -> None:
    """On the very next request."""
    token = log_in().json()["access"]
    assert validated(token) == 204
    change(ada)
    assert validated(token) == 401


def test_a_demoted_user_sees_it_at_once(ada: User) -> None:
    """Class, own permissions and the group's."""
    permission = Permission.objects.get(codename="view_user")
    group = Group.objects.create(name="readers")
    client = bearer(log_in().json()["access"])
    seen = []
    for change in (
        lambda: ada.groups.add(group),
        lambda: group.permissions.add(permission),
        group.permissions.clear,
        lambda: permission.user_set.add(ada),
        permission.user_set.clear,
        lambda: permission.group_set.add(group),
        group.delete,
    ):
        change()
        seen.append(client.get(VALIDATE)["X-Permissions"])
    name = "auth_sessions.view_user"
    assert seen == ["", name, "", name, "", name, ""]
    ada.sovereignty_class = "ARCHITECT"
    ada.save()
    assert client.get(VALIDATE)["X-Sovereignty-Class"] == "ARCHITECT"


def test_a_bulk_update_raises_the_version(ada: User) -> None:
    """The database does, whoever writes; an unrelated column does not count."""

    def version() -> int:
        return SessionAnchor.objects.get(user=ada).version

    before = version()
    User.objects.filter(pk=ada.pk).update(first_name="A")
    assert version() == before
    User.objects.filter(pk=ada.pk).update(sovereignty_class="SOVEREIGN")
    assert version() == before + 1


def test_deleting_a_user_removes_all_their_keys(ada: User) -> None:
    """Those of the other services too, and the mark of an unsaved canvas."""
    client = bearer(log_in().json()["access"])
    client.get("/api/v1/klepsydra/psyche/")
    client.post("/api/v1/beep/commands/", {"text": "open Notes"})
    spaces = ("psyche", "canvas", "session", "convo_history")
    keys = [f"{space}:{ada.pk}" for space in spaces]
    assert store().command("EXISTS", *keys) == 4
    ada.delete()
    assert store().command("EXISTS", *keys) == 0
    assert not any(store().command("ZCARD", f"canvas:dirty:{shard}") for shard in range(8))


def test_sessions_work_from_postgresql_while_the_cache_is_away(ada: User, settings: Any) -> None:
    """Login, gateway, refresh, logout."""
    settings.AEVON_CACHE = {**settings.AEVON_CACHE, "URL": AWAY}
    tokens = log_in().json()
    assert validated(tokens["access"]) == 204
    new = APIClient().post(REFRESH, {"refresh": tokens["refresh"]}).json()
    assert bearer(new["access"]).post(LOGOUT).status_code == 204
    assert validated(new["access"]) == 401
