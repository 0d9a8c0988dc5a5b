"""Histories over HTTP: many clients on many users of all four services, while everything breaks.

HISTORY_HTTP_SECONDS is the length of the short one, 90 if unset, SOAK_SECONDS that of the long one,
600 if unset; HISTORY_SEED repeats the faults and the clients' choices of a run.
"""

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from aevon.embedded import CacheServer
from tests import servers
from tests.consistency import report

from . import crowd
from .histories import Figures, lead, lines, make_players, standing_still, wait_for
from .production import Production
from .proxy import Proxy
from .storm import Storm

SHORT_SECONDS: Final = float(os.environ.get("HISTORY_HTTP_SECONDS", "90"))
SOAK_SECONDS: Final = float(os.environ.get("SOAK_SECONDS", "600"))
SOAK_OPERATIONS: Final = 1_000_000
PATIENCE: Final = 4  # times its length that the soak goes on for its operations
KINDS_OF_FAULTS: Final = 12  # PostgreSQL cannot be killed where it is not the tests' own
USERS: Final = 24
CLIENTS: Final = 3  # of each
UNPROTECTED: Final = "tests.faults.bench.unprotected:application"
Run = Callable[..., Figures]


@pytest.fixture
def run(start: Callable[..., Production], server: CacheServer, proxy: Proxy, tmp_path: Path) -> Run:
    """`run(act)`: a history on a site of its own, while `act(storm)`; `without` a protection."""

    def history(
        act: Callable[[Storm], None],
        *,
        without: str = "",
        users: int = USERS,
        clients: int = CLIENTS,
    ) -> Figures:
        seed = int(os.environ.get("HISTORY_SEED") or random.randrange(1 << 32))
        print(f"\nHISTORY_SEED={seed}")
        people, accounts = make_players(users)
        weaker = {"application": UNPROTECTED, "BENCH_WITHOUT": without} if without else {}
        site = start(through=proxy, **weaker)
        storm = Storm(site, server, servers.POSTGRES, proxy, people, random.Random(seed))
        return lead(tmp_path, storm, accounts, act, clients=clients, seed=seed)

    return history


def assert_sound(found: Figures) -> None:
    """Nothing that is promised was broken."""
    print(*(f"{name}: {value}" for name, value in lines(found)), sep="\n")
    print(*found.violations[:20], sep="\n")
    assert not found.violations, f"{len(found.violations)} violations"


def test_history_under_faults(run: Run) -> None:
    """Nothing stale, nothing lost, nobody let in or refused wrongly, no 5xx."""
    assert_sound(run(lambda storm: storm.rage(SHORT_SECONDS, lambda: True, every=2.0)))


def test_a_protection_that_is_missing_is_noticed(run: Run, tmp_path: Path) -> None:
    """Without the stamp of the server's life an older snapshot is believed, and seen to be. Nobody
    asks while the cache is away: who is written then is repaired by that."""

    def believe(storm: Storm) -> None:
        storm.remember()
        wait_for(tmp_path, 1_000)
        with standing_still(tmp_path):
            storm.go_back()
        wait_for(tmp_path, 1_000)

    found = run(believe, without="incarnation", users=200, clients=1)
    psyches = [each for each in found.verdict.stale if each.startswith("psyche stale")]
    assert psyches
    print(f"{len(found.violations)} violations; {psyches[0]}")


@pytest.mark.soak
def test_long_history_under_faults(run: Run, tmp_path: Path) -> None:
    """As the short one, for a million operations; the figures go into docs/reliability.md."""
    at_last = time.monotonic() + PATIENCE * SOAK_SECONDS

    def is_enough() -> bool:
        return crowd.answered(tmp_path) >= SOAK_OPERATIONS or time.monotonic() > at_last

    found = run(lambda storm: storm.rage(SOAK_SECONDS, is_enough, every=8.0))
    assert_sound(found)
    assert found.operations.total() >= SOAK_OPERATIONS
    assert len(+found.notes.faults) >= KINDS_OF_FAULTS, found.notes.faults
    report.write("http-history", report.table("figure", "count", lines(found)))
