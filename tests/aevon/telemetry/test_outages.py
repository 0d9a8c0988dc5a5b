"""An outage in the log: when it begins, once a minute, and when it ends."""

import logging
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery.beat import SchedulingError
from celery.worker.consumer.consumer import TERMINATING_TASK_ON_RESTART_AFTER_A_CONNECTION_LOSS
from django.db import OperationalError, connection
from django.db.backends.signals import connection_created
from kombu.exceptions import OperationalError as BrokerError

from aevon.cache import CacheUnavailable
from aevon.telemetry import outages

AWAY = OperationalError("connection refused")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """`clock[0]` is the time."""
    now = [1000.0]
    monkeypatch.setattr("aevon.telemetry.outages.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def told(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the settings' handler is given to print, as "LEVEL message"."""
    lines: list[str] = []

    def emit(record: logging.LogRecord) -> None:
        lines.append(f"{record.levelname} {record.getMessage()}")

    handler = next(each for each in logging.getLogger().handlers if each.name == "console")
    monkeypatch.setattr(handler, "emit", emit)
    outages._outages.clear()
    yield lines
    outages._outages.clear()


def fail(error: BaseException = AWAY, name: str = "aevon.tests", text: str = "failed") -> None:
    """A record with this error."""
    logging.getLogger(name).error(text, exc_info=error)


def test_an_outage_from_its_beginning_to_its_end(told: list[str], clock: list[float]) -> None:
    """Three lines of a minute and a half, with what was left out."""
    for _ in range(90):
        fail()
        clock[0] += 1
    outages.over(outages.POSTGRESQL)
    outages.over(outages.POSTGRESQL)
    assert told == [
        "ERROR failed (connection refused)",
        "ERROR failed (connection refused) (59 lines of postgresql left out)",
        "WARNING postgresql is back (after 90 s, 88 lines of it left out)",
    ]


def test_an_outage_that_comes_and_goes(told: list[str], clock: list[float]) -> None:
    """Is told no more often than one that stays; what was left out is counted in the next line."""
    for _ in range(60):
        fail()
        outages.over(outages.POSTGRESQL)
        clock[0] += 1
    fail()
    assert told == [
        "ERROR failed (connection refused)",
        "WARNING postgresql is back (after 0 s, 0 lines of it left out)",
        "ERROR failed (connection refused) (59 lines of postgresql left out)",
    ]


def test_two_outages_are_two(told: list[str]) -> None:
    """One says nothing of the other, nor the end of one of the other's end."""
    fail()
    fail(CacheUnavailable("connection: refused"))
    outages.over(outages.DRAGONFLY)
    fail()
    assert told == [
        "ERROR failed (connection refused)",
        "ERROR failed (connection: refused)",
        "WARNING dragonfly is back (after 0 s, 0 lines of it left out)",
    ]


def test_a_connection_is_the_end_for_postgresql(told: list[str]) -> None:
    """As Django makes one."""
    fail()
    connection_created.send(sender=None, connection=connection)
    assert told[1:] == ["WARNING postgresql is back (after 0 s, 0 lines of it left out)"]


def not_sent() -> BaseException:
    """What beat raises, in the middle of the broker's own error."""
    try:
        try:
            raise BrokerError("no broker")
        except BrokerError:
            raise SchedulingError("Couldn't apply scheduled task") from None
    except SchedulingError as error:
        error.__suppress_context__ = False
        return error


@pytest.mark.parametrize(
    "make", [lambda: BrokerError("no broker"), not_sent, ConnectionRefusedError]
)
def test_the_broker_of_celery(told: list[str], make: Callable[[], BaseException]) -> None:
    """One outage, of whatever logger of Celery's, and in one line, with the error as an argument,
    too."""
    fail(make(), "celery.beat", "Message Error\nand the stack")
    logging.getLogger("celery.worker.consumer").warning("lost\n(%r)", BrokerError("no broker"))
    assert [line.splitlines() for line in told] == [[told[0]]]


def test_a_task_that_a_lost_connection_ends(told: list[str]) -> None:
    """Celery's page of it is a line."""
    logger = logging.getLogger("celery.worker.consumer.consumer")
    logger.warning(TERMINATING_TASK_ON_RESTART_AFTER_A_CONNECTION_LOSS, "aevon.cache.drain[1]")
    (line,) = told
    assert line.startswith("WARNING Task aevon.cache.drain[1] cannot be acknowledged")
    assert line.endswith("Terminating it instead.")
    assert "\n" not in line


def test_the_error_of_somebody_elses_connection_is_no_outage(told: list[str]) -> None:
    """All of them are told."""
    for _ in range(3):
        fail(ConnectionRefusedError("the language model"))
    assert len(told) == 3


def test_a_foreign_host_is_a_warning_once_a_minute(told: list[str], clock: list[float]) -> None:
    """Scanners send it all day, and nothing is broken."""
    for _ in range(61):
        logging.getLogger("django.security.DisallowedHost").error("Invalid HTTP_HOST header: 'x'.")
        clock[0] += 1
    assert told == [
        "WARNING Invalid HTTP_HOST header: 'x'.",
        "WARNING Invalid HTTP_HOST header: 'x'. (59 lines of refused hosts left out)",
    ]


def test_what_is_told_quietly_is_never_left_out(told: list[str]) -> None:
    """Who has asked for DEBUG wants all of it."""
    logger = logging.getLogger("aevon.tests")
    logger.setLevel(logging.DEBUG)
    for _ in range(3):
        logger.debug("stays away", exc_info=AWAY)
    logger.setLevel(logging.NOTSET)
    assert len(told) == 3


def test_an_error_that_looks_alike_is_no_outage(told: list[str]) -> None:
    """A bug while PostgreSQL is away is a bug, and is told each time with its traceback."""
    bug: Any = ValueError("a bug")
    bug.__context__ = AWAY
    for _ in range(2):
        fail(bug)
    assert told == ["ERROR failed"] * 2


def test_a_forked_child_has_told_nothing(told: list[str]) -> None:
    """Its parent's outage is told by it, too, though the parent's lock was held as it began."""
    fail()
    with outages._lock:
        child = os.fork()
        if not child:
            lines = len(told)
            signal.alarm(20)  # who waits for the lock waits for ever
            try:
                fail()
            finally:
                os._exit(len(told) - lines)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
