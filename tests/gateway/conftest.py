"""Gateways as deploy/gateway configures them: before one real site, and before a stub that answers
what Aevon hardly ever does."""

import contextlib
import json
import logging
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from aevon.ports import free_port
from tests.aevon.programs import environment, make_run
from tests.cache.doors import certificate
from tests.servers import ROOT
from tests.waiting import eventually

from .hands import Hands

CONFIGURATIONS = ROOT / "deploy" / "gateway"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
CADDY = shutil.which("caddy")
# A line for each of thousands of requests.
logging.getLogger("httpx").setLevel(logging.WARNING)
PROGRAMS = {"nginx": NGINX, "caddy": CADDY}
# A pair, so that who reads for itself gets along with the public key.
SIGNING_KEY = (
    Ed25519PrivateKey.generate()
    .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    .decode()
)
SECRET = "x9Fq2-unguessable-and-long-enough-1234567890"
PRODUCTION = {
    "AEVON_ENV": "production",
    "AEVON_TRUSTED_PROXIES": "1",
    "DJANGO_SECRET_KEY": SECRET,
    "JWT_SIGNING_KEY": SIGNING_KEY,
}
# `user`: the folders of a test are open to nobody else. It says nothing where nginx is not root.
NGINX_MAIN = """
user root; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    proxy_cache_path {folder}/cache keys_zone=answers:1m;
    include {folder}/site.conf;
}}
"""
# What a gateway must not do, for the checker to find: an answer that is kept for a while.
NGINX_KEEPS_ANSWERS = {
    "location = /metrics {": """
    location = /_kept {
        internal;
        proxy_pass http://aevon/api/v1/auth/validate/;
        proxy_cache answers; proxy_cache_key $http_authorization; proxy_cache_valid 204 30s;
        proxy_ignore_headers Cache-Control;
        proxy_pass_request_body off;
        proxy_set_header Content-Length ""; proxy_set_header Host $host;
    }
    location /kept/ { auth_request /_kept; proxy_pass http://orders:8080; }
    location = /metrics {"""
}


@dataclass
class Server:
    """Where something listens, and what it was asked, headers with their names as they came."""

    address: str
    asked: list[dict[str, Any]] = field(default_factory=list)


class Quiet(BaseHTTPRequestHandler):
    """Notes what it is asked and keeps connections."""

    protocol_version = "HTTP/1.1"
    server: Any

    def noted(self) -> dict[str, Any]:
        """The request, its body included as far as it is said to go."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = {
            "method": self.command,
            "path": self.path,
            "headers": dict(self.headers),
            "body": body.decode(),
        }
        self.server.noted.append(request)
        return request

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        """Send that."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


class Service(Quiet):
    """A service behind the gateway that answers with what it was asked."""

    def do_GET(self) -> None:
        self.answer(200, {"Content-Type": "application/json"}, json.dumps(self.noted()).encode())

    do_POST = do_GET  # noqa: N815  the library's name


class Validator(Quiet):
    """In Aevon's place: the token says what is answered, "204-7-20" that user 7 is let in and has
    twenty permissions; "hang" nothing, "drop" half of it."""

    def do_GET(self) -> None:
        self.noted()
        wish = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if wish == "hang":
            self.server.released.wait(30)
        if wish in ("hang", "drop"):
            self.wfile.write(b"HTTP/1.1 2")
            self.close_connection = True
            return
        status, user, count = (*wish.split("-"), "", "0")[:3]
        names = ",".join(f"warehouse.change_shelf_{n}" for n in range(int(count or 0)))
        headers = {"X-User-Id": user, "X-Permissions": names} if user else {}
        challenge = {"WWW-Authenticate": "Bearer"} if status == "401" else {}
        self.answer(int(status), headers | challenge)

    do_POST = do_GET  # noqa: N815


@contextlib.contextmanager
def serving(handler: type[Quiet]) -> Iterator[Server]:
    """The handler on a port of its own."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads, server.noted, server.released = True, [], threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Server(f"127.0.0.1:{server.server_address[1]}", server.noted)
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()


@dataclass(frozen=True)
class Gateway:
    """A running gateway: where it speaks TLS, and where plain HTTP."""

    name: str
    url: str
    plain: str

    def client(self) -> httpx.Client:
        """A client of it, with connections of its own."""
        return httpx.Client(base_url=self.url, verify=False, timeout=30)


def _replaced(text: str, replacements: dict[str, str]) -> str:
    for theirs, ours in replacements.items():
        assert theirs in text, theirs
        text = text.replace(theirs, ours)
    return text


@contextlib.contextmanager
def gateway(name: str, folder: Path, aevon: str, service: str, **more: str) -> Iterator[Gateway]:
    """`name` as deploy/gateway configures it, but for addresses and what is in `more`."""
    if PROGRAMS[name] is None:
        pytest.skip(f"{name} is not installed")
    cert, key = certificate(folder)
    plain, tls = free_port(), free_port()
    file, start, names = PRODUCTS[name]
    places = {"plain": plain, "tls": tls, "cert": cert, "key": key}
    ours = {theirs: text.format(**places) for theirs, text in names.items()}
    behind = dict.fromkeys(("orders:8080", "treasury:8080", "canvas-admin:8080"), service)
    text = _replaced((CONFIGURATIONS / file).read_text(), ours | more)
    command = start(folder, _replaced(text, {"web:8000": aevon, **behind}))
    running = Gateway(name, f"https://localhost:{tls}", f"http://127.0.0.1:{plain}")
    homes = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(folder))
    with (
        (folder / "stderr").open("w") as said,
        subprocess.Popen(command, env=environment(**homes), stdout=said, stderr=said) as process,
    ):
        try:
            assert eventually(lambda: _answers(running) or process.poll() is not None)
            assert process.poll() is None, (folder / "stderr").read_text()
            yield running
        finally:
            process.terminate()


def _nginx(folder: Path, configuration: str) -> list[str]:
    (folder / "site.conf").write_text(configuration)
    (folder / "nginx.conf").write_text(NGINX_MAIN.format(folder=folder))
    return [str(NGINX), "-c", str(folder / "nginx.conf"), "-p", str(folder)]


def _caddy(folder: Path, configuration: str) -> list[str]:
    (folder / "Caddyfile").write_text(configuration)
    return [str(CADDY), "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


def _answers(running: Gateway) -> bool:
    try:
        with running.client() as client:
            return client.get("/metrics").status_code == 404
    except httpx.TransportError:
        return False


PRODUCTS = {
    "nginx": (
        "nginx.conf",
        _nginx,
        {
            "listen 80;": "listen 127.0.0.1:{plain};",
            "listen 443 ssl;": "listen 127.0.0.1:{tls} ssl;",
            "/etc/nginx/tls/fullchain.pem": "{cert}",
            "/etc/nginx/tls/privkey.pem": "{key}",
        },
    ),
    "caddy": (
        "Caddyfile",
        _caddy,
        {
            "admin localhost:2019": "admin off",
            "http_port 80": "http_port {plain}",
            "https_port 443": "https_port {tls}",
            "gateway.example.com": "localhost",
            "/etc/caddy/tls/fullchain.pem": "{cert}",
            "/etc/caddy/tls/privkey.pem": "{key}",
        },
    ),
}


@pytest.fixture(scope="package")
def service() -> Iterator[Server]:
    """The services behind the gateways: one for all three names."""
    with serving(Service) as server:
        yield server


@pytest.fixture(scope="package")
def validator() -> Iterator[Server]:
    """What stands in Aevon's place before the gateways of `stubbed`."""
    with serving(Validator) as server:
        yield server


@pytest.fixture(scope="package", params=["nginx", "caddy"])
def stubbed(
    request: Any, validator: Server, service: Server, tmp_path_factory: Any
) -> Iterator[Gateway]:
    """Each gateway before the stub; it waits for an answer no longer than the test wants to."""
    impatient = {
        "nginx": {"proxy_read_timeout 5s": "proxy_read_timeout 300ms"},
        "caddy": {"response_header_timeout 5s": "response_header_timeout 300ms"},
    }[request.param]
    folder = tmp_path_factory.mktemp(f"stubbed-{request.param}")
    with gateway(request.param, folder, validator.address, service.address, **impatient) as running:
        yield running


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What `make run` with production's settings told. One for all: it takes long to start."""
    folder = tmp_path_factory.mktemp("gateway")
    with make_run(folder / "data", **PRODUCTION) as (_, told):
        yield told


@pytest.fixture(scope="package")
def hands(site: dict[str, Any]) -> Iterator[Hands]:
    """Somebody with a shell on the site."""
    with Hands(site, PRODUCTION) as somebody:
        yield somebody


@pytest.fixture(scope="package")
def nginx(
    site: dict[str, Any], service: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """nginx before the site."""
    folder, aevon = tmp_path_factory.mktemp("nginx"), urlsplit(site["url"]).netloc
    with gateway("nginx", folder, aevon, service.address, **NGINX_KEEPS_ANSWERS) as running:
        yield running


@pytest.fixture(scope="package")
def caddy(
    site: dict[str, Any], service: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Caddy before the site."""
    folder, aevon = tmp_path_factory.mktemp("caddy"), urlsplit(site["url"]).netloc
    with gateway("caddy", folder, aevon, service.address) as running:
        yield running


@pytest.fixture(params=["nginx", "caddy"])
def running(request: Any) -> Gateway:
    """Each gateway before the site."""
    started: Gateway = request.getfixturevalue(request.param)
    return started
