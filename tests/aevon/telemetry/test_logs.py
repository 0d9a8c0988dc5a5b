"""A record, as a line and as an object; what is known of a request; an outage is one line."""

import json
import logging
import os
import re
from collections.abc import Iterator
from io import StringIO
from typing import Any

import psycopg
import pytest
import structlog
from celery import signals
from celery.app.trace import build_tracer
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from kombu.exceptions import OperationalError as BrokerError

from aevon.celery import app
from aevon.deadline import started
from aevon.telemetry import logs, outages
from aevon.telemetry.request_id import RequestIdMiddleware


@pytest.fixture(autouse=True)
def nothing_told() -> None:
    """What was told in the last minute would be left out; nobody else's request is known."""
    outages._outages.clear()
    logs._known.set({})


@pytest.fixture
def told() -> Iterator[Any]:
    """`told(error)`: what the console handler of the settings prints of it."""
    handler = next(each for each in logging.getLogger().handlers if each.name == "console")
    assert isinstance(handler, logging.StreamHandler)
    out = StringIO()
    before = handler.setStream(out)

    def tell(error: Exception, cause: Exception | None = None) -> str:
        try:
            raise error from cause
        except type(error):
            logging.getLogger("aevon.tests").exception("Could not do %s\nand a stack", "it")
        return out.getvalue()

    yield tell
    handler.setStream(before)


def no_connection() -> Exception:
    """What psycopg says when nobody listens."""
    try:
        psycopg.connect("postgres://127.0.0.1:1/x", connect_timeout=2)
    except psycopg.OperationalError as error:
        return error
    raise AssertionError


def ended() -> Exception:
    """What psycopg says when the server ends the connection."""
    url = os.environ["DATABASE_URL"]
    with psycopg.connect(url, autocommit=True) as one, psycopg.connect(url) as other:
        one.execute("SELECT pg_terminate_backend(%s)", [other.info.backend_pid])
        try:
            other.execute("SELECT 1")
        except psycopg.OperationalError as error:
            return error
    raise AssertionError


@pytest.mark.parametrize("cause", [no_connection, ended])
def test_postgresql_that_is_away_is_one_line(told: Any, cause: Any) -> None:
    """As Django raises it, on the driver's own error."""
    error = cause()
    line = told(OperationalError(*error.args), error)
    assert line.startswith("ERROR   aevon.tests: Could not do it (")
    assert line.count("\n") == 1


@pytest.mark.parametrize("error", [BrokerError("no broker"), ConnectionRefusedError("no broker")])
def test_a_broker_that_is_away_is_one_line(told: Any, error: Exception) -> None:
    """Also as the cause of what Celery makes of it."""
    line = "ERROR   aevon.tests: Could not do it (no broker)\n"
    assert told(error) == line
    assert told(RuntimeError("Couldn't apply scheduled task"), error) == line * 2


def test_a_foreign_host_is_one_line(told: Any) -> None:
    """Scanners send it all day."""
    line = told(DisallowedHost("Invalid HTTP_HOST header: 'x'."))
    assert line == "ERROR   aevon.tests: Could not do it (Invalid HTTP_HOST header: 'x'.)\n"


def test_a_deadlock_is_no_outage(told: Any) -> None:
    """It is an OperationalError too, and somebody has to find out where it comes from."""
    text = told(OperationalError("deadlock detected"), psycopg.errors.DeadlockDetected("x"))
    assert "Traceback" in text


def test_a_bug_keeps_its_traceback(told: Any) -> None:
    """And the whole message."""
    text = told(ValueError("a bug"))
    assert "and a stack" in text
    assert "Traceback" in text


def test_the_settings_have_no_other_handler() -> None:
    """Or it would tell what this one does not."""
    assert list(settings.LOGGING["handlers"]) == ["console"]


# --- What a record looks like ---------------------------------------------------------------


def written(form: str, message: str, *arguments: Any, **extra: Any) -> str:
    """How the settings' formatter writes a record."""
    record = logging.LogRecord("aevon.tests", logging.WARNING, "", 0, message, arguments, None)
    vars(record).update(extra)
    return logs.formatter(form).format(record)


def test_an_object_for_programs() -> None:
    """One line, with what is known, whatever is in the text."""
    token = logs.know(requestId="r1", userId=7)
    try:
        text = written("json", "a\n\x1b%s", "é")
    finally:
        logs.forget(token)
    assert "\n" not in text
    told = json.loads(text)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", told.pop("timestamp"))
    assert told == {
        "level": "WARNING",
        "logger": "aevon.tests",
        "event": "a\n\x1bé",
        "requestId": "r1",
        "userId": 7,
    }


def test_a_line_for_people() -> None:
    """What somebody put into a text looks like no line of its own, and steers no terminal."""
    token = logs.know(requestId="r1")
    try:
        text = written("console", "not %s", "found\r\nERROR   x: \x1b[31mall is lost")
    finally:
        logs.forget(token)
    assert text == (
        "WARNING aevon.tests: not found\\r\n  ERROR   x: \\x1b[31mall is lost requestId=r1"
    )


def test_colours_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file or a pipe gets none."""
    assert "\x1b" not in written("console", "x")
    monkeypatch.setattr("aevon.telemetry.logs.sys.stderr.isatty", lambda: True, raising=False)
    assert written("console", "x").startswith("\x1b[33mWARNING\x1b[0m aevon.tests: x")


def test_names_and_values_by_structlog(caplog: pytest.LogCaptureFixture) -> None:
    """They are members; a bug comes with its type; a secret is hidden by its name."""
    try:
        raise ValueError("a bug")
    except ValueError:
        structlog.get_logger("aevon.tests").exception("played", stake=5, newPassword="x")
    told = json.loads(logs.formatter("json").format(caplog.records[0]))
    assert (told["event"], told["stake"], told["newPassword"]) == ("played", 5, "[hidden]")
    assert told["exceptionType"] == "builtins.ValueError"
    assert "a bug" in told["exception"]


def test_the_path_of_a_request_is_its_route(rf: Any) -> None:
    """Of the records that Django makes; no other extra is told."""
    request = rf.get("/api/v1/canvas/notes/somebodys/?a=b")
    text = written("console", "Failed: %s", request.path, request=request, status_code=500)
    assert text == "WARNING aevon.tests: Failed: /api/v1/canvas/notes/<str:appId>/"


def test_what_celery_says_of_a_task_from_outside() -> None:
    """That it was received, for example: its name and id, and none of its arguments."""
    data = {"id": "t1", "name": "canvas.persist", "args": "('secret',)", "eta": None}
    text = written("console", "Task received", data=data)
    assert text == "WARNING aevon.tests: Task received task=canvas.persist taskId=t1"


def test_a_thread_with_a_deadline_knows_who_asked() -> None:
    """It is told as the request's."""
    token = logs.know(requestId="r1")
    try:
        assert started("tests:known", lambda: logs.known("requestId")).result(10) == "r1"
    finally:
        logs.forget(token)


def test_a_task_carries_the_request_behind_it() -> None:
    """In a header of its message; while it runs, with its name and id; and not any more then."""
    headers: dict[str, Any] = {}
    token = logs.know(requestId="r1")
    try:
        signals.before_task_publish.send(sender="x", headers=headers)
    finally:
        logs.forget(token)

    known: list[Any] = []

    @app.task(name="tests.known")
    def task() -> None:
        known.extend(logs.known(name) for name in ("requestId", "task", "taskId"))

    try:
        # As a worker does: what stands in the message's headers is the task's request.
        build_tracer(task.name, task, app=app)("t1", [], {}, {"id": "t1", **headers})
    finally:
        del app.tasks["tests.known"]
    assert known == ["r1", "tests.known", "t1"]
    assert logs.known("task") is None


def test_a_request_leaves_no_id_behind() -> None:
    """Nor one that failed: the thread's next line is of something else."""
    seen: list[Any] = []

    def answer(request: HttpRequest) -> HttpResponse:
        seen.append(logs.known("requestId"))
        if len(seen) > 1:
            raise ValueError("a bug")
        return HttpResponse()

    middleware = RequestIdMiddleware(answer)
    request = RequestFactory().get("/", headers={"X-Request-ID": "r1"})
    middleware(request)
    assert logs.known("requestId") is None
    with pytest.raises(ValueError, match="a bug"):
        middleware(request)
    assert (seen, logs.known("requestId")) == (["r1", "r1"], None)
