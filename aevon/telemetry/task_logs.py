"""Celery speaks as everybody does; every record of a task names it, and the request behind it."""

import logging
import logging.config
from contextvars import Token
from typing import Any, Final

from celery import signals
from django.conf import settings

from aevon.telemetry import logs
from aevon.telemetry.outages import BROKER, over

# The name of the header that carries a request's id to the worker.
REQUEST_ID: Final = "aevon_request_id"

_before: Final[dict[str, Token[logs.Facts]]] = {}


def set_up(loglevel: int | None = None, **_: Any) -> None:
    """Celery brings no handler of its own; `--loglevel` is about its own records, ours are as
    everywhere."""
    logging.config.dictConfig(settings.LOGGING)
    if loglevel:
        logging.getLogger("celery").setLevel(loglevel)


def _sent(headers: dict[str, Any] | None = None, **_: Any) -> None:
    request_id = logs.known("requestId")
    if headers is not None and request_id:
        headers[REQUEST_ID] = request_id


def _broker_answers(**_: Any) -> None:
    """Not when the worker is connected: a broker that is a replica takes connections, too."""
    over(BROKER)


def _begins(task_id: str, task: Any, **_: Any) -> None:
    facts = {"task": task.name, "taskId": task_id}
    if request_id := task.request.get(REQUEST_ID):
        facts["requestId"] = str(request_id)
    _before[task_id] = logs.know(**facts)


def _ended(task_id: str, **_: Any) -> None:
    if token := _before.pop(task_id, None):
        logs.forget(token)


signals.setup_logging.connect(set_up)
signals.before_task_publish.connect(_sent)
signals.after_task_publish.connect(_broker_answers)
signals.task_received.connect(_broker_answers)
signals.task_prerun.connect(_begins)
signals.task_postrun.connect(_ended)
