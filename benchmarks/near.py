"""The near cache: what a hit costs, and how late another process' write is seen."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.measure import (
    Figure,
    Options,
    Result,
    Spread,
    Target,
    exactly,
    ratio,
    seconds,
)
from benchmarks.site import site

CALLS = 2_000
SAMPLES = 1_000
NEAR, HIT, ORM = "near", "the same, not near", "ORM get(pk)"
QUIET, BUSY = "a quiet process", "a process with a thread that computes"
ON_HITS = "The ORM is the product's, whose statements are timed; P1 has a plain one."
ON_DELAYS = (
    "From the acknowledgement of another connection's SET until this process gives the older value "
    "away no more. Whatever happens, that is at most half a second: a clock's word, not the "
    "server's."
)


@contextmanager
def near(entries: int = 1_000) -> Iterator[None]:
    """`psyche` is near, so many entries of it."""
    from django.conf import settings
    from django.test import override_settings

    values = {**settings.AEVON_CACHE, "NEAR_CACHE": {"psyche": entries}}
    with override_settings(AEVON_CACHE=values):
        yield


def bring(user_id: int) -> None:
    """The user's PsycheState is near. Waits for the connection, half a minute at most."""
    from aevon.cache.connection import store
    from klepsydra.models import PsycheState

    deadline = time.monotonic() + 30
    while True:
        PsycheState.cached.get(user_id)
        tracking = store().tracking
        if tracking is not None and tracking.held("psyche", user_id) is not None:
            return
        if time.monotonic() > deadline:
            raise TimeoutError("Nothing comes near: does the server track?")
        time.sleep(0.001)


def hit_seconds(user_id: int, *, rounds: int, calls: int) -> dict[str, list[float]]:
    """Seconds of a load of that user's PsycheState in each round: near, not near, and `get(pk)`."""
    from klepsydra.models import PsycheState

    def loaded() -> None:
        PsycheState.cached.get(user_id)

    def nearly(times: int) -> float:
        bring(user_id)
        return seconds(loaded, times=times)

    few = max(1, calls // 10)
    found: dict[str, list[float]] = {NEAR: [], HIT: [], ORM: []}
    for _ in range(rounds):
        with near():
            found[NEAR].append(nearly(calls))
        loaded()
        found[HIT].append(seconds(loaded, times=few))
        found[ORM].append(seconds(lambda: PsycheState.objects.get(pk=user_id), times=few))
    return found


def propagation_seconds(
    n: int = SAMPLES, *, user_id: int, busy: bool = False, pause_seconds: float = 0.002
) -> list[float]:
    """From another connection's acknowledged SET of that user's state until it is not near any
    more, so many times. 0 where it was gone before the writer knew. `busy`: another thread of this
    process does nothing but count."""
    import redis

    from aevon.cache import conf
    from aevon.cache.connection import store

    ended = threading.Event()
    burner = threading.Thread(target=_burn, args=(ended,))
    found = []
    with near(), redis.Redis.from_url(conf.current().url, protocol=2) as other:
        key = f"psyche:{user_id}"
        bring(user_id)
        state, tracking = other.get(key), store().tracking
        assert tracking is not None
        if busy:
            burner.start()
        try:
            for _ in range(n):
                bring(user_id)
                time.sleep(random.uniform(0, 2 * pause_seconds))
                other.set(key, state)
                began = time.perf_counter()
                gone = began
                while tracking.held("psyche", user_id) is not None:
                    time.sleep(0)
                    gone = time.perf_counter()
                found.append(gone - began)
        finally:
            ended.set()
    return found


def _burn(ended: threading.Event) -> None:
    number = 0
    while not ended.is_set():
        number += 1


def figures(options: Options) -> Iterator[Result]:
    """What a hit costs, and how late another process' write is seen."""
    with site():
        from auth_sessions.models import User
        from klepsydra import services as klepsydra

        user_id = User.objects.create_user("bench").pk
        klepsydra.psyche(user_id)
        yield _hits(options, user_id)
        yield _delays(options, user_id)


def _hits(options: Options, user_id: int) -> Figure:
    taken = hit_seconds(user_id, rounds=options.many, calls=options.scaled(CALLS, short=20))
    targets = [
        Target("times as fast as the ORM", ratio(taken[ORM], taken[NEAR]), at_least=30),
        Target("times as fast as a hit in the cache server", ratio(taken[HIT], taken[NEAR])),
    ]
    return Figure("near", "A load from the near cache", "s", taken, targets, [ON_HITS], [HIT])


def _delays(options: Options, user_id: int) -> Figure:
    n = options.scaled(SAMPLES, short=20)
    late = {
        QUIET: propagation_seconds(n, user_id=user_id),
        BUSY: propagation_seconds(n, user_id=user_id, busy=True),
    }
    targets = [
        Target(f"ms until it is gone, {name}, {share:.0%} stay below", _below(delays, share))
        for name, delays in late.items()
        for share in (0.5, 0.99)
    ]
    title = "Another process' write is seen by the near cache"
    return Figure("near-delay", title, "s", late, targets, [ON_DELAYS], [BUSY])


def _below(delays: list[float], share: float) -> Spread:
    return exactly(sorted(delays)[int(len(delays) * share)] * 1000)
