"""Two thousand people, each with a session and a connection that is kept, who think in between."""

import asyncio
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Final

from django.core.management import call_command
from django.db import connection

from beep import services as beep
from canvas.models import Canvas

from .api import Operation, window
from .line import Line
from .production import Production
from .visitors import EVERYTHING, Log, Person, Visitor, make_people

THINK_SECONDS: Final = 9.0
# So many ask at once, and all others think a little longer: as fast as the machine can answer.
AT_ONCE: Final = 32
ARRIVAL_SECONDS: Final = 300.0
TURNS: Final = 5

_FIVE_TURNS_FOR_EACH = """
INSERT INTO beep_conversation (user_id, last_seq, forgotten_through)
SELECT u, %(turns)s, 0 FROM unnest(%(others)s::bigint[]) AS u;
INSERT INTO beep_turn (user_id, seq, command, response, resolved, at, request_digest)
SELECT u, seq, command, response, resolved, at, request_digest
FROM beep_turn, unnest(%(others)s::bigint[]) AS u WHERE user_id = %(first)s
"""


class Thousands:
    """People who all have what a user can have in the cache, so that it grows no more."""

    def __init__(self, count: int) -> None:
        self.people = make_people(count)
        self.log = Log()
        self._names = {person.user_id: f"w{person.user_id}" for person in self.people}
        _draw(self._names)
        self.said = _talk([person.user_id for person in self.people])
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")  # as autovacuum does, after so many new rows
        call_command("cache_warmup", verbosity=0)

    @contextmanager
    def visiting(self, site: Production) -> Iterator[Log]:
        """Everybody comes before the block begins, and stays until it ends."""
        started, failure = threading.Event(), list[BaseException]()
        thread = threading.Thread(target=self._run, args=(site, started, failure))
        thread.start()
        assert started.wait(60)
        try:
            self.log.wait_for(len(self.people), ARRIVAL_SECONDS)
            yield self.log
        finally:
            self._loop.call_soon_threadsafe(self._over.set)
            thread.join()
        if failure:
            raise failure[0]

    def _run(
        self, site: Production, started: threading.Event, failure: list[BaseException]
    ) -> None:
        try:
            asyncio.run(self._everybody(site, started))
        except BaseException as error:  # noqa: BLE001  raised again where the block ends
            failure.append(error)

    async def _everybody(self, site: Production, started: threading.Event) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        self._asking = asyncio.Semaphore(AT_ONCE)
        started.set()
        async with asyncio.TaskGroup() as group:
            for person in self.people:
                group.create_task(self._one(site, person))

    async def _one(self, site: Production, person: Person) -> None:
        kinds, shares = [*EVERYTHING], [*EVERYTHING.values()]
        await self._think(random.uniform(0, 1.0))
        with closing(Line("127.0.0.1", site.port)) as line:
            visitor = Visitor(line, person, self.log.operations)
            visitor.name = self._names[person.user_id]
            while not self._over.is_set():
                async with self._asking:
                    await visitor.do(random.choices(kinds, shares)[0])
                await self._think(THINK_SECONDS * random.uniform(0.5, 1.5))

    async def _think(self, seconds: float) -> None:
        with_end = asyncio.wait_for(self._over.wait(), seconds)
        await asyncio.gather(with_end, return_exceptions=True)


def _draw(names: dict[int, str]) -> None:
    """Everybody's window is on their canvas, in PostgreSQL, and shows no number yet."""
    mine = window(0) | {"title": "mine"}
    layouts: dict[int, Any] = {user: {"microApps": {n: mine}} for user, n in names.items()}
    Canvas.objects.bulk_create(
        Canvas(user_id=user, layout=layout, revision=1) for user, layout in layouts.items()
    )


def _talk(users: Sequence[int]) -> list[Operation]:
    """Everybody has said as much as a history holds: what the first one said."""
    first, *others = users
    said = [(beep.command(first, text).seq, text) for text in map("status {}".format, range(TURNS))]
    with connection.cursor() as cursor:
        cursor.execute(_FIVE_TURNS_FOR_EACH, {"turns": TURNS, "first": first, "others": others})
    return [
        Operation("command", user, 0, 0, 200, text, seq) for user in users for seq, text in said
    ]
