"""Patience, within limits."""

import time
from collections.abc import Callable
from typing import Any

from django.db import connection


def eventually(condition: Callable[[], Any], seconds: float = 30) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + seconds
    while not (result := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(result)


def wait_for_locks(count: int = 1) -> None:
    """Until so many others wait for a lock."""
    assert eventually(lambda: _waiting() >= count), f"{_waiting()} of {count} wait for a lock"


def _waiting() -> int:
    with connection.cursor() as cursor:
        # Not pg_stat_activity, which does not change during a transaction.
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return int(cursor.fetchone()[0])
