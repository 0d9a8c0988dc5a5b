"""Statements that PostgreSQL parses and plans once per connection, not once per call.

Django binds parameters in the client, so that each call is another text to be planned: of the one
statement of an interaction that is a third. Only where `OPTIONS["prepare_threshold"]` allows it
(psycopg 3); elsewhere the parameters are bound by the server all the same, and nothing is prepared.
"""

from typing import Any, NamedTuple

import psycopg
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.utils import CursorWrapper
from psycopg.errors import FeatureNotSupported
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int8


class _Said(NamedTuple):
    """Where Django's log of statements looks for one."""

    query: bytes


class _Cursor(psycopg.Cursor[Any]):
    """Plans anew what a table has outgrown: a migration may change one while it is read."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> "_Cursor":
        try:
            super().execute(query, params, **options)
        except FeatureNotSupported:  # "cached plan must not change result type"
            # Within a transaction it has failed, and psycopg forgets all plans with its ROLLBACK.
            if self.connection.info.transaction_status != TransactionStatus.IDLE:
                raise
            self.connection.execute("DEALLOCATE ALL")
            super().execute(query, params, **options)
        finally:
            self._query = _Said(query.encode())  # type: ignore[assignment]  # psycopg's own has no text
        return self


def prepared_cursor() -> CursorWrapper:
    """A cursor of Django's default connection for a statement that is executed again and again.

    Counted, timed and translated as all others. A parameter has its own type here, not that of a
    literal: say `%s::bigint[]` where the statement alone does not tell.
    """
    connection: Any = connections[DEFAULT_DB_ALIAS]
    connection.ensure_connection()
    wrapped: CursorWrapper = connection._prepare_cursor(_Cursor(connection.connection))  # noqa: SLF001  as `connection.cursor()` does
    return wrapped


def of_one_type(parameters: dict[str, Any]) -> dict[str, Any]:
    """The same parameters, every integer a bigint: by its size each would make a statement more."""
    return {
        name: Int8(value) if type(value) is int else value for name, value in parameters.items()
    }
