"""nginx and Caddy, real ones, before a real site with production's settings."""

import socket
import ssl
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from .conftest import Gateway


@pytest.fixture
def bearer(running: Gateway, site: dict[str, Any]) -> dict[str, str]:
    """The header of a session that was opened through the gateway."""
    with running.client() as client:
        tokens = client.post("/api/v1/auth/token/", json=site["demo"]).json()
    return {"Authorization": f"Bearer {tokens['access']}"}


def test_a_session_reaches_the_service_by_name(running: Gateway, bearer: dict[str, str]) -> None:
    """Whatever a client claims to be."""
    forged = {"X-User-Id": "1", "X-Sovereignty-Class": "ARCHITECT", "X_Forwarded_For": "9.9.9.9"}
    with running.client() as client:
        answer = client.get("/orders/7", headers={**bearer, **forged})
        told = answer.json()["headers"]
        assert answer.status_code == 200
        assert told["X-User-Id"] != "1"
        assert len(told["X-Session-Id"]) == 36
        assert told["X-Sovereignty-Class"] == "INITIATE"
        assert told.get("X-Permissions", "") == ""
        assert told["Host"].startswith("localhost")
        assert told["X-Forwarded-For"] == "127.0.0.1"
        assert "X_Forwarded_For" not in told
        for beyond in ("/treasury/", "/canvas-admin/"):
            assert client.get(beyond, headers=bearer).status_code == 403


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer x.y.z"}])
def test_without_a_session_nobody_reaches_the_service(
    running: Gateway, headers: dict[str, str]
) -> None:
    """401 with the challenge, from the gateway itself."""
    with running.client() as client:
        for route in ("/orders/7", "/treasury/", "/canvas-admin/"):
            answer = client.get(route, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_api_is_behind_tls(running: Gateway, bearer: dict[str, str]) -> None:
    """No redirect in a circle."""
    with running.client() as client:
        patched = client.patch("/api/v1/canvas/", json={"microApps": {}}, headers=bearer)
    assert patched.status_code == 200


def test_too_large_a_body_is_a_problem_document(running: Gateway, bearer: dict[str, str]) -> None:
    """Aevon's own answer."""
    body = {"microApps": {"a": {"title": "x" * 300_000}}}
    with running.client() as client:
        answer = client.patch("/api/v1/canvas/", json=body, headers=bearer)
    assert answer.status_code == 413
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_what_is_not_for_the_outside_is_not_there(running: Gateway) -> None:
    """Numbers and the gateway's own question."""
    with running.client() as client:
        for path in (
            "/metrics",
            "/health/ready",
            "/_validate/",
            "/_validate/session",
            "/_validate/sovereign",
        ):
            assert client.get(path).status_code == 404


def answer_to_a_broken_logout(connection: socket.socket, headers: dict[str, str]) -> int:
    """The status; it is chunked, and its chunk is none."""
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = (
        f"POST /api/v1/auth/logout/ HTTP/1.1\r\nHost: localhost\r\n{more}"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"
    )
    connection.sendall(request.encode())
    return int(connection.recv(64).split()[1])


def test_a_body_that_breaks_off_changes_nothing(running: Gateway, bearer: dict[str, str]) -> None:
    """It is refused, and the session goes on. Caddy, which does not wait for the end of a body, has
    sent its beginning on."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    address = ("localhost", urlsplit(running.url).port or 0)
    with (
        socket.create_connection(address) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        assert answer_to_a_broken_logout(connection, bearer) >= 400
    with running.client() as client:
        assert client.get("/api/v1/canvas/", headers=bearer).status_code == 200


def test_a_body_that_breaks_off_is_no_empty_one(site: dict[str, Any]) -> None:
    """The site's own web server ends both in the same way."""
    headers = {"X-Forwarded-Proto": "https"}
    with httpx.Client(base_url=site["url"], headers=headers) as client:
        tokens = client.post("/api/v1/auth/token/", json=site["demo"]).json()
        headers["Authorization"] = f"Bearer {tokens['access']}"
        place = urlsplit(site["url"])
        with socket.create_connection((place.hostname, place.port)) as connection:
            assert answer_to_a_broken_logout(connection, headers) == 400
        assert client.get("/api/v1/canvas/", headers=headers).status_code == 200
