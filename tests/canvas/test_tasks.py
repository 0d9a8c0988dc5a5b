"""The scheduled flush: in time, shared out when it is large, early when much waits, and at a
worker's end."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from celery.signals import task_prerun
from django.db import DatabaseError, OperationalError

from aevon.cache import processes
from aevon.celery import app
from auth_sessions.models import User
from canvas import services, tasks
from canvas.models import Canvas
from canvas.services import last_flush
from tests.canvas.helpers import in_row, mark, patch, poison, window
from tests.servers import ROOT, environment
from tests.waiting import eventually

pytestmark = pytest.mark.django_db
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def at_once() -> Iterator[list[str]]:
    """Tasks that are sent run at once, in this process; the names of those that ran."""
    ran: list[str] = []

    def note(sender: Any, **_: Any) -> None:
        ran.append(sender.name)

    app.conf.task_always_eager = True
    task_prerun.connect(note)
    yield ran
    task_prerun.disconnect(note)
    app.conf.task_always_eager = False


@pytest.fixture
def broker_away() -> Iterator[None]:
    """Nothing listens where the broker should be."""
    there = app.conf.broker_url
    for url in (NOWHERE, there):
        app.conf.broker_url = url
        app._pool = app.amqp._producer_pool = None
        if url == NOWHERE:
            yield


def test_the_task_runs_a_flush(user: User) -> None:
    """As beat asks for it."""
    patch(user.pk, a=window())
    tasks.persist()
    assert in_row(user.pk) == {"a"}


def test_the_task_waits_while_the_cache_is_away(
    user: User, cache_away: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning, no failure: the next tick does the work."""
    with cache_away():
        tasks.persist()
    assert "the cache is away" in caplog.text


@pytest.mark.parametrize("sqlstate", [None, "57P01", "08006", "57014"])
def test_the_task_waits_while_postgresql_is_away(
    user: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, sqlstate: Any
) -> None:
    """No connection, a shutdown, a broken one: not the task's failure. A statement that took too
    long is."""

    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("away") from psycopg.errors.lookup(sqlstate)() if sqlstate else None

    monkeypatch.setattr(services.flush, "flush", away)
    if sqlstate == "57014":
        with pytest.raises(OperationalError):
            tasks.persist()
    else:
        tasks.persist()
        assert "PostgreSQL is away" in caplog.text


def test_a_scheduled_flush_leaves_poison_alone_until_its_time(user: User) -> None:
    """The command does not."""
    patch(user.pk, a=window())
    poison(user.pk)
    tasks.persist()
    tasks.persist()
    told = last_flush()
    assert told is not None
    assert (told.counts["refused"], told.counts["postponed"]) == (0, 1)
    assert services.persist_now().refused == 1


def test_a_large_flush_is_shared_out(
    make_user: Any, at_once: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task for each shard; together they are one flush."""
    users = [make_user().pk for _ in range(20)]
    for user_id in users:
        patch(user_id, a=window())
    monkeypatch.setattr(tasks, "SHARED_FROM", 20)
    tasks.persist()
    assert at_once == ["canvas.persist_shard"] * 8
    assert [mark(user_id) for user_id in users] == [None] * 20
    told = last_flush()
    assert told is not None
    assert told.counts["persisted"] == 20


def test_a_large_flush_without_the_broker_is_made_here(
    user: User, broker_away: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can be asked to share it."""
    patch(user.pk, a=window())
    monkeypatch.setattr(tasks, "SHARED_FROM", 1)
    tasks.persist()
    assert mark(user.pk) is None


def test_a_backlog_is_flushed_before_its_time(make_user: Any, settings: Any) -> None:
    """Once in half a minute; below the limit nothing happens."""
    settings.CANVAS_BACKLOG = 2
    users = [make_user().pk for _ in range(3)]
    for user_id in users[:2]:
        patch(user_id, a=window())
    tasks.persist_backlog()
    assert not Canvas.objects.exists()
    patch(users[2], a=window())
    tasks.persist_backlog()
    assert Canvas.objects.count() == 3
    for user_id in users:
        patch(user_id, a={"zIndex": 2})
    tasks.persist_backlog()
    assert [mark(user_id) for user_id in users] == [2, 2, 2]


def test_a_scheduled_flush_ends_before_its_period(
    make_user: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And before Celery would end it."""
    asked: list[float] = []
    monkeypatch.setattr(services.flush, "flush", lambda *_, seconds, **__: asked.append(seconds))
    for period, limit in ((10, 240), (300, 240), (300, 100)):
        settings.CANVAS_PERSIST_SECONDS = period
        settings.CELERY_TASK_SOFT_TIME_LIMIT = limit
        services.persist_in_time()
    assert asked == [8, 192, 80]


@pytest.mark.parametrize("away", ["cache", "postgresql"])
def test_a_worker_that_ends_while_something_is_away(
    user: User, away: str, cache_away: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """It ends all the same; the next worker's flush does the work."""
    patch(user.pk, a=window())
    if away == "cache":
        with cache_away():
            services.persist_at_worker_end()
    else:

        def fails(*_: Any, **__: Any) -> None:
            raise DatabaseError("away")

        monkeypatch.setattr(services.flush, "flush", fails)
        services.persist_at_worker_end()
    assert "Nothing persisted at the worker's end" in caplog.text
    assert mark(user.pk) == 1


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_is_stopped_flushes_once_more(user: User, settings: Any) -> None:
    """A real one, by SIGTERM; it runs no beat, so nothing else can have done it. Its child is on
    the list of processes meanwhile."""
    command = ("-m", "celery", "--quiet", "-A", "aevon", "worker", "--concurrency", "1")
    options = ("--without-mingle", "--without-gossip", "--loglevel", "INFO")
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", *command, *options],
        cwd=ROOT,
        env=environment(settings.AEVON_CACHE["URL"]),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as worker:
        assert worker.stdout is not None
        assert any("ready" in line for line in worker.stdout)
        assert eventually(lambda: [each.role for each in processes.processes()] == ["worker"])
        patch(user.pk, a=window())
        worker.terminate()
        said = worker.stdout.read()
        assert worker.wait(20) == 0
    assert "persisted=1" in said
    assert eventually(lambda: in_row(user.pk) == {"a"})
    assert processes.processes() == []
