"""One reader for all who ask for the same at a time."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aevon.cache.flights import Flights
from tests.waiting import eventually


class Source:
    """Something to read that counts its readers, and lets them end when it is told to."""

    def __init__(self) -> None:
        self.value: Any = "old"
        self.reads = 0
        self.may_end = threading.Event()

    def read(self) -> Any:
        """What was there when it was asked."""
        value = self.value
        self.reads += 1
        assert self.may_end.wait(10)
        if isinstance(value, BaseException):
            raise value
        return value


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(40) as pool:
        yield pool


Ask = Callable[[], Any]


@pytest.fixture
def ask(source: Source, threads: ThreadPoolExecutor, askers: list[Any]) -> Ask:
    """`ask()`: somebody asks, and waits by now, or reads; the future answer."""
    flights = Flights()

    def submit() -> Any:
        before = len(askers)
        future = threads.submit(flights.share, "it", source.read)
        assert eventually(lambda: len(askers) > before and source.reads)
        return future

    return submit


def test_askers_during_a_read(ask: Ask, source: Source) -> None:
    """They share the next one, and no third is made."""
    first, *others = [ask() for _ in range(20)]
    assert source.reads == 1
    source.value = "new"
    source.may_end.set()
    assert first.result(10) == "old"
    assert [each.result(10) for each in others] == ["new"] * 19
    assert source.reads == 2


def test_askers_of_different_things(threads: ThreadPoolExecutor) -> None:
    """They do not wait for each other."""
    flights, source = Flights(), Source()
    slow = threads.submit(flights.share, "it", source.read)
    assert eventually(lambda: source.reads == 1)
    assert flights.share("another", lambda: "at once") == "at once"
    source.may_end.set()
    assert slow.result(10) == "old"


def test_asker_after_the_end_of_a_read(ask: Ask, source: Source) -> None:
    """Nothing is kept."""
    source.may_end.set()
    assert ask().result(10) == "old"
    source.value = "new"
    assert ask().result(10) == "new"
    assert source.reads == 2


@pytest.mark.parametrize("trouble", [ValueError("no"), KeyboardInterrupt()])
def test_read_that_fails(ask: Ask, source: Source, trouble: BaseException) -> None:
    """Who read learns why; whoever shares such a read reads once more."""
    first = ask()
    source.value = trouble
    second, third = ask(), ask()
    source.may_end.set()
    assert first.result(10) == "old"
    with pytest.raises(type(trouble)):
        second.result(10)
    with pytest.raises(type(trouble)):
        third.result(10)
    assert source.reads == 3
    source.value = "well again"
    assert ask().result(10) == "well again"


def test_asker_who_is_interrupted_before_its_turn(
    ask: Ask, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for it for ever."""
    first = ask()

    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("aevon.cache.flights.wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            ask().result(10)
    after = ask()
    source.may_end.set()
    assert (first.result(10), after.result(10)) == ("old", "old")


def test_fork_during_a_read() -> None:
    """The child, in which nobody reads, reads itself."""
    flights, source = Flights(), Source()
    reader = threading.Thread(target=flights.share, args=("it", source.read))
    reader.start()
    assert eventually(lambda: source.reads == 1)
    child = os.fork()
    if child == 0:
        os._exit(flights.share("it", lambda: 42))
    assert eventually(lambda: os.waitpid(child, os.WNOHANG) == (child, 42 << 8))
    source.may_end.set()
    reader.join(10)
