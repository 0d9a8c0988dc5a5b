"""`deploy/nginx.conf`, in a real nginx before a real site with production's settings."""

import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from aevon.ports import free_port
from tests.cache.doors import certificate
from tests.servers import ROOT
from tests.waiting import eventually

from .programs import make_run

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
SECRET = "x9Fq2-unguessable-and-long-enough-1234567890"
PRODUCTION = {
    "AEVON_ENV": "production",
    "AEVON_TRUSTED_PROXIES": "1",
    "DJANGO_SECRET_KEY": SECRET,
    "JWT_SIGNING_KEY": SECRET[::-1],
}
MAIN = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


class Orders(BaseHTTPRequestHandler):
    """A service behind the gateway that answers with the headers it got."""

    def do_GET(self) -> None:
        body = json.dumps(dict(self.headers)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def orders() -> Iterator[str]:
    """Where the service listens."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Orders)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def site(
    orders: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[httpx.Client, dict[str, Any]]]:
    """A client of the gateway, and what `make run` told."""
    folder = tmp_path_factory.mktemp("gateway")
    cert, key = certificate(folder)
    with make_run(folder / "data", **PRODUCTION) as (_, told):
        plain, tls = free_port(), free_port()
        config = (ROOT / "deploy" / "nginx.conf").read_text()
        for theirs, ours in {
            "web:8000": urlsplit(told["url"]).netloc,
            "orders:8080": orders,
            "listen 80;": f"listen 127.0.0.1:{plain};",
            "listen 443 ssl;": f"listen 127.0.0.1:{tls} ssl;",
            "/etc/nginx/tls/fullchain.pem": str(cert),
            "/etc/nginx/tls/privkey.pem": str(key),
        }.items():
            assert theirs in config
            config = config.replace(theirs, ours)
        (folder / "site.conf").write_text(config)
        (folder / "nginx.conf").write_text(MAIN.format(folder=folder))
        with (
            subprocess.Popen(
                [str(NGINX), "-c", str(folder / "nginx.conf"), "-p", str(folder)]
            ) as nginx,
            httpx.Client(base_url=f"https://localhost:{tls}", verify=False, timeout=10) as client,
        ):
            try:
                assert eventually((folder / "nginx.pid").exists, seconds=10)
                told["plain"] = f"http://127.0.0.1:{plain}"
                yield client, told
            finally:
                nginx.terminate()


@pytest.fixture(scope="module")
def bearer(site: tuple[httpx.Client, dict[str, Any]]) -> dict[str, str]:
    """The header of a session that was opened through the gateway."""
    client, told = site
    tokens = client.post("/api/v1/auth/token/", json=told["demo"]).json()
    return {"Authorization": f"Bearer {tokens['access']}"}


def test_a_session_reaches_the_service_by_name(site: Any, bearer: dict[str, str]) -> None:
    """Whatever a client claims to be."""
    client, _ = site
    forged = {"X-User-Id": "1", "X-Sovereignty-Class": "ARCHITECT", "X_Forwarded_For": "9.9.9.9"}
    answer = client.get("/orders/7", headers={**bearer, **forged})
    told = answer.json()
    assert answer.status_code == 200
    assert told["X-User-Id"] != "1"
    assert (told["X-Sovereignty-Class"], told["Host"]) == ("INITIATE", "localhost")
    assert told["X-Forwarded-For"] == "127.0.0.1"
    assert "X_Forwarded_For" not in told


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer x.y.z"}])
def test_without_a_session_nobody_reaches_the_service(site: Any, headers: dict[str, str]) -> None:
    """401 with the challenge, from the gateway itself."""
    answer = site[0].get("/orders/7", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_api_is_behind_tls(site: Any, bearer: dict[str, str]) -> None:
    """No redirect in a circle; in plain HTTP one that keeps the method."""
    client, told = site
    patched = client.patch("/api/v1/canvas/", json={"microApps": {}}, headers=bearer)
    assert patched.status_code == 200
    plain = httpx.patch(f"{told['plain']}/api/v1/canvas/", json={}, headers=bearer)
    assert (plain.status_code, plain.headers["Location"][:17]) == (308, "https://127.0.0.1")


def test_too_large_a_body_is_a_problem_document(site: Any, bearer: dict[str, str]) -> None:
    """Aevon's own answer."""
    body = {"microApps": {"a": {"title": "x" * 300_000}}}
    answer = site[0].patch("/api/v1/canvas/", json=body, headers=bearer)
    assert answer.status_code == 413
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/metrics", "/_validate"])
def test_what_is_not_for_the_outside_is_not_there(site: Any, path: str) -> None:
    """Numbers and the gateway's own question."""
    assert site[0].get(path).status_code == 404


def test_a_body_that_breaks_off_never_reaches_the_site(site: Any, bearer: dict[str, str]) -> None:
    """A chunked logout whose chunk is none: refused, and the session goes on."""
    client, _ = site
    address = (client.base_url.host, client.base_url.port)
    request = (
        "POST /api/v1/auth/logout/ HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: {bearer['Authorization']}\r\nContent-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\n\r\nZZ\r\n"
    )
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(address) as plain, context.wrap_socket(plain) as connection:
        connection.sendall(request.encode())
        assert connection.recv(64).startswith(b"HTTP/1.1 400 ")
    assert client.get("/api/v1/canvas/", headers=bearer).status_code == 200
