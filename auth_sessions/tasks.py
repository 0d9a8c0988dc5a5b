"""Celery tasks; `aevon/celery.py` has their periods."""

import logging
from importlib import import_module

from celery import shared_task
from django.conf import settings

from aevon.cache import skipped_while_away
from auth_sessions import services

logger = logging.getLogger(__name__)


@shared_task(name="auth_sessions.forget_old")
def forget_old() -> None:
    """Delete the records of sessions that were over long ago, and the admin's that have run out."""
    with skipped_while_away():
        logger.info("Records of old sessions deleted: %s", services.forget_old_sessions())
        import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()
