"""The Celery app and the whole beat schedule: names and periods.

The schedule is copied into the database at beat's start and can be edited in the admin
(aevon/beat.py). A task that waited too long for a worker is dropped (`expire_seconds`, the only
name that the database knows it by): a later tick does the same work.
"""

import os

from celery import Celery
from django.conf import settings

from aevon import broker  # noqa: F401  its channel
from aevon.telemetry import task_logs  # noqa: F401  its receivers

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aevon.settings")

if settings.AEVON_OTLP_ENDPOINT:
    from aevon.telemetry import tracing  # noqa: F401  its receivers

app = Celery("aevon")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

OUTBOX_DRAIN_SECONDS = 2
AUDIT_SECONDS = 60
NOTE_SECONDS = 60
BACKLOG_SECONDS = 10
FORGET_SECONDS = 6 * 3600
# At least: the clocks of beat and worker may differ by some seconds.
EXPIRE_SECONDS = 30

app.conf.beat_schedule = {
    "canvas.persist": {
        "task": "canvas.persist",
        "schedule": float(settings.CANVAS_PERSIST_SECONDS),
        "options": {"expire_seconds": max(EXPIRE_SECONDS, settings.CANVAS_PERSIST_SECONDS)},
    },
    "canvas.persist_backlog": {
        "task": "canvas.persist_backlog",
        "schedule": float(BACKLOG_SECONDS),
        "options": {"expire_seconds": EXPIRE_SECONDS},
    },
    "cache.drain_outbox": {
        "task": "cache.drain_outbox",
        "schedule": float(OUTBOX_DRAIN_SECONDS),
        "options": {"expire_seconds": EXPIRE_SECONDS},
    },
    "auth_sessions.forget_old": {
        "task": "auth_sessions.forget_old",
        "schedule": float(FORGET_SECONDS),
        "options": {"expire_seconds": FORGET_SECONDS},
    },
    "beep.forget_old": {
        "task": "beep.forget_old",
        "schedule": float(FORGET_SECONDS),
        "options": {"expire_seconds": FORGET_SECONDS},
    },
    "cache.audit": {
        "task": "cache.audit",
        "schedule": float(AUDIT_SECONDS),
        "options": {"expire_seconds": AUDIT_SECONDS},
    },
    "cache.note": {
        "task": "cache.note",
        "schedule": float(NOTE_SECONDS),
        "options": {"expire_seconds": NOTE_SECONDS},
    },
}
