"""The circuit breaker."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from aevon.cache.breaker import Breaker


class Clock:
    """Time that moves when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock at 0."""
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    """Opens after 3 failures, for 10 s."""
    return Breaker(failures=3, open_seconds=10, clock=clock)


def fail(breaker: Breaker, times: int) -> None:
    """So many failures in a row."""
    for _ in range(times):
        breaker.failed()


def test_breaker_below_its_limit(breaker: Breaker) -> None:
    """Fewer failures than the limit do not open it."""
    fail(breaker, 2)
    assert breaker.state == "closed"
    assert breaker.allows()


def test_breaker_at_its_limit(breaker: Breaker) -> None:
    """The limit opens it: nobody gets through."""
    fail(breaker, 3)
    assert breaker.state == "open"
    assert not breaker.allows()


def test_success_between_failures(breaker: Breaker) -> None:
    """Only failures in a row count."""
    fail(breaker, 2)
    breaker.succeeded()
    fail(breaker, 2)
    assert breaker.state == "closed"


def test_open_breaker_after_its_time(breaker: Breaker, clock: Clock) -> None:
    """One caller may probe, the others wait."""
    fail(breaker, 3)
    clock.now = 10
    assert breaker.state == "half-open"
    assert [breaker.allows() for _ in range(3)] == [True, False, False]


def test_probe_that_succeeds(breaker: Breaker, clock: Clock) -> None:
    """The breaker closes for all."""
    fail(breaker, 3)
    clock.now = 10
    assert breaker.allows()
    breaker.succeeded()
    assert breaker.state == "closed"
    assert all(breaker.allows() for _ in range(3))


def test_probe_that_fails(breaker: Breaker, clock: Clock) -> None:
    """It stays open for another period."""
    fail(breaker, 3)
    clock.now = 10
    assert breaker.allows()
    breaker.failed()
    clock.now = 19.9
    assert not breaker.allows()
    clock.now = 20
    assert breaker.allows()


def test_probe_that_never_returns(breaker: Breaker, clock: Clock) -> None:
    """The next period has a probe of its own."""
    fail(breaker, 3)
    clock.now = 10
    assert breaker.allows()
    clock.now = 20
    assert breaker.allows()


def test_sixteen_callers_of_a_half_open_breaker(breaker: Breaker, clock: Clock) -> None:
    """Exactly one of them probes."""
    fail(breaker, 3)
    clock.now = 10
    barrier = Barrier(16)

    def call(_: int) -> bool:
        barrier.wait()
        return breaker.allows()

    with ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(call, range(16))) == 1


def test_caller_that_waits_while_the_probe_succeeds(breaker: Breaker, clock: Clock) -> None:
    """Who asked while it was open and gets its turn after it closed goes through."""
    fail(breaker, 3)
    breaker._lock.acquire()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(breaker.allows)
        while not waiting.running():
            pass
        breaker._failed, breaker._retry_at = 0, None
        breaker._lock.release()
        assert waiting.result()
