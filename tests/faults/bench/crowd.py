"""Processes full of clients, and what they logged.

Clients of one user are in one process. It is told what to do by `crowd-<n>.json`, writes
`crowd-<n>.log`, and ends once there is a file `over` beside them.
"""

import asyncio
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from .api import Operation
from .clients import Account, Client, Player
from .line import NOBODY, Line

OVER: Final = "over"
CHUNK: Final = 200
NICE: Final = 10


class Plan(msgspec.Struct):
    """What one process does."""

    host: str
    port: int
    seed: int
    clients: int  # of each user
    accounts: list[Account]


class Journal:
    """What the clients of this process noted, in chunks of MessagePack with their lengths before
    them; and how many were answered, in a file of that name."""

    def __init__(self, path: Path) -> None:
        self.is_over = False
        self._file, self._answered = path.open("wb"), path.with_suffix(".answered")
        self._notes: list[Operation] = []
        self.answered = 0

    def add(self, operation: Operation) -> None:
        """One more."""
        self.answered += operation.status != NOBODY
        self._notes.append(operation)
        if len(self._notes) >= CHUNK:
            self.save()

    def save(self) -> None:
        """Write down what there is."""
        chunk = msgspec.msgpack.encode(self._notes)
        self._file.write(len(chunk).to_bytes(4, "big") + chunk)
        self._file.flush()
        self._answered.write_text(str(self.answered))
        self._notes.clear()


def logged(path: Path) -> Iterator[list[Any]]:
    """The notes of a log."""
    with path.open("rb") as file:
        while length := file.read(4):
            yield from msgspec.msgpack.decode(file.read(int.from_bytes(length, "big")))


def answered(folder: Path) -> int:
    """How many requests all crowds of a folder were answered by now."""
    texts = [path.read_text() for path in folder.glob("crowd-*.answered")]
    return sum(int(text or "0") for text in texts)


async def _visit(plan: Plan, name: str, journal: Journal, over: Path) -> None:
    rng = random.Random(plan.seed)
    async with asyncio.TaskGroup() as group:
        for account in plan.accounts:
            player = Player(account)
            for number in range(plan.clients):
                line = Line(plan.host, plan.port)
                its_own = random.Random(rng.getrandbits(64))
                which = f"v{name}u{account.user_id}c{number}"
                client = Client(which, player, line, journal, its_own)
                group.create_task(client.visit())
        while not over.exists():
            await asyncio.sleep(0.1)
        journal.is_over = True


def main(folder: Path, name: str) -> None:
    """Until it is over. Clients have machines of their own: here they take what the site leaves."""
    os.nice(NICE)
    plan = msgspec.json.decode((folder / f"crowd-{name}.json").read_bytes(), type=Plan)
    journal = Journal(folder / f"crowd-{name}.log")
    asyncio.run(_visit(plan, name, journal, folder / OVER))
    journal.save()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
