"""The bare calls: what a round trip costs with nothing of ours around it."""

import os
import socket
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
import redis


def client() -> "redis.Redis":
    """Plain redis-py, with hiredis."""
    return redis.Redis.from_url(os.environ["DRAGONFLY_URL"])


class BareSocket:
    """GET over a socket, and nothing that is not needed for it."""

    def __init__(self, key: str) -> None:
        url = urlsplit(os.environ["DRAGONFLY_URL"])
        self._socket = socket.create_connection((url.hostname, url.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        names = [unquote(each) for each in (url.username, url.password) if each]
        if names:
            self._socket.sendall(_packed("AUTH", *names))
            assert self._socket.recv(64) == b"+OK\r\n"
        self._command = _packed("GET", key)

    def get(self) -> bytes:
        """The value, which is there."""
        self._socket.sendall(self._command)
        reply = self._socket.recv(65536)
        head, _, value = reply.partition(b"\r\n")
        size = int(head[1:])
        while len(value) < size + 2:
            value += self._socket.recv(65536)
        return value[:size]


def _packed(*parts: str) -> bytes:
    texts = [part.encode() for part in parts]
    return b"*%d\r\n" % len(texts) + b"".join(b"$%d\r\n%b\r\n" % (len(t), t) for t in texts)


def database() -> "psycopg.Connection[Any]":
    """Plain psycopg: each statement its own transaction, and prepared. To the triggers it is one of
    the application's own writers."""
    options = "-c aevon.writer=app"
    return psycopg.connect(
        os.environ["DATABASE_URL"], autocommit=True, prepare_threshold=0, options=options
    )
