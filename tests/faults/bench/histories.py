"""A history over HTTP: processes full of clients, a storm of faults, and what came out."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from django.contrib.auth.hashers import make_password

from aevon.cache import outbox
from aevon.process import watchdog
from auth_sessions import services as sessions
from auth_sessions.models import User
from tests.waiting import eventually

from . import crowd
from .api import Operation
from .check import Verdict, at_rest, judge
from .clients import Account
from .crowd import Plan
from .line import NOBODY
from .production import Production
from .storm import Notes, Storm
from .visitors import Person, make_people

PASSWORD: Final = "a password of theirs"
START_SECONDS: Final = 60.0
DRAIN_SECONDS: Final = 60.0
PROCESSES: Final = 2


@dataclass
class Figures:
    """What a history did and found."""

    seed: int
    seconds: float
    verdict: Verdict
    notes: Notes
    operations: Counter[str] = field(default_factory=Counter)
    allowed: Counter[int] = field(default_factory=Counter)  # 503 and no answer, of a fault
    failed: list[str] = field(default_factory=list)  # 5xx and no answer, of none

    @property
    def violations(self) -> list[str]:
        """Of what is promised."""
        return [*self.failed, *self.verdict.violations]


def make_players(count: int) -> tuple[list[Person], list[Account]]:
    """Users who can log in, each with two sessions."""
    people = make_people(count, password=make_password(PASSWORD))
    return people, [_account(person) for person in people]


def _account(person: Person) -> Account:
    sid, pair = sessions.open_session(User.objects.get(pk=person.user_id))
    first = (person.sid, person.access, person.refresh)
    second = (str(sid), pair.access, pair.refresh)
    return Account(person.user_id, person.username, PASSWORD, [first, second])


@contextlib.contextmanager
def crowds(
    folder: Path, site: Production, accounts: Sequence[Account], *, clients: int, seed: int
) -> Iterator[None]:
    """So many clients of each user at work, in processes of their own, until the block ends."""
    processes = []
    for number in range(PROCESSES):
        plan = Plan("127.0.0.1", site.port, seed + number, clients, [*accounts[number::PROCESSES]])
        (folder / f"crowd-{number}.json").write_bytes(msgspec.json.encode(plan))
        command = [sys.executable, "-m", "tests.faults.bench.crowd", str(folder), str(number)]
        with (folder / "crowds.txt").open("ab") as log:
            process = watchdog.launch(command, last_signal=signal.SIGKILL, user="", log=log)
        (folder / f"crowd-{number}.pid").write_text(str(process.pid))
        processes.append(process)
    try:
        yield
        (folder / crowd.OVER).touch()
        for process in processes:
            assert process.wait(START_SECONDS) == 0, (folder / "crowds.txt").read_text()
    finally:
        for process in processes:
            _end(process)


@contextlib.contextmanager
def standing_still(folder: Path) -> Iterator[None]:
    """The crowds ask nothing meanwhile."""
    pids = [int(path.read_text()) for path in folder.glob("crowd-*.pid")]
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    watchdog.forget(process.pid)


def lead(
    folder: Path,
    storm: Storm,
    accounts: Sequence[Account],
    act: Callable[[Storm], None],
    *,
    clients: int,
    seed: int,
) -> Figures:
    """A history that lasts as long as `act(storm)` does."""
    begun = time.monotonic()
    with crowds(folder, storm.site, accounts, clients=clients, seed=seed):
        wait_for(folder, len(accounts))
        act(storm)
    took = time.monotonic() - begun
    # By the site itself, before `at_rest` helps.
    assert eventually(lambda: outbox.depth() == 0, DRAIN_SECONDS), "nobody drains the outbox"
    return figures(seed, took, operations_of(folder, storm.notes), storm.notes, storm.people)


def wait_for(folder: Path, more: int) -> None:
    """Until the clients have been answered so many more times."""
    enough = crowd.answered(folder) + more
    assert eventually(lambda: crowd.answered(folder) >= enough, 300), crowd.answered(folder)


def operations_of(folder: Path, notes: Notes) -> list[Operation]:
    """What all clients and the storm did, in the order of the beginnings."""
    logs = folder.glob("crowd-*.log")
    found = [Operation(*note) for path in logs for note in crowd.logged(path)]
    return sorted([*found, *notes.operations], key=lambda each: each.start)


def figures(
    seed: int,
    seconds: float,
    operations: Sequence[Operation],
    notes: Notes,
    people: Sequence[Person],
) -> Figures:
    """What came out, once all are at rest."""
    verdict = judge(operations, at_rest(people), notes.circumstances)
    found = Figures(seed, seconds, verdict, notes)
    for each in operations:
        if each.status != NOBODY and each.status < 500:
            found.operations[each.kind] += 1
        elif notes.allows(each):
            found.allowed[each.status] += 1
        else:
            found.failed.append(f"{each}: status {each.status}")
    return found


def lines(found: Figures) -> list[tuple[str, object]]:
    """Figure by figure."""
    verdict = found.verdict
    return [
        ("seconds", round(found.seconds)),
        ("operations checked", found.operations.total()),
        *((f"… {kind}", count) for kind, count in sorted(found.operations.items())),
        *((f"faults: {name}", count) for name, count in sorted(found.notes.faults.items())),
        ("answered by 503 while PostgreSQL was away", found.allowed[503]),
        ("not answered while the web was away", found.allowed[NOBODY]),
        (
            f"late: of a write that could not be told to the cache, at most {verdict.latest:.2f} s",
            verdict.late.total(),
        ),
        ("older than what another was shown of a write in flight", verdict.unsettled),
        ("**5xx, and no answer, at any other time**", len(found.failed)),
        ("**stale**", len(verdict.stale)),
        ("**lost or doubled**", len(verdict.lost)),
        ("**wrong lists of turns**", len(verdict.turns)),
        ("**let in after the session's end**", len(verdict.let_in)),
        ("**refused with a live session**", len(verdict.refused)),
        ("**of another user**", len(verdict.foreign)),
    ]
