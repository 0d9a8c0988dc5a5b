"""Celery tasks; `aevon/celery.py` has their periods."""

import logging

from celery import shared_task

from aevon.cache import CacheUnavailable
from canvas import services

logger = logging.getLogger(__name__)


@shared_task(name="canvas.persist")
def persist() -> None:
    """Run one write-behind flush; waits for the next tick while the cache is away."""
    try:
        logger.info("%s", services.persist_now())
    except CacheUnavailable as error:
        logger.warning("Nothing persisted, the cache is away: %s", error)
