"""Celery beat's scheduler: the schedule lives in the database, where the admin edits it."""

import hashlib
import logging
import signal
import sys
import threading
from typing import Any

from celery.signals import beat_init
from django.db import DatabaseError, InterfaceError
from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler, ModelEntry

from aevon.cache import processes

logger = logging.getLogger(__name__)


class Entry(ModelEntry):  # type: ignore[misc]  # django-celery-beat has no types
    """One row; written from the code only when the code says something new.

    django-celery-beat itself writes the code's entries over the rows at each start, and what was
    edited in the admin would last until then.
    """

    @classmethod
    def from_entry(cls, name: str, app: Any = None, **entry: Any) -> "Entry":
        """The entry `name`, as it was edited, or as the code has it."""
        told = f"As the code has it ({_digest(entry)}). What is edited stays until that changes."
        row = PeriodicTask.objects.filter(name=name, description=told).first()
        if row is not None:
            return cls(row, app=app)
        written: Entry = super().from_entry(name, app=app, description=told, **entry)
        return written


def _digest(entry: dict[str, Any]) -> str:
    return hashlib.sha256(repr(sorted(entry.items())).encode()).hexdigest()[:12]


class Scheduler(DatabaseScheduler):  # type: ignore[misc]  # django-celery-beat has no types
    """`CELERY_BEAT_SCHEDULER`."""

    Entry = Entry

    def tick(self, *args: Any, **options: Any) -> float:
        """Send what is due, and let it be known that somebody does; how long to sleep."""
        seconds: float = super().tick(*args, **options)
        processes.worked()
        return seconds

    def all_as_schedule(self) -> dict[str, ModelEntry]:
        """The rows; while PostgreSQL is away, as last read, because beat must not end of it."""
        try:
            return dict(super().all_as_schedule())
        except (DatabaseError, InterfaceError):
            if self._schedule is None:
                raise
            logger.warning(
                "PostgreSQL is away: the schedule stays as it was", extra={"outage": "postgresql"}
            )
            return dict(self._schedule)


@beat_init.connect  # type: ignore[untyped-decorator]  # Celery has no types
def end_when_told(**_: Any) -> None:
    """SIGTERM and SIGINT end it, also while it waits for PostgreSQL.

    Celery's own handler saves the schedule first, on the connection that may be waiting at that
    moment: it would wait for itself. `Service.start` saves it at the end anyway.
    """
    if threading.current_thread() is threading.main_thread():  # not inside a worker
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: sys.exit())
