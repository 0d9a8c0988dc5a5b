"""A worker outlives its broker."""

import logging

import pytest
from kombu import Message

from aevon.cache.connection import store
from aevon.celery import app

pytestmark = pytest.mark.django_db

UNACKNOWLEDGED = "celery:broker:unacked"


@pytest.fixture
def message() -> Message:
    """One that was received over a connection that is closed by now, and not given back by that."""
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue("aevon.tests")
        queue.put("a task")
        received: Message = queue.get(timeout=5)
    assert store().command("HLEN", UNACKNOWLEDGED) == 1
    return received


def test_a_task_that_ends_after_its_connection(
    message: Message, caplog: pytest.LogCaptureFixture
) -> None:
    """To Celery it is a lost connection, and the message is delivered again some time."""
    errors = app.connection_for_read().connection_errors
    message.ack_log_error(logging.getLogger("celery.tests"), errors)
    message.reject_log_error(logging.getLogger("celery.tests"), errors)
    assert [record.message[:11] for record in caplog.records] == ["Couldn't ac", "Couldn't re"]
    assert store().command("HLEN", UNACKNOWLEDGED) == 1
