"""Clients of the site who note what they ask for, when, and what they are told."""

import asyncio
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from auth_sessions import services as sessions
from auth_sessions.models import User
from klepsydra import services as klepsydra

from . import api
from .api import Answerer, Operation, Request
from .line import NOBODY
from .production import FORWARDED, Production

Weights = dict[str, int]
EVERYTHING: Final[Weights] = {
    "validate": 30,
    "psyche": 20,
    "play": 10,
    "canvas": 12,
    "patch": 14,
    "command": 6,
    "history": 8,
}
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Person:
    """A user with a session, and with PsycheState of version 1."""

    user_id: int
    username: str
    access: str
    refresh: str
    sid: str

    @property
    def headers(self) -> dict[str, str]:
        """Of each request."""
        return {"Authorization": f"Bearer {self.access}", **FORWARDED}


def make_people(count: int, **fields: Any) -> list[Person]:
    """So many, in the test's database."""
    names = [f"person{next(_numbers)}" for _ in range(count)]
    users = User.objects.bulk_create(
        [User(username=name, email=f"{name}@example.org", **fields) for name in names]
    )
    klepsydra.begin([user.pk for user in users])
    return [log_in(user) for user in users]


def log_in(user: User) -> Person:
    """With another session."""
    sid, pair = sessions.open_session(user)
    return Person(user.pk, user.username, pair.access, pair.refresh, str(sid))


class Visitor:
    """One client of a person, with micro-apps of its own in their canvas. One request at a time:
    so its own numbers only rise."""

    def __init__(self, line: Answerer, person: Person, log: list[Operation]) -> None:
        self.line, self.person, self._log = line, person, log
        self.name = f"v{next(_numbers)}"
        self._drawn = 0

    async def do(self, kind: str) -> Operation:
        """An operation of that name."""
        if kind in api.READINGS:
            asked = self.person.sid if kind == "validate" else None
            return await self._ask(kind, api.READINGS[kind], asked)
        operation: Operation = await getattr(self, kind)()
        return operation

    async def play(self) -> Operation:
        """One interaction."""
        return await self.play_as(f"{self.name}-{next(_numbers)}")

    async def play_as(self, key: str) -> Operation:
        """One interaction under that key."""
        return await self._ask("play", api.play(key), key)

    async def patch(self) -> Operation:
        """This visitor's window shows the next number."""
        self._drawn += 1
        body = {"microApps": {self.name: api.window(self._drawn)}}
        asked = self.name, self._drawn
        return await self._ask("patch", api.request("PATCH", "canvas/", body), asked)

    async def command(self) -> Operation:
        """One for BEEP, whose text nobody else says."""
        text = f"status {self.name} {next(_numbers)}"
        what = api.request("POST", "beep/commands/", {"text": text})
        return await self._ask("command", what, text)

    async def forget(self) -> Operation:
        """All turns."""
        return await self._ask("forget", api.FORGETTING)

    async def logout(self) -> Operation:
        """Of this session."""
        return await self._ask("logout", api.LOGOUT, self.person.sid)

    async def _ask(self, kind: str, what: Request, asked: Any = None) -> Operation:
        person = self.person
        operation, _ = await api.ask(
            *(self.line, kind, person.user_id, what),
            token=api.bearer(person.access),
            asked=asked,
            sid=person.sid,
        )
        self._log.append(operation)
        return operation


@dataclass
class Log:
    """What visitors noted, in the order of the answers."""

    operations: list[Operation] = field(default_factory=list)

    def statuses(self) -> Counter[int]:
        """How often each."""
        return Counter(each.status for each in self.operations)

    def refused(self, *allowed: int) -> list[Operation]:
        """Those without an answer, and with one of 500 and above, but for `allowed`."""
        return [
            each
            for each in self.operations
            if (each.status == NOBODY or each.status >= 500) and each.status not in allowed
        ]

    def begun_in(self, start: int, end: int) -> list[Operation]:
        """Those that began between the two."""
        return [each for each in self.operations if start <= each.start < end]

    def wait_for(self, more: int, seconds: float = 120) -> None:
        """Until so many more have been answered."""
        enough, deadline = len(self.operations) + more, time.monotonic() + seconds
        while len(self.operations) < enough:
            assert time.monotonic() < deadline, f"{len(self.operations)} of {enough}"
            time.sleep(0.01)


@contextmanager
def under_load(
    site: Production,
    people: Sequence[Person],
    *,
    weights: Weights = EVERYTHING,
    visitors: int = 16,
    pause_seconds: float = 0.0,
) -> Iterator[Log]:
    """So many visitors, each one person's, do one thing after another by chance, in a thread of
    their own, until the block ends; each waits `pause_seconds` in between."""
    log, over = Log(), threading.Event()

    async def visit(visitor: Visitor) -> None:
        kinds, shares = [*weights], [*weights.values()]
        while not over.is_set():
            await visitor.do(random.choices(kinds, shares)[0])
            if pause_seconds:
                await asyncio.sleep(pause_seconds * random.uniform(0.5, 1.5))

    async def all_of_them() -> None:
        with closing(site.lines()) as lines:
            async with asyncio.TaskGroup() as group:
                for person in itertools.islice(itertools.cycle(people), visitors):
                    group.create_task(visit(Visitor(lines, person, log.operations)))

    failure: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(all_of_them())
        except BaseException as error:  # noqa: BLE001  raised again where the block ends
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield log
    finally:
        over.set()
        thread.join()
    if failure:
        raise failure[0]


def ask(site: Production, person: Person, *kinds: str) -> list[Operation]:
    """One visitor does these things, one after the other."""

    async def visit() -> list[Operation]:
        with closing(site.lines()) as line:
            visitor = Visitor(line, person, [])
            return [await visitor.do(kind) for kind in kinds]

    return asyncio.run(visit())
