"""An outage is one line in the log; a bug keeps its traceback."""

import logging
import os
from collections.abc import Iterator
from io import StringIO
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.db import OperationalError
from kombu.exceptions import OperationalError as BrokerError

from aevon import outages


@pytest.fixture(autouse=True)
def nothing_told() -> None:
    """What was told in the last minute would be left out."""
    outages._outages.clear()


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
