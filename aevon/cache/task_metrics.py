"""What Celery's tasks come to and how long they take; and where the worker can be scraped."""

import time
from typing import Any, Final

from celery import signals
from django.conf import settings
from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server

from aevon.cache import shared_metrics

TASKS = Counter(
    "aevon_celery_tasks_total",
    "Runs of tasks by name and outcome (success, failure, retry; revoked, expired: not run).",
    ["task", "outcome"],
)
TASK_SECONDS = Histogram(
    "aevon_celery_task_seconds",
    "How long tasks took, by name.",
    ["task"],
    buckets=(0.01, 0.05, 0.25, 1, 5, 15, 60, 240),
)

_began: Final[dict[str, float]] = {}


@signals.task_prerun.connect
def begun(task_id: str, **_: Any) -> None:
    """A task is about to run."""
    _began[task_id] = time.perf_counter()


@signals.task_postrun.connect
def ended(task_id: str, task: Any, state: str | None = None, **_: Any) -> None:
    """It has run, well or not."""
    TASKS.labels(task.name, (state or "failure").lower()).inc()
    began = _began.pop(task_id, None)
    if began is not None:
        TASK_SECONDS.labels(task.name).observe(time.perf_counter() - began)


@signals.task_revoked.connect
def revoked(request: Any, expired: bool = False, **_: Any) -> None:
    """It will not run."""
    TASKS.labels(request.task, "expired" if expired else "revoked").inc()


class WorkerCounts:
    """What the worker and its children have counted."""

    def collect(self) -> Any:
        """As Prometheus' registry asks."""
        return shared_metrics.collected()


@signals.worker_ready.connect
def begin(sender: Any, **_: Any) -> None:
    """Show failures as 0: a series that begins with its first event has not risen."""
    for name in sender.app.tasks:
        if not name.startswith("celery."):
            TASKS.labels(name, "failure")


@signals.worker_ready.connect
def serve(**_: Any) -> None:
    """A worker on a machine of its own shares no folder with web: it is scraped by itself."""
    if settings.AEVON_WORKER_METRICS_PORT:
        registry = CollectorRegistry()
        registry.register(WorkerCounts())
        start_http_server(settings.AEVON_WORKER_METRICS_PORT, registry=registry)
