"""deploy/gateway: who is let through, what is asked, and what a service is told."""

import http.client
import json
import re
import ssl
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.servers import ROOT

from .conftest import CONFIGURATIONS, Gateway, Server

IDENTITY = ("X-User-Id", "X-Session-Id", "X-Sovereignty-Class", "X-Permissions")
ALIASES = ("X_User_Id", "X-User_Id", "X.User.Id", "x_permissions", "X-Sovereignty.Class")
ROUTES = {
    "/orders/": "",
    "/treasury/": "?class=SOVEREIGN",
    "/canvas-admin/": "?permission=canvas.change_canvas",
}
NEITHER_YES_NOR_NO = ("400", "404", "500", "503", "hang", "drop")


def ask(gateway: Gateway, path: str, *, method: str = "GET", **options: Any) -> Any:
    """A request whose path goes out as it stands here."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    port = urlsplit(gateway.url).port
    connection = http.client.HTTPSConnection("localhost", port, timeout=15, context=context)
    connection.request(method, path, **options)
    answer: Any = connection.getresponse()
    answer.body = answer.read()
    connection.close()
    return answer


def bearer(token: str, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", **more}


def test_only_a_yes_lets_through(stubbed: Gateway, validator: Server, service: Server) -> None:
    """A no is the client's to know; anything else closes the route, also no answer in time."""
    service.asked.clear()
    refused = ask(stubbed, "/orders/7", headers=bearer("401"))
    assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert ask(stubbed, "/orders/7", headers=bearer("403")).status == 403
    answers = {each: ask(stubbed, "/orders/7", headers=bearer(each)) for each in NEITHER_YES_NOR_NO}
    assert {each: answer.status for each, answer in answers.items() if answer.status < 400} == {}
    assert service.asked == []
    assert ask(stubbed, "/orders/7", headers=bearer("204-7")).status == 200
    assert len(service.asked) == 1


@pytest.mark.parametrize("route", ROUTES)
def test_a_service_is_told_what_aevon_says_alone(
    stubbed: Gateway, validator: Server, route: str
) -> None:
    """Whatever the client claims, however it is spelled; also where Aevon says nothing (there Caddy
    2.6 writes a placeholder's name)."""
    claims = dict.fromkeys((*IDENTITY, *ALIASES), "1")
    told = json.loads(ask(stubbed, route, headers=bearer("204-7", **claims)).body)["headers"]
    heard = {re.sub(r"[^a-z]", "-", name.lower()): value for name, value in told.items()}
    names = [name.lower() for name in IDENTITY if not heard.get(name.lower(), "").startswith("{")]
    assert {name: heard[name] for name in names if heard.get(name)} == {"x-user-id": "7"}
    assert [name for name in told if "_" in name or "." in name] == []


def test_a_client_cannot_have_its_identity_dropped(stubbed: Gateway, validator: Server) -> None:
    """By naming the headers as ones of this hop alone: a service might take nobody for somebody."""
    named = bearer("204-7", Connection="close, X-User-Id, X-Session-Id, X-Permissions")
    told = json.loads(ask(stubbed, "/orders/", headers=named).body)["headers"]
    assert told["X-User-Id"] == "7"


def test_an_answer_of_many_permissions_is_no_error(stubbed: Gateway, validator: Server) -> None:
    """As long as a service takes such a header."""
    told = json.loads(ask(stubbed, "/orders/", headers=bearer("204-7-1000")).body)["headers"]
    assert len(told["X-Permissions"].split(",")) == 1_000


def test_aevon_itself_hears_no_claims(stubbed: Gateway, validator: Server) -> None:
    """Neither in a request of its own nor in a question."""
    claims = dict.fromkeys((*IDENTITY, *ALIASES, "X_Forwarded_For"), "1")
    for path in ("/api/v1/canvas/", "/orders/"):
        ask(stubbed, path, headers=bearer("204-7", **claims))
        headers = validator.asked[-1]["headers"]
        assert [name for name in headers if headers[name] == "1"] == []
        assert headers["X-Forwarded-For"] == "127.0.0.1"


@pytest.mark.parametrize(("route", "query"), ROUTES.items())
def test_the_question_is_the_route_s(
    stubbed: Gateway, validator: Server, route: str, query: str
) -> None:
    """Not the client's: no query, no requirement and no body of theirs."""
    asked = ask(
        stubbed,
        f"{route}7?class=ARCHITECT&permission=",
        method="POST",
        body=b"much",
        headers=bearer("204-7", **{"X-Require-Class": "x", "X-Require-Permission": "y"}),
    )
    question = validator.asked[-1]
    assert question["path"].rstrip("?") == f"/api/v1/auth/validate/{query}"
    assert question["body"] == ""
    assert not {"X-Require-Class", "X-Require-Permission"} & set(question["headers"])
    assert question["headers"].get("Content-Length", "0") == "0"
    assert "Transfer-Encoding" not in question["headers"]
    told = json.loads(asked.body)
    assert (told["body"], told["path"]) == ("much", f"{route}7?class=ARCHITECT&permission=")


CLIMBING = ("/orders/../treasury/", "/orders/%2e%2e/treasury/", "//treasury/")


@pytest.mark.parametrize("path", CLIMBING)
def test_a_path_is_asked_for_by_where_it_leads(
    stubbed: Gateway, validator: Server, service: Server, path: str
) -> None:
    """No way round a requirement."""
    validator.asked.clear()
    service.asked.clear()
    ask(stubbed, path, headers=bearer("204-7"))
    questions = [each["path"] for each in validator.asked if "validate" in each["path"]]
    assert bool(service.asked) == (questions == ["/api/v1/auth/validate/?class=SOVEREIGN"])


def test_plain_http_is_sent_to_tls(stubbed: Gateway) -> None:
    """With the method kept."""
    host = urlsplit(stubbed.plain).netloc
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.request("PATCH", "/orders/", headers={"Host": "localhost"})
    answer = connection.getresponse()
    connection.close()
    assert (answer.status, answer.headers["Location"][:8]) == (308, "https://")


def test_traefik_strips_asks_and_forwards() -> None:
    """Not run: its files at least say what docs/gateway.md promises."""
    static = yaml.safe_load((CONFIGURATIONS / "traefik.yaml").read_text())
    assert static["entryPoints"]["websecure"]["http"]["aliasHeadersStrategy"] == "delete"
    http = yaml.safe_load((CONFIGURATIONS / "traefik-routes.yaml").read_text())["http"]
    claims = http["middlewares"]["no-claims"]["headers"]["customRequestHeaders"]
    assert claims == dict.fromkeys(IDENTITY, "")
    for route, query in ROUTES.items():
        router = http["routers"][route.strip("/")]
        first, question = router["middlewares"]
        forward = http["middlewares"][question]["forwardAuth"]
        assert (first, f"PathPrefix(`{route}`)" in router["rule"]) == ("no-claims", True)
        assert forward["address"] == f"http://web:8000/api/v1/auth/validate/{query}"
        assert forward["authResponseHeaders"] == list(IDENTITY)
        assert not forward["trustForwardHeader"]


def test_envoy_strips_asks_and_forwards() -> None:
    """Likewise."""
    text = (CONFIGURATIONS / "envoy.yaml").read_text()
    listener = yaml.safe_load(text)["static_resources"]["listeners"][1]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    strip, _, question, _ = (each["typed_config"] for each in manager["http_filters"])
    removed = [each.get("remove") for each in strip["mutations"]["request_mutations"]]
    assert {name.lower() for name in IDENTITY} <= set(removed)
    service = question["http_service"]
    assert question["failure_mode_allow"] is False
    assert service["path_override"] == "/api/v1/auth/validate/?ok=200"
    upstream = service["authorization_response"]["allowed_upstream_headers"]["patterns"]
    assert [each["exact"] for each in upstream] == [name.lower() for name in IDENTITY]
    routes = manager["route_config"]["virtual_hosts"][0]["routes"]
    assert [each["match"]["prefix"] for each in routes[:3]] == list(ROUTES)
    open_to_all = [each["match"] for each in routes if "ext_authz" in str(each)]
    assert open_to_all == [{"path": "/metrics"}, {"prefix": "/health/"}, {"prefix": "/"}]


def test_the_document_names_every_file() -> None:
    """docs/gateway.md."""
    document = (ROOT / "docs" / "gateway.md").read_text()
    files = [path.name for path in CONFIGURATIONS.rglob("*") if path.is_file()]
    assert [name for name in files if f"{name}" not in document] == []
