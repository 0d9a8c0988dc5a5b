"""The schedule: in the code, in the database, and in the admin's hands."""

import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from aevon.beat import Scheduler
from aevon.cache import processes
from aevon.cache.tasks import audit, drain_outbox, note
from aevon.celery import app
from auth_sessions import tasks as auth_sessions
from beep import tasks as beep
from canvas.tasks import persist, persist_backlog

# beat commits, and closes the connection when it likes.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def code_says(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`code_says("canvas.persist", 5.0)`: the code has another period."""

    def say(name: str, seconds: float) -> None:
        entry = {**app.conf.beat_schedule[name], "schedule": seconds}
        monkeypatch.setitem(app.conf.beat_schedule, name, entry)

    return say


def start() -> Any:
    """What beat works with after a start: entries by name."""
    return Scheduler(app=app).schedule


def seconds(name: str) -> float:
    """A period as beat sees it."""
    return float(start()[name].schedule.run_every.total_seconds())


def edit(name: str, every_seconds: int) -> None:
    """What a person does in the admin."""
    interval = IntervalSchedule.objects.create(every=every_seconds, period="seconds")
    row = PeriodicTask.objects.get(name=name)
    row.interval = interval
    row.save()


def test_a_first_start_writes_the_code_into_the_database(settings: Any) -> None:
    """Seven tasks by their own names, and nothing else."""
    assert {name: entry.task for name, entry in start().items()} == {
        "canvas.persist": persist.name,
        "canvas.persist_backlog": persist_backlog.name,
        "cache.drain_outbox": drain_outbox.name,
        "cache.audit": audit.name,
        "cache.note": note.name,
        "auth_sessions.forget_old": auth_sessions.forget_old.name,
        "beep.forget_old": beep.forget_old.name,
    }
    assert seconds("canvas.persist") == settings.CANVAS_PERSIST_SECONDS
    assert seconds("cache.drain_outbox") == 2
    assert seconds("cache.audit") == 60


def test_a_task_that_waited_too_long_is_dropped(settings: Any) -> None:
    """The message that beat would send carries its end; a flush's is the next tick."""
    entries = start()
    assert entries["canvas.persist"].options["expires"] == settings.CANVAS_PERSIST_SECONDS
    assert entries["cache.drain_outbox"].options["expires"] == 30
    assert entries["cache.audit"].options["expires"] == 60


def test_what_was_edited_in_the_admin_survives_a_start() -> None:
    """A period and a task that was switched off."""
    start()
    edit("canvas.persist", 42)
    PeriodicTask.objects.filter(name="cache.drain_outbox").update(enabled=False)
    assert seconds("canvas.persist") == 42
    everything = set(app.conf.beat_schedule)
    assert set(start()) == everything - {"cache.drain_outbox"} != everything


def test_a_new_period_in_the_code_wins(code_says: Any) -> None:
    """CANVAS_PERSIST_SECONDS was set after somebody had edited the row; and it is set once."""
    start()
    edit("canvas.persist", 42)
    code_says("canvas.persist", 5.0)
    assert seconds("canvas.persist") == 5
    edit("canvas.persist", 43)
    assert seconds("canvas.persist") == 43


def test_beat_outlives_an_outage_of_postgresql() -> None:
    """The schedule is read anew every five minutes; while that fails, the last one counts."""
    scheduler = Scheduler(app=app)
    known = dict(scheduler.schedule)
    scheduler._last_full_sync -= timedelta(minutes=6)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE django_celery_beat_periodictask RENAME TO away")
        try:
            assert dict(scheduler.schedule) == known
        finally:
            cursor.execute("ALTER TABLE away RENAME TO django_celery_beat_periodictask")


def test_beat_tells_when_it_ticked(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its next report."""
    reporter = processes.Reporter("beat")
    monkeypatch.setattr(processes, "_reporter", reporter)
    before = time.time()
    assert Scheduler(app=app).tick() > 0
    assert before <= (reporter.worked_at or 0) <= time.time()
