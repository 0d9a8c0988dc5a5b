"""One user's key and row on the real servers: set as a world says, looked at after a step."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal
from unittest.mock import patch

import msgspec
from django.db import connection

from aevon.cache import PSYCHE, Gone, fences, leases, resources
from aevon.cache.connection import Exchange, Life, Store, store
from klepsydra.models import PsycheState
from tests.consistency.worlds import Key, Ledger, plain, token

PROJECTION: Final = PsycheState.cached.projection
# Of every state: two runs differ in nothing else.
TIME: Final = "2026-01-01T00:00:00.000000Z"

# Triggers are off while a ledger is set: it is as they left it. Every commit adds one to the
# streak, so that a lost update shows.
_SET: Final = """
BEGIN;
SET LOCAL session_replication_role = replica;
DELETE FROM klepsydra_psychestate WHERE user_id = {user};
DELETE FROM cache_outbox WHERE keyspace = 'psyche' AND user_id = {user};
DELETE FROM cache_version_floor WHERE keyspace = 'psyche' AND user_id = {user};
INSERT INTO cache_version_floor (keyspace, user_id, version) VALUES ('psyche', {user}, {floor});
{row}
{outbox}
COMMIT
"""
_ROW: Final = f"""
INSERT INTO klepsydra_psychestate (user_id, sre_wave, loss_streak, frustration_level,
    frustration_at, is_throttled, phase, amplitude, period_seconds, version, updated_at)
VALUES ({{user}}, 0, {{version}}, 0, '{TIME}', false, 0.5, 1, 60, {{version}}, '{TIME}');
"""
_OUTBOX: Final = """
INSERT INTO cache_outbox (keyspace, user_id, version, added_at)
VALUES ('psyche', {user}, {outbox}, now());
"""
_LOOK: Final = """
SELECT f.version, p.version, p.loss_streak, coalesce(o.version, 0) FROM cache_version_floor f
LEFT JOIN klepsydra_psychestate p USING (user_id)
LEFT JOIN cache_outbox o ON o.keyspace = f.keyspace AND o.user_id = f.user_id
WHERE f.keyspace = 'psyche' AND f.user_id = %s
"""


class Stage:
    """The servers, and who acts on them now."""

    def __init__(self, user_id: int) -> None:
        self.user_id = user_id
        self.key_name = PSYCHE.key(user_id)
        self.actor = 0
        self.life = 1
        # What the servers are known to hold exactly as a world says it.
        self._key: Key | Literal["unknown"] = "unknown"
        self._ledger: Ledger | None = None

    def set(self, key: Key, ledger: Ledger, *, life: int) -> None:
        """Make the servers hold this."""
        self.life = life
        if self._ledger != ledger:
            self._set_ledger(ledger)
        if self._key != key:
            self.set_key(key)

    def set_key(self, key: Key) -> None:
        """Make the key hold this."""
        command = (
            ("DEL", self.key_name) if key is None else ("SET", self.key_name, key, "PX", 10**7)
        )
        store().command(*command)
        self._key = key

    def look(self) -> tuple[Key, Ledger]:
        """What the servers hold now."""
        raw, lives = store().pipeline([("GET", self.key_name), ("PTTL", self.key_name)])
        assert raw is None or lives > 0, f"{raw} stays for ever"
        self._key, ledger = raw, self._look_at_ledger()
        if ledger != self._ledger:
            self._ledger = None  # the row has the time of its update
        return plain(raw, now_ms=time.time() * 1000), ledger

    def document(self, row: tuple[Any, ...]) -> Any:
        """The document of a row, as of no time."""
        return msgspec.structs.replace(PsycheState.cached.document_of(row), updated_at=TIME)

    def rows(self) -> dict[int, Any]:
        """What PostgreSQL has of the user, as of no time."""
        rows = PROJECTION.read([self.user_id])
        return {
            user_id: row if isinstance(row, Gone) else msgspec.structs.replace(row, updated_at=TIME)
            for user_id, row in rows.items()
        }

    def sql(self, statement: str, *parameters: Any) -> tuple[Any, ...] | None:
        """The first row of a statement of its own transaction."""
        with connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchone() if cursor.description else None

    def verdict(self) -> str:
        """What the audit says of the key."""
        return resources.resource("psyche").verdicts([self.user_id])[self.user_id]

    def _set_ledger(self, ledger: Ledger) -> None:
        names = {
            "user": self.user_id,
            "floor": 1 if ledger.exists else ledger.version,
            "version": ledger.version,
            "outbox": ledger.outbox,
        }
        row = _ROW.format(**names) if ledger.exists else ""
        outbox = _OUTBOX.format(**names) if ledger.outbox else ""
        with connection.cursor() as cursor:
            cursor.execute(_SET.format(**names | {"row": row, "outbox": outbox}))
        self._ledger = ledger

    def _look_at_ledger(self) -> Ledger:
        found = self.sql(_LOOK, self.user_id)
        assert found is not None
        floor, version, streak, outbox = found
        assert streak == version, f"an update was lost: version {version}, {streak} updates"
        return Ledger(version or floor, version is not None, outbox)


@contextmanager
def staged(user_id: int) -> Iterator[Stage]:
    """A stage on which tokens are the actor's own, and the server's life is what the world says."""
    stage = Stage(user_id)
    real = Store.exchange

    class Tokens:
        @staticmethod
        def token_hex(_: int) -> str:
            return token(stage.actor)

    def exchange(self: Store, *args: Any, **options: Any) -> Exchange:
        replies, life = real(self, *args, **options)
        return Exchange(replies, Life(f"{stage.life:012x}", sticky=life.sticky))

    with (
        patch.object(leases, "secrets", Tokens),
        patch.object(fences, "secrets", Tokens),
        patch.object(Store, "exchange", exchange),
    ):
        yield stage
