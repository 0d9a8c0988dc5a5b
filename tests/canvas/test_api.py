"""GET, PUT and PATCH of `/api/v1/canvas/`."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from aevon.cache import rfc3339, write_behind
from aevon.cache.connection import store
from auth_sessions.models import User
from canvas import journal, services
from canvas.models import Canvas
from tests.canvas.helpers import in_row, live, mark, patch, window
from tests.servers import without_cache
from tests.threads import in_thread

URL = "/api/v1/canvas/"
MERGE_PATCH = "application/merge-patch+json"

pytestmark = pytest.mark.django_db


def apps(**members: Any) -> dict[str, Any]:
    return {"microApps": members}


def error_fields(response: Any) -> list[str]:
    assert response["Content-Type"] == "application/problem+json"
    return [each["field"] for each in response.json().get("errors", [])]


def test_a_new_user_has_the_empty_layout(client: APIClient, user: User) -> None:
    """With a revision that a first If-Match can name."""
    response = client.get(URL)
    assert (response.status_code, response["ETag"]) == (200, '"0"')
    assert response.json() == {
        "userId": user.pk,
        "layout": apps(),
        "revision": 0,
        "updatedAt": None,
        "persistedRevision": 0,
        "persistedAt": None,
    }


@pytest.mark.parametrize("content_type", [MERGE_PATCH, "application/json"])
def test_patch_merges(client: APIClient, content_type: str) -> None:
    """As a merge patch or as plain JSON; the answer is what GET answers."""
    client.put(URL, apps(a=window(), b=window()))
    body = json.dumps(apps(a={"position": {"x": 99}}, b=None))
    response = client.patch(URL, body, content_type=content_type)
    assert (response.status_code, response["ETag"]) == (200, '"2"')
    assert response.json()["layout"] == apps(a=window(position={"x": 99, "y": 20}))
    assert response.json() == client.get(URL).json()


def test_put_replaces(client: APIClient) -> None:
    """What it does not name is gone."""
    client.put(URL, apps(a=window()))
    response = client.put(URL, apps(b=window()))
    assert (response.status_code, response["ETag"]) == (200, '"2"')
    assert response.json()["layout"] == apps(b=window())


def test_put_takes_no_merge_patch(client: APIClient) -> None:
    """It would mean something else."""
    response = client.put(URL, json.dumps(apps()), content_type=MERGE_PATCH)
    assert response.status_code == 415


@pytest.mark.django_db(transaction=True)
def test_patch_on_a_warm_cache_asks_postgresql_nothing(
    client: APIClient, django_assert_num_queries: Any
) -> None:
    """The session and the canvas are both answered by the cache."""
    client.patch(URL, apps(a=window()))
    with django_assert_num_queries(0):
        assert client.patch(URL, apps(a={"zIndex": 3})).status_code == 200
        assert client.get(URL).json()["revision"] == 2


def test_no_token_is_refused(db: None) -> None:
    """On every method."""
    for method in ("get", "put", "patch"):
        response = getattr(APIClient(), method)(URL)
        assert (response.status_code, "Bearer" in response["WWW-Authenticate"]) == (401, True)


@pytest.mark.parametrize("method", ["post", "delete"])
def test_other_methods_are_refused(client: APIClient, method: str) -> None:
    """405, as a problem document."""
    response = getattr(client, method)(URL)
    assert (response.status_code, error_fields(response)) == (405, [])


@pytest.mark.parametrize("header", ['"1"', "*", '"0", "1"'])
def test_if_match_of_the_current_revision_goes_through(client: APIClient, header: str) -> None:
    """Also as a star or in a list."""
    client.patch(URL, apps(a=window()))
    response = client.patch(URL, apps(a={"zIndex": 2}), headers={"If-Match": header})
    assert (response.status_code, response["ETag"]) == (200, '"2"')


@pytest.mark.parametrize("header", ['"0"', '"2"', 'W/"1"', '"01"', '"x"', '""'])
@pytest.mark.parametrize("method", ["put", "patch"])
def test_if_match_of_another_revision_changes_nothing(
    client: APIClient, user: User, method: str, header: str
) -> None:
    """412, which tells the current revision."""
    client.patch(URL, apps(a=window()))
    response = getattr(client, method)(URL, apps(b=window()), headers={"If-Match": header})
    assert (response.status_code, response["ETag"]) == (412, '"1"')
    assert response.json()["revision"] == 1
    assert live(user.pk) == {"a"}


def test_a_malformed_if_match_is_refused(client: APIClient, user: User) -> None:
    """400, and nothing changed."""
    response = client.patch(URL, apps(a=window()), headers={"If-Match": "7"})
    assert (response.status_code, live(user.pk)) == (400, set())
    assert "If-Match" in response.json()["detail"]


@pytest.mark.parametrize("header", ['"1"', 'W/"1"', "*"])
def test_if_none_match_of_the_current_revision_is_304(client: APIClient, header: str) -> None:
    """Without a body."""
    client.patch(URL, apps(a=window()))
    response = client.get(URL, headers={"If-None-Match": header})
    assert (response.status_code, response["ETag"], response.content) == (304, '"1"', b"")
    assert client.get(URL, headers={"If-None-Match": '"0"'}).status_code == 200


REFUSED: list[tuple[Any, str]] = [
    ({"microApps": {"a": {"zIndex": 1.5}}}, "microApps.a.zIndex"),
    ({"microApps": {"new": window(type=None)}}, "microApps.new.type"),
    ({"microApps": {"a": {"position": {"x": 1_000_001}}}}, "microApps.a.position.x"),
    ({"microApps": {"a b": window()}}, "microApps.a b"),
    ({"microApps": None}, "microApps"),
    ({"microApps": []}, "microApps"),
    ({"userId": 1}, "userId"),
    ({"revision": 9}, "revision"),
    ({"microApps": {f"b{n}": window() for n in range(500)}}, "microApps"),
]


@pytest.mark.parametrize(("body", "field"), REFUSED)
def test_a_bad_patch_names_the_field_and_changes_nothing(
    client: APIClient, user: User, body: Any, field: str
) -> None:
    """400 with the path of the member."""
    client.patch(URL, apps(a=window()))
    response = client.patch(URL, body)
    assert response.status_code == 400
    assert field in error_fields(response)
    assert (live(user.pk), mark(user.pk)) == ({"a"}, 1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"microApps": NaN}',
        b'{"microApps": {"a": {"position": {"x": 1e999}}}}',
        b'{"microApps": {"a": {"title": "\\u0000"}}}',
        b'{"microApps": {"a": {"title": "\\ud800"}}}',
        b'{"microApps": {}, "microApps": {}}',
        b'{"microApps": ' + b'{"a":' * 2000 + b"1" + b"}" * 2001,
    ],
)
@pytest.mark.parametrize("method", ["put", "patch"])
def test_a_body_that_is_not_clean_json_is_refused(
    client: APIClient, user: User, method: str, body: bytes
) -> None:
    """400, never 500, and nothing changed."""
    response = getattr(client, method)(URL, body, content_type="application/json")
    assert (response.status_code, error_fields(response)) == (400, [])
    assert mark(user.pk) is None


def test_a_body_over_the_limit_is_refused(client: APIClient) -> None:
    """413."""
    response = client.put(URL, apps(a=window(title="t" * 256 * 1024)))
    assert response.status_code == 413


def test_everything_works_with_the_cache_away(client: APIClient, settings: Any) -> None:
    """The row answers, with ETag and If-Match."""
    client.patch(URL, apps(a=window()))
    settings.AEVON_CACHE = without_cache()
    away = client.get(URL)
    assert (away["ETag"], away["Cache-Status"]) == ('"0"', "Aevon; fwd=bypass; detail=away")
    assert client.patch(URL, apps(b=window()), headers={"If-Match": '"0"'}).status_code == 200
    assert client.put(URL, apps(c=window()), headers={"If-Match": '"0"'}).status_code == 412
    assert client.get(URL).json()["layout"] == apps(b=window())


def test_too_many_writers_at_once_are_told_to_come_again(
    client: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 with Retry-After; the change was not made."""
    monkeypatch.setattr(write_behind, "ATTEMPTS", 0)
    response = client.patch(URL, apps(a=window()))
    assert (response.status_code, response["Retry-After"]) == (503, "1")


@contextmanager
def _gone(user: User) -> Iterator[None]:
    user.delete()
    yield


def test_a_user_deleted_meanwhile_is_not_found(
    client: APIClient, user: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the check of the session and the write."""
    settings.AEVON_CACHE = without_cache()
    monkeypatch.setattr(journal, "locked", lambda _: _gone(user))
    assert client.patch(URL, apps(a=window())).status_code == 404


@pytest.mark.django_db(transaction=True)
def test_a_hundred_patches_over_http_all_survive(user: User, client_for: Any) -> None:
    """To 100 different micro-apps, from 20 clients at once."""
    clients = [client_for(user) for _ in range(20)]

    @in_thread
    def work(number: int) -> int:
        body = apps(**{f"a{number}": window(zIndex=number)})
        return int(clients[number % 20].patch(URL, body).status_code)

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(work, range(100))) == {200}
    answer = clients[0].get(URL).json()
    assert (len(answer["layout"]["microApps"]), answer["revision"]) == (100, 100)


@pytest.mark.django_db(transaction=True)
def test_logging_out_persists(client: APIClient, user: User) -> None:
    """At once, and the same client is out."""
    patch(user.pk, a=window())
    assert client.post("/api/v1/auth/logout/", {}).status_code == 204
    assert in_row(user.pk) == {"a"}
    assert client.get(URL).status_code == 401


@pytest.mark.django_db(transaction=True)
def test_two_hundred_patches_ask_postgresql_nothing(client: APIClient, user: User) -> None:
    """And one flush writes one row."""
    client.get(URL)
    with CaptureQueriesContext(connection) as queries:
        for number in range(200):
            body = apps(a=window(position={"x": number, "y": 7}))
            assert client.patch(URL, body).status_code == 200
    assert queries.captured_queries == []
    assert not Canvas.objects.exists()
    assert services.persist_now().persisted == 1
    [row] = Canvas.objects.all()
    assert (row.user_id, row.revision, row.layout["microApps"]["a"]["position"]["x"]) == (
        *(user.pk, 200, 199),
    )


def test_a_reader_is_told_what_is_persisted(client: APIClient, user: User) -> None:
    """In the body, and in headers, because a 304 has no body and its layout is as before."""
    answer = client.patch(URL, apps(a=window()))
    assert answer["Cache-Status"] == "Aevon; hit"
    assert (answer.json()["revision"], answer.json()["persistedRevision"]) == (1, 0)
    assert answer.json()["persistedAt"] is None
    assert "Aevon-Persisted-At" not in answer
    services.persist_now()
    unchanged = client.get(URL, headers={"If-None-Match": '"1"'})
    persisted_at = rfc3339(Canvas.objects.get(user=user).persisted_at)
    assert (unchanged.status_code, unchanged["Aevon-Persisted-Revision"]) == (304, "1")
    assert unchanged["Aevon-Persisted-At"] == persisted_at
    again = client.patch(URL, apps(a={"zIndex": 2})).json()
    assert (again["revision"], again["persistedRevision"]) == (2, 1)
    assert again["persistedAt"] == persisted_at
    store().command("UNLINK", f"canvas:{user.pk}")
    assert client.get(URL).json()["persistedRevision"] == 1
