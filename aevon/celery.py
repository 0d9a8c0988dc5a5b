"""The Celery app and the whole beat schedule: names and periods.

The schedule is copied into the database at beat's start and can be edited in the admin. A task
that found its period over when a worker picked it up is dropped (`expires`): the next tick does
the same work.
"""

import os

from celery import Celery
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aevon.settings")

app = Celery("aevon")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

OUTBOX_DRAIN_SECONDS = 2

app.conf.beat_schedule = {
    "canvas.persist": {
        "task": "canvas.persist",
        "schedule": float(settings.CANVAS_PERSIST_SECONDS),
        "options": {"expires": settings.CANVAS_PERSIST_SECONDS},
    },
    "cache.drain_outbox": {
        "task": "cache.drain_outbox",
        "schedule": float(OUTBOX_DRAIN_SECONDS),
        "options": {"expires": OUTBOX_DRAIN_SECONDS},
    },
}
