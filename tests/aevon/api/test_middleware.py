"""Oversized bodies and Django's own errors."""

from io import BytesIO
from typing import Any

import pytest
from django.test import Client

from aevon.api.middleware import DRAINED_MAX_BYTES

pytestmark = pytest.mark.urls("tests.aevon.api.views")

JSON = "application/json"
OUTAGES = ["database", "interface", "psycopg", "pool", "cache"]


def object_of(size: int) -> bytes:
    """A JSON object of exactly `size` bytes."""
    return b'{"a": "' + b"x" * (size - 9) + b'"}'


class Untouchable(BytesIO):
    """An input that must not be read."""

    def read(self, size: int | None = -1) -> bytes:
        raise AssertionError


def chunked(api: Client, body: bytes, *, method: str = "POST", **extra: Any) -> Any:
    """A request without a Content-Length, as granian passes a chunked one on."""
    environ: dict[str, Any] = {
        "wsgi.input": BytesIO(body),
        "wsgi.input_terminated": True,
        "CONTENT_LENGTH": "",
        "HTTP_TRANSFER_ENCODING": "chunked",
    }
    return api.generic(method, "/api/echo/", body, content_type=JSON, **(environ | extra))


def test_body_limit(api: Client, settings: Any) -> None:
    """256 KiB pass; one byte more is a 413 that names the limit."""
    limit = settings.AEVON_MAX_BODY_BYTES
    assert api.post("/api/echo/", object_of(limit), content_type=JSON).status_code == 200
    response = api.post("/api/echo/", object_of(limit + 1), content_type=JSON)
    assert (response.status_code, response["Content-Type"]) == (413, "application/problem+json")
    assert response.json()["limit"] == limit
    assert int(response["Content-Length"]) == len(response.content)


def test_body_limit_of_a_plain_view(api: Client, settings: Any) -> None:
    """The limit holds exactly, also where no parser reads the body."""
    limit = settings.AEVON_MAX_BODY_BYTES
    assert api.post("/api/own-error/", object_of(limit), content_type=JSON).status_code == 409
    assert api.post("/api/own-error/", object_of(limit + 1), content_type=JSON).status_code == 413


def test_chunked_body(api: Client, settings: Any) -> None:
    """A body without a length is read all the same, and held to the same limit."""
    limit = settings.AEVON_MAX_BODY_BYTES
    assert chunked(api, b'{"a": 1}').json() == {"a": 1}
    assert chunked(api, object_of(limit)).status_code == 200
    assert chunked(api, object_of(limit + 1)).status_code == 413


def test_chunked_body_that_breaks_off(api: Client) -> None:
    """The server ends it as if it were whole; a request without a body is another one."""
    for begun in (b"", b'{"a": 1'):
        assert chunked(api, begun).status_code == 400
    assert api.generic("POST", "/api/echo/").json() == {}


@pytest.mark.parametrize("coding", ["gzip, chunked", "chunked, chunked", "identity", "xchunked"])
def test_transfer_coding_that_is_not_chunked(api: Client, coding: str) -> None:
    """The server undoes none but the last: nobody knows what is left."""
    response = chunked(api, b'{"a": 1}', HTTP_TRANSFER_ENCODING=coding)
    assert response.status_code == 400
    assert response.json()["type"] == "/problems/bad-coding"


def test_input_that_nobody_terminates(api: Client) -> None:
    """A server that does not mark the end of its input is never waited for."""
    environ: dict[str, Any] = {"wsgi.input": Untouchable(), "wsgi.input_terminated": False}
    assert chunked(api, b'{"a": 1}', **environ).json() == {}


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_chunked_body_that_is_not_read(api: Client, method: str) -> None:
    """A body that no view reads is not buffered."""
    environ: dict[str, Any] = {"wsgi.input": Untouchable()}
    assert chunked(api, b"x", method=method, **environ).status_code in {200, 204}


@pytest.mark.parametrize("path", ["/api/echo/", "/api/nothing/", "/api/only-get/"])
def test_declared_length(api: Client, path: str) -> None:
    """An absurd Content-Length is refused on every path of the API; draining has a bound."""
    stream = BytesIO(b"x" * (2 * DRAINED_MAX_BYTES))
    environ: dict[str, Any] = {"wsgi.input": stream, "CONTENT_LENGTH": "9" * 5000}
    response = api.generic("POST", path, b"x", content_type=JSON, **environ)
    assert response.status_code == 413
    assert stream.tell() == DRAINED_MAX_BYTES


def test_refused_chunked_body_is_drained(api: Client) -> None:
    """The client can finish sending, and then reads its 413."""
    stream = BytesIO(object_of(1_000_000))
    assert chunked(api, b"x", **{"wsgi.input": stream}).status_code == 413
    assert stream.tell() == 1_000_000


def test_client_that_waits_to_continue(api: Client) -> None:
    """`Expect: 100-continue` gets its refusal at once: nothing is read."""
    environ: dict[str, Any] = {"wsgi.input": Untouchable(), "CONTENT_LENGTH": "999999"}
    response = chunked(api, b"x", HTTP_EXPECT="100-continue", **environ)
    assert response.status_code == 413


@pytest.mark.parametrize("length", ["-1", "+5", "1_0", "0x10", "five", "5, 5", "٥", " 5"])
def test_malformed_length(api: Client, length: str) -> None:
    """What only Python would take for a number is a 400."""
    environ: dict[str, Any] = {"CONTENT_LENGTH": length}
    response = api.generic("POST", "/api/echo/", b"{}", content_type=JSON, **environ)
    assert response.status_code == 400
    assert response.json()["type"] == "/problems/bad-content-length"


def test_client_that_leaves_while_drained(api: Client) -> None:
    """The refusal stands when the client has gone."""

    class Gone(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("reset by peer")

    environ: dict[str, Any] = {"wsgi.input": Gone(), "CONTENT_LENGTH": "999999"}
    response = api.generic("POST", "/api/echo/", b"x", content_type=JSON, **environ)
    assert response.status_code == 413


@pytest.mark.parametrize("name", OUTAGES)
def test_outage_in_a_plain_view(api: Client, name: str) -> None:
    """A view that is not REST framework's gives the same 503."""
    response = api.get(f"/api/plain/{name}/")
    assert (response.status_code, response["Retry-After"]) == (503, "1")
    assert response.json()["type"] == "/problems/service-unavailable"
    assert b"hunter2" not in response.content


def test_outage_in_a_plain_view_is_logged_in_one_line(
    api: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning without a traceback, as for the other views."""
    api.get("/api/plain/database/")
    [record] = caplog.records
    assert (record.levelname, record.exc_info) == ("WARNING", None)


@pytest.mark.parametrize("name", OUTAGES)
def test_outage_in_a_page(api: Client, name: str) -> None:
    """A person at the admin reads a page."""
    response = api.get(f"/page/{name}/")
    assert (response.status_code, response["Retry-After"]) == (503, "1")
    assert response["Content-Type"].startswith("text/html")
    assert b"hunter2" not in response.content


@pytest.mark.parametrize("path", ["/api/echo/", "/page/bug/"])
def test_outage_in_a_middleware(api: Client, settings: Any, path: str) -> None:
    """The database may also be missed before any view runs."""
    settings.MIDDLEWARE = [
        "aevon.api.middleware.ProblemMiddleware",
        "tests.aevon.api.views.middleware_loses_database",
    ]
    response = Client(raise_request_exception=False).get(path)
    assert (response.status_code, response["Retry-After"]) == (503, "1")
    assert ("json" in response["Content-Type"]) == path.startswith("/api/")


@pytest.mark.parametrize(
    ("name", "status"),
    [("missing", 404), ("denied", 403), ("suspicious", 400), ("too-big", 413), ("bug", 500)],
)
def test_django_errors(api: Client, name: str, status: int) -> None:
    """Django's errors under `/api/` are problems, elsewhere its own pages."""
    response = api.get(f"/api/plain/{name}/")
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["status"] == response.status_code == status
    assert int(response["Content-Length"]) == len(response.content)
    assert b"hunter2" not in response.content
    page = api.get(f"/page/{name}/")
    assert page["Content-Type"].startswith("text/html")


def test_django_method_not_allowed(api: Client) -> None:
    """Django's empty 405 gets a document and keeps its Allow."""
    response = api.post("/api/only-get/")
    assert (response.status_code, response["Allow"]) == (405, "GET")
    assert response.json()["title"] == "Method Not Allowed"
    assert int(response["Content-Length"]) == len(response.content)


def test_forged_host(api: Client) -> None:
    """A Host that is not ours is a 400 problem."""
    response = api.get("/api/echo/", headers={"Host": "evil.example"})
    assert response.status_code == 400
    assert response["Content-Type"] == "application/problem+json"


def test_too_many_parameters(api: Client) -> None:
    """A query that Django refuses to read is the client's mistake."""
    response = api.get("/api/echo/?" + "&".join(f"a{n}=1" for n in range(2000)))
    assert response.status_code == 400
    assert response.json()["type"] == "/problems/too-many-parameters"


def test_plain_http(api: Client, settings: Any) -> None:
    """The way to TLS keeps method and body."""
    settings.SECURE_SSL_REDIRECT = True
    for method, status in (("post", 308), ("patch", 308), ("get", 301)):
        response = getattr(api, method)("/api/echo/", {}, content_type=JSON)
        assert (response.status_code, response["Location"]) == (
            status,
            "https://testserver/api/echo/",
        )


def test_missing_slash(api: Client, settings: Any) -> None:
    """A redirect keeps method and body; in DEBUG Django's complaint is a problem too."""
    response = api.post("/api/echo", {"a": 1}, content_type=JSON)
    assert (response.status_code, response["Location"]) == (308, "/api/echo/")
    assert api.get("/api/echo").status_code == 301
    settings.DEBUG = True
    response = api.post("/api/echo", {"a": 1}, content_type=JSON)
    assert (response.status_code, response["Content-Type"]) == (500, "application/problem+json")


def test_own_json_error(api: Client) -> None:
    """A view's own JSON error is left alone."""
    response = api.get("/api/own-error/")
    assert (response.status_code, response.json()) == (409, {"mine": True})


@pytest.mark.parametrize("path", ["/api/protected/", "/api/nowhere/", "/api/own-error/"])
def test_what_a_view_left_unread_is_read(api: Client, path: str) -> None:
    """Left in the connection it would be taken for the client's next request."""
    body = BytesIO(b"x" * 100_000)
    length = {"CONTENT_LENGTH": "100000", "wsgi.input": body}
    assert api.post(path, content_type=JSON, **length).status_code >= 400
    assert body.read() == b""


def test_what_the_client_holds_back_is_not_asked_for(api: Client) -> None:
    """It waits for "100 Continue", and sends nothing after a final answer (RFC 9110, 10.1.1)."""
    body = BytesIO(b"x" * 1000)
    length = {"CONTENT_LENGTH": "1000", "wsgi.input": body, "HTTP_EXPECT": "100-continue"}
    assert api.post("/api/nowhere/", content_type=JSON, **length).status_code == 404
    assert len(body.read()) == 1000
