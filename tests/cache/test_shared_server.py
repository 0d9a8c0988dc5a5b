"""`cache_flush` on a server that others use too."""

import io
import json
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import pytest
import redis
from django.conf import settings
from django.core.management import call_command

from aevon.cache import resources, write_behind
from aevon.cache.connection import store
from aevon.cache.maintenance import warm_up
from tests.cache import ledgers
from tests.cache.ledgers import ALL, SHEETS, add_lines, add_notes, query

FOREIGN: Final = 100_000
PART: Final = 5_000
SHAPES: Final = (
    "psyche:abc{n}", "psyche:0{n}", "psyche:{n}:2", "session:1:{n}", "psyches:{n}",
    "psyche:{n}\n", "\npsyche:{n}", "psyche:{n} ", " psyche:{n}", "psyche:*{n}", "psyche:[{n}]",
    "psyche:?{n}", "psyche:{{{n}}}", "psyche:+{n}", "psyche:-{n}", "psyche:{n}.0", "psyche:{n}\0",
    "PSYCHE:{n}", "psyche:\u0661{n}", "psyche:\udcff{n}", "psyche:9999999999999999999{n}",
    "psyche::{n}", "other:psyche:{n}", "canvas:dirty:theirs-{n}", "canvas:since:{n}0",
    "canvas:{n}:draft", "canvas-{n}", "convo_history:{n}\\", "convo_history:all:{n}",
    "django:1:{n}", "celery:broker:{n}", "auth:login-name:{n}", "_kombu.binding.{n}", "{n}", "*{n}",
)  # fmt: skip

ENDS: Final = """
local left, now = redis.call('PTTL', KEYS[1]), redis.call('TIME')
return left < 0 and left or now[1] * 1000 + math.floor(now[2] / 1000) + left
"""


def shaped(number: int) -> bytes:
    """A key of somebody else's."""
    text = SHAPES[number % len(SHAPES)].format(n=number)
    return text.encode("utf-8", "surrogateescape")


def made(key: bytes, number: int) -> list[tuple[Any, ...]]:
    """The commands that make it, of a type and with a lifetime that its number says."""
    kinds: tuple[tuple[Any, ...], ...] = (
        ("SET", key, b"\x00\xff" + key),
        ("HSET", key, "userId", number),
        ("RPUSH", key, '{"_lease":"x"}', number),
        ("SADD", key, number),
        ("ZADD", key, number, "1"),
        ("XADD", key, "1-1", "a", number),
    )
    expiring = [("PEXPIRE", key, 10**9 + number)] if number % 3 else []
    return [kinds[number % len(kinds)], *expiring]


def sent(client: "redis.Redis", commands: Iterator[tuple[Any, ...]]) -> list[Any]:
    """Their replies."""
    replies: list[Any] = []
    while part := list(islice(commands, PART)):
        with client.pipeline(transaction=False) as pipe:
            for command in part:
                pipe.execute_command(*command)
            replies += pipe.execute()
    return replies


def contents(client: "redis.Redis", keys: list[bytes]) -> list[Any]:
    """Every byte of theirs."""
    return sent(client, (("DUMP", key) for key in keys))


def ends(client: "redis.Redis", keys: list[bytes]) -> list[int]:
    """When each ends, in Unix ms; negative for never. (PEXPIRETIME is of Redis 7.)"""
    return sent(client, (("EVAL", ENDS, 1, key) for key in keys))


@pytest.fixture
def others() -> Iterator[list[tuple["redis.Redis", list[bytes]]]]:
    """100,000 keys of others in our database, and those of users in another one."""
    here = redis.Redis.from_url(settings.AEVON_CACHE["URL"])
    there = redis.Redis.from_url(settings.AEVON_CACHE["URL"])
    there.connection_pool.connection_kwargs["db"] = 7
    keys = [shaped(number) for number in range(FOREIGN)]
    named = [b"psyche:%d" % number for number in range(1, 100)]
    sent(here, (each for n, key in enumerate(keys) for each in made(key, n)))
    sent(there, (each for n, key in enumerate(named) for each in made(key, n)))
    assert (here.dbsize(), there.dbsize()) == (FOREIGN, len(named))
    yield [(here, keys), (there, named)]
    there.flushdb()


@pytest.mark.django_db(transaction=True)
def test_a_flush_leaves_a_hundred_thousand_keys_of_others_as_they_are(
    tables: None, others: list[tuple[Any, list[bytes]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte for byte, with their lifetimes; ours are gone, after what was unsaved was persisted."""
    registry = {resource.keyspace.name: resource for resource in ALL}
    monkeypatch.setattr(resources, "_registry", registry)
    before = [contents(*each) for each in others]
    ending = [ends(*each) for each in others]
    add_notes(*range(1, 51))
    add_lines(7, 3)
    query("INSERT INTO test_sheet VALUES (1, 'saved', 3)")
    warm_up(ALL)
    write_behind.update(
        SHEETS, 2, lambda s: ledgers.Sheet(user_id=2, text="unsaved", revision=s.revision)
    )
    commands = store().info()["total_commands_processed"]
    out = io.StringIO()
    call_command("cache_flush", "--json", stdout=out)
    commands = store().info()["total_commands_processed"] - commands
    report = json.loads(out.getvalue())
    assert (report["removed"], report["kept"]) == (50 + 1 + 2, 0)
    assert query("SELECT text FROM test_sheet WHERE user_id = 2") == [("unsaved",)]
    assert [contents(*each) for each in others] == before
    for ends_before, each in zip(ending, others, strict=True):
        pairs = zip(ends_before, ends(*each), strict=True)
        assert all(abs(then - now) < 1_000 for then, now in pairs)
    assert store().command("DBSIZE") == FOREIGN
    # SCAN by 500 for each service, and a few calls for what is ours.
    assert commands < 3 * FOREIGN / 500 + 400
