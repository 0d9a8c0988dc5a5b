"""`ENGINE`: Django's own, whose pool fails fast while PostgreSQL is away (watch.py)."""

import time
from collections.abc import Generator
from typing import Any

import psycopg
from django.db.backends.postgresql import base
from psycopg_pool import PoolTimeout

from aevon.postgresql.watch import Frozen, watch


class Connection(psycopg.Connection[Any]):
    """Waits for an answer no longer than there is anybody to give one."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """As psycopg's. Raises `Frozen` and is closed: an answer that comes later is nobody's."""
        try:
            return super().wait(_watched(gen), interval, timeout)
        except Frozen:
            self.close()
            raise


def _watched(gen: Any) -> Generator[Any, Any, Any]:
    """`gen`, which psycopg goes on with when there is something to read, or to send, and ten times
    a second when there is not."""
    since = time.monotonic()
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready:
                watch.waits(since)
            wanted = gen.send(ready)
    except StopIteration as end:
        watch.heard()
        return end.value


class DatabaseWrapper(base.DatabaseWrapper):
    """With `Connection` in its pool."""

    def __init__(self, settings_dict: dict[str, Any], *args: Any, **options: Any) -> None:
        super().__init__(settings_dict, *args, **options)
        pool = settings_dict["OPTIONS"].get("pool")
        if pool:
            pool.setdefault("connection_class", Connection)

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """From the pool. Raises `PoolTimeout`, soon while PostgreSQL is away."""
        watch.admit()
        try:
            return super().get_new_connection(conn_params)
        except PoolTimeout:
            watch.suspect()
            raise
