"""Celery tasks of the cache layer."""

from celery import shared_task

from aevon.cache import resources
from aevon.cache.connection import CacheUnavailable


@shared_task(name="cache.drain_outbox")
def drain_outbox() -> None:
    """Repair what could not be told to the cache; waits for the next beat while it is away."""
    try:
        resources.repair_waiting()
    except CacheUnavailable:
        return
