"""The listener: makes the cache follow what others write, with psql or from another service.

Triggers note every change of a cached row in the outbox (triggers.py). They notify when the writer
is not one of the application's own connections, which tell the cache themselves; what these could
not tell is found by looking twice a second, and what was noted while nobody listened, at the start.
"""

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import psycopg
from django.db import Error as DjangoDatabaseError
from django.db import close_old_connections, connection

from aevon.cache import processes, resources
from aevon.cache.connection import CacheUnavailable
from aevon.cache.triggers import CHANNEL

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
RETRY_SECONDS: Final = 1.0
STOP_SECONDS: Final = 0.2
# A connection that was cut without a word is noticed after 11 s. Until then the poll does its work.
CONNECTION: Final[dict[str, Any]] = {
    "application_name": "aevon listener",
    "autocommit": True,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}
# The pool raises the driver's own errors, unwrapped.
AWAY: Final = (DjangoDatabaseError, psycopg.Error)


def listen(stop: threading.Event) -> None:
    """Repair what the outbox is told of, until `stop` is set; returns within a second of that,
    unless a server that is frozen holds it.

    Any number of processes may do this at once. PostgreSQL away: logged once, and tried again each
    second. Cache away: the outbox keeps what waits.
    """
    away = False
    while not stop.is_set():
        try:
            for _ in _drains(stop):
                if away:
                    logger.info("The listener is back")
                away = False
                processes.worked()
        except AWAY as error:
            if not away:
                logger.warning("The listener waits for PostgreSQL: %s", _first_line(error))
            away = True
            processes.worked()  # to wait for PostgreSQL is what it is there for, too
            stop.wait(RETRY_SECONDS)


def _drains(stop: threading.Event) -> Iterator[None]:
    """Drain the outbox at once, after each notification, and every `POLL_SECONDS`."""
    with psycopg.connect(**{**connection.get_connection_params(), **CONNECTION}) as listening:
        # Before the first look: what is written after it notifies.
        listening.execute(f"LISTEN {CHANNEL}")
        while not stop.is_set():
            _drain()
            yield
            _wait(listening, stop)


def _drain() -> None:
    try:
        resources.repair_waiting()
    except CacheUnavailable as error:
        logger.debug("The outbox waits for the cache: %s", error)
    finally:
        # As after a request: a connection that broke is not used again.
        close_old_connections()


def _wait(listening: psycopg.Connection[Any], stop: threading.Event) -> None:
    """Wait for a notification, and take all that have come: one drain serves them together."""
    deadline = time.monotonic() + POLL_SECONDS
    while not stop.is_set() and (left := deadline - time.monotonic()) > 0:
        if list(listening.notifies(timeout=min(left, STOP_SECONDS), stop_after=1)):
            return


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
