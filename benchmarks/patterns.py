"""P4, P5 and P8: an interaction, a change of a canvas, and a conversation, beside their bare calls.

The bare calls send what the service would send, which is computed beforehand: deciding what to
write is not among them.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, cycle
from typing import Any

from benchmarks.layouts import layout
from benchmarks.measure import (
    Figure,
    Options,
    Result,
    Target,
    exactly,
    in_turns,
    ratio,
    seconds,
)
from benchmarks.site import counted, site

DAY_MS = 86_400_000
ON_PLAYS = (
    "The bare calls are redis-py's GET with decoding, the very statement of the service (it raises "
    "the row and records what raised it) by plain psycopg, prepared and in a transaction of its "
    "own, and redis-py's SET of the new state. A commit waits for the disk on every side."
)
ON_CHANGES = (
    "A canvas of 1.5 KB, of which one window is moved. What the service sends is a script that "
    "replaces the document if it still is the one that was read: no change of another tab is lost, "
    "as with a bare SET it would be."
)


def figures(options: Options) -> Iterator[Result]:
    """P4, P5 and P8."""
    with site():
        calls = options.scaled(100, short=10)
        yield interaction(options, calls)
        yield change(options, calls)
        yield from conversation(options, calls)


def interaction(options: Options, calls: int) -> Figure:
    """P4. Each call is another user's."""
    from auth_sessions.models import User
    from klepsydra import services

    def players(name: str) -> list[int]:
        users = [User.objects.create_user(f"{name}{n}").pk for n in range(calls)]
        services.begin(users)
        for user_id in users:
            services.psyche(user_id)
        return users

    every = cycle(players("ours"))

    def play() -> None:
        services.play(next(every), "spinforge", 1)

    cost = counted(play)
    ours, limit = "klepsydra.services.play", "GET, the statement, SET"
    taken = in_turns(
        {
            ours: partial(seconds, play, times=calls),
            limit: BareInteractions(players("bare")).statement,
            "GET, a bare UPDATE, SET": BareInteractions(players("update")).update,
        },
        rounds=options.many,
    )
    targets = [
        Target("round trips", exactly(cost.round_trips), at_most=2),
        Target("statements", exactly(cost.statements), at_most=1),
        Target(f"time, of {limit}", ratio(taken[ours], taken[limit]), at_most=1.25),
    ]
    title = "One interaction: read the state, decide, write, record"
    return Figure("P4", title, "s", taken, targets, [ON_PLAYS])


class BareInteractions:
    """Interactions of these users by bare calls, one of each at a time."""

    UPDATE = "UPDATE klepsydra_psychestate SET loss_streak = loss_streak WHERE user_id = %s"

    def __init__(self, user_ids: list[int]) -> None:
        import msgspec

        from benchmarks import bare
        from klepsydra.documents import PsycheDocument
        from klepsydra.models import PsycheState

        self._states = {user_id: PsycheState.cached.get(user_id) for user_id in user_ids}
        self._client = bare.client()
        self._cursor = bare.database().cursor()
        self._decode = msgspec.json.Decoder(PsycheDocument).decode

    def statement(self) -> float:
        """With the service's statement."""
        from klepsydra import ledger

        return self._taken([(ledger._STATEMENT, *planned) for planned in self._planned()])

    def update(self) -> float:
        """With the least that can be written."""
        return self._taken([(self.UPDATE, (u,), u, text) for _, u, text in self._planned()])

    def _taken(self, calls: list[tuple[str, Any, int, bytes]]) -> float:
        """Of one interaction."""
        written = 0
        began = time.perf_counter()
        for statement, parameters, user_id, text in calls:
            key = f"psyche:{user_id}"
            self._decode(self._client.get(key))
            written += self._cursor.execute(statement, parameters).rowcount
            self._client.set(key, text, px=DAY_MS)
        taken = (time.perf_counter() - began) / len(calls)
        assert written == len(calls)
        return taken

    def _planned(self) -> list[tuple[dict[str, Any], int, bytes]]:
        """The parameters of the statement, and the state that each user has then."""
        import msgspec

        from aevon.cache import codec
        from aevon.cache.connection import store
        from klepsydra import engine, ledger
        from klepsydra.documents import snapshot_of
        from klepsydra.instruments import WEIGHT_TOTAL, instrument

        spinforge, incarnation = instrument("spinforge"), store().life.incarnation
        planned = []
        for user_id, state in self._states.items():
            snapshot, roll = snapshot_of(state), user_id * 7919 % WEIGHT_TOTAL
            played = engine.interact(snapshot, spinforge, 1, now=time.time(), roll=roll)
            parameters = ledger._parameters(state, played, ledger._outcome(played), None, "")
            written = ledger._written(played.state)
            following = msgspec.structs.replace(state, version=state.version + 1, **written)
            self._states[user_id] = following
            text = codec.stamped(codec.encode(following), incarnation)
            planned.append((parameters, user_id, text))
        return planned


def change(options: Options, calls: int) -> Figure:
    """P5."""
    from auth_sessions.models import User
    from canvas import services

    user_id = User.objects.create_user("painter").pk
    services.change(user_id, {"replace": layout(user_id)})
    place = count(1)

    def patch() -> None:
        services.change(
            user_id, {"patch": {"microApps": {"app-3": {"position": {"x": next(place), "y": 1}}}}}
        )

    cost = counted(patch)
    bare = BareChanges(f"canvas:{user_id}")
    for _ in range(calls):
        bare.record(patch)
    ours, limit, sent = "canvas.services.change", "GET, then SET + ZADD + ZADD", "what ours sends"
    taken = in_turns(
        {
            ours: partial(seconds, patch, times=calls),
            limit: bare.simply,
            sent: bare.as_ours,
        },
        rounds=options.many,
    )
    targets = [
        Target("statements", exactly(cost.statements), at_most=0),
        Target("round trips", exactly(cost.round_trips), at_most=2),
        Target(f"time, of {limit}", ratio(taken[ours], taken[limit]), at_most=1.25),
        Target(f"time, of {sent} by redis-py", ratio(taken[ours], taken[sent])),
    ]
    return Figure("P5", "A change of a canvas", "s", taken, targets, [ON_CHANGES])


RoundTrip = list[tuple[Any, ...]]


class BareChanges:
    """Changes of the document under `key` by bare calls: as ours were sent, and as simply as can
    be."""

    def __init__(self, key: str) -> None:
        from benchmarks import bare

        self._key, self._client = key, bare.client()
        self._before = self._client.get(key)
        self._sent: list[list[RoundTrip]] = []

    def record(self, patch: Callable[[], Any]) -> None:
        """What our next change sends."""
        from aevon.cache.connection import ScriptCall, store

        send, sent = store()._exchange, []

        def exchange(commands: Any, *how: Any, **options: Any) -> Any:
            sent.append([c.evalsha if isinstance(c, ScriptCall) else c for c in commands])
            return send(commands, *how, **options)

        store()._exchange = exchange
        try:
            patch()
        finally:
            del store()._exchange
        self._sent.append(sent)

    def simply(self) -> float:
        """GET, then SET of a document as long, with the marks."""
        put = ("SET", self._key, self._before)
        marks = [[c for c in sent[-1] if c[0] == "ZADD"] for sent in self._sent]
        assert all(len(each) == 2 for each in marks)
        return self._taken([[[("GET", self._key)], [put, *each]] for each in marks])

    def as_ours(self) -> float:
        """The same round trips."""
        return self._taken(self._sent)

    def _taken(self, changes: list[list[RoundTrip]]) -> float:
        """Of one change. Another's changes before and after are as if they had not been."""
        found = self._client.get(self._key)
        self._client.set(self._key, self._before)
        said = []
        began = time.perf_counter()
        for round_trips in changes:
            for commands in round_trips:
                replies = self._asked(commands)
            said.append(replies[0])
        taken = (time.perf_counter() - began) / len(changes)
        assert set(said) <= {True, b"stored"}, set(said)
        self._client.set(self._key, found)
        return taken

    def _asked(self, commands: RoundTrip) -> list[Any]:
        if len(commands) == 1:
            return [self._client.execute_command(*commands[0])]
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return pipeline.execute()


def conversation(options: Options, calls: int) -> Iterator[Figure]:
    """P8."""
    import msgspec

    from aevon.cache import bounded_list, codec
    from auth_sessions.models import User
    from beep import services
    from beep.documents import TurnDocument
    from beep.projection import CONVO
    from benchmarks import bare

    user_id = User.objects.create_user("talker").pk
    for _ in range(CONVO.limit):
        services.command(user_id, "help")
    client, decode = bare.client(), msgspec.json.Decoder(TurnDocument).decode
    last = bounded_list.read(CONVO, user_id)[0]
    seq, key, own = count(last.seq + 1), f"convo_history:{user_id}", "bench:list"
    text = codec.encode(last)

    def append() -> None:
        turn = msgspec.structs.replace(last, seq=next(seq))
        assert bounded_list.push(CONVO, user_id, turn) == "stored"

    def bare_append() -> None:
        pipeline = client.pipeline(transaction=False)
        pipeline.lpush(own, text).ltrim(own, 0, CONVO.limit - 1).pexpire(own, DAY_MS)
        pipeline.execute()

    def read() -> list[TurnDocument]:
        return bounded_list.read(CONVO, user_id)

    def bare_read() -> list[TurnDocument]:
        return [decode(raw) for raw in client.lrange(key, 0, -1)]

    assert len(read()) == len(bare_read()) == CONVO.limit
    pairs = {
        "P8-append": ("Append a turn", append, "LPUSH + LTRIM + PEXPIRE", bare_append),
        "P8-read": ("Read the last five turns", read, "LRANGE + msgspec decode", bare_read),
    }
    for name, (title, call, limit, bare_call) in pairs.items():
        cost = counted(call)
        sides = {"ours": call, limit: bare_call}
        taken = in_turns(
            {each: partial(seconds, side, times=2 * calls) for each, side in sides.items()},
            rounds=options.many,
        )
        targets = [
            Target("round trips", exactly(cost.round_trips), at_most=1),
            Target("statements", exactly(cost.statements), at_most=0),
            Target(f"time, of {limit}", ratio(taken["ours"], taken[limit])),
        ]
        yield Figure(name, title, "s", taken, targets)
