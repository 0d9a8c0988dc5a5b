"""Celery tasks; `aevon/celery.py` has their periods."""

import logging
import time
from typing import Any, Final

from celery import shared_task
from celery.signals import worker_shutdown
from django.conf import settings
from kombu.exceptions import OperationalError

from aevon.cache import skipped_while_away
from canvas import services

logger = logging.getLogger(__name__)

# More unsaved canvases than this are shared out to all workers.
SHARED_FROM: Final = 5_000


@shared_task(name="canvas.persist")
def persist() -> None:
    """Run one write-behind flush."""
    with skipped_while_away():
        if services.unsaved().unsaved < SHARED_FROM or not _shared_out():
            logger.info("%s", services.persist_in_time())


@shared_task(name="canvas.persist_shard")
def persist_shard(shard: int, began: float) -> None:
    """Run one part of a flush that began then (Unix seconds)."""
    with skipped_while_away():
        logger.info("%s", services.persist_in_time(shards=[shard], began=began))


@shared_task(name="canvas.persist_backlog")
def persist_backlog() -> None:
    """Run a flush before its time where too much is unsaved."""
    with skipped_while_away():
        if services.backlog_is_due():
            persist()


def _shared_out() -> bool:
    """Whether the broker has taken a task for each shard. Those it took before it went away do no
    harm beside the flush that is then made here."""
    began = time.time()
    try:
        for shard in services.ALL_SHARDS:
            persist_shard.apply_async((shard, began), expires=settings.CANVAS_PERSIST_SECONDS)
    except OperationalError:
        return False
    return True


@worker_shutdown.connect
def persist_at_worker_end(**_: Any) -> None:
    """What is unsaved should not wait for a worker that may be long in coming."""
    services.persist_at_worker_end()
