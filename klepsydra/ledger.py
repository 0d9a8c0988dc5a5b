"""The one statement of an interaction: raise the PsycheState and record what raised it."""

from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from django.db import IntegrityError

from aevon.cache import of_one_type, prepared_cursor, rfc3339
from klepsydra.documents import Answer, OutcomeDocument, PsycheDocument, outcome_of
from klepsydra.engine import Play, PsycheSnapshot
from klepsydra.models import ONE_ANSWER_PER_KEY
from klepsydra.selectors import COLUMNS, document_of


class StateChanged(Exception):
    """The row is not what the play was computed from; nothing was changed."""


class KeyTaken(Exception):
    """This user's idempotency key has been answered before; nothing was changed."""


# What the computation read. More than the version: an entry that somebody edited by hand, with
# the right version, must not get into the ledger either.
_GUARDED: Final = (
    "version", "sre_wave", "loss_streak", "frustration_level", "is_throttled", "throttled_until",
    "frustration_at", "phase", "amplitude", "period_seconds",
)  # fmt: skip
_WRITTEN: Final = (
    "sre_wave", "loss_streak", "frustration_level", "is_throttled", "throttled_until",
    "frustration_at",
)  # fmt: skip
_RECORDED: Final = (
    "instrument", "kind", "stake", "payout", "tier", "is_win", "pity", "wave", "roll", "weights",
    "idempotency_key", "request_digest",
)  # fmt: skip


def _values(prefix: str, names: tuple[str, ...]) -> str:
    return ", ".join(f"%({prefix}_{name})s" for name in names)


# The moment of the update is the database's, so it puts it into the answer as well.
_STATEMENT: Final = f"""
WITH psyche AS (
    UPDATE klepsydra_psychestate SET ({", ".join(_WRITTEN)}) = ROW({_values("new", _WRITTEN)})
    WHERE user_id = %(user_id)s
      AND ({", ".join(_GUARDED)}) IS NOT DISTINCT FROM ({_values("old", _GUARDED)})
    RETURNING {COLUMNS}
), recorded AS (
    INSERT INTO klepsydra_interaction
        (user_id, psyche_version, created_at, {", ".join(_RECORDED)}, response)
    SELECT user_id, version, updated_at, {_values("record", _RECORDED)}, jsonb_set(
        %(response)s::jsonb, '{{psyche,updatedAt}}',
        to_jsonb(to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
    )
    FROM psyche
)
SELECT {COLUMNS} FROM psyche
"""  # noqa: S608  made of names in this file


def record(
    before: PsycheDocument, play: Play, *, idempotency_key: str | None, request_digest: str
) -> Answer:
    """Write a play that was computed from `before`, and what it answers.

    One statement: the new state and the record are written both or neither. `request_digest` is of
    a request that has a key. Raises `StateChanged`, and `KeyTaken`, which leaves a transaction of
    the caller's to roll back.
    """
    try:
        outcome = _outcome(play)
        parameters = _parameters(before, play, outcome, idempotency_key, request_digest)
    except ValueError as error:
        raise StateChanged from error  # no row can be what this was computed from
    row = _execute(parameters)
    if row is None:
        raise StateChanged
    return Answer(outcome=outcome, psyche=document_of(row))


def _parameters(
    before: PsycheDocument,
    play: Play,
    outcome: OutcomeDocument,
    idempotency_key: str | None,
    request_digest: str,
) -> dict[str, Any]:
    written, response = _written(play.state), None
    if idempotency_key is not None:
        expected = msgspec.structs.replace(before, version=before.version + 1, **written)
        response = msgspec.json.encode(Answer(outcome=outcome, psyche=expected)).decode()
    return of_one_type(
        {
            "user_id": before.user_id,
            "response": response,
            **{f"old_{name}": getattr(before, name) for name in _GUARDED},
            **{f"new_{name}": value for name, value in written.items()},
            **{f"record_{name}": value for name, value in _record(outcome).items()},
            "record_idempotency_key": idempotency_key,
            "record_request_digest": request_digest,
        }
    )


def _execute(parameters: dict[str, Any]) -> tuple[Any, ...] | None:
    try:
        with prepared_cursor() as cursor:
            cursor.execute(_STATEMENT, parameters)
            row: tuple[Any, ...] | None = cursor.fetchone()
    except IntegrityError as error:
        if _constraint(error) == ONE_ANSWER_PER_KEY:
            raise KeyTaken from None
        raise
    return row


def _constraint(error: IntegrityError) -> str | None:
    diagnosis = getattr(error.__cause__, "diag", None)
    return getattr(diagnosis, "constraint_name", None)


def _outcome(play: Play) -> OutcomeDocument:
    outcome = outcome_of(play.outcome.as_dict())
    return msgspec.structs.replace(outcome, wave=_unsigned_zero(outcome.wave))


def _record(outcome: OutcomeDocument) -> dict[str, Any]:
    """The outcome as columns of the record."""
    values = {name: getattr(outcome, name) for name in _RECORDED if hasattr(outcome, name)}
    weights = msgspec.json.encode(outcome.weights).decode()
    return values | {"tier": outcome.tier or "", "weights": weights}


def _written(state: PsycheSnapshot) -> dict[str, Any]:
    """The part of a state that a play changes, as the document holds it."""
    until = state.throttled_until
    return {
        "sre_wave": _unsigned_zero(state.sre_wave),
        "loss_streak": state.loss_streak,
        "frustration_level": state.frustration_level,
        "is_throttled": state.is_throttled,
        "throttled_until": None if until is None else _text(until),
        "frustration_at": _text(state.frustration_at),
    }


def _text(unix_seconds: float) -> str:
    return rfc3339(datetime.fromtimestamp(unix_seconds, UTC))


def _unsigned_zero(number: float) -> float:
    # jsonb has no -0.0: the answer that is stored must be the one that was given.
    return number + 0.0
