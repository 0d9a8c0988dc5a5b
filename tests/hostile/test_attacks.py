"""What is in no table and an attacker tries all the same, as bytes to a real site."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.faults.bench.production import FORWARDED, Production
from tests.faults.bench.report import tried
from tests.faults.bench.visitors import Person, ask
from tests.gateway.conftest import gateway

from .endpoints import BODIES, PAGE
from .remains import unchanged
from .wire import HOST, JSON, Wire, head

COMMANDS: Final = "/api/v1/beep/commands/"
CANVAS: Final = "/api/v1/canvas/"
TEXT: Final = b'{"text":"help"}'
CHUNKS: Final = b"f\r\n" + TEXT + b"\r\n0\r\n\r\n"
SLOW: Final = 100
# What reads lengths in another way than we do may take the end of one request for another one.
SMUGGLED: Final = b"DELETE /api/v1/beep/history/ HTTP/1.1\r\nHost: localhost\r\n\r\n"


def posted(person: Person, *lines: str, body: bytes = TEXT) -> bytes:
    """A command to BEEP with these lines in place of a length."""
    headers = HOST | JSON | person.headers
    start = head("POST", COMMANDS, headers).removesuffix(b"\r\n")
    return start + "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n" + body


REFUSED: Final = [
    (("Content-Length: 15", "Content-Length: 16"), TEXT),
    (("Content-Length: 15, 15",), TEXT),
    (("Content-Length: +15",), TEXT),
    (("Content-Length: -1",), TEXT),
    (("Content-Length: 0xf",), TEXT),
    (("Content-Length: 1_5",), TEXT),
    (("Content-Length: \xb2",), TEXT),
    (("Content-Length: 99999999999999999999",), TEXT),
    (("Content-Length : 15",), TEXT),
    (("Content-Length: 15", "X-A: b", " folded"), TEXT),
    (("Transfer-Encoding: xchunked",), CHUNKS),
    (("Transfer-Encoding : chunked",), CHUNKS),
    (("Transfer-Encoding: chunked", "Transfer-Encoding: identity"), CHUNKS),
    (("Transfer-Encoding: gzip, chunked",), CHUNKS),
    (("Transfer-Encoding: chunked, chunked",), CHUNKS),
    (("Transfer-Encoding: chunked",), b"zz\r\n" + TEXT),
    (("Transfer-Encoding: chunked",), b"fffffffffffffffff\r\n" + TEXT),
    (("Transfer-Encoding: chunked",), b"0\r\n\r\n"),
    (("Transfer-Encoding: chunked", "Content-Length: 6"), b"0\r\n\r\nG"),
]
NO_HTTP: Final = [
    b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"\0" * 100,
    b"GET /api/v1/canvas/\r\n\r\n",
    b"GET /api/v1/canvas/ HTTP/9.9\r\nHost: localhost\r\n\r\n",
    b"GET  /api/v1/canvas/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /api/v1/canvas/ HTTP/1.1\r\nHost: localhost\r\nX-A: a\0b\r\n\r\n",
    b"\r\n" * 1000 + b"x" * 1000 + b"\r\n\r\n",
]


def test_a_request_that_two_servers_may_read_in_two_ways(
    wire: Wire, site: Production, people: list[Person]
) -> None:
    """Refused, and what follows it is no request of its own."""
    person = people[0]
    ask(site, person, "command")
    with unchanged(site, people):
        for lines, body in REFUSED:
            answer = wire.send(posted(person, *lines, body=body) + SMUGGLED, shut=True)
            assert answer.status == 400, (lines, answer)
            assert b"HTTP/1.1 2" not in answer.rest, (lines, answer)
        for garbage in NO_HTTP:
            assert wire.send(garbage, shut=True).status == 400, garbage
    tried("two lengths, a length beside chunks, other codings, bytes that are no HTTP", wire.sent)


def test_a_length_beside_chunks(wire: Wire, people: list[Person]) -> None:
    """The chunks count (RFC 9112, 6.1), and the connection ends with the answer."""
    lines = ("Content-Length: 6", "Transfer-Encoding: chunked")
    answer = wire.send(posted(people[0], *lines, body=CHUNKS) + SMUGGLED)
    assert (answer.status, answer.headers["Connection"]) == (200, "close")
    assert answer.rest == b""


def test_a_body_that_breaks_off(wire: Wire, site: Production, people: list[Person]) -> None:
    """What has arrived reads well; it is not what was to be sent."""
    with unchanged(site, people):
        for method, path in BODIES:
            for begun in (b"{}", b'{"text": "help"}', b'{"everywhere": true}', b""):
                headers = people[0].headers | PAGE | {"Content-Length": "40"}
                answer = wire.ask(method, path, begun, headers, shut=True)
                assert answer.is_problem(400), (path, begun, answer)
    tried("a body shorter than its length, or broken off", wire.sent)


@pytest.mark.parametrize("path", ["/api/v1/canvas/", "/api/v1/auth/validate/", "/api/schema/"])
def test_another_host(path: str, wire: Wire, person: Person) -> None:
    """A problem document for who asks the API, and no link to that host."""
    for host in ("evil.example", "a b", "localhost@evil.example", "localhost:x", "", None):
        answer = wire.ask("GET", path, None, person.headers | {"Host": host})
        assert answer.is_problem(400, "bad-request"), host
        assert "evil" not in str(answer.headers)
    headers = {**HOST, **person.headers}
    double = head("GET", path, headers).replace(b"\r\n\r\n", b"\r\nHost: evil.example\r\n\r\n")
    assert wire.send(double).is_problem(400)
    HOSTS.append(wire.sent)
    tried("another Host, or none", sum(HOSTS))


HOSTS: Final[list[int]] = []


def test_plain_http(wire: Wire, site: Production, people: list[Person]) -> None:
    """Sent on to TLS: a body with its method (308), and nothing has been done."""
    plain = {"X-Forwarded-Proto": "http"}
    with unchanged(site, people):
        for (method, path), body in BODIES.items():
            answer = wire.ask(method, path, body, people[0].headers | plain)
            assert (answer.status, answer.headers["Location"]) == (308, f"https://localhost{path}")
        assert wire.ask("GET", CANVAS, None, people[0].headers | plain).status == 301
    tried("plain HTTP", wire.sent)


def test_too_much_of_everything(wire: Wire, person: Person) -> None:
    """Refused for its size; none is a 500."""
    many = "&".join(f"a{number}=1" for number in range(6_000))
    for path in (CANVAS, "/api/v1/auth/validate/", "/api/v1/auth/sessions/", "/api/schema/"):
        answer = wire.ask("GET", f"{path}?{many}", None, person.headers)
        assert answer.is_problem(400), answer
    for headers, status in (
        ({"X-A": "a" * 1_000_000}, 431),
        ({f"X-{number}": "a" for number in range(1_000)}, 431),
        ({"Authorization": "Bearer " + "a" * 100_000}, 401),
        ({"Cookie": "a=" + "b" * 100_000}, 200),
        ({"If-None-Match": '"a", ' * 10_000 + '"b"'}, 200),
    ):
        answer = wire.ask("GET", CANVAS, None, person.headers | headers)
        assert answer.status == status, (next(iter(headers)), answer)
    assert wire.ask("GET", f"{CANVAS}?{'a' * 100_000}", None, person.headers).status == 414
    tried("6,000 parameters, endless headers or URLs", wire.sent)


def test_methods_that_are_not_there(wire: Wire, site: Production, people: list[Person]) -> None:
    """405 with `Allow`; a header that names another method changes nothing."""
    override = {"X-HTTP-Method-Override": "DELETE", "X-Method-Override": "DELETE"}
    with unchanged(site, people):
        for path in (CANVAS, "/api/v1/klepsydra/psyche/", "/api/v1/auth/sessions/"):
            for method in ("TRACE", "CONNECT", "PROPFIND", "DELETE", "POST", "FOO"):
                answer = wire.ask(method, path, None, people[0].headers)
                assert answer.is_problem(405, "method-not-allowed"), (method, path)
                assert "GET" in answer.headers["Allow"]
        answer = wire.ask("POST", "/api/v1/beep/history/", {}, people[0].headers | override)
        assert answer.is_problem(405)
    tried("methods that are not there", wire.sent)


ELSEWHERE: Final = [
    "/api/v1/auth/sessions/../../klepsydra/psyche/",
    "/api/v1/auth/sessions/%2e%2e/",
    "/api/v1/canvas/notes/../",
    "/api/v1/canvas/notes/%2e%2e/",
    "/api/v1/canvas/notes/..%2f..%2fetc%2fpasswd/",
    "/api/v1/canvas/notes/%00/",
    "/api/v1/canvas/notes/%ff%fe/",
    "/api/v1/canvas/notes/%D9%A1/",
    "/api/v1/canvas/notes/__proto__/",
    "/api/v1/canvas/notes/a%0d%0aX-Evil:%201/",
    "/api/v1/canvas/notes/" + "a" * 8_000 + "/",
    "/api/v1/canvas%00",
    "/api/v1/canvas/%0a",
    "/api/v1//canvas/",
    "/api/v1/canvas/..;/",
    "/static/../../../etc/passwd",
    "/static/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "//evil.example/api/v1/canvas",
    "/\\evil.example",
]


def test_paths_that_lead_elsewhere(wire: Wire, site: Production, people: list[Person]) -> None:
    """404, and nothing of them in a header of the answer."""
    with unchanged(site, people):
        for path in ELSEWHERE:
            for method, body in (("GET", None), ("PUT", {"text": "x"})):
                answer = wire.ask(method, path, body, people[0].headers)
                assert answer.status in ({404} if method == "GET" else {404, 405}), (path, answer)
                assert "evil" not in str(answer.headers).lower()
                assert b"root:" not in answer.body
    tried("paths and ids that lead elsewhere", wire.sent)


def test_headers_that_would_put_others_into_the_answer(
    wire: Wire, site: Production, people: list[Person]
) -> None:
    """An id that is none is replaced, a key that is none refused."""
    person = people[0]
    for given in ("a b", "a\xe9", "a" * 129, "", "<script>", "a\tb", f"Bearer {person.access}"):
        answer = wire.ask("GET", CANVAS, None, person.headers | {"X-Request-ID": given})
        assert answer.status == 200
        assert answer.headers["X-Request-ID"] != given
        assert len(answer.headers["X-Request-ID"]) == 36
    with unchanged(site, people):
        for key in ("", "a b", "\xe9", "a" * 201, "a\tb", "\x7f"):
            answer = wire.ask("POST", COMMANDS, TEXT, person.headers | {"Idempotency-Key": key})
            assert answer.status == 400, (key, answer)
        for name in ("Idempotency-Key", "X-Request-ID"):
            for value in ("a\rX-Evil: 1", "a\x00b", "a\x0bb"):
                answer = wire.ask("POST", COMMANDS, TEXT, person.headers | {name: value})
                assert answer.status == 400, (name, value, answer)
                assert answer.headers["X-Evil"] is None
    answer = wire.ask("GET", CANVAS, None, person.headers | {"X-Request-ID": "a\nX-Evil: 1"})
    assert answer.headers["X-Evil"] is None
    tried("headers that would put others into the answer", wire.sent)


@contextmanager
def slow_bodies(port: int, count: int, tls: Any) -> Iterator[None]:
    """So many requests whose body comes, if ever, a byte at a time."""
    with ExitStack() as stack:
        for _ in range(count):
            link = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            link = stack.enter_context(tls(link))
            headers = HOST | JSON | {"Content-Length": "1000"}
            link.sendall(head("POST", "/api/v1/auth/token/", headers) + b"{")
        yield


def test_bodies_that_trickle(site: Production, person: Person, tmp_path: Path) -> None:
    """The gateway keeps them to itself until they are whole: others are served as before."""
    import ssl  # noqa: PLC0415

    trusting = ssl._create_unverified_context()
    with gateway("nginx", tmp_path, f"127.0.0.1:{site.port}", "127.0.0.1:1") as running:
        port = int(running.url.rpartition(":")[2])
        with slow_bodies(port, SLOW, trusting.wrap_socket), running.client() as client:
            start = time.monotonic()
            for _ in range(20):
                answer = client.get("/api/v1/canvas/", headers={**person.headers, **FORWARDED})
                assert answer.status_code == 200, answer
            assert time.monotonic() - start < 20
    tried("bodies that trickle, 100 at once, behind the gateway", SLOW)
