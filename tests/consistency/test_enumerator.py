"""Every interleaving of the entry protocol on the real servers, and what it takes to break it."""

import random
from collections.abc import Iterator
from typing import Final

import pytest

from aevon.cache import resources
from auth_sessions.models import User
from tests.consistency import report
from tests.consistency.enumerator import Enumerator, Result, beginning
from tests.consistency.stage import staged
from tests.consistency.switches import SWITCHES, without
from tests.consistency.worlds import Faults, World

pytestmark = pytest.mark.django_db(transaction=True)

# Without a drain, so that the outbox repairs nothing that leases and fences should have prevented.
# A fence that is evicted while its writer dies is the outbox's to repair: here it stays.
ALONE: Final = Faults(evictions=1, flushes=1, crashes=1, lease_expiries=1, sticky=True)
EVICTED: Final = Faults(evictions=1, crashes=1, drain=True)
FLUSHED: Final = Faults(flushes=1, crashes=1, drain=True)
RESTARTED: Final = Faults(restarts=1)
RESTARTED_AND_DEAD: Final = Faults(restarts=1, crashes=1, drain=True)
DRAINED: Final = ALONE._replace(sticky=False, drain=True)
TOGETHER: Final[dict[str, tuple[Faults, ...]]] = {
    **dict.fromkeys(["WWR", "GGR", "GWR", "WDR", "SGR"], (ALONE, DRAINED, RESTARTED_AND_DEAD)),
    **dict.fromkeys(["SSR", "DIR", "GDR"], (ALONE, DRAINED)),
    **dict.fromkeys(["PWR", "PGR", "PSR"], (DRAINED,)),
    **dict.fromkeys(["WWRR", "GWRR", "GWWR", "GGWR"], (ALONE,)),
}


@pytest.fixture
def enumerator(user: User) -> Iterator[Enumerator]:
    """With one user's key and row."""
    resources.repair_waiting()  # what making the user has noted
    with staged(user.pk) as stage:
        yield Enumerator(stage)


def shown(mix: str, result: Result) -> str:
    """In one line, with the schedule of a violation below it."""
    line = f"{mix}: {result.worlds:,} worlds, {result.schedules:,} schedules"
    return "\n  ".join([f"{line}, {result.violation or '0 violations'}", *result.schedule])


def assert_holds(enumerator: Enumerator, mix: str, *scopes: Faults, exists: bool = True) -> None:
    """No reader is served less than was acknowledged, and what is quiet is consistent."""
    for faults in scopes:
        result = enumerator.explore(mix, faults, exists=exists)
        print(shown(mix, result))
        assert result.violation is None, shown(mix, result)
    print(f"{mix}: {enumerator.steps_taken:,} different steps on the servers")


@pytest.mark.parametrize("mix", ["WWR", "GGR", "GWR", "WDR", "SGR"])
def test_two_writers_and_a_reader(enumerator: Enumerator, mix: str) -> None:
    """With an eviction, a flush and a writer's death at any moment."""
    assert_holds(enumerator, mix, ALONE, EVICTED, FLUSHED)


@pytest.mark.parametrize("mix", ["WR", "GR", "SR", "DR"])
def test_a_restart_from_an_older_snapshot(enumerator: Enumerator, mix: str) -> None:
    """At any moment, with what the key held at any earlier one."""
    assert_holds(enumerator, mix, RESTARTED, RESTARTED_AND_DEAD)


def test_a_row_that_goes_and_comes_back(enumerator: Enumerator) -> None:
    """Its absence has a version too."""
    assert_holds(enumerator, "DIR", ALONE, EVICTED)
    assert_holds(enumerator, "IGR", ALONE, EVICTED, exists=False)


def test_sql_from_outside(enumerator: Enumerator) -> None:
    """The drain makes the entry follow, whatever else is under way."""
    assert_holds(enumerator, "PWR", EVICTED)
    assert_holds(enumerator, "PGR", EVICTED)


@pytest.mark.soak
def test_every_fault_together(enumerator: Enumerator) -> None:
    """One of each in every order; and more processes. The figures go into docs/reliability.md."""
    lines = []
    for mix, scopes in TOGETHER.items():
        for faults in scopes:
            result = enumerator.explore(mix, faults)
            print(shown(mix, result), flush=True)
            assert result.violation is None, shown(mix, result)
            lines.append(report.schedule_line(mix, faults, result))
    report.write("schedules", [*report.SCHEDULES_HEAD, *lines])


# The smallest mix in which each protection is missed. The promise that is broken holds without a
# drain (ALONE, RESTARTED), so that the outbox cannot have been meant to keep it; except for the
# outbox itself, and for the rules that keep an older life's state from looking like today's.
MISSED: Final[dict[str, tuple[str, Faults]]] = {
    # A slow reader fills an evicted key, or one that was written in between.
    "lease": ("WR", ALONE),
    # A writer dies after its commit: nothing keeps readers off the older state any more.
    "fence": ("WR", ALONE),
    # The earlier of two writers installs last.
    "compare": ("WW", ALONE),
    # A fence is evicted, a reader leases, and the writer dies: only the outbox knows.
    "outbox": ("WR", EVICTED),
    # The state of the older snapshot is served.
    "incarnation": ("WR", RESTARTED),
    # The later of two writers leaves first; the earlier one installs what it read before.
    "floor": ("GS", ALONE),
    # A second writer takes the first one's mark away, which then dies.
    "joint marks": ("GS", ALONE),
    # A fence is evicted and a reader leases, before the commit.
    "killing leases": ("WR", Faults(evictions=1)),
    # A dead writer has committed; a later one, who had read before, is the last to leave.
    "taint": ("SS", ALONE),
    # A reader leased before the restart fills after it.
    "carried stamp": ("WR", Faults(restarts=1, drain=True)),
    # A write that is noted between the drain's look and its clearing.
    "recheck": ("WWR", EVICTED),
}


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_protection_that_is_missing_is_noticed(enumerator: Enumerator, switch: str) -> None:
    """At least one violation, and its shortest schedule."""
    mix, faults = MISSED[switch]
    with without(switch):
        result = enumerator.explore(mix, faults)
    print(f"without {switch}, {shown(mix, result)}")
    assert result.violation


def test_the_number_of_schedules(enumerator: Enumerator) -> None:
    """Is that of walking them one by one."""

    def walked(world: World) -> int:
        return sum(walked(move.world) for move in enumerator.moves(world)) or 1

    faults = Faults(evictions=1)
    assert enumerator.explore("GR", faults).schedules == walked(beginning("GR", faults))


def test_a_schedule_that_is_played_through(enumerator: Enumerator) -> None:
    """It leads to the very worlds that single steps from worlds which were set by hand lead to."""
    chance = random.Random(5)
    for mix in ("GWR", "SDR", "GGR"):
        faults = ALONE._replace(restarts=1, drain=True)
        for _ in range(40):
            play(enumerator, mix, faults, chance)


def play(enumerator: Enumerator, mix: str, faults: Faults, chance: random.Random) -> None:
    """Choose a schedule by lot, then take its steps one after another, the servers left alone."""
    world, chosen = beginning(mix, faults), []
    while moves := list(enumerator.moves(world)):
        move = chance.choice(moves)
        chosen.append(move)
        world = move.world
    first = beginning(mix, faults)
    enumerator.stage.set(first.key, first.ledger, life=first.life)
    for number, move in enumerate(chosen):
        if move.step is None:  # a fault
            enumerator.stage.set_key(move.world.key)
            enumerator.stage.life = move.world.life
            continue
        effect = enumerator.take(*move.step)
        told = [each.label for each in chosen[: number + 1]]
        assert (effect.key, effect.ledger) == (move.world.key, move.world.ledger), told
        assert move.label.endswith(effect.did.label), told
