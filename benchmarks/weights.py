"""What a user weighs: memory in the cache, rows in PostgreSQL, and what each call sends and writes.

The capacity model begins with these (benchmarks/capacity.py).
"""

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any, Final

from benchmarks.measure import Figure, Options, Result
from benchmarks.site import counted, site

USERS: Final = 2_000
TURNS: Final = 5
# More than a canvas is changed by the calls.
MANY_CHANGES: Final = 1_000
TABLES: Final = (
    "auth_sessions_user", "auth_sessions_session", "auth_sessions_sessionanchor",
    "klepsydra_psychestate", "canvas_canvas", "beep_conversation", "beep_turn",
)  # fmt: skip
SAID: Final = (
    ("open Notes", "Opened Notes."),
    ("move it right by 40", "Moved Notes 40 to the right."),
    ("play SpinForge", "SpinForge: no win this time; you put in 1 ΞCredit."),
    ("list windows", "Open are Notes, Clock and Stats: three windows."),
    ("close the second one", "Closed Clock."),
)
VALIDATE, LOAD, PATCH, PLAY, COMMAND, FLUSH = (
    "validate a session", "load a PsycheState", "change a canvas", "play once", "a command to BEEP",
    "flush a canvas",
)  # fmt: skip
UPSERT = "save a canvas, row by row"
ON_MEMORY = (
    "What the entries of {users:,} users add to the memory of the embedded server, each with what "
    "the tables take for it; `value` is what the value alone weighs. A canvas is of 1.5 KB, a "
    "history of five turns. Dragonfly has other tables: its own documentation reckons 22 to 32 "
    "bytes an entry where Redis takes 32 to 40, and the same again for an expiry "
    "(docs/dashtable.md of its repository), so what is measured here is rather too much than too "
    "little. On Dragonfly it was not measured."
)
ON_TRAFFIC = "Bytes to the cache and back, as the server counts them; without what a network adds."
ON_WAL = (
    "What a call adds to PostgreSQL's log, which is what a disk and a replica have to take. A "
    "page that is changed for the first time since a checkpoint is written whole."
)
ON_ROWS = (
    "Tables with their indexes, of users with one session and five turns each, most of whose rows "
    "were written twice. The canvas' layout repeats itself, and PostgreSQL compresses it."
)


def figures(options: Options) -> Iterator[Result]:
    """All of it."""
    with site():
        yield from _figures(options.scaled(USERS, short=20))


def _figures(count: int) -> Iterator[Result]:
    from benchmarks import bare
    from canvas import services as canvas

    client, cursor = bare.client(), bare.database().cursor()
    crowd, memory = _weighed(client, count)
    note = ON_MEMORY.format(users=count)
    yield _figure("memory", "Memory of a cached user", "bytes", memory, note)
    before = _traffic(client)
    asking = _traffic(client) - before
    sent: dict[str, float] = {}
    trips: dict[str, float] = {}
    statements: dict[str, float] = {}
    logged: dict[str, float] = {}
    for name, (call, times) in _calls(crowd).items():
        call()
        cost = counted(call)
        traffic, log = _traffic(client), _log(cursor)
        for _ in range(times):
            call()
        logged[name] = (_log(cursor) - log) / times
        sent[name] = (_traffic(client) - traffic - asking) / times
        trips[name], statements[name] = cost.round_trips, cost.statements
    crowd.revision += MANY_CHANGES
    for _ in range(2):  # the first flush makes the rows
        crowd.leave_unsaved()
        traffic, log = _traffic(client), _log(cursor)
        cost = counted(canvas.persist_now)
        logged[FLUSH] = (_log(cursor) - log) / count
        sent[FLUSH] = (_traffic(client) - traffic - asking) / count
    trips[FLUSH], statements[FLUSH] = cost.round_trips / count, cost.statements / count
    rows = {name: _table(cursor, name) / count for name in TABLES}
    yield _figure("rows", "Rows of a user in PostgreSQL", "bytes", rows, ON_ROWS)
    log = _log(cursor)
    crowd.upsert(count)
    logged[UPSERT] = (_log(cursor) - log) / count
    yield _figure("traffic", "Bytes between a process and the cache", "bytes", sent, ON_TRAFFIC)
    yield _figure("trips", "Round trips of a call", "round trips", trips, "")
    yield _figure("statements", "Statements of a call", "statements", statements, "")
    yield _figure("log", "Bytes of PostgreSQL's log", "bytes", logged, ON_WAL)


def _figure(id: str, title: str, unit: str, values: dict[str, float], note: str) -> Figure:  # noqa: A002
    sides = {name: [value] for name, value in values.items()}
    return Figure(id, title, unit, sides, notes=[note] if note else [], ours=list(sides))


def _weighed(client: Any, count: int) -> tuple[Any, dict[str, float]]:
    """Users whose entries are all cached, and bytes of each entry."""
    from aevon.cache import cache_aside, maintenance, resources
    from auth_sessions import services
    from auth_sessions.models import User
    from auth_sessions.projection import SESSIONS
    from benchmarks import saves
    from benchmarks.growth import used_memory
    from canvas.projection import CANVAS_BUFFER
    from klepsydra import services as klepsydra

    crowd = saves.Crowd(saves.new_users(count))
    klepsydra.begin(crowd.user_ids)
    for user in User.objects.filter(pk__in=crowd.user_ids):
        services.open_session(user)
    _talk(crowd.user_ids)
    client.flushdb()
    weights: dict[str, float] = {}

    def weigh(name: str, fill: Callable[[], object]) -> None:
        before = used_memory(client)
        fill()
        weights[name] = (used_memory(client) - before) / count

    steps = list(maintenance.batches(crowd.user_ids, 500))
    documents = crowd.changed()
    weigh("psyche", lambda: maintenance.warm_up([resources.resource("psyche")]))
    weigh("session", lambda: [cache_aside.load_many(SESSIONS, step) for step in steps])
    weigh("canvas", lambda: crowd.store(documents))
    weigh("canvas, unsaved: its marks", lambda: CANVAS_BUFFER.index.mark_unsaved(documents))
    weigh("history", lambda: maintenance.warm_up([resources.resource("convo_history")]))
    first = crowd.user_ids[0]
    for name in ("psyche", "session", "canvas"):
        weights[f"{name}, value"] = client.strlen(f"{name}:{first}")
    turns = client.lrange(f"convo_history:{first}", 0, -1)
    weights["history, value"] = sum(map(len, turns))
    return crowd, weights


def _talk(user_ids: list[int]) -> None:
    """Five turns of each."""
    from django.utils import timezone

    from beep.models import Conversation, Turn

    now = timezone.now()
    Conversation.objects.bulk_create(
        [Conversation(user_id=user_id, last_seq=TURNS) for user_id in user_ids], batch_size=500
    )
    turns = [
        Turn(conversation_id=u, seq=n, command=said, response=answer, resolved={}, at=now)
        for u in user_ids
        for n, (said, answer) in enumerate(SAID, start=1)
    ]
    Turn.objects.bulk_create(turns, batch_size=500)


def _calls(crowd: Any) -> dict[str, tuple[Callable[[], object], int]]:
    """Each call with how often it is made."""
    from aevon.cache import cache_aside
    from auth_sessions.projection import SESSIONS
    from beep import services as beep
    from canvas import services as canvas
    from klepsydra import services as klepsydra
    from klepsydra.models import PsycheState

    users, some = cycle(crowd.user_ids), min(crowd.count, 200)
    places = cycle(range(1, 1_000))

    def patch() -> None:
        place = {"position": {"x": next(places), "y": 1}}
        canvas.change(next(users), {"patch": {"microApps": {"app-0": place}}})

    return {
        VALIDATE: (lambda: cache_aside.load(SESSIONS, next(users)), some),
        LOAD: (lambda: PsycheState.cached.get(next(users)), some),
        PATCH: (patch, some),
        PLAY: (lambda: klepsydra.play(next(users), "spinforge", 1), some),
        COMMAND: (lambda: beep.command(next(users), "list windows"), some),
    }


def _traffic(client: Any) -> int:
    told = client.info("stats")
    return int(told["total_net_input_bytes"] + told["total_net_output_bytes"])


def _log(cursor: Any) -> int:
    (position,) = cursor.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
    return int(position)


def _table(cursor: Any, name: str) -> int:
    (size,) = cursor.execute("SELECT pg_total_relation_size(%s::regclass)", [name]).fetchone()
    return int(size)
