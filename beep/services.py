"""Writes: a command becomes a turn; the turns are forgotten."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from psycopg.errors import ForeignKeyViolation

from aevon import intents
from aevon.cache import (
    after_commit,
    bounded_list,
    of_one_type,
    prepared_cursor,
    rfc3339,
    together,
)
from aevon.intents import Deed, Done
from beep import context, questions, resolution, resolvers, selectors
from beep.abilities import UNDO
from beep.documents import TurnDocument
from beep.models import RESPONSE_MAX, Turn
from beep.phrases import not_done
from beep.projection import CONVO, forget_on_commit
from beep.resolution import Canvas, ResolvedCommand

ELLIPSIS: Final = "…"
# JSON escapes in a quoted name can bring what neither PostgreSQL nor UTF-8 can hold.
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")

# The conversation's row gives the number, so concurrent commands of a user queue here and
# nowhere else. The clock is read after that wait: `at` rises with `seq`.
_RECORD: Final = """
WITH numbered AS (
    INSERT INTO beep_conversation AS c (user_id, last_seq, forgotten_through)
    VALUES (%(user_id)s, 1, 0)
    ON CONFLICT (user_id) DO UPDATE SET last_seq = c.last_seq + 1
    RETURNING user_id, last_seq
)
INSERT INTO beep_turn
    (user_id, seq, command, response, resolved, undo, at, idempotency_key, request_digest)
SELECT user_id, last_seq, %(command)s, %(response)s, %(resolved)s::jsonb, %(undo)s::jsonb,
       clock_timestamp(), %(key)s, %(digest)s
FROM numbered
RETURNING seq, at
"""

_FORGET_OLD: Final = """
DELETE FROM beep_turn WHERE id IN (
    SELECT id FROM beep_turn WHERE at < %s ORDER BY at LIMIT %s FOR UPDATE SKIP LOCKED)
"""
FORGOTTEN_AT_ONCE: Final = 1_000


class KeyReused(Exception):
    """The idempotency key came again with another command. Nothing was done."""


class UserGone(Exception):
    """The user was deleted while the command ran. Nothing was recorded."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command came to. `at` is RFC 3339; `replayed`: this was the answer the first time."""

    seq: int
    response: str
    resolved: dict[str, Any]
    at: str
    replayed: bool = False


def command(user_id: int, text: str, *, idempotency_key: str | None = None) -> Answer:
    """Resolve a command against the last turns, carry it out and record the turn.

    One cache round trip before, for turns and canvas, and one after; one statement in PostgreSQL,
    where the turn is durable before it is in the list, and two more where there is a key. Cache
    away: the turns come from PostgreSQL and the outbox makes the list follow. With a key, a
    command is carried out once: a retry gets the first answer until the turn is forgotten. What a
    process does to the canvas before it dies, and before the turn is recorded, a retry does again
    (docs/design.md). Call it outside a transaction. Raises `KeyReused`, `UserGone`, and what a
    handler raises other than `IntentRefused`.
    """
    # Before the transaction of a key: a resolver may take its time.
    resolved = _resolve(user_id, text)
    with _user_must_exist():
        if idempotency_key is None:
            return _execute(user_id, text, resolved)
        # Durable: the intent must not be done again because somebody rolled back its turn.
        with transaction.atomic(durable=True):
            return _once(user_id, text, resolved, idempotency_key)


@contextmanager
def _user_must_exist() -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        if isinstance(error.__cause__, ForeignKeyViolation):
            raise UserGone from error
        raise


def _once(user_id: int, text: str, resolved: ResolvedCommand, key: str) -> Answer:
    _take_turns(user_id, key)
    earlier = selectors.turn_by_key(user_id, key)
    if earlier is None:
        return _execute(user_id, text, resolved, key)
    if earlier.request_digest != _digest(text):
        raise KeyReused
    # Whose process may have died, or be slow: what is acknowledged must be in the list.
    after_commit(bounded_list.push, CONVO, user_id, selectors.document_of(earlier))
    return _replayed(earlier)


def _take_turns(user_id: int, key: str) -> None:
    """Wait until no other request with this key is under way, until the end of the transaction.

    A statement of its own: what follows must see what the other has committed.
    """
    with connection.cursor() as cursor:
        lock = f"beep:{user_id}:{key}"
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [lock])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _replayed(turn: Turn) -> Answer:
    return Answer(turn.seq, turn.response, turn.resolved, rfc3339(turn.at), replayed=True)


def _execute(user_id: int, text: str, resolved: ResolvedCommand, key: str | None = None) -> Answer:
    done = _carry_out(user_id, resolved)
    response = shortened(context.response_for(text, resolved, done.answer))
    turn = _record(user_id, text, response, resolved=resolved, undo=done.undo, key=key)
    after_commit(bounded_list.push, CONVO, user_id, turn)
    return Answer(turn.seq, response, resolved.as_dict(), turn.at)


def _resolve(user_id: int, text: str) -> ResolvedCommand:
    turns, windows = together(bounded_list.reading(CONVO, user_id), intents.windows(user_id))
    history = [resolution.Turn(each.seq, each.command, each.response) for each in turns]
    canvas = Canvas(windows, intents.offered("microApps"), intents.offered("instruments"))
    resolved = resolvers.current()(text, history, canvas)
    return resolved if _is_storable(resolved) else questions.not_understood()


def _is_storable(resolved: ResolvedCommand) -> bool:
    names = resolved.intent.names if resolved.intent else ()
    told = (each.value for each in resolved.references)
    texts = (*names, *told, *resolved.candidates, resolved.question or "")
    return not any(map(_UNSTORABLE.search, texts))


def _carry_out(user_id: int, resolved: ResolvedCommand) -> Done:
    """What was corrected is taken back first; where that cannot be done, the rest is done still."""
    if resolved.intent is None:
        return Done("")
    told = "" if resolved.takes_back is None else f"{_taken_back(user_id, resolved.takes_back)} "
    try:
        done = intents.perform(resolved.intent.name, user_id, resolved.intent.arguments)
    except intents.IntentRefused as refusal:
        return Done(told + not_done(str(refusal)))
    return Done(told + done.answer, done.undo)


def _taken_back(user_id: int, turn: int) -> str:
    try:
        return intents.perform(UNDO, user_id, {"turn": turn}).answer
    except intents.IntentRefused as refusal:
        return str(refusal)


def shortened(response: str) -> str:
    """The response, cut where it would outgrow its column and weigh down the list."""
    response = _UNSTORABLE.sub("\ufffd", response)
    if len(response) <= RESPONSE_MAX:
        return response
    return response[: RESPONSE_MAX - len(ELLIPSIS)] + ELLIPSIS


def _record(
    user_id: int,
    text: str,
    response: str,
    *,
    resolved: ResolvedCommand,
    undo: Deed | None,
    key: str | None,
) -> TurnDocument:
    values: dict[str, Any] = {
        "user_id": user_id,
        "command": text,
        "response": response,
        "resolved": _json(resolved.as_dict()),
        "undo": _json(undo) if undo else None,
        "key": key,
        "digest": _digest(text) if key is not None else "",
    }
    with prepared_cursor() as cursor:
        cursor.execute(_RECORD, of_one_type(values))
        seq, at = cursor.fetchone()
    return selectors.document(seq, text, response, at)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def history(user_id: int) -> list[TurnDocument]:
    """The last turns, oldest first. One round trip; PostgreSQL on a miss or with the cache away."""
    return bounded_list.read(CONVO, user_id)[::-1]


def forget(user_id: int) -> None:
    """Delete the turns, and then the list. Numbers go on from where they were.

    Cache away: the outbox makes the list follow.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        # Two statements: the second must see a turn that the first had to wait for.
        cursor.execute(
            "UPDATE beep_conversation SET forgotten_through = last_seq WHERE user_id = %s",
            [user_id],
        )
        cursor.execute("DELETE FROM beep_turn WHERE user_id = %s", [user_id])
        forget_on_commit(user_id)


def forget_old_turns() -> int:
    """Delete the turns that are older than `BEEP_RETENTION`, a user's last ones too; how many.

    Constant memory; nobody waits for it, and what somebody holds is passed over. The outbox makes
    the lists follow that held one of them.
    """
    forgotten = 0
    while count := _forget_batch():
        forgotten += count
    return forgotten


def _forget_batch() -> int:
    before = timezone.now() - settings.BEEP_RETENTION
    with connection.cursor() as cursor:
        cursor.execute(_FORGET_OLD, [before, FORGOTTEN_AT_ONCE])
        return int(cursor.rowcount)
