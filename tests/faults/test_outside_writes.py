"""What psql writes is seen through the HTTP API within a second (guarantee G9)."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from rest_framework.test import APIClient

from aevon.cache.models import Outbox
from aevon.embedded import CacheServer
from beep import services as beep
from canvas import services as canvas
from canvas.models import Canvas
from klepsydra.models import PsycheState
from tests.beep.lists import cached, recorded, seqs, speak
from tests.cache.ledgers import query
from tests.canvas.helpers import window
from tests.faults.witness import hits
from tests.servers import ROOT, database_url, environment
from tests.waiting import eventually

CANVAS = "/api/v1/canvas/"
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def psql(server: CacheServer) -> Iterator[Callable[..., object]]:
    """`psql(statement, *parameters)`: from a connection that knows nothing of the application."""
    with psycopg.connect(database_url(), autocommit=True) as stranger:
        yield lambda statement, *parameters: stranger.execute(statement, parameters)


def is_listening() -> bool:
    """Whether somebody waits for notifications."""
    backends = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'aevon listener'"
    return bool(query(f"{backends} AND query LIKE 'LISTEN %%' AND datname = current_database()"))


@pytest.fixture
def listener(server: CacheServer) -> Iterator[None]:
    """`manage.py cache_listen` runs, and listens by now."""
    with subprocess.Popen(
        [sys.executable, "manage.py", "cache_listen"],
        cwd=ROOT,
        env=environment(server.url),
        stdout=subprocess.DEVNULL,
    ) as program:
        assert eventually(is_listening)
        yield
        program.terminate()
        program.wait(10)


def amplitude(client: APIClient) -> float:
    """What the API says."""
    return float(client.get("/api/v1/klepsydra/psyche/").json()["amplitude"])


UPDATE = "UPDATE klepsydra_psychestate SET amplitude = %s WHERE user_id = %s"
DELETE = "DELETE FROM klepsydra_psychestate WHERE user_id = %s"


def test_write_while_a_listener_runs(
    listener: None, psql: Any, make_players: Any, browser: Any
) -> None:
    """An update and a deletion are seen within a second."""
    (player,) = make_players(1)
    client = browser(player)
    for number in range(1, 21):
        amplitude(client)
        assert hits(player)
        psql(UPDATE, number / 100, player)
        assert eventually(lambda number=number: amplitude(client) == number / 100, 1)
    psql(DELETE, player)
    assert eventually(lambda: PsycheState.cached.get(player) is None, 1)


MOVE = """
UPDATE canvas_canvas SET layout = jsonb_set(layout, '{microApps,a,position,x}', to_jsonb(%s::int))
WHERE user_id = %s
"""


def test_canvas_written_while_a_listener_runs(
    listener: None, psql: Any, make_players: Any, browser: Any
) -> None:
    """One that holds nothing unsaved follows its row within a second; one that does goes on above
    it, because what is unsaved exists nowhere else."""
    (player,) = make_players(1)
    client = browser(player)

    def x() -> int:
        return int(client.get(CANVAS).json()["layout"]["microApps"]["a"]["position"]["x"])

    client.patch(CANVAS, {"microApps": {"a": window()}})
    canvas.persist_now()
    for number in range(1, 11):
        x()
        psql(MOVE, number, player)
        assert eventually(lambda number=number: x() == number, 1)
    client.patch(CANVAS, {"microApps": {"a": {"position": {"x": 500}}}})
    psql(MOVE, 77, player)
    assert eventually(lambda: not Outbox.objects.exists(), 1)
    assert x() == 500
    canvas.persist_now()
    assert Canvas.objects.get(user_id=player).layout["microApps"]["a"]["position"]["x"] == 500


SAY = """
INSERT INTO beep_turn (user_id, seq, command, response, resolved, at, request_digest)
VALUES (%s, %s, 'said', 'by psql', '{}', now(), '')
"""
UNSAY = "DELETE FROM beep_turn WHERE user_id = %s AND seq = %s"
FORGET = "UPDATE beep_conversation SET forgotten_through = %s WHERE user_id = %s"


def test_turns_written_while_a_listener_runs(listener: None, psql: Any, make_players: Any) -> None:
    """A turn that is removed, added or forgotten leaves the list, or comes into it, in time."""
    (player,) = make_players(1)
    speak(player, 6)

    def told(*numbers: int) -> bool:
        return eventually(lambda: seqs(beep.history(player)) == list(numbers), 5)

    assert told(2, 3, 4, 5, 6)
    psql(UNSAY, player, 3)
    assert told(1, 2, 4, 5, 6)
    psql(SAY, player, 3)
    assert told(2, 3, 4, 5, 6)
    psql(FORGET, 4, player)
    assert told(5, 6)
    assert cached(player) == recorded(player)
    psql(UNSAY, player, 6)
    assert told(5)
    psql("DELETE FROM beep_turn")
    psql("DELETE FROM beep_conversation")
    assert told()
