"""Small TCP doors in front of a server: one that speaks TLS, one that slams, one that cuts."""

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path


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
    """Forwards connections to `port` on this machine.

    `slam`: closes every connection at once. `cut`: ends the connection instead of forwarding the
    next reply, once.
    """

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.slam = self.cut = False
        self.accepted = 0
        self._to, self._tls = port, tls
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
            outside = socket.create_connection(("127.0.0.1", self._to))
            self._open.append(outside)
            self._run(self._pump, inside, outside, False)
            self._pump(outside, inside, True)

    def _pump(self, source: socket.socket, target: socket.socket, replies: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if replies and self.cut:
                    self.cut = False
                    break
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
