"""Writes: one interaction at a time, and the PsycheStates that users begin with."""

import hashlib
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import msgspec
from django.db import IntegrityError, connection, transaction

from aevon.cache import write_through
from klepsydra import engine, ledger, selectors
from klepsydra.documents import Answer, PsycheDocument, answer_of, snapshot_of
from klepsydra.instruments import WEIGHT_TOTAL, Instrument, instrument
from klepsydra.models import Interaction, PsycheState


class NoSuchUser(LookupError):
    """The user does not exist, or not any more."""


class KeyReused(Exception):
    """The idempotency key came before, with another request."""


@dataclass(frozen=True, slots=True)
class Played:
    """What an interaction answers; `replayed` when it is an earlier answer to the same key."""

    answer: Answer
    replayed: bool = False


@dataclass(frozen=True)
class _Request:
    user_id: int
    instrument: Instrument
    stake: int
    idempotency_key: str | None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what is asked for: the same key must ask for the same. "" without a key."""
        if self.idempotency_key is None:
            return ""
        asked = msgspec.json.encode([self.instrument.slug, self.stake])
        return hashlib.sha256(asked).hexdigest()


def psyche(user_id: int) -> PsycheDocument:
    """The user's PsycheState, made when it is first asked for. Raises `NoSuchUser`.

    Key `psyche:{userId}`. A hit is one round trip and no SQL; cache away: from PostgreSQL.
    """
    state = PsycheState.cached.get(user_id)
    if state is None:
        _begin(user_id)
        state = PsycheState.cached.get(user_id)
    if state is None:
        raise NoSuchUser(f"User {user_id} was deleted meanwhile.")
    return state


def begin(user_ids: Iterable[int]) -> None:
    """Make the PsycheStates of those users that have none, a thousand at a time."""
    now = time.time()
    states = [_new_state(user_id, now) for user_id in user_ids]
    PsycheState.objects.bulk_create(states, batch_size=1000, ignore_conflicts=True)


def play(user_id: int, slug: str, stake: int, *, idempotency_key: str | None = None) -> Played:
    """Play once with the instrument of that slug, for `stake` whole ΞCredits.

    The state comes from the cache, where a fence takes its place in the same round trip, and is
    written with one statement, guarded by all that was read of it; then the new state takes the
    fence's place: two round trips and one statement. Where PostgreSQL holds something else, the
    row is locked and the play computed again from it. So every interaction counts, however many
    run at once and whatever the cache holds. Cache away: PostgreSQL alone, and the outbox makes
    the entry follow.

    Raises `UnknownInstrument`, `StakeOutOfRange`, `KeyReused`, `NoSuchUser`.
    """
    request = _Request(user_id, instrument(slug), stake, idempotency_key)
    try:
        if connection.in_atomic_block:
            return Played(_play_from_row(request))
        return Played(_play_guarded(request))
    except ledger.KeyTaken:
        return Played(_first_answer(request), replayed=True)


def _play_guarded(request: _Request) -> Answer:
    with write_through.guarded(PsycheState.cached.projection, request.user_id) as write:
        try:
            answer = write.state and _play_from_state(request, write.state)
            if write.state and not answer:
                write.conflicted()
            answer = answer or _play_from_row(request, publish=False)
        except (engine.StakeOutOfRange, ledger.KeyTaken, NoSuchUser):
            write.abandon()
            raise
        write.publish(answer.psyche)
    return answer


def _play_from_state(request: _Request, state: PsycheDocument) -> Answer | None:
    """None where the cached state is not, or cannot be, the row's."""
    try:
        played = _computed(request, state)
    except engine.StakeOutOfRange:
        raise
    except ValueError:
        return None
    try:
        return _recorded(request, state, played)
    except ledger.StateChanged:
        return None


@transaction.atomic
def _play_from_row(request: _Request, *, publish: bool = True) -> Answer:
    state = selectors.read_locked(request.user_id)
    if state is None:
        _begin(request.user_id)
        state = selectors.read_locked(request.user_id)
    if state is None:
        raise NoSuchUser(f"User {request.user_id} was deleted meanwhile.")
    if publish:
        write_through.publish_on_commit(PsycheState.cached.projection, [request.user_id])
    return _recorded(request, state, _computed(request, state))


def _computed(request: _Request, state: PsycheDocument) -> engine.Play:
    """Raises ValueError where no row can be `state`."""
    return engine.interact(
        snapshot_of(state),
        request.instrument,
        request.stake,
        now=time.time(),
        roll=secrets.randbelow(WEIGHT_TOTAL),
    )


def _recorded(request: _Request, state: PsycheDocument, played: engine.Play) -> Answer:
    """Raises `StateChanged` where the row is not `state`."""
    return ledger.record(
        state, played, idempotency_key=request.idempotency_key, request_digest=request.digest
    )


def _first_answer(request: _Request) -> Answer:
    assert request.idempotency_key is not None  # noqa: S101  or nothing could have been taken
    try:
        digest, answer = selectors.answer_to_key(request.user_id, request.idempotency_key)
    except Interaction.DoesNotExist:
        raise NoSuchUser(f"User {request.user_id} was deleted meanwhile.") from None
    if digest != request.digest:
        raise KeyReused
    return answer_of(answer)


def _begin(user_id: int) -> None:
    try:
        with transaction.atomic():
            begin([user_id])
            # The reference to the user is checked at the commit, which may not be ours.
            connection.check_constraints()
    except IntegrityError:
        raise NoSuchUser(f"There is no user {user_id}.") from None


def _new_state(user_id: int, now: float) -> PsycheState:
    snapshot = engine.new_psyche(user_id, now=now)
    return PsycheState(
        user_id=user_id,
        sre_wave=snapshot.sre_wave,
        frustration_at=datetime.fromtimestamp(now, UTC),
        phase=snapshot.phase,
        amplitude=snapshot.amplitude,
        period_seconds=snapshot.period_seconds,
    )
