"""What the logs say in one line."""

import logging
from typing import Final

import psycopg
from django.core.exceptions import DisallowedHost
from django.db import InterfaceError, OperationalError
from kombu.exceptions import OperationalError as BrokerError

_DATABASE: Final = (OperationalError, InterfaceError, psycopg.OperationalError)
# SQLSTATE: connection exception, operator intervention (shutdown, recovery). None: no connection.
_AWAY: Final = ("08", "57P")


class InOneLine(logging.Filter):
    """Tells an outage in one line, because it fails everything alike and a hundred lines of
    traceback at each try say no more; and a foreign Host header, which says all by itself. Every
    other failure keeps its traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always lets the record through."""
        known = _known(record.exc_info[1]) if record.exc_info else None
        if known is not None:
            record.exc_info = record.exc_text = None
            record.msg = f"{_first_line(record.getMessage())} ({_first_line(str(known))})"
            record.args = ()
        return True


def _known(error: BaseException | None) -> BaseException | None:
    """The one that one line is enough for, among the error and its causes."""
    while error is not None and not _is_known(error):
        error = error.__cause__
    return error


def _is_known(error: BaseException) -> bool:
    if not isinstance(error, _DATABASE):
        return isinstance(error, BrokerError | ConnectionError | DisallowedHost)
    driver_error = error.__cause__ if isinstance(error.__cause__, psycopg.Error) else error
    state = getattr(driver_error, "sqlstate", None)
    return state is None or state.startswith(_AWAY)


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0]
