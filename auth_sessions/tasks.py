"""Celery tasks; `aevon/celery.py` has their periods."""

import logging

from celery import shared_task

from auth_sessions import services

logger = logging.getLogger(__name__)


@shared_task(name="auth_sessions.forget_old")
def forget_old() -> None:
    """Delete the records of sessions that were over long ago."""
    logger.info("Records of old sessions deleted: %s", services.forget_old_sessions())
