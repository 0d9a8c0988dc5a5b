"""What there is in PostgreSQL and in the cache, to be compared with what there was."""

import hashlib
import itertools
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

from aevon.cache.connection import store
from aevon.cache.keyspace import REGISTRY
from aevon.embedded import CacheServer
from tests.faults.bench.production import Production
from tests.faults.bench.visitors import Person, ask


def rows() -> dict[str, str]:
    """A digest of each table that holds anything of users."""
    names = connection.introspection.table_names()
    with connection.cursor() as cursor:
        found = {}
        for name in names:
            cursor.execute(f"SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {name} t")
            found[name] = cursor.fetchone()[0]
    return found


def entries(people: list[Person]) -> dict[str, Any]:
    """What the cache holds of these people, type and lifetime left aside."""
    keys = [space.key(person.user_id) for person in people for space in REGISTRY.values()]
    return {key: hashlib.sha256(dumped).hexdigest() for key in keys if (dumped := _dump(key))}


def _dump(key: str) -> bytes | None:
    dumped: bytes | None = store().command("DUMP", key)
    return dumped


@contextmanager
def unchanged(site: Production, people: list[Person]) -> Iterator[None]:
    """Nothing of these people, nor any row, is another one afterwards."""
    for person in people:
        ask(site, person, "validate", "psyche", "canvas", "history")
    before = rows(), entries(people)
    yield
    after = rows(), entries(people)
    assert after == before, [
        name
        for was, now in zip(before, after, strict=True)
        for name in was.keys() | now.keys()
        if was.get(name) != now.get(name)
    ]


class Monitor:
    """What MONITOR tells: every command that reaches the cache server, scripts' own too."""

    def __init__(self, server: CacheServer) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port))
        self._socket.sendall(f"AUTH {server.password}\r\nMONITOR\r\n".encode())
        self._socket.settimeout(20)
        self._text = ""
        while self._text.count("+OK") < 2:
            self._text += self._socket.recv(64).decode()
        self._marks = itertools.count(1)

    def since(self) -> str:
        """What was said since the last time."""
        mark = f"monitor-{next(self._marks)}-mark"
        store().command("ECHO", mark)
        while mark not in self._text:
            self._text += self._socket.recv(1 << 20).decode(errors="replace")
        said, _, self._text = self._text.partition(mark)
        return said

    def close(self) -> None:
        """No more."""
        self._socket.close()


def touching(said: str, person: Person) -> list[str]:
    """Those of the commands that name a key of this person."""
    key = re.compile(rf":{person.user_id}(?!\d)")
    return [line for line in said.splitlines() if key.search(line)]
