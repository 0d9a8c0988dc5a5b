"""Many processes, many faults: what they read and wrote is checked, and that the check is worth it.

HISTORY_SECONDS is the length of the everyday run, 20 if unset; CI takes a minute.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from auth_sessions import services as auth_sessions
from auth_sessions.models import User
from klepsydra import services as klepsydra
from tests.consistency import report
from tests.consistency.plan import EVERY_WAY, Plan
from tests.consistency.site import ALL_FAULTS, Faults, Figures, Site

pytestmark = pytest.mark.django_db(transaction=True)

EVERYDAY_SECONDS: Final = float(os.environ.get("HISTORY_SECONDS", "20"))
EVERYDAY_READS: Final = 100_000
SOAK_SECONDS: Final = float(os.environ.get("SOAK_SECONDS", "600"))
SOAK_READS: Final = 1_000_000


@pytest.fixture
def plan(make_user: Callable[..., User], tmp_path: Path) -> Plan:
    """Thirty-two users with a PsycheState, four of them with a session."""
    users = [make_user() for _ in range(32)]
    klepsydra.begin([user.pk for user in users])
    for user in users[:4]:
        auth_sessions.open_session(user)
    return Plan(
        folder=str(tmp_path),
        seconds=EVERYDAY_SECONDS,
        users=tuple(user.pk for user in users),
        sessions=tuple(user.pk for user in users[:4]),
        ways=EVERY_WAY,
        dying=0.02,
    )


def assert_sound(figures: Figures, *, reads: int) -> None:
    """Nothing that is promised was broken, and enough was looked at."""
    print(*report.history_lines(figures), sep="\n")
    assert figures.violations == 0, (*figures.verdict.examples, *figures.inconsistent)
    assert figures.verdict.reads >= reads
    assert len(+figures.faults) == 6, figures.faults
    assert not figures.operations["failed"] > figures.verdict.writes / 10


def test_history_under_faults(plan: Plan) -> None:
    """No read is older than what was acknowledged before it began, no write is lost."""
    reads = int(EVERYDAY_READS * min(EVERYDAY_SECONDS / 60, 1))
    figures = Site(replace(plan, reads=reads), ALL_FAULTS, fault_every=3).run()
    assert_sound(figures, reads=reads)


@pytest.mark.soak
def test_long_history_under_faults(plan: Plan) -> None:
    """Likewise; the figures go into docs/reliability.md."""
    soak = replace(plan, seconds=SOAK_SECONDS, reads=SOAK_READS)
    figures = Site(soak, ALL_FAULTS, fault_every=8).run()
    assert_sound(figures, reads=SOAK_READS)
    report.write("history", report.history_lines(figures))


IN_THE_APPLICATION: Final = {
    way: weight for way, weight in EVERY_WAY.items() if way not in ("outside", "roll back")
}
CALM: Final = {"sessions": (), "dying": 0.0, "kill_every": 0.0, "evict_every": 0.0}
# What provokes the violation: changes of the plan, and of the site.
PROVOCATIONS: Final[dict[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    # Slow fills of keys that are evicted or written meanwhile.
    "lease": (
        {
            "users": 3,
            "seconds": 3.0,
            "readers": 10,
            "slow_fills": 0.03,
            "evict_every": 0.002,
            "ways": IN_THE_APPLICATION,
        },
        {"listener": False, "rest_seconds": 0.0},
    ),
    # Writers that die between commit and install, and nobody who drains the outbox: the older
    # state stays.
    "fence": (
        {"users": 16, "dying": 0.5, "ways": IN_THE_APPLICATION},
        {"listener": False, "rest_seconds": 0.0},
    ),
    # Slow installs, in another order than their commits.
    "compare": (
        {
            "users": 2,
            "seconds": 3.0,
            "slow_installs": 0.1,
            "writers": 6,
            "ways": IN_THE_APPLICATION,
        },
        {"listener": False, "rest_seconds": 0.0},
    ),
    # What is written from outside is never followed.
    "outbox": (
        {"users": 16, "seconds": 2.0, "ways": {"outside": 1}, "writers": 1, "readers": 2},
        {},
    ),
    # What was drained from the outbox before the restart comes back with the older snapshot, unless
    # it is written, and so noted again, while the cache is away: few are.
    "incarnation": (
        {
            "users": 32,
            "seconds": 9.0,
            "ways": IN_THE_APPLICATION,
            "writers": 1,
            "slow_installs": 0.2,
        },
        {"faults": (Faults.remember, Faults.go_back), "fault_every": 1.8},
    ),
}


def provoked(plan: Plan, protection: str, *, missing: bool) -> Figures:
    """A few seconds of what provokes a violation where the protection is missing."""
    changes, options = PROVOCATIONS[protection]
    changes = CALM | {"seconds": 5.0} | changes
    changes["users"] = plan.users[: changes["users"]]
    without = protection if missing else ""
    figures = Site(replace(plan, **changes), without=without, **options).run()
    found = figures.verdict
    print(f"{protection}: {found.stale} of {found.reads} reads stale;", *figures.inconsistent)
    assert found.lost == found.duplicate == found.from_the_future == 0
    return figures


@pytest.mark.parametrize("protection", PROVOCATIONS)
def test_a_protection_that_is_missing_is_noticed(plan: Plan, protection: str) -> None:
    """There is at least one violation."""
    assert provoked(plan, protection, missing=True).violations


@pytest.mark.soak
@pytest.mark.parametrize("protection", PROVOCATIONS)
def test_nothing_is_noticed_where_none_is_missing(plan: Plan, protection: str) -> None:
    """So it was that protection, and no other trouble."""
    assert not provoked(plan, protection, missing=False).violations
