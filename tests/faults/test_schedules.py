"""The schedules in which an older state comes last, or one that was never committed; ten thousand
of each (faults 12, 14, 16)."""

import contextlib
import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

import pytest
from django.db import DatabaseError, transaction

from aevon.cache import entries, fences, leases
from aevon.cache.connection import store
from aevon.cache.entries import EMPTY
from aevon.cache.fences import Mark
from aevon.cache.leases import Lease
from klepsydra.models import PsycheState
from tests.faults.witness import Witness, busy
from tests.klepsydra.rows import PSYCHES, play, sql

pytestmark = pytest.mark.django_db(transaction=True)

USERS: Final = 100
SCHEDULES: Final = 10_000


def empty_the_cache(user_ids: Sequence[int]) -> None:
    """Nobody's state is cached, and nobody is about to."""
    store().command("UNLINK", *[PSYCHES.keyspace.key(user_id) for user_id in user_ids])


def versions(user_ids: Sequence[int]) -> dict[int, int]:
    """What PostgreSQL has; a deleted row counts with the version that its deletion took."""
    return {user_id: row.version for user_id, row in PSYCHES.read(user_ids).items()}


def cached_versions(user_ids: Sequence[int]) -> dict[int, int]:
    """Of the users who have a state or a tombstone in the cache."""
    held: Any = entries.peek_many(PSYCHES, user_ids)
    return {u: value.version for u, value in held.items() if hasattr(value, "version")}


# --- a fill that comes late --------------------------------------------------------------------


def update(user_ids: Sequence[int]) -> None:
    """An edit of all of them."""
    PsycheState.objects.filter(user_id__in=user_ids).update(amplitude=random.random())


def delete(user_ids: Sequence[int]) -> None:
    """Their end."""
    PsycheState.objects.filter(user_id__in=user_ids).delete()


def before_the_commit(write: Callable[[], None], fill: Callable[[], None]) -> None:
    """The fill meets the writer's fence."""
    with transaction.atomic():
        write()
        fill()


def after_the_commit(write: Callable[[], None], fill: Callable[[], None]) -> None:
    """It still does: the writer has not yet put in what it committed."""
    with transaction.atomic():
        transaction.on_commit(fill)
        write()


def after_the_write(write: Callable[[], None], fill: Callable[[], None]) -> None:
    """It meets what the writer has put in."""
    write()
    fill()


def after_a_flush(write: Callable[[], None], fill: Callable[[], None]) -> None:
    """It meets nothing: the cache has lost the fence, and what took its place."""
    write()
    store().command("FLUSHDB")
    fill()


def after_a_flush_in_between(write: Callable[[], None], fill: Callable[[], None]) -> None:
    """The fence is lost before the commit."""
    with transaction.atomic():
        write()
        store().command("FLUSHDB")
        transaction.on_commit(fill)


MOMENTS: Final = [
    before_the_commit,
    after_the_commit,
    after_the_write,
    after_a_flush,
    after_a_flush_in_between,
]


@pytest.mark.parametrize("change", [update, delete])
def test_fill_that_comes_after_a_write(change: Any, make_players: Any, witness: Witness) -> None:
    """A reader who read PostgreSQL before the write never fills after it (fault 12)."""
    fill_late(change, make_players(USERS), witness, rounds=SCHEDULES // 2 // USERS)
    assert witness.reads >= SCHEDULES // 2
    assert witness.stale == []


def fill_late(change: Any, players: Sequence[int], witness: Witness, *, rounds: int) -> None:
    """Rounds in which all players' rows are read, changed at some moment, and put in."""
    moments = itertools.cycle(MOMENTS)
    for _ in range(rounds):
        insert_missing(players)
        empty_the_cache(players)
        held = leases.lease(PSYCHES, dict.fromkeys(players, EMPTY))
        rows = PSYCHES.read(players)
        assert all(isinstance(lease, Lease) for lease in held.values())
        next(moments)(
            lambda: change(players),
            lambda held=held, rows=rows: leases.fill(PSYCHES, held, rows),
        )
        committed = versions(players)
        assert all(committed[user_id] > rows[user_id].version for user_id in players)
        for seen in (cached_versions(players), versions_read(players)):
            for user_id, version in seen.items():
                witness.saw(user_id, version, committed[user_id])


def insert_missing(user_ids: Sequence[int]) -> None:
    """Everybody has a state."""
    sql(
        "INSERT INTO klepsydra_psychestate (user_id, sre_wave, loss_streak, frustration_level,"
        " frustration_at, is_throttled, phase, amplitude, period_seconds)"
        " SELECT unnest(%s::bigint[]), 0, 0, 0, now(), false, 1, 1, 3600 ON CONFLICT DO NOTHING",
        list(user_ids),
    )


def versions_read(user_ids: Sequence[int]) -> dict[int, int]:
    """What the users' readers see; a user without a state is left out."""
    states = PsycheState.cached.get_many(user_ids)
    there = {user_id: state.version for user_id, state in states.items()}
    gone = versions([user_id for user_id in user_ids if user_id not in there])
    return gone | there


# --- an install that comes late ----------------------------------------------------------------


class Writer:
    """Fences, commits and installs when told to."""

    def __init__(self, user_ids: Sequence[int]) -> None:
        self._users = user_ids
        self._marks: dict[int, Mark] = {}
        self._rows: Any = {}

    def fence(self) -> None:
        """The marks go in."""
        self._marks = fences.fence(PSYCHES, self._users)

    def commit(self) -> None:
        """One version more."""
        sql(
            "UPDATE klepsydra_psychestate SET amplitude = random() WHERE user_id = ANY(%s)",
            list(self._users),
        )
        self._rows = PSYCHES.read(self._users)

    def install(self) -> None:
        """What was committed goes in, if nothing newer has."""
        fences.install(PSYCHES, self._rows, self._marks)


# Fences (f), commits (c) and installs (i) of an older writer (a) and a newer one (b), a reader who
# fills (r), a flush (x).
LATE: Final = [
    "fa ca fb cb ib ia",
    "fa fb ca cb ib ia",
    "fb fa ca cb ib ia",
    "fa ca fb cb ib r ia",
    "fa ca fb cb x ib ia",
    "fa ca fb cb ib x ia",
    "fa ca fb cb ib x r ia",
    "fa ca x fb cb ib r ia",
    "fa ca x r fb cb ib ia",
    "fa x fb ca cb ib ia r",
]


def test_install_that_comes_late(make_players: Any, witness: Witness) -> None:
    """The newer of two writers has long been done when the older one puts in its state: the newer
    state stays (fault 14)."""
    install_late(make_players(USERS), witness, rounds=SCHEDULES // USERS)
    assert witness.reads >= SCHEDULES
    assert witness.stale == []


def install_late(players: Sequence[int], witness: Witness, *, rounds: int) -> None:
    """Rounds in which two writers write all players' rows, and the older one puts in last."""
    for schedule in itertools.islice(itertools.cycle(LATE), rounds):
        witness.read_all(players)
        writers = {"a": Writer(players), "b": Writer(players)}
        acts = {"f": Writer.fence, "c": Writer.commit, "i": Writer.install}
        for step in schedule.split():
            if step == "x":
                empty_the_cache(players)
            elif step == "r":
                witness.read_all(players)
            else:
                acts[step[0]](writers[step[1]])
            if step == "ib":
                for user_id, version in versions(players).items():
                    witness.acknowledged(user_id, version)
        for user_id, version in cached_versions(players).items():
            witness.saw(user_id, version, witness.least(user_id))
        witness.read_all(players)


# --- a rollback --------------------------------------------------------------------------------

NEVER: Final = 987


class ChangedTheirMind(Exception):
    """The transaction ends here."""


def save_and_fail(user_id: int) -> None:
    """An edit, and an error."""
    with transaction.atomic():
        edit(user_id)
        raise ChangedTheirMind


def save_within_and_fail(user_id: int) -> None:
    """The error is in an inner block, and caught: the outer one commits."""
    with transaction.atomic(), contextlib.suppress(ChangedTheirMind), transaction.atomic():
        edit(user_id)
        raise ChangedTheirMind


def play_and_fail(user_id: int) -> None:
    """An interaction in somebody's transaction, and an error."""
    with transaction.atomic():
        play(user_id)
        edit(user_id)
        raise ChangedTheirMind


def write_and_be_refused(user_id: int) -> None:
    """PostgreSQL refuses a later statement."""
    with transaction.atomic():
        edit(user_id)
        PsycheState.objects.filter(user_id=user_id).update(amplitude=7)


def delete_and_fail(user_id: int) -> None:
    """The row stays."""
    with transaction.atomic():
        PsycheState.objects.get(user_id=user_id).delete()
        raise ChangedTheirMind


def edit(user_id: int) -> None:
    """A change that nobody must ever see."""
    state = PsycheState.objects.get(user_id=user_id)
    state.loss_streak = NEVER
    state.save()


FAILURES: Final = [
    save_and_fail,
    save_within_and_fail,
    play_and_fail,
    write_and_be_refused,
    delete_and_fail,
]


def test_a_thousand_transactions_that_are_rolled_back(make_players: Any) -> None:
    """What they wrote is seen by nobody, then or later (fault 16)."""
    players = make_players(20)
    before = versions(players)
    PsycheState.cached.get_many(players)
    seen: list[Any] = []
    reads = itertools.count()

    def look() -> None:
        user_id = random.choice(players)
        state = PsycheState.cached.get(user_id)
        next(reads)
        if state is None or state.loss_streak == NEVER or state.version != before[user_id]:
            seen.append(state)

    with busy(look):
        for failure, _ in zip(itertools.cycle(FAILURES), range(1000), strict=False):
            with contextlib.suppress(ChangedTheirMind, DatabaseError):
                failure(random.choice(players))
    assert next(reads) > 500
    assert seen == []
    assert versions(players) == before
    assert versions_read(players) == before
