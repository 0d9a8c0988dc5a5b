"""What a record looks like: a line for people, or an object for programs.

structlog writes everybody's records, Django's, Celery's, granian's and our own, because all of
them go through the one handler of `settings.LOGGING`. What is known of the request or task at hand
stands in each of them. A record's `extra` does not, unless structlog made it: Django puts whole
requests there, Celery a task's arguments.
"""

import json
import logging
import re
import sys
from collections.abc import Mapping
from contextvars import ContextVar, Token
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

import structlog
from django.http import HttpRequest
from structlog.stdlib import BoundLogger, LoggerFactory, ProcessorFormatter, filter_by_level
from structlog.typing import EventDict

from aevon import env
from aevon.telemetry.redaction import redact
from aevon.telemetry.routes import route

Facts = Mapping[str, Any]

_COLOURS: Final = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[1;31m"}
_PLAIN: Final = "\x1b[0m"
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
# What is in every line anyway, or says who speaks where the line begins.
_OF_EVERY_LINE: Final = ("timestamp", "level", "logger", "event", "exception", "exceptionType")

_known: ContextVar[Facts] = ContextVar("known", default=MappingProxyType({}))


def know(**facts: str | int) -> Token[Facts]:
    """Have these stand in every record from now on, in this thread or task."""
    return _known.set({**_known.get(), **facts})


def forget(token: Token[Facts]) -> None:
    """Know again what was known before that `know`."""
    _known.reset(token)


def known(name: str) -> Any:
    """One of the facts; None where it is not known."""
    return _known.get().get(name)


def formatter(form: str = "") -> ProcessorFormatter:
    """For `LOGGING`; `form` is one of `env.LOG_FORMATS`."""
    render = _as_object if (form or env.log_format()) == "json" else _as_line
    return ProcessorFormatter(processors=[_told, redact, render])


def _told(_logger: Any, _name: str, event: EventDict) -> EventDict:
    """What is said of a record, in the order in which it is read."""
    record: logging.LogRecord = event.pop("_record")
    del event["_from_structlog"]
    raised = event.pop("exc_info", None)
    return {
        "timestamp": _timestamp(record.created),
        "level": record.levelname,
        "logger": record.name,
        "event": _without_path(event.pop("event"), record),
        **_known.get(),
        **_task(record),
        **event,
        **(_exception(raised) if raised else {}),
    }


def _without_path(text: Any, record: logging.LogRecord) -> str:
    """The text with the route instead of the path, where Django tells of a request."""
    request = getattr(record, "request", None)
    if not (isinstance(request, HttpRequest) and len(request.path) > 1):
        return str(text)
    return str(text).replace(request.path, f"/{route(request).lstrip('/')}")


def _timestamp(seconds: float) -> str:
    """RFC 3339, in UTC."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _task(record: logging.LogRecord) -> dict[str, Any]:
    """Which task Celery speaks of outside it: that it was received, or took too long."""
    data = getattr(record, "data", None)
    if not (isinstance(data, dict) and {"name", "id"} <= data.keys()):
        return {}
    return {"task": data["name"], "taskId": data["id"]}


def _exception(raised: Any) -> dict[str, str]:
    """`raised` as logging has it, or the exception itself."""
    if isinstance(raised, BaseException):
        raised = (type(raised), raised, raised.__traceback__)
    if raised[0] is None:
        return {}
    text = logging.Formatter().formatException(raised)
    return {"exceptionType": f"{raised[0].__module__}.{raised[0].__qualname__}", "exception": text}


def _as_object(_logger: Any, _name: str, event: EventDict) -> str:
    return json.dumps(event, default=str, ensure_ascii=False)


def _as_line(_logger: Any, _name: str, event: EventDict) -> str:
    facts = [f"{key}={value}" for key, value in event.items() if key not in _OF_EVERY_LINE]
    said = " ".join([f"{event['logger']}: {event['event']}", *facts])
    text = _harmless("\n".join(filter(None, [said, event.get("exception", "")])))
    return f"{_coloured(event['level'])} {text}"


def _coloured(level: str) -> str:
    """On a terminal alone."""
    colour = _COLOURS.get(level) if sys.stderr.isatty() else None
    return f"{colour}{level:<7}{_PLAIN}" if colour else f"{level:<7}"


def _harmless(text: str) -> str:
    """What a stranger put into a text looks like no line of its own, and steers no terminal."""
    return "\n  ".join(_CONTROL.sub(lambda found: repr(found[0])[1:-1], text).splitlines())


def _raised(_logger: Any, _name: str, event: EventDict) -> EventDict:
    """What is being handled, while it is."""
    return {**event, "exc_info": sys.exc_info()} if event.get("exc_info") is True else event


# For who logs names and values: structlog.get_logger(__name__).info("played", stake=5).
structlog.configure(
    processors=[filter_by_level, _raised, ProcessorFormatter.wrap_for_formatter],
    logger_factory=LoggerFactory(),
    wrapper_class=BoundLogger,
    cache_logger_on_first_use=True,
)
