"""P1 and P9: a PsycheState, and a session, from the cache, and from PostgreSQL while it is away."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

from benchmarks.apart import Calls, apart
from benchmarks.measure import Figure, Options, Result, Target, exactly, in_turns, ratio, seconds
from benchmarks.site import counted, site

OURS = "PsycheState.cached.get"
LIMIT = "redis-py GET + msgspec decode"
SESSION, DJANGOS = "our session document", "Django's cached_db session"
ORM, CACHEOPS = "ORM get(pk)", "django-cacheops, hit"
AWAY = "PsycheState.cached.get, cache away"

ON_LOADS = (
    "Ours and the bare GET with decoding make the same Struct; the pickles and JSON hold the same "
    "values as a dict; the ORM, and the packages on top of it, make a model's instance. Ours may "
    "be faster than redis-py's own GET: it packs commands in C and takes connections from "
    "redis-py's pool without its metrics, and then does more: it counts, and looks at whose state "
    "it is, and of which life of the server."
)
ON_AWAY = (
    "Nothing listens on the cache's port, and the breaker is open; once a second a thread looks "
    "whether it is back."
)


def figures(options: Options) -> Iterator[Result]:
    """P1 and P9."""
    with site():
        yield from _figures(options)


def _figures(options: Options) -> Iterator[Result]:
    import msgspec

    from aevon.cache import cache_aside
    from auth_sessions import services as sessions
    from auth_sessions.models import User
    from auth_sessions.projection import SESSIONS
    from benchmarks import bare
    from klepsydra import services as klepsydra
    from klepsydra.documents import PsycheDocument
    from klepsydra.models import PsycheState

    user = User.objects.create_user("bench")
    user_id, key = user.pk, f"psyche:{user.pk}"
    sessions.open_session(user)
    klepsydra.psyche(user_id)
    cache_aside.load(SESSIONS, user_id)
    client, decoder = bare.client(), msgspec.json.Decoder(PsycheDocument)
    bare_socket = bare.BareSocket(key)
    assert bare_socket.get() == client.get(key)
    ours: Calls = {
        OURS: lambda: PsycheState.cached.get(user_id),
        LIMIT: lambda: decoder.decode(client.get(key)),
        "bare socket GET": bare_socket.get,
        SESSION: lambda: cache_aside.load(SESSIONS, user_id),
    }
    counts = {name: counted(ours[name]) for name in (OURS, SESSION)}
    times = options.scaled(200, short=20)
    with ExitStack() as stack:
        sides = {name: partial(seconds, call, times=times) for name, call in ours.items()}
        for peer in ("plain", "cacheops", "cachalot"):
            function = f"benchmarks.peers.loads:{peer}"
            settings = {"DJANGO_SETTINGS_MODULE": "benchmarks.peers.settings", "PEER": peer}
            sides |= stack.enter_context(apart(function, user_id, times=times, **settings))
        # Nothing listens on this port.
        nowhere = {"DRAGONFLY_URL": "redis://127.0.0.1:1/0", "AEVON_LOG_LEVEL": "ERROR"}
        away = apart("benchmarks.loads:away", user_id, times=times, **nowhere)
        sides |= stack.enter_context(away)
        taken = in_turns(sides, rounds=options.many)
    without = {AWAY: taken.pop(AWAY), ORM: taken[ORM]}
    sessions_taken = {SESSION: taken.pop(SESSION), DJANGOS: taken.pop(DJANGOS)}
    trips = counts[OURS].round_trips
    yield Figure(
        "P1",
        "Load a PsycheState that is cached",
        "s",
        taken,
        [
            Target("round trips of a hit", exactly(trips), at_most=1, at_least=1),
            Target("statements of a hit", exactly(counts[OURS].statements), at_most=0),
            Target(f"time, of {LIMIT}", ratio(taken[OURS], taken[LIMIT]), at_most=1.15),
            Target("times as fast as the ORM", ratio(taken[ORM], taken[OURS]), at_least=2),
            Target(
                "times as fast as django-cacheops", ratio(taken[CACHEOPS], taken[OURS]), at_least=2
            ),
        ],
        [ON_LOADS],
    )
    yield Figure(
        "P1-session",
        "Load a session that is cached",
        "s",
        sessions_taken,
        [
            Target("round trips of a hit", exactly(counts[SESSION].round_trips), at_most=1),
            Target(
                "times as fast as Django's", ratio(sessions_taken[DJANGOS], sessions_taken[SESSION])
            ),
        ],
    )
    yield Figure(
        "P9",
        "Load a PsycheState while the cache is away",
        "s",
        without,
        [Target("time, of the ORM's", ratio(without[AWAY], without[ORM]), at_most=1.05)],
        [ON_AWAY],
    )


def away(user_id: str) -> Calls:
    """Ours, of a process that has no cache."""
    from aevon.cache.connection import store
    from klepsydra.models import PsycheState

    def call() -> object:
        return PsycheState.cached.get(int(user_id))

    assert call() is not None
    assert store().breaker.state != "closed"
    assert counted(call).statements == 1
    return {AWAY: call}
