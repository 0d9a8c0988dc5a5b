"""Celery tasks of the cache layer."""

import logging
from typing import Final

import psycopg
from celery import shared_task
from django.db import InterfaceError, OperationalError

from aevon.cache import resources
from aevon.cache.connection import CacheUnavailable
from aevon.cache.spot_check import spot_check

logger = logging.getLogger(__name__)

AUDIT_SAMPLE: Final = 200  # users per keyspace
# The pool raises the driver's own error, unwrapped.
AWAY: Final = (CacheUnavailable, OperationalError, InterfaceError, psycopg.OperationalError)


@shared_task(name="cache.drain_outbox")
def drain_outbox() -> None:
    """Repair what could not be told to the cache; waits for the next beat while it is away."""
    try:
        resources.repair_waiting()
    except CacheUnavailable:
        return


@shared_task(name="cache.audit")
def audit() -> None:
    """Compare a sample with PostgreSQL, for `/metrics`; left out while one of both is away."""
    try:
        spot_check(AUDIT_SAMPLE)
    except AWAY as error:
        logger.info("No audit now: %s", error)
