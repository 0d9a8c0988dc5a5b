"""Celery beat's scheduler: the schedule lives in the database, where the admin edits it."""

import hashlib
from typing import Any

from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler, ModelEntry


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
