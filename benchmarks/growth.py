"""P2, and how cost grows with the number of users: a load, warm-up, audit and flush, memory."""

import os
import random
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.apart import Calls, apart
from benchmarks.measure import Curve, Figure, Options, Result, Target, in_turns, ratio, seconds
from benchmarks.site import site

SIZES: Final = (1_000, 10_000, 100_000, 1_000_000)
# Of how many users all canvases are changed at once; beyond, a share of them.
ALL_CHANGED: Final = 100_000
SHARE: Final = 0.01

ON_LOADS = (
    "Each side loads users drawn at random, in a process of its own, which has nothing else to "
    "do, from a cache server and a database of its own. What grows with the store is the server's "
    "table, and with it what its processor's caches do not hold."
)
ON_RATES = (
    "Audit reads every user from both sides and compares. Of a million users one canvas in a "
    "hundred is changed before the flush, not all: this keeps the run short."
)
ON_USERS_MEMORY = (
    "What a cached PsycheState adds to the server's `used_memory`. It saws: a table of twice the "
    "size is made whenever the old one is full."
)


def figures(options: Options) -> Iterator[Result]:
    """P2, and the curves by users."""
    sizes = (100, 200) if options.short else SIZES
    with site():
        grown = [(size, _measured(size, options)) for size in sizes]
        yield _loads(sizes[0], sizes[-1], options)
    series: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for size, taken in grown:
        for name, value in taken.items():
            series[name].append((size, value))
    memory, load = series.pop("a PsycheState"), series.pop("load, hit")
    yield Curve("by-users-load", "A load, by users", "users", "s", {"load, hit": load})
    yield Curve(
        "by-users", "Maintenance, by users", "users", "users/s", dict(series), notes=[ON_RATES]
    )
    yield Curve(
        "by-users-memory",
        "Memory of the cache server, by users",
        "users",
        "bytes a user",
        {"a PsycheState": memory},
        notes=[ON_USERS_MEMORY],
    )


def _measured(size: int, options: Options) -> dict[str, float]:
    """With so many users, by name: seconds of a load, users a second, bytes a user."""
    from aevon.cache import maintenance, resources
    from benchmarks import bare, crowd, saves
    from klepsydra.models import PsycheState

    user_ids, client = crowd.grow(size), bare.client()
    psyche = resources.resource("psyche")
    client.flushdb()
    before = used_memory(client)
    warm_up = seconds(lambda: maintenance.warm_up([psyche]))
    memory = (used_memory(client) - before) / size
    load, times = _load(PsycheState.cached, user_ids), options.scaled(1_000, short=20)
    taken = {
        "load, hit": median(seconds(load, times=times) for _ in range(options.rounds)),
        "warm-up": size / warm_up,
        "warm-up, all cached": size / seconds(lambda: maintenance.warm_up([psyche])),
        "audit": size / seconds(lambda: maintenance.audit([psyche])),
        "a PsycheState": memory,
    }
    some = saves.Crowd(random.sample(user_ids, max(1, int(size * SHARE))))
    everyone = saves.Crowd(user_ids)
    for name, changed in (("flush of 1 in 100", some), ("flush of all", everyone)):
        if changed.count <= ALL_CHANGED:
            changed.flush_new()
            taken[name] = changed.count / changed.flush()
    return taken


def used_memory(client: Any) -> int:
    """Bytes that the server has allocated for what it holds, beside its buffers."""
    return int(client.info("memory")["used_memory_dataset"] + _overhead(client))


def _overhead(client: Any) -> int:
    """Of its tables."""
    told = client.memory_stats().get("db.0") or {}
    return int(sum(told.get(f"overhead.hashtable.{name}", 0) for name in ("main", "expires")))


def _load(cached: Any, user_ids: range) -> Any:
    """A load of anyone."""
    first, last = user_ids[0], user_ids[-1]
    return lambda: cached.get(random.randint(first, last))


def _loads(few: int, many: int, options: Options) -> Figure:
    """Beside the servers of many users, those of a few."""
    times = options.scaled(500, short=20)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        from aevon.embedded import embedded_servers

        other = stack.enter_context(embedded_servers(Path(folder)))
        urls = {
            many: {},
            few: {
                "DATABASE_URL": str(other.database_url),
                "DRAGONFLY_URL": str(other.dragonfly_url),
            },
        }
        sides = {}
        for users in (many, few):
            side = apart("benchmarks.growth:loads", users, times=times, **os.environ | urls[users])
            sides |= stack.enter_context(side)
        taken = in_turns(sides, rounds=options.many)
    ours, limit = (taken[f"load, {users:,} users"] for users in (many, few))
    target = Target(f"time, of {few:,} users'", ratio(ours, limit), at_most=1.1)
    title = "Load a PsycheState that is cached, of many users"
    return Figure("P2", title, "s", taken, [target], [ON_LOADS])


def loads(users: str) -> Calls:
    """Of this process's servers, with so many users, all of them cached."""
    from django.core.management import call_command

    from aevon.cache import maintenance, resources
    from benchmarks import crowd
    from klepsydra.models import PsycheState

    call_command("migrate", verbosity=0)
    user_ids = crowd.grow(int(users))
    maintenance.warm_up([resources.resource("psyche")])
    return {f"load, {int(users):,} users": _load(PsycheState.cached, user_ids)}
