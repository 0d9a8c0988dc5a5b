"""Celery tasks; `aevon/celery.py` has their periods."""

import logging

from celery import shared_task

from aevon.cache import skipped_while_away
from beep import services

logger = logging.getLogger(__name__)


@shared_task(name="beep.forget_old")
def forget_old() -> None:
    """Delete the turns that are older than they are kept."""
    with skipped_while_away():
        logger.info("Old turns deleted: %s", services.forget_old_turns())
