"""Every error of a view is a problem document."""

import logging
from typing import Any

import pytest
from django.test import Client

pytestmark = pytest.mark.urls("tests.aevon.api.views")

STATUS = {
    "missing": 404,
    "denied": 403,
    "precondition": 412,
    "body": 413,
    "idempotency": 422,
    "attempts": 429,
    "throttled": 429,
    "bug": 500,
    "suspicious": 400,
    "database": 503,
    "interface": 503,
    "psycopg": 503,
    "pool": 503,
    "cache": 503,
    "unavailable": 503,
    "nested": 400,
    "whole": 400,
    "many": 400,
    "no-token": 401,
    "jwt": 401,
}


@pytest.mark.parametrize(("name", "status"), STATUS.items())
def test_problem_shape(api: Client, name: str, status: int) -> None:
    """Type, title, status and detail are always there, and no message of a driver."""
    response = api.get(f"/api/raise/{name}/")
    problem = response.json()
    assert response.status_code == problem["status"] == status
    assert response["Content-Type"] == "application/problem+json"
    assert problem["type"].startswith("/problems/")
    assert problem["title"]
    assert problem["detail"]
    assert ("errors" in problem) == (status == 400 and name != "suspicious")
    assert b"hunter2" not in response.content


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("database", "1"),
        ("interface", "1"),
        ("pool", "1"),
        ("cache", "1"),
        ("unavailable", "3"),
        ("attempts", "13"),
        ("throttled", "3"),
    ],
)
def test_retry_after(api: Client, name: str, seconds: str) -> None:
    """Whole seconds, rounded up."""
    assert api.get(f"/api/raise/{name}/")["Retry-After"] == seconds


def test_precondition_failed(api: Client) -> None:
    """A 412 tells the current revision twice: as an ETag and as a member."""
    response = api.get("/api/raise/precondition/")
    assert response["ETag"] == '"7"'
    assert response.json()["revision"] == 7
    assert response.json()["type"] == "/problems/precondition-failed"


def test_nested_validation_error(api: Client) -> None:
    """The field is the dotted path of the member; one error alone is also the detail."""
    problem = api.get("/api/raise/nested/").json()
    field = "layout.microApps.a.position.x"
    assert problem["errors"] == [{"field": field, "code": "invalid", "detail": "Too far."}]
    assert problem["detail"] == f"{field}: Too far."
    assert problem["type"] == "/problems/validation-error"


def test_validation_error_of_the_whole_body(api: Client) -> None:
    """An error of no single member has the empty path."""
    problem = api.get("/api/raise/whole/").json()
    assert problem["errors"] == [{"field": "", "code": "invalid", "detail": "No."}]
    assert problem["detail"] == "No."


def test_many_validation_errors(api: Client) -> None:
    """A small request cannot make a huge answer: the first hundred are listed, all are counted."""
    problem = api.get("/api/raise/many/").json()
    assert len(problem["errors"]) == 100
    assert "1000" in problem["detail"]


@pytest.mark.parametrize("path", ["/api/private/", "/api/raise/no-token/", "/api/raise/jwt/"])
def test_unauthenticated(api: Client, path: str) -> None:
    """A 401 says which scheme to use."""
    response = api.get(path)
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == 'Bearer realm="api"'


def test_detail_of_simplejwt(api: Client) -> None:
    """simplejwt's dict becomes its sentence and its code."""
    problem = api.get("/api/raise/jwt/").json()
    assert (problem["detail"], problem["type"]) == ("Expired.", "/problems/token-not-valid")


def test_bug_is_logged_once(api: Client, caplog: pytest.LogCaptureFixture) -> None:
    """The log has one traceback of what the client is not told."""
    api.get("/api/raise/bug/")
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info is not None
    assert record.exc_info[0] is RuntimeError


def test_bug_in_debug(api: Client, settings: Any) -> None:
    """DEBUG changes nothing in the answer."""
    settings.DEBUG = True
    response = api.get("/api/raise/bug/")
    assert response.json()["type"] == "/problems/internal-error"


def test_outage_is_logged_in_one_line(api: Client, caplog: pytest.LogCaptureFixture) -> None:
    """An outage is a warning without a traceback, on each request."""
    api.get("/api/raise/database/")
    [record] = caplog.records
    assert (record.levelname, record.exc_info) == ("WARNING", None)
    assert record.getMessage() == "Unavailable: /api/raise/database/ (OperationalError)"


@pytest.mark.parametrize(
    ("method", "path", "accept", "status"),
    [
        ("GET", "/api/nothing/", "*/*", 404),
        ("PUT", "/api/echo/", "*/*", 405),
        ("GET", "/api/echo/", "text/html", 406),
        # The schema's own renderers write YAML; its errors stay JSON.
        ("POST", "/api/schema/", "application/yaml", 405),
    ],
)
def test_errors_of_routing(api: Client, method: str, path: str, accept: str, status: int) -> None:
    """Not found, wrong method and unacceptable type are problems for every Accept."""
    response = api.generic(method, path, headers={"Accept": accept})
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["status"] == response.status_code == status


def test_page_not_found(api: Client) -> None:
    """Outside `/api/` people read HTML."""
    response = api.get("/nothing/")
    assert (response.status_code, response["Content-Type"][:9]) == (404, "text/html")
