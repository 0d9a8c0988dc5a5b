"""What the cache server and PostgreSQL are asked, as they see it."""

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from aevon.cache.connection import store
from aevon.embedded import CacheServer
from klepsydra import services
from tests.faults.witness import direct
from tests.klepsydra.rows import SLUG, play

pytestmark = pytest.mark.django_db(transaction=True)

Listen = Callable[[], AbstractContextManager[list[str]]]
END = "the end"


@pytest.fixture
def monitored(server: CacheServer) -> Listen:
    """`with monitored() as commands:` those that the server is sent, without what scripts do."""

    @contextmanager
    def listen() -> Iterator[list[str]]:
        store().command("PING")  # connect first
        commands: list[str] = []
        with closing(socket.create_connection(("127.0.0.1", server.port), timeout=5)) as wire:
            wire.sendall(f"AUTH {server.password}\r\nMONITOR\r\n".encode())
            lines = wire.makefile("rb")
            assert [lines.readline(), lines.readline()] == [b"+OK\r\n"] * 2
            yield commands
            with direct(server) as raw:
                raw.echo(END)
            for line in lines:
                where, said = line.decode("utf-8", "replace").split("] ", 1)
                if END in said:
                    break
                name = said.split('"')[1]
                # ROLE travels once a second in the packet of another command.
                if not where.endswith(" lua") and name not in ("AUTH", "CLIENT", "ROLE"):
                    commands.append(name)

    return listen


@pytest.fixture
def queries() -> Callable[[], CaptureQueriesContext]:
    """`with queries() as asked: …; len(asked)`."""
    return lambda: CaptureQueriesContext(connection)


def test_hit(monitored: Listen, queries: Any, make_players: Any) -> None:
    """One round trip and no SQL."""
    (player,) = make_players(1)
    services.psyche(player)
    with monitored() as commands, queries() as asked:
        services.psyche(player)
    assert commands == ["GET"]
    assert len(asked) == 0


def test_miss(monitored: Listen, queries: Any, make_players: Any) -> None:
    """Three round trips and one query."""
    (player,) = make_players(1)
    for _ in range(2):  # the first sends the scripts
        services.psyche(player)
        store().command("FLUSHDB")
    with monitored() as commands, queries() as asked:
        services.psyche(player)
    assert commands == ["GET", "EVALSHA", "EVALSHA"]
    assert len(asked) == 1


def test_interaction(monitored: Listen, queries: Any, make_players: Any) -> None:
    """Two round trips and one statement."""
    (player,) = make_players(1)
    play(player)
    with monitored() as commands, queries() as asked:
        play(player)
    assert commands == ["EVALSHA", "EVALSHA"]
    assert [query["sql"].split()[0] for query in asked] == ["WITH"]


def test_requests(monitored: Listen, queries: Any, make_players: Any, browser: Any) -> None:
    """The session costs one round trip more, and no SQL."""
    (player,) = make_players(1)
    client = browser(player)

    def look() -> None:
        assert client.get("/api/v1/klepsydra/psyche/").status_code == 200

    def interact() -> None:
        body = {"instrument": SLUG, "stake": 1}
        assert client.post("/api/v1/klepsydra/interactions/", body).status_code == 200

    interact()
    with monitored() as commands, queries() as asked:
        look()
    assert (commands, len(asked)) == (["GET", "GET"], 0)
    with monitored() as commands, queries() as asked:
        interact()
    assert (commands, len(asked)) == (["GET", "EVALSHA", "EVALSHA"], 1)
