"""Requests as bytes, as no client library would send them, and what comes back."""

import contextlib
import json
import socket
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser
from http import HTTPStatus
from typing import Any, Final

WAIT_SECONDS: Final = 20.0
HOST: Final = {"Host": "localhost", "X-Forwarded-Proto": "https"}
JSON: Final = {"Content-Type": "application/json"}
PROBLEM: Final = "application/problem+json"


@dataclass(frozen=True)
class Answer:
    """One response. Status 0: the connection was closed without one."""

    status: int
    headers: Message
    body: bytes
    rest: bytes = b""  # what followed it on the connection

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)

    def is_problem(self, status: int, slug: str | None = None) -> bool:
        """Whether it is a problem document of that status, and of that type if one is given."""
        assert (self.status, self.headers["Content-Type"]) == (status, PROBLEM), self
        problem = self.json
        assert {"type", "title", "status", "detail"} <= problem.keys(), self
        assert problem["status"] == status, self
        assert slug is None or problem["type"] == f"/problems/{slug}", self
        return True

    def fields(self) -> set[str]:
        """Those that a validation error names."""
        return {error["field"] for error in self.json["errors"]}


class Wire:
    """`wire.send(...)`: a connection of its own for each request."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.sent = 0

    def send(self, *parts: bytes, shut: bool = False) -> Answer:
        """These bytes, and the answer; `shut`: nothing more is to come."""
        self.sent += 1
        with socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_SECONDS) as link:
            # An answer that comes before all is sent closes the connection under it.
            with contextlib.suppress(ConnectionError):
                for part in parts:
                    link.sendall(part)
                if shut:
                    link.shutdown(socket.SHUT_WR)
            return _answer(link)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Any = None,
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> Answer:
        """A request whose length is right; `body` is bytes, or what JSON can say. A header whose
        value is None is left out."""
        raw = body if isinstance(body, bytes) else b"" if body is None else _dumped(body)
        length = {} if body is None else {**JSON, "Content-Length": str(len(raw))}
        return self.send(head(method, path, HOST | length | (headers or {})), raw, **options)


def head(method: str, path: str, headers: dict[str, str | None] | dict[str, str]) -> bytes:
    """The lines before a body."""
    lines = [f"{method} {path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


def _answer(link: socket.socket) -> Answer:
    got = _until(link, b"", lambda data: b"\r\n\r\n" in data)
    before, _, after = got.partition(b"\r\n\r\n")
    line, _, lines = before.partition(b"\r\n")
    status = int(line.split()[1]) if line.startswith(b"HTTP/1.1 ") else 0
    headers = BytesHeaderParser().parsebytes(lines + b"\r\n\r\n")
    if status == HTTPStatus.NO_CONTENT or headers["Content-Length"] is None:
        return Answer(status, headers, b"", after)
    length = int(headers["Content-Length"])
    after = _until(link, after, lambda data: len(data) >= length)
    return Answer(status, headers, after[:length], after[length:])


def _until(link: socket.socket, data: bytes, enough: Any) -> bytes:
    with contextlib.suppress(ConnectionError):
        while not enough(data) and (more := link.recv(65_536)):
            data += more
    return data
