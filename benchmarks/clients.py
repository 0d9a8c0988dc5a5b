"""How much work many clients get done at once: loads by threads, by processes, and over HTTP."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks import wrk
from benchmarks.apart import Calls, apart
from benchmarks.measure import Curve, Options, Result, Side, at_once, in_turns
from benchmarks.served import FORWARDED, OURS, environment, served
from benchmarks.site import site

CLIENTS: Final = (1, 2, 4, 8, 16)
USERS: Final = 1_000
WORKERS: Final = 2
THREADS, PROCESSES = "loads, threads of a process", "loads, processes"
HTTP = f"validate/ over HTTP, {WORKERS} workers"
ON_CLIENTS = (
    "Clients, servers and wrk share the machine's cores: beyond their number nothing can rise, "
    "and what is looked for is that nothing falls. Threads of one process share Python's lock."
)


def figures(options: Options) -> Iterator[Result]:
    """The curve by clients."""
    clients = CLIENTS[:2] if options.short else CLIENTS
    with site() as folder, ExitStack() as stack:
        series = {
            THREADS: _threads(clients, stack),
            PROCESSES: _processes(clients, stack),
        }
        if wrk.is_there():
            series[HTTP] = _http(clients, options, folder, stack)
        sides = {
            f"{name}: {count}": side
            for name, each in series.items()
            for count, side in each.items()
        }
        taken = in_turns(sides, rounds=options.rounds)
    points = {
        name: [(float(count), median(taken[f"{name}: {count}"])) for count in each]
        for name, each in series.items()
    }
    yield Curve(
        "by-clients", "Many clients at once", "clients", "calls/s", points, notes=[ON_CLIENTS]
    )


def _threads(clients: Sequence[int], stack: ExitStack) -> dict[int, Side]:
    every = stack.enter_context(apart("benchmarks.clients:threads", *clients, times=1))
    return {count: every[str(count)] for count in clients}


def _processes(clients: Sequence[int], stack: ExitStack) -> dict[int, Side]:
    every = [
        stack.enter_context(apart("benchmarks.clients:threads", 1, times=1))["1"]
        for _ in range(max(clients))
    ]
    return {count: partial(at_once, every[:count]) for count in clients}


def _http(
    clients: Sequence[int], options: Options, folder: Path, stack: ExitStack
) -> dict[int, Side]:
    from auth_sessions import services
    from auth_sessions.models import User

    _, tokens = services.open_session(User.objects.create_user("client"))
    url = stack.enter_context(served(OURS, workers=WORKERS, **environment(folder)))
    asked = partial(
        wrk.requests_a_second,
        f"{url}/api/v1/auth/validate/",
        seconds=options.scaled(2, short=1),
        headers={"Authorization": f"Bearer {tokens.access}", **FORWARDED},
    )
    return {count: partial(asked, connections=count) for count in clients}


def threads(*counts: str) -> Calls:
    """Loads a second by so many threads, of users drawn at random, all of them cached."""
    from aevon.cache import maintenance, resources
    from benchmarks import crowd
    from klepsydra.models import PsycheState

    user_ids = crowd.grow(USERS)
    maintenance.warm_up([resources.resource("psyche")])

    def load() -> object:
        return PsycheState.cached.get(random.choice(user_ids))

    def rate(count: int) -> float:
        return at_once([partial(_rate, load)] * count)

    return {count: partial(rate, int(count)) for count in counts}


def _rate(call: Callable[[], object], during: float = 0.5) -> float:
    """How often in a second, for half a second."""
    began, calls = time.perf_counter(), 0
    while (taken := time.perf_counter() - began) < during:
        call()
        calls += 1
    return calls / taken
