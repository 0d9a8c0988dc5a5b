"""The circuit breaker."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from aevon.cache.breaker import Breaker


class Clock:
    """Time that moves when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Recovery:
    """What the breaker calls: `outcomes` in turn, then True; held up while `gate` is shut."""

    def __init__(self) -> None:
        self.outcomes: list[bool | Exception] = []
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        self.calls = 0
        self.thread = ""

    def __call__(self) -> bool:
        self.calls += 1
        self.thread = threading.current_thread().name
        self.begun.set()
        assert self.gate.wait(10)
        outcome = self.outcomes.pop(0) if self.outcomes else True
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture
def clock() -> Clock:
    """A clock at 0."""
    return Clock()


@pytest.fixture
def recovery() -> Iterator[Recovery]:
    """A recovery that succeeds; none is left running."""
    made = Recovery()
    yield made
    made.gate.set()
    finish()


@pytest.fixture
def breaker(clock: Clock, recovery: Recovery) -> Breaker:
    """Open for 10 s after a failure."""
    return Breaker(open_seconds=10, recover=recovery, clock=clock)


def running() -> list[threading.Thread]:
    """The recoveries under way."""
    return [thread for thread in threading.enumerate() if thread.name == "cache-recovery"]


def finish() -> None:
    """Let the recoveries under way come to their end."""
    for thread in running():
        thread.join(10)


def recover(breaker: Breaker, clock: Clock) -> None:
    """Ten seconds pass, somebody asks, and the recovery comes to its end."""
    clock.now += 10
    assert not breaker.allows()
    finish()


def test_breaker_without_a_failure(breaker: Breaker, recovery: Recovery) -> None:
    """Everybody gets through, and nothing needs recovery."""
    assert breaker.state == "closed"
    assert breaker.allows()
    assert recovery.calls == 0


def test_first_failure(breaker: Breaker, clock: Clock, recovery: Recovery) -> None:
    """It opens: nobody gets through, and nobody tries, until its time has passed."""
    breaker.failed()
    assert breaker.state == "open"
    clock.now = 9.9
    assert not breaker.allows()
    assert (recovery.calls, running()) == (0, [])


def test_recovery_that_succeeds(breaker: Breaker, clock: Clock, recovery: Recovery) -> None:
    """In a thread of its own; the breaker closes for all."""
    breaker.failed()
    recover(breaker, clock)
    assert (recovery.calls, recovery.thread) == (1, "cache-recovery")
    assert breaker.state == "closed"
    assert breaker.allows()


def test_every_state_is_told(clock: Clock, recovery: Recovery) -> None:
    """In the order in which they come: for the metrics."""
    told: list[str] = []
    breaker = Breaker(open_seconds=10, recover=recovery, clock=clock, changed=told.append)
    recovery.gate.clear()
    breaker.failed()
    clock.now = 10
    assert not breaker.allows()
    assert told == ["open", "half-open"]
    recovery.gate.set()
    finish()
    assert told == ["open", "half-open", "closed"]


def test_recovery_under_way(breaker: Breaker, clock: Clock, recovery: Recovery) -> None:
    """It closes only after the repairs: until then nobody gets through."""
    recovery.gate.clear()
    breaker.failed()
    clock.now = 10
    assert breaker.state == "half-open"
    assert [breaker.allows() for _ in range(100)] == [False] * 100
    assert recovery.begun.wait(10)
    clock.now = 100
    assert not breaker.allows()
    assert breaker.state == "half-open"
    recovery.gate.set()
    finish()
    assert (breaker.state, recovery.calls) == ("closed", 1)


def test_calls_of_the_recovery_itself(clock: Clock) -> None:
    """They are let through, while everybody else's are not."""
    seen: list[bool] = []
    asked, answered = threading.Event(), threading.Event()

    def repair() -> bool:
        seen.append(breaker.allows())
        asked.set()
        return answered.wait(10)

    breaker = Breaker(open_seconds=10, recover=repair, clock=clock)
    breaker.failed()
    clock.now = 10
    breaker.allows()
    assert asked.wait(10)
    seen.append(breaker.allows())
    answered.set()
    finish()
    assert seen == [True, False]


def test_recovery_that_fails(breaker: Breaker, clock: Clock, recovery: Recovery) -> None:
    """It stays open for another period, and then is tried again."""
    recovery.outcomes = [False]
    breaker.failed()
    recover(breaker, clock)
    assert breaker.state == "open"
    clock.now = 19.9
    assert not breaker.allows()
    assert (recovery.calls, running()) == (1, [])
    clock.now = 10
    recover(breaker, clock)
    assert (breaker.state, recovery.calls) == ("closed", 2)


def test_recovery_that_raises(
    breaker: Breaker, clock: Clock, recovery: Recovery, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, because nobody else would hear of it, and is tried again."""
    recovery.outcomes = [ZeroDivisionError("a slip")]
    breaker.failed()
    recover(breaker, clock)
    assert breaker.state == "open"
    assert "could not be repaired" in caplog.text
    assert "a slip" in caplog.text
    recover(breaker, clock)
    assert breaker.state == "closed"


def test_recovery_for_which_there_is_no_thread(
    breaker: Breaker, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers hear nothing of it, and it is tried again."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    breaker.failed()
    clock.now = 10
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert not breaker.allows()
    assert breaker.state == "open"
    recover(breaker, clock)
    assert breaker.state == "closed"


def test_sixteen_callers_when_a_recovery_is_due(
    breaker: Breaker, clock: Clock, recovery: Recovery
) -> None:
    """One recovery, and not one of them gets through before its end."""
    recovery.gate.clear()
    breaker.failed()
    clock.now = 10
    barrier = threading.Barrier(16)

    def call(_: int) -> bool:
        barrier.wait()
        return breaker.allows()

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(call, range(16))) == [False] * 16
    recovery.gate.set()
    finish()
    assert (recovery.calls, breaker.state) == (1, "closed")


def test_writers_once_the_server_can_be_told(
    breaker: Breaker, clock: Clock, recovery: Recovery
) -> None:
    """They get through before readers do; what they missed before is left to the recovery."""
    recovery.gate.clear()
    breaker.failed()
    clock.now = 10
    assert not breaker.allows(telling=True)
    assert recovery.begun.wait(10)
    assert breaker.missed()
    breaker.can_be_told()
    assert (breaker.allows(telling=True), breaker.allows(), breaker.missed()) == (
        True,
        False,
        False,
    )
    recovery.gate.set()
    finish()
    assert (breaker.state, recovery.calls) == ("closed", 1)
    breaker.failed()
    assert not breaker.allows(telling=True)


def test_failure_during_the_recovery(breaker: Breaker, clock: Clock, recovery: Recovery) -> None:
    """It may be a writer's who could not tell: the breaker stays open."""
    recovery.gate.clear()
    breaker.failed()
    clock.now = 10
    breaker.allows()
    assert recovery.begun.wait(10)
    breaker.can_be_told()
    breaker.failed()
    assert not breaker.allows(telling=True)
    recovery.gate.set()
    finish()
    assert breaker.state == "open"


def test_note_during_the_recovery(breaker: Breaker, clock: Clock, recovery: Recovery) -> None:
    """The recovery may have passed it over: it looks again before the breaker closes."""
    recovery.gate.clear()
    breaker.failed()
    clock.now = 10
    breaker.allows()
    assert recovery.begun.wait(10)
    breaker.noted()
    recovery.gate.set()
    finish()
    assert (breaker.state, recovery.calls) == ("closed", 2)


def test_notes_that_never_end(clock: Clock) -> None:
    """The breaker closes all the same."""
    looks: list[int] = []

    def repair() -> bool:
        looks.append(1)
        breaker.noted()
        return True

    breaker = Breaker(open_seconds=10, recover=repair, clock=clock)
    breaker.failed()
    recover(breaker, clock)
    assert (breaker.state, len(looks)) == ("closed", 5)


def test_note_during_a_recovery_that_then_fails(
    breaker: Breaker, clock: Clock, recovery: Recovery
) -> None:
    """The second look counts: it stays open."""
    recovery.outcomes = [True, False]
    recovery.gate.clear()
    breaker.failed()
    clock.now = 10
    breaker.allows()
    assert recovery.begun.wait(10)
    breaker.noted()
    recovery.gate.set()
    finish()
    assert (breaker.state, recovery.calls) == ("open", 2)


def test_write_missed_before_the_recovery(
    breaker: Breaker, clock: Clock, recovery: Recovery
) -> None:
    """The recovery finds it: one is enough."""
    breaker.failed()
    assert breaker.missed()
    recover(breaker, clock)
    assert (breaker.state, recovery.calls) == ("closed", 1)


def test_write_that_finds_the_breaker_closed_again(breaker: Breaker, clock: Clock) -> None:
    """It is told: the cache can be told now."""
    breaker.failed()
    recover(breaker, clock)
    assert not breaker.missed()
    assert breaker.allows()


def test_failure_after_a_recovery(breaker: Breaker, clock: Clock) -> None:
    """It opens again, for a whole period."""
    breaker.failed()
    recover(breaker, clock)
    breaker.failed()
    clock.now += 9.9
    assert not breaker.allows()
    assert breaker.state == "open"


def test_caller_that_waits_while_the_breaker_closes(breaker: Breaker) -> None:
    """Who asked while it was open and gets its turn after it closed goes through."""
    breaker.failed()
    breaker._lock.acquire()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(breaker.allows)
        while not waiting.running():
            pass
        breaker._retry_at = None
        breaker._lock.release()
        assert waiting.result()
