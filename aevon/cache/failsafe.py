"""What keeps trouble with the cache from becoming trouble for the caller."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import psycopg
from django.db import (
    DEFAULT_DB_ALIAS,
    InterfaceError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from psycopg_pool import PoolTimeout

from aevon.cache.connection import CacheUnavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")
A = TypeVar("A")

# What makes a transaction shorter than its fence (settings).
LIMITS: Final = ("statement_timeout", "idle_in_transaction_session_timeout")
# The pool raises the driver's own error, unwrapped.
_DATABASE: Final = (OperationalError, InterfaceError, psycopg.OperationalError)
# SQLSTATE: connection exception, operator intervention (shutdown, recovery). None: no connection.
_AWAY: Final = ("08", "57P")


def attempt(call: Callable[[], T], *, away: A) -> T | A:
    """`call()`, or `away` when the cache cannot serve. Anything else goes through."""
    try:
        return call()
    except CacheUnavailable:
        return away


@contextmanager
def skipped_while_away() -> Iterator[None]:
    """For a task whose next tick does the same: with the cache or PostgreSQL away it is left out,
    in one line, and has not failed."""
    try:
        yield
    except CacheUnavailable as error:
        logger.warning("Skipped, the cache is away: %s", error, extra={"outage": "dragonfly"})
    except _DATABASE as error:
        if not _is_away(error):
            raise
        logger.warning("Skipped, PostgreSQL is away: %s", error, extra={"outage": "postgresql"})


def _is_away(error: BaseException) -> bool:
    """Whether PostgreSQL cannot be reached; not that a statement took too long, for example."""
    driver_error = error.__cause__ if isinstance(error.__cause__, psycopg.Error) else error
    state = getattr(driver_error, "sqlstate", None)
    return state is None or state.startswith(_AWAY)


def never_asked(error: BaseException) -> bool:
    """Whether PostgreSQL cannot have done anything: there was no connection to ask it by."""
    return isinstance(error.__cause__ or error, PoolTimeout)


def in_transaction() -> bool:
    """Whether what this thread reads may yet be rolled back. A test case's own transaction does
    not count: Django marks it, for `atomic(durable=True)`."""
    blocks: list[Any] = connection.atomic_blocks
    if not blocks:
        return not commits_at_once()  # transaction.set_autocommit(False)
    return any(not block._from_testcase for block in blocks)  # noqa: SLF001


def commits_at_once() -> bool:
    """Whether what this thread writes is committed by then. Opens no connection to find out."""
    return connection.connection is None or bool(connection.autocommit)


def after_commit(work: Callable[..., object], *args: object) -> None:
    """Call `work(*args)` after the transaction's commit; at once outside one, never after a
    rollback. What it raises is logged: the write is committed, and its caller must not hear of
    a trouble that is not theirs.
    """

    hook: Callable[..., object] = work
    if args:
        # A function, because Django's log of a robust hook that failed itself fails on a partial.
        def hook() -> None:
            work(*args)

    transaction.on_commit(hook, robust=True)


def lift_limits(using: str = DEFAULT_DB_ALIAS) -> None:
    """Let statements of this connection take any time: for migrations."""
    _each_limit("SET {} = 0", using)


def restore_limits(using: str = DEFAULT_DB_ALIAS) -> None:
    """Undo `lift_limits`."""
    _each_limit("RESET {}", using)


def _each_limit(statement: str, using: str) -> None:
    with connections[using].cursor() as cursor:
        for name in LIMITS:
            cursor.execute(statement.format(name))
