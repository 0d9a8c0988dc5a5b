"""Clients of the site who note what they ask for, when, and what they are told."""

import asyncio
import contextlib
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import aiohttp

from auth_sessions import services as sessions
from auth_sessions.models import User
from klepsydra import services as klepsydra
from tests.klepsydra.rows import SLUG

from .clients import window
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


class Operation(NamedTuple):
    """One request. Times are nanoseconds by CLOCK_MONOTONIC; `status` is `NOBODY` where no answer
    came; `asked` and `told` are what the kind says, `told` None but for an answer of success.

    | kind | asked | told |
    |---|---|---|
    | validate | sid | user id |
    | psyche | | version |
    | play | idempotency key | version |
    | canvas | | revision, {app: number} |
    | patch | app, number | revision, {app: number} |
    | command | text | seq |
    | history | | ((seq, text), …), oldest first |
    | forget | | |
    | logout | sid | |

    `foreign`: the answer was another user's. `sid`: the session that asked. `away`: the answer says
    that the cache is. `content`: of the state that was shown, equal for equal ones.
    """

    kind: str
    user: int
    start: int
    end: int
    status: int
    asked: Any = None
    told: Any = None
    foreign: bool = False
    sid: str = ""
    away: bool = False
    content: int = 0

    @property
    def is_acknowledged(self) -> bool:
        """Whether it was answered with success."""
        return 200 <= self.status < 300

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end - self.start) / 1e9


class Visitor:
    """One client of a person, with micro-apps of its own in their canvas. One request at a time:
    so its own numbers only rise."""

    def __init__(
        self, http: aiohttp.ClientSession, url: str, person: Person, log: list[Operation]
    ) -> None:
        self._http, self._url, self.person, self._log = http, f"{url}/api/v1", person, log
        self.name = f"v{next(_numbers)}"
        self._drawn = 0

    async def do(self, kind: str) -> Operation:
        """An operation of that name."""
        operation: Operation = await getattr(self, kind)()
        return operation

    async def validate(self) -> Operation:
        """As a gateway asks."""
        return await self._ask("validate", "GET", "/auth/validate/", asked=self.person.sid)

    async def psyche(self) -> Operation:
        """The PsycheState."""
        return await self._ask("psyche", "GET", "/klepsydra/psyche/")

    async def play(self) -> Operation:
        """One interaction."""
        key = f"{self.name}-{next(_numbers)}"
        body = {"instrument": SLUG, "stake": 1}
        headers = {"Idempotency-Key": key}
        path = "/klepsydra/interactions/"
        return await self._ask("play", "POST", path, body, headers=headers, asked=key)

    async def canvas(self) -> Operation:
        """The live layout."""
        return await self._ask("canvas", "GET", "/canvas/")

    async def patch(self) -> Operation:
        """This visitor's window shows the next number."""
        self._drawn += 1
        body = {"microApps": {self.name: window(self._drawn)}}
        return await self._ask("patch", "PATCH", "/canvas/", body, asked=(self.name, self._drawn))

    async def command(self) -> Operation:
        """One for BEEP, whose text nobody else says."""
        text = f"status {self.name} {next(_numbers)}"
        return await self._ask("command", "POST", "/beep/commands/", {"text": text}, asked=text)

    async def history(self) -> Operation:
        """The last turns."""
        return await self._ask("history", "GET", "/beep/history/")

    async def forget(self) -> Operation:
        """All turns."""
        return await self._ask("forget", "DELETE", "/beep/history/")

    async def logout(self) -> Operation:
        """Of this session."""
        return await self._ask("logout", "POST", "/auth/logout/", {}, asked=self.person.sid)

    async def _ask(
        self,
        kind: str,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        asked: Any = None,
    ) -> Operation:
        user = self.person.user_id
        start, status, told = time.monotonic_ns(), NOBODY, None
        foreign = away = False
        headers = {**self.person.headers, **(headers or {})}
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self._http.request(
                method, self._url + path, json=body, headers=headers
            ) as answer:
                content = await answer.read()
                status = answer.status
                away = "detail=away" in answer.headers.get("Cache-Status", "")
                if status < 300:
                    told, whose = _told(kind, answer, json.loads(content or b"null"))
                    foreign = whose not in (None, user)
        end = time.monotonic_ns()
        sid = self.person.sid
        operation = Operation(kind, user, start, end, status, asked, told, foreign, sid, away)
        self._log.append(operation)
        return operation


def numbers(layout: dict[str, Any]) -> dict[str, int]:
    """What the windows of visitors show, by their names."""
    apps = layout["microApps"].items()
    return {name: int(app["title"]) for name, app in apps if app["title"].isdecimal()}


def _told(kind: str, answer: aiohttp.ClientResponse, body: Any) -> tuple[Any, int | None]:
    """What the kind tells, and whose it is, where it says so."""
    match kind:
        case "validate":
            told = whose = int(answer.headers["X-User-Id"])
        case "psyche":
            told, whose = body["version"], body["userId"]
        case "play":
            told, whose = body["psyche"]["version"], body["psyche"]["userId"]
        case "canvas" | "patch":
            told, whose = (body["revision"], numbers(body["layout"])), body["userId"]
        case "command":
            told, whose = body["seq"], None
        case "history":
            told, whose = tuple((turn["seq"], turn["command"]) for turn in body["turns"]), None
        case _:
            told = whose = None
    return told, whose


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

    def slower_than(self, seconds: float) -> list[Operation]:
        """Those that took longer."""
        return [each for each in self.operations if each.seconds > seconds]

    def begun_in(self, start: int, end: int) -> list[Operation]:
        """Those that began between the two."""
        return [each for each in self.operations if start <= each.start < end]

    def wait_for(self, more: int, seconds: float = 120) -> None:
        """Until so many more have been answered."""
        enough, deadline = len(self.operations) + more, time.monotonic() + seconds
        while len(self.operations) < enough:
            assert time.monotonic() < deadline, f"{len(self.operations)} of {enough}"
            time.sleep(0.01)


def http(connections: int) -> aiohttp.ClientSession:
    """A client that keeps so many connections, each request half a minute at the most."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        timeout=aiohttp.ClientTimeout(total=30),
    )


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
        async with http(visitors) as session, asyncio.TaskGroup() as group:
            for person in itertools.islice(itertools.cycle(people), visitors):
                group.create_task(visit(Visitor(session, site.url, person, log.operations)))

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
        async with http(1) as session:
            visitor = Visitor(session, site.url, person, [])
            return [await visitor.do(kind) for kind in kinds]

    return asyncio.run(visit())
