"""An outage is told once, not with everything that fails of it.

A server that is away fails everything alike, many times a second, and Celery has a page for each
time. So: a line when it begins, at most one a minute while it lasts, with how many were left out,
and a line when it ends. Each process tells of what it sees itself. An outage that comes and goes
is told no more often than one that stays.

A record belongs to an outage by what it says itself (`extra={"outage": "dragonfly"}`), or by the
error in it. It ends with `over`, or with a record that has `extra={"ends": ...}`.
"""

import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import psycopg
import redis
from django.core.exceptions import DisallowedHost
from django.db import InterfaceError, OperationalError
from django.db.backends.signals import connection_created
from kombu.exceptions import OperationalError as BrokerError

logger = logging.getLogger(__name__)

# The names that readiness has for them, too.
POSTGRESQL: Final = "postgresql"
DRAGONFLY: Final = "dragonfly"
BROKER: Final = "broker"
REFUSED_HOSTS: Final = "refused hosts"
COLLECTOR: Final = "collector"  # of traces

REPORT_SECONDS: Final = 60.0

_DATABASE: Final = (OperationalError, InterfaceError, psycopg.OperationalError)
# SQLSTATE: connection exception, operator intervention (shutdown, recovery). None: no connection.
_AWAY: Final = ("08", "57P")
_OF_THE_BROKER: Final = (BrokerError, ConnectionError, redis.RedisError)
# Beat's, which has the broker's own error as what it was raised in the middle of.
_NOT_SENT: Final = "SchedulingError"
# What the consumer says of itself when it had to begin anew too often.
_RESTARTED: Final = "RestartFreqExceeded"
# By its name: its module reads the settings, which this one is a part of.
_CACHE_AWAY: Final = "CacheUnavailable"


@dataclass
class _Outage:
    """What this process has told of one; `began` is None while there is none."""

    began: float | None = None
    told: bool = False
    told_at: float = float("-inf")
    left_out: int = 0
    left_out_in_all: int = 0


_lock = threading.Lock()
_outages: dict[str, _Outage] = {}


class OnceAMinute(logging.Filter):
    """Lets through what is new of an outage, in one line, and everything else."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is told."""
        if ends := getattr(record, "ends", None):
            return _ends(ends, record)
        name = _outage_of(record)
        _shorten(record)
        return name is None or _is_news(name, record)


def over(name: str) -> None:
    """What was away answers. Costs nothing where nothing was."""
    outage = _outages.get(name)
    if outage is not None and outage.began is not None:
        logger.warning("%s is back", name, extra={"ends": name})


def _is_news(name: str, record: logging.LogRecord) -> bool:
    now = time.monotonic()
    with _lock:
        outage = _outages.setdefault(name, _Outage())
        outage.began = now if outage.began is None else outage.began
        if now - outage.told_at < REPORT_SECONDS:
            outage.left_out += 1
            outage.left_out_in_all += 1
            return False
        outage.told, outage.told_at = True, now
        if outage.left_out:
            _add(record, f"{outage.left_out} lines of {name} left out")
        outage.left_out = 0
    return True


def _ends(name: str, record: logging.LogRecord) -> bool:
    """Whether to tell the end: whoever was told of the beginning waits for it."""
    with _lock:
        outage = _outages.get(name) or _Outage()
        began, told, count = outage.began, outage.told, outage.left_out_in_all
        outage.began, outage.told = None, False
        if began is None or not told:
            return False
        outage.left_out = outage.left_out_in_all = 0
    _add(record, f"after {time.monotonic() - began:.0f} s, {count} lines of it left out")
    return True


def _add(record: logging.LogRecord, words: str) -> None:
    record.msg, record.args = f"{record.getMessage()} ({words})", ()


def _outage_of(record: logging.LogRecord) -> str | None:
    """Which outage a record is about, if it is about one."""
    if record.levelno < logging.WARNING:
        return None
    if name := getattr(record, "outage", None):
        return str(name)
    if record.name == "django.security.DisallowedHost":
        # Scanners send them all day; nothing here is broken.
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        return REFUSED_HOSTS
    if record.name.startswith("opentelemetry."):
        return COLLECTOR
    of_celery = _is_of_celery(record)
    return next(filter(None, (_named(error, of_celery) for error in _errors(record))), None)


def _is_of_celery(record: logging.LogRecord) -> bool:
    return record.name.startswith(("celery", "kombu"))


def _errors(record: logging.LogRecord) -> Iterator[BaseException]:
    """Those that a record brings, in its arguments or as what was raised, with their causes."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    raised = record.exc_info[1] if record.exc_info else None
    for each in (raised, *arguments):
        if isinstance(each, BaseException):
            yield from _chain(each)


def _named(error: BaseException, of_celery: bool) -> str | None:
    if _is_named(error, _CACHE_AWAY):
        return DRAGONFLY
    if _is_database_away(error):
        return POSTGRESQL
    if of_celery and (isinstance(error, _OF_THE_BROKER) or _is_named(error, _RESTARTED)):
        return BROKER
    return None


def _is_named(error: BaseException, name: str) -> bool:
    return any(each.__name__ == name for each in type(error).__mro__)


def _is_database_away(error: BaseException) -> bool:
    if not isinstance(error, _DATABASE):
        return False
    driver_error = error.__cause__ if isinstance(error.__cause__, psycopg.Error) else error
    state = getattr(driver_error, "sqlstate", None)
    return state is None or state.startswith(_AWAY)


def _shorten(record: logging.LogRecord) -> None:
    """One line where that says all: of an outage, of a foreign Host header, and where Celery has
    more of them but no error, as of a task that a lost connection ends. Every other failure keeps
    its traceback."""
    raised = record.exc_info[1] if record.exc_info else None
    known = next((error for error in _chain(raised) if _is_known(error)), None)
    if known is not None and isinstance(record.msg, str):
        record.exc_info = record.exc_text = None
        record.msg = f"{_first_line(record.getMessage())} ({_first_line(str(known))})"
        record.args = ()
    elif raised is None and (_is_of_celery(record) or _outage_of(record) is not None):
        record.msg, record.args = " ".join(str(record.getMessage()).split()), ()


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        inside = error.__context__ if _is_named(error, _NOT_SENT) else None
        error = error.__cause__ or inside


def _is_known(error: BaseException) -> bool:
    kinds = BrokerError | ConnectionError | redis.ConnectionError | DisallowedHost
    return _is_database_away(error) or _is_named(error, _CACHE_AWAY) or isinstance(error, kinds)


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0]


def _connected(**_: Any) -> None:
    over(POSTGRESQL)


def _start_afresh() -> None:
    """In a forked child: it has told nothing yet, and the lock may have been held."""
    global _lock  # noqa: PLW0603  one per process is the point
    _lock = threading.Lock()
    _outages.clear()


connection_created.connect(_connected)
os.register_at_fork(after_in_child=_start_afresh)
