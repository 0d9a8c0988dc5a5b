"""What every answer tells the browser."""

import base64
import hashlib
import re
from typing import Any

import pytest
from django.test import Client

from aevon import headers

LOCKED = "default-src 'none'; frame-ancestors 'none'"
EVERYWHERE = [
    "/", "/health/live", "/metrics", "/static/page/main.js", "/nowhere", "/api/nowhere", "/admin",
    "/admin/", "/admin/login/", "/admin/nowhere/", "/api/docs/", "/api/docs/?script=",
    "/api/schema/", "/api/v1/canvas/", "/api/v1/canvas", "/api/v1/auth/validate/",
    "/api/v1/auth/token/",
]  # fmt: skip

pytestmark = pytest.mark.django_db


def policy(answer: Any) -> dict[str, str]:
    """The directives of its Content-Security-Policy."""
    return dict(each.strip().split(" ", 1) for each in answer["Content-Security-Policy"].split(";"))


@pytest.mark.parametrize("path", EVERYWHERE)
def test_every_answer_has_them(path: str) -> None:
    """Pages, documents, files, redirects, refusals, probes."""
    answer = Client().get(path)
    answer.close()
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["Referrer-Policy"] == "same-origin"
    assert answer["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answer["Permissions-Policy"].startswith("camera=()")
    assert policy(answer)["default-src"] == policy(answer)["frame-ancestors"] == "'none'"
    if "html" not in answer["Content-Type"] and "docs" not in path:
        assert answer["Content-Security-Policy"] == LOCKED


def test_no_other_site_is_let_in() -> None:
    """CORS is off: a preflight is answered by nobody, and no answer may be read elsewhere."""
    client = Client(headers={"Origin": "https://elsewhere.example"})
    preflight = {"Access-Control-Request-Method": "POST"}
    for path in EVERYWHERE:
        for answer in (client.get(path), client.options(path, headers=preflight)):
            answer.close()
            assert not [name for name in answer.headers if name.startswith("Access-Control-")]


def test_nobody_keeps_what_the_api_answers(client: Any) -> None:
    """Unless it says so itself: what is asked for again with its ETag is kept by its owner."""
    kept = {
        path: client.get(f"/api/v1/{path}")["Cache-Control"]
        for path in ("auth/sessions/", "klepsydra/psyche/", "canvas/", "beep/nowhere/")
    }
    assert kept.pop("canvas/") == "private, no-cache"
    assert set(kept.values()) == {"no-store"}


def test_an_answer_without_content_has_no_length(client: Any) -> None:
    """RFC 9110, 8.6; a length of 0 is for one that has content, though none of it."""
    answers = [
        client.get("/api/v1/auth/validate/"),
        Client(headers={"X-Aevon-Page": "1"}).delete("/api/v1/auth/browser/"),
        client.post("/api/v1/auth/logout/", {}),
    ]
    assert [answer.status_code for answer in answers] == [204] * 3
    assert not any("Content-Length" in answer for answer in answers)


def digests(html: str, element: str) -> set[str]:
    """Of what stands in such elements of a page."""
    inside = re.findall(
        rf"<{element}(?![^>]*(?:src=|json))[^>]*>(.*?)</{element}>", html, re.DOTALL
    )
    return {
        f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'"
        for each in inside
    }


def test_the_documentation_may_run_and_show_its_own_alone() -> None:
    """Another version of Swagger UI may need another digest."""
    answer = Client().get("/api/docs/")
    html = answer.content.decode()
    [style] = digests(html, "style")
    assert policy(answer)["style-src"] == f"'self' {style}"
    assert policy(answer)["script-src"] == "'self'"
    assert not digests(html, "script")
    assert not re.search(r"\sstyle=|\son\w+=", html)


def test_the_admin_may_run_its_own_alone(admin_client: Client) -> None:
    """Another version of Celery beat may need another digest; nothing else stands in the pages."""
    found = set()
    for path in ("", "auth_sessions/user/", "django_celery_beat/periodictask/add/"):
        answer = admin_client.get(f"/admin/{path}")
        assert answer.status_code == 200
        assert answer["Content-Security-Policy"] == headers.ADMIN
        found |= digests(answer.content.decode(), "script")
    assert policy(answer)["script-src"].split() == ["'self'", "'unsafe-eval'", *found]
    assert "'unsafe-inline'" not in policy(answer)["script-src"]
