"""What keeps trouble with the cache from becoming trouble for the caller."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from django.db import DEFAULT_DB_ALIAS, connection, connections, transaction

from aevon.cache.connection import CacheUnavailable

T = TypeVar("T")
A = TypeVar("A")

# What makes a transaction shorter than its fence (settings).
LIMITS: Final = ("statement_timeout", "idle_in_transaction_session_timeout")


def attempt(call: Callable[[], T], *, away: A) -> T | A:
    """`call()`, or `away` when the cache cannot serve. Anything else goes through."""
    try:
        return call()
    except CacheUnavailable:
        return away


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
