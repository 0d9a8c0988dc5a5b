"""What there is in PostgreSQL and in the cache, to be compared with what there was."""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis
from django.db import connection

from aevon.cache.connection import store
from aevon.cache.keyspace import REGISTRY
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


@contextmanager
def commands(url: str) -> Iterator[Callable[[], list[str]]]:
    """What is sent to the cache server, as MONITOR shows it: `told()` is all until now."""
    with redis.Redis.from_url(url) as client, client.monitor() as monitor:

        def told() -> list[str]:
            client.echo("that was it")
            seen: list[str] = []
            while "that was it" not in (command := monitor.next_command()["command"]):
                seen.append(command)
            return seen

        yield told


def touching(sent: list[str], person: Person) -> list[str]:
    """Those of the commands that name a key of this person."""
    key = re.compile(rf":{person.user_id}(?!\d)")
    return [command for command in sent if key.search(command)]
