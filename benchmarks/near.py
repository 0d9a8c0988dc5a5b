"""The near cache: what a hit costs, and how late another process' write is seen.

Two plain functions of the server and the database in force, and a table of both.
"""

import random
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.site import seconds, site

ROUNDS = 9
CALLS = 2_000
SAMPLES = 1_000


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


def hit_seconds(user_id: int, *, rounds: int = ROUNDS, calls: int = CALLS) -> dict[str, float]:
    """Seconds of a load of that user's PsycheState, medians over rounds in turn: `near`, `orm`
    (`get(pk)` of the same row) and `hit` (the same load while it is not near)."""
    from klepsydra.models import PsycheState

    def loaded() -> None:
        PsycheState.cached.get(user_id)

    def nearly(times: int) -> float:
        bring(user_id)
        return seconds(loaded, times=times)

    found: dict[str, list[float]] = {"near": [], "orm": [], "hit": []}
    for _ in range(rounds):
        with near():
            found["near"].append(nearly(calls))
        loaded()
        found["hit"].append(seconds(loaded, times=calls // 10))
        found["orm"].append(seconds(lambda: PsycheState.objects.get(pk=user_id), times=calls // 10))
    return {name: statistics.median(taken) for name, taken in found.items()}


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


def main() -> None:
    """Print both."""
    from auth_sessions.models import User
    from klepsydra import services as klepsydra

    user_id = User.objects.create_user("bench").pk
    klepsydra.psyche(user_id)
    taken = hit_seconds(user_id)
    for name, each in taken.items():
        print(f"{name:5} {each * 1e6:8.2f} µs  {each / taken['near']:6.1f} ×")
    for busy in (False, True):
        late = sorted(propagation_seconds(user_id=user_id, busy=busy))
        p50, p99 = (late[int(len(late) * share)] * 1000 for share in (0.5, 0.99))
        what = "a busy process" if busy else "a quiet process"
        print(f"{what}: p50 {p50:.2f} ms, p99 {p99:.2f} ms, at most {late[-1] * 1000:.2f} ms")


if __name__ == "__main__":
    with site():
        main()
