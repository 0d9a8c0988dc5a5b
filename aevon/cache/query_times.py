"""How long PostgreSQL takes, statement by statement, for `/metrics`."""

import time
from collections.abc import Callable
from typing import Any, Final

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from aevon.cache.metrics import queries_of

OPERATIONS: Final = frozenset({"select", "insert", "update", "delete"})


def timed(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
    """Django's execute wrapper: the statement, and how long it took, also where it failed. What a
    COPY takes belongs to its flush."""
    started = time.perf_counter()
    try:
        return execute(sql, params, many, context)
    finally:
        queries_of(_operation(sql)).observe(time.perf_counter() - started)


def _operation(sql: Any) -> str:
    word = str(sql).lstrip()[:6].lower()
    return word if word in OPERATIONS else "other"


def _watch(connection: BaseDatabaseWrapper, **_: Any) -> None:
    # A wrapper outlives its connections. In front: `execute_wrapper()` takes away the last.
    if timed not in connection.execute_wrappers:
        connection.execute_wrappers.insert(0, timed)


def watch() -> None:
    """Have every connection that is made from now on watched."""
    connection_created.connect(_watch, dispatch_uid="aevon.cache.query_times")
