"""A writer dies between its commit and the moment when the cache is told of it (fault 15)."""

import contextlib
import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from aevon.cache.connection import store
from aevon.cache.tasks import drain_outbox
from aevon.embedded import CacheServer
from beep import services as beep
from tests.beep.lists import cached, evict, recorded, seqs, speak
from tests.faults.witness import Witness, hits
from tests.klepsydra.rows import PSYCHES
from tests.servers import ROOT, environment

pytestmark = pytest.mark.django_db(transaction=True)

KILLS: Final = 200
FENCE_SECONDS: Final = 5


@pytest.fixture
def kill(server: CacheServer) -> Iterator[Callable[[dict[int, str]], list[str]]]:
    """`kill({7: "play", 8: "save"})`: so do these users, and die; what of."""
    with contextlib.ExitStack() as stack:
        programs = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.faults.doomed"],
                    cwd=ROOT,
                    env=environment(server.url),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(2)
        ]

        def die(writes: dict[int, str]) -> list[str]:
            used = list(zip(writes.items(), itertools.cycle(programs), strict=False))
            for (user_id, what), program in used:
                print(what, user_id, file=program.stdin, flush=True)
            return [program.stdout.readline().strip() for _, program in used if program.stdout]

        yield die


def is_fenced(user_id: int) -> bool:
    """Whether the entry waits for a writer."""
    raw = store().command("GET", PSYCHES.keyspace.key(user_id))
    return raw is not None and raw.startswith(b'{"_fence"')


def milliseconds_left(user_id: int) -> int:
    """How long the entry lives; -1: for ever."""
    return int(store().command("PTTL", PSYCHES.keyspace.key(user_id)))


def test_two_hundred_writers_that_die_between_commit_and_install(
    kill: Any, make_players: Any, witness: Witness
) -> None:
    """What they committed is seen at once, because their fence is still there; five seconds later
    it has gone, and the entry is filled again."""
    players = make_players(KILLS)
    witness.read_all(players)
    died: dict[int, float] = {}
    for few in (players[start : start + 4] for start in range(0, KILLS, 4)):
        writes = dict(zip(few, ("play", "play", "save", "save"), strict=True))
        assert kill(writes) == [str(int(signal.SIGKILL))] * 4
        for user_id in few:
            died[user_id] = time.monotonic()
            assert is_fenced(user_id)
            assert 0 < milliseconds_left(user_id) <= FENCE_SECONDS * 1000
            witness.acknowledged(user_id, 2)
            witness.read(user_id)
        witness.play(few[0])  # another writer comes before the fence has gone
        witness.read(few[0])
    last = max(died.values())
    while time.monotonic() < last + FENCE_SECONDS:
        witness.read_all(players)
        time.sleep(0.1)
    assert not any(is_fenced(user_id) for user_id in players)
    for user_id in players:
        witness.read(user_id)
        assert hits(user_id)
    written = {user_id: row.version for user_id, row in PSYCHES.documents(players).items()}
    assert written == dict.fromkeys(players, 2) | dict.fromkeys(players[::4], 3)
    witness.read_all(players)
    assert witness.stale == []


def test_turns_whose_process_died(kill: Any, make_players: Any) -> None:
    """Between the commit and the list: the drain makes it whole, and does not bring back what was
    forgotten; nor does a reader who dies with a lease."""
    talker, forgetter, both = players = make_players(3)
    for player in players:
        speak(player, 2)
    drain_outbox()
    assert kill({talker: "say", forgetter: "forget"}) == [str(int(signal.SIGKILL))] * 2
    assert kill({both: "say"}) == kill({both: "forget"}) == [str(int(signal.SIGKILL))]
    assert [seqs(cached(player)) for player in players] == [[2, 1]] * 3
    drain_outbox()
    assert [seqs(beep.history(player)) for player in players] == [[1, 2, 3], [], []]
    assert cached(talker) == recorded(talker)
    evict(talker)
    assert kill({talker: "look"}) == [str(int(signal.SIGKILL))]
    assert seqs(beep.history(talker)) == [1, 2, 3]
    beep.forget(talker)
    assert beep.history(talker) == cached(talker) == []
