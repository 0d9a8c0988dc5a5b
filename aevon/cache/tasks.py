"""Celery tasks of the cache layer, and what its processes report."""

from typing import Any, Final

from celery import shared_task
from celery.concurrency.prefork import TaskPool
from celery.signals import (
    beat_init,
    task_postrun,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutdown,
)

from aevon.cache import history, processes, resources, stats, task_metrics
from aevon.cache.failsafe import skipped_while_away
from aevon.cache.spot_check import spot_check

assert task_metrics  # noqa: S101  it listens to the signals

AUDIT_SAMPLE: Final = 200  # users per keyspace


@shared_task(name="cache.drain_outbox")
def drain_outbox() -> None:
    """Repair what could not be told to the cache."""
    with skipped_while_away():
        resources.repair_waiting()


@shared_task(name="cache.audit")
def audit() -> None:
    """Compare a sample with PostgreSQL, for `/metrics`."""
    with skipped_while_away():
        spot_check(AUDIT_SAMPLE)


@shared_task(name="cache.note")
def note() -> None:
    """Note how the cache is, for the dashboard; a gap where it is away."""
    with skipped_while_away():
        history.note(stats.gauges())


@worker_process_init.connect
def report_as_worker(**_: Any) -> None:
    """Each child of a pool of processes counts for itself."""
    processes.start("worker")


@worker_ready.connect
def report_as_worker_alone(sender: Any, **_: Any) -> None:
    """A worker without children does the work itself. One with children must not have a thread
    when it forks."""
    if not isinstance(sender.pool, TaskPool):
        processes.start("worker")


@beat_init.connect
def report_as_beat(**_: Any) -> None:
    """Its scheduler says when it ticks."""
    processes.start("beat")


@task_postrun.connect
def worked(**_: Any) -> None:
    """Whatever became of the task: the worker took it and is done."""
    processes.worked()


@worker_process_shutdown.connect
@worker_shutdown.connect
def report_the_end(**_: Any) -> None:
    """Children of a pool end without Python's own way out."""
    processes.end()
