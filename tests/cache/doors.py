"""Small TCP doors in front of a server: they speak TLS, slam, cut, dawdle or swallow."""

import contextlib
import random
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


class Door:
    """Forwards connections to the port `to` of this machine; a new `to` is for new connections.

    `slam`: closes every connection at once. `cut`: ends the connection instead of forwarding the
    next reply, once. `delay_seconds`: keeps each reply back for a time between the two.
    `swallow`: takes what is sent and forwards nothing, as a link that is half open.
    """

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.slam = self.cut = self.swallow = False
        self.delay_seconds = (0.0, 0.0)
        self.accepted = 0
        self.to, self._tls = port, tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._listen)]
        self._threads[0].start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                inside, _ = self._listener.accept()
                self._open.append(inside)
                self._run(self._serve, inside)

    def _run(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _serve(self, inside: socket.socket) -> None:
        self.accepted += 1
        with contextlib.suppress(OSError):
            if self.slam:
                inside.close()
                return
            if self._tls:
                inside = self._tls.wrap_socket(inside, server_side=True)
                self._open.append(inside)
            try:
                outside = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                inside.close()
                return
            self._open.append(outside)
            self._run(self._pump, inside, outside, False)
            self._pump(outside, inside, True)

    def _pump(self, source: socket.socket, target: socket.socket, replies: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if replies and self.cut:
                    self.cut = False
                    break
                if replies:
                    time.sleep(random.uniform(*self.delay_seconds))
                if not self.swallow:
                    target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End everything."""
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(5)


@contextlib.contextmanager
def door(port: int, tls: ssl.SSLContext | None = None) -> Iterator[Door]:
    """A door for the length of a test."""
    opened = Door(port, tls)
    try:
        yield opened
    finally:
        opened.close()


class Stub:
    """A server that gives the same answer to every command of a name, in the protocol's bytes.

    What it was asked is in `asked`.
    """

    def __init__(self, answers: dict[str, bytes]) -> None:
        self.answers = {"PING": b"+PONG\r\n", **answers}
        self.asked: list[list[bytes]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._listen)]
        self._threads[0].start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                self._threads.append(threading.Thread(target=self._serve, args=(client,)))
                self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), client.makefile("rb") as lines:
            while line := lines.readline():
                lengths = int(line[1:])
                command = [self._argument(lines) for _ in range(lengths)]
                self.asked.append(command)
                name = b" ".join(command[:2]).decode("latin-1").upper()
                answer = self.answers.get(name) or self.answers.get(name.split(" ")[0])
                client.sendall(answer or b"-ERR unknown command\r\n")

    @staticmethod
    def _argument(lines: BinaryIO) -> bytes:
        length = int(lines.readline()[1:])
        return lines.read(length + 2)[:-2]

    def close(self) -> None:
        """End everything."""
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(5)


def bulk(text: str) -> bytes:
    """A text as the protocol sends it."""
    return b"$%d\r\n%s\r\n" % (len(text.encode()), text.encode())


@contextlib.contextmanager
def stub(answers: dict[str, bytes]) -> Iterator[Stub]:
    """A stub for the length of a test."""
    opened = Stub(answers)
    try:
        yield opened
    finally:
        opened.close()
