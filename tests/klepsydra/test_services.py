"""One interaction at a time: every one counts, and the cache follows the row."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import msgspec
import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from aevon.cache import PSYCHE, fences, resources
from aevon.cache.connection import store
from aevon.signals import users_created
from auth_sessions.models import User
from klepsydra import ledger, services
from klepsydra.engine import StakeOutOfRange, phase_for
from klepsydra.instruments import UnknownInstrument
from klepsydra.models import Interaction, PsycheState
from tests.klepsydra.rows import (
    SLUG,
    edit,
    fence_runs_out,
    fenced,
    held,
    noted,
    play,
    row,
    sql,
)
from tests.threads import in_another_thread, in_threads
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)
NOBODY = 10**9


def records(user: User) -> int:
    """How many interactions PostgreSQL holds."""
    return Interaction.objects.filter(user=user).count()


# --- Reading ---------------------------------------------------------------------------------


def test_a_users_first_read_makes_the_state(user: User) -> None:
    """Calm, on a wave of their own; cached at once."""
    state = services.psyche(user.pk)
    assert (state.version, state.loss_streak, state.frustration_level) == (1, 0, 0.0)
    assert state.phase == phase_for(user.pk)
    assert held(user.pk) == row(user.pk)


def test_a_fenced_state_is_read_from_postgresql_alone(
    player: User, django_assert_num_queries: Any, trips: Any
) -> None:
    """One round trip, one query, and nobody waits for the writer."""
    fences.fence(PsycheState.cached.projection, [player.pk])
    with django_assert_num_queries(1), trips() as sent:
        assert services.psyche(player.pk).version == 1
    assert sent.count == 1
    assert fenced(player.pk)


def test_a_state_of_nobody_is_refused(db: None) -> None:
    """And nothing is left behind."""
    with pytest.raises(services.NoSuchUser):
        services.psyche(NOBODY)
    assert not PsycheState.objects.exists()
    assert held(NOBODY) is None


def test_a_user_deleted_while_reading_is_refused(user: User, monkeypatch: Any) -> None:
    """Between the making of the state and its reading."""
    monkeypatch.setattr(services, "_begin", lambda user_id: None)
    with pytest.raises(services.NoSuchUser):
        services.psyche(user.pk)


def test_many_states_begin_at_once(make_user: Callable[..., User]) -> None:
    """Those that are there stay as they are."""
    users = [make_user() for _ in range(3)]
    play(users[0].pk)
    before = row(users[0].pk)
    services.begin([user.pk for user in users])
    assert PsycheState.objects.count() == 3
    assert row(users[0].pk) == before


def test_users_made_in_bulk_get_their_states(make_user: Callable[..., User]) -> None:
    """Another service says so by signal."""
    users = [make_user() for _ in range(2)]
    users_created.send(sender=User, user_ids=[user.pk for user in users])
    assert PsycheState.objects.count() == 2


# --- Playing ---------------------------------------------------------------------------------


def test_a_play_is_published(player: User) -> None:
    """The answer, the entry and the row are the same state."""
    played = play(player.pk)
    assert not played.replayed
    assert msgspec.to_builtins(played.answer.psyche) == held(player.pk) == row(player.pk)
    assert played.answer.psyche.version == 2


def test_a_play_is_recorded_with_what_decided_it(player: User) -> None:
    """The record says everything that the answer said."""
    outcome = play(player.pk, stake=3).answer.outcome
    record = Interaction.objects.get()
    assert (record.instrument, record.stake, record.tier) == (SLUG, 3, outcome.tier)
    assert (record.payout, record.is_win, record.roll) == (
        outcome.payout, outcome.is_win, outcome.roll,
    )  # fmt: skip
    assert record.weights == outcome.weights
    assert (record.wave, record.pity, record.kind) == (outcome.wave, False, "played")
    assert record.psyche_version == 2
    assert record.created_at == PsycheState.objects.get().updated_at


def test_a_play_without_a_key_stores_no_answer(player: User) -> None:
    """Nobody could ask for it again."""
    play(player.pk)
    record = Interaction.objects.get()
    assert (record.idempotency_key, record.request_digest, record.response) == (None, "", None)


def test_a_loss_and_a_win_change_the_streak(player: User, monkeypatch: Any) -> None:
    """Two losses, then a win."""
    rolls = iter([0, 0, 9_999])
    monkeypatch.setattr(services.secrets, "randbelow", lambda _: next(rolls))
    streaks = [play(player.pk).answer.psyche.loss_streak for _ in range(3)]
    assert streaks == [1, 2, 0]


def test_the_sixth_play_after_five_losses_is_a_sure_win(player: User) -> None:
    """Whatever is rolled."""
    PsycheState.objects.filter(pk=player.pk).update(loss_streak=5)
    outcome = play(player.pk).answer.outcome
    assert outcome.pity
    assert outcome.is_win
    assert row(player.pk)["lossStreak"] == 0


def test_a_throttled_player_rests(player: User) -> None:
    """No stake is taken, but the interaction counts."""
    state = PsycheState.objects.get(pk=player.pk)
    state.is_throttled, state.throttled_until = True, timezone.now() + timedelta(seconds=60)
    state.save()
    answer = play(player.pk, stake=5).answer
    assert (answer.outcome.kind, answer.outcome.stake, answer.outcome.tier) == ("rested", 0, None)
    assert 55 <= (answer.outcome.retry_after_seconds or 0) <= 60
    assert (answer.psyche.is_throttled, answer.psyche.version) == (True, 3)
    assert Interaction.objects.get().kind == "rested"
    assert held(player.pk) == row(player.pk)


@pytest.mark.parametrize("stake", [0, -1, 1_001, 10**30])
def test_a_stake_out_of_range_changes_nothing(
    player: User, stake: int, django_assert_num_queries: Any
) -> None:
    """The instrument says its limits; PostgreSQL is not asked."""
    with pytest.raises(StakeOutOfRange), django_assert_num_queries(0):
        play(player.pk, stake=stake)
    assert (row(player.pk)["version"], records(player)) == (1, 0)
    assert held(player.pk) == row(player.pk)


def test_an_unknown_instrument_changes_nothing(player: User) -> None:
    """Slugs are exact."""
    with pytest.raises(UnknownInstrument):
        services.play(player.pk, "SpinForge", 1)
    assert (row(player.pk)["version"], records(player)) == (1, 0)


def test_a_play_of_nobody_is_refused(db: None) -> None:
    """In a transaction as well as outside of one."""
    with pytest.raises(services.NoSuchUser):
        play(NOBODY)
    with pytest.raises(services.NoSuchUser), transaction.atomic():
        play(NOBODY)
    assert not PsycheState.objects.exists()


def test_a_play_of_a_user_deleted_meanwhile_is_refused(player: User, monkeypatch: Any) -> None:
    """The entry was read, then the rows went."""
    sql("DELETE FROM klepsydra_psychestate")
    monkeypatch.setattr(services, "_begin", lambda user_id: None)
    with pytest.raises(services.NoSuchUser):
        play(player.pk)


# --- The entry may be wrong ------------------------------------------------------------------


def test_a_play_computed_from_an_older_state_is_done_again(player: User) -> None:
    """Foreign SQL has changed the row; the entry does not know."""
    sql("UPDATE klepsydra_psychestate SET loss_streak = 5 WHERE user_id = %s", player.pk)
    assert held(player.pk)["lossStreak"] == 0
    assert play(player.pk).answer.outcome.pity
    assert held(player.pk) == row(player.pk)
    assert row(player.pk)["version"] == 3


@pytest.mark.parametrize(
    "members",
    [
        {"version": 77},
        {"version": 1},
        {"lossStreak": 5},
        {"frustrationLevel": 0.99},
        {"isThrottled": True, "throttledUntil": "2199-01-01T00:00:00.000000Z"},
        {"frustrationAt": "9999-12-31T23:59:59.999999Z"},
        {"frustrationAt": "2026-13-01T00:00:00.000000Z"},
        {"amplitude": 0.0},
        {"phase": 1.0},
        {"lossStreak": 10**30},
        {"sreWave": 5},
        {"version": "2"},
        {"userId": 1_000_000},
    ],
)
def test_an_entry_edited_by_hand_does_not_reach_the_ledger(
    player: User, members: dict[str, Any]
) -> None:
    """Wrong members with the right version too: the guard compares all that was read."""
    PsycheState.objects.filter(pk=player.pk).update(loss_streak=2)
    PsycheState.objects.get(pk=player.pk).save()
    before = row(player.pk)
    edit(player.pk, **members)
    answer = play(player.pk).answer
    after = row(player.pk)
    assert (after["version"], records(player)) == (before["version"] + 1, 1)
    assert after["lossStreak"] == (0 if answer.outcome.is_win else 3)
    assert (after["phase"], after["amplitude"]) == (before["phase"], before["amplitude"])
    assert not answer.outcome.pity
    assert after["frustrationLevel"] < 0.2
    assert msgspec.to_builtins(services.psyche(player.pk)) == held(player.pk) == after


def test_a_version_edited_by_hand_does_not_reach_a_stored_answer(player: User) -> None:
    """What a retry is told is what the row became."""
    play(player.pk)
    edit(player.pk, version=1)
    first = play(player.pk, idempotency_key="k").answer
    assert play(player.pk, idempotency_key="k").answer == first
    assert first.psyche.version == row(player.pk)["version"]  # type: ignore[index]


@pytest.mark.parametrize("raw", [b"", b"junk", b"[]", b"{}", b'{"_lease":"x"}', b"\xff", b"null"])
def test_an_entry_that_cannot_be_read_does_not_matter(player: User, raw: bytes) -> None:
    """PostgreSQL answers. Nothing is put in its place, for its version cannot be known; the next
    reader puts the entry right."""
    store().command("SET", PSYCHE.key(player.pk), raw)
    assert play(player.pk).answer.psyche.version == 2
    assert held(player.pk) in (None, row(player.pk))
    assert services.psyche(player.pk).version == 2
    assert held(player.pk) == row(player.pk)


def test_a_key_of_another_type_does_not_matter(player: User) -> None:
    """A list where a text should be."""
    store().command("DEL", PSYCHE.key(player.pk))
    store().command("LPUSH", PSYCHE.key(player.pk), "x")
    assert play(player.pk).answer.psyche.version == 2
    assert services.psyche(player.pk).version == 2


# --- Transactions ----------------------------------------------------------------------------


def test_a_play_in_a_transaction_is_published_after_its_commit(player: User) -> None:
    """Not before: until then others read the committed row."""
    with transaction.atomic():
        play(player.pk)
        play(player.pk)
        assert fenced(player.pk)
        assert in_another_thread(services.psyche, player.pk).version == 1
        assert fenced(player.pk)
    assert held(player.pk) == row(player.pk)
    assert (row(player.pk)["version"], records(player)) == (3, 2)


def test_a_play_that_is_rolled_back_is_never_seen(player: User) -> None:
    """Also where the entry was lost within the transaction."""
    before = row(player.pk)
    with transaction.atomic():
        play(player.pk)
        store().command("DEL", PSYCHE.key(player.pk))
        play(player.pk)
        transaction.set_rollback(True)
    assert held(player.pk) is None
    assert services.psyche(player.pk).version == 1
    assert held(player.pk) == row(player.pk) == before
    assert records(player) == 0


def test_a_play_after_a_rolled_back_one_counts_and_is_seen(player: User) -> None:
    """The mark that nobody takes away keeps the entry empty, not old."""
    with transaction.atomic():
        play(player.pk)
        transaction.set_rollback(True)
    assert play(player.pk).answer.psyche.version == 2
    assert services.psyche(player.pk).version == 2
    fence_runs_out(player.pk)
    assert services.psyche(player.pk).version == 2
    assert held(player.pk) == row(player.pk)


def test_a_play_in_a_transaction_makes_the_state(user: User) -> None:
    """Where the user never had one."""
    with transaction.atomic():
        play(user.pk)
    assert (row(user.pk)["version"], held(user.pk)["version"]) == (2, 2)


def test_a_failing_record_raises_no_version(player: User) -> None:
    """Both or neither."""
    sql("ALTER TABLE klepsydra_interaction ADD CONSTRAINT nothing CHECK (stake > 5) NOT VALID")
    try:
        with pytest.raises(IntegrityError, match="nothing"):
            play(player.pk)
    finally:
        sql("ALTER TABLE klepsydra_interaction DROP CONSTRAINT nothing")
    assert held(player.pk) is None
    assert services.psyche(player.pk).version == row(player.pk)["version"] == 1


# --- Many at once ----------------------------------------------------------------------------


def test_200_concurrent_plays_all_count(player: User) -> None:
    """The version rises by exactly 200, each version has its record and is computed from the one
    before, and cache equals row."""
    played = in_threads([partial(play, player.pk)] * 200, workers=12)
    answers = sorted((each.answer for each in played), key=lambda answer: answer.psyche.version)
    versions = [answer.psyche.version for answer in answers]
    assert versions == list(range(2, 202))
    streak = 0
    for answer in answers:
        if answer.outcome.kind != "rested":
            streak = 0 if answer.outcome.is_win else streak + 1
        assert answer.psyche.loss_streak == streak
    recorded = Interaction.objects.order_by("psyche_version").values_list(
        "psyche_version", flat=True
    )
    assert list(recorded) == versions
    assert row(player.pk)["version"] == 201
    # A play that takes longer than its fence leaves no entry; the next reader makes one.
    assert eventually(lambda: services.psyche(player.pk) and held(player.pk) == row(player.pk))


def test_concurrent_first_plays_make_one_state(user: User) -> None:
    """All of them count."""
    in_threads([partial(play, user.pk)] * 16)
    assert (row(user.pk)["version"], records(user)) == (17, 16)
    services.psyche(user.pk)  # of two whose fence is one, the later may have been published first
    assert held(user.pk) == row(user.pk)


def test_plays_and_edits_at_once_leave_cache_and_row_equal(player: User) -> None:
    """Plays, updates from the ORM, and an entry that disappears."""

    def save() -> None:
        with transaction.atomic():
            PsycheState.objects.select_for_update().get(pk=player.pk).save()

    def forget() -> None:
        store().command("DEL", PSYCHE.key(player.pk))

    in_threads([partial(play, player.pk), save, forget, partial(play, player.pk)] * 15)
    assert row(player.pk)["version"] == 1 + 45
    services.psyche(player.pk)
    assert held(player.pk) == row(player.pk)


# --- Cache away ------------------------------------------------------------------------------


def test_with_the_cache_away_playing_goes_on(player: User, cache_away: Any) -> None:
    """From PostgreSQL; the outbox makes the entry follow."""
    resources.repair_waiting()
    with cache_away():
        assert play(player.pk).answer.psyche.version == 2
        assert services.psyche(player.pk).version == 2
    assert held(player.pk)["version"] == 1
    assert noted(player.pk) == 2
    resources.repair_waiting()
    assert held(player.pk) is None
    assert services.psyche(player.pk).version == 2


def test_with_the_cache_away_a_new_player_can_begin(user: User, cache_away: Any) -> None:
    """The state is made in PostgreSQL."""
    with cache_away():
        assert play(user.pk).answer.psyche.version == 2
    assert services.psyche(user.pk).version == 2


def test_an_entry_from_before_the_outage_costs_no_play(player: User, cache_away: Any) -> None:
    """It is older than the row: the guard notices."""
    with cache_away():
        play(player.pk)
        play(player.pk)
    assert held(player.pk)["version"] == 1
    assert play(player.pk).answer.psyche.version == 4
    assert held(player.pk) == row(player.pk)


# --- Idempotency keys ------------------------------------------------------------------------


def test_a_retry_gets_the_first_answer(player: User) -> None:
    """Also after other plays; nothing is played again."""
    first = play(player.pk, idempotency_key="k")
    play(player.pk)
    again = play(player.pk, idempotency_key="k")
    assert again.answer == first.answer
    assert (first.replayed, again.replayed) == (False, True)
    assert (row(player.pk)["version"], records(player)) == (3, 2)
    assert held(player.pk) in (None, row(player.pk))
    assert msgspec.to_builtins(services.psyche(player.pk)) == held(player.pk) == row(player.pk)


def test_a_retry_of_a_rested_play_gets_the_first_answer(player: User) -> None:
    """With its seconds to wait."""
    PsycheState.objects.update(is_throttled=True, frustration_level=0.9, amplitude=0.0)
    first = play(player.pk, idempotency_key="k")
    assert first.answer.outcome.kind == "rested"
    assert play(player.pk, idempotency_key="k").answer == first.answer


def test_a_key_with_another_request_is_refused(player: User) -> None:
    """Another stake, another instrument; nothing changes."""
    play(player.pk, idempotency_key="k")
    with pytest.raises(services.KeyReused):
        play(player.pk, stake=2, idempotency_key="k")
    with pytest.raises(services.KeyReused):
        services.play(player.pk, "spinforge", 1, idempotency_key="k")
    assert (row(player.pk)["version"], records(player)) == (2, 1)


def test_a_key_belongs_to_its_user(player: User, make_user: Callable[..., User]) -> None:
    """Another user's play under the same key is another play."""
    other = make_user()
    play(player.pk, idempotency_key="k")
    assert not play(other.pk, idempotency_key="k").replayed
    assert records(other) == 1


def test_concurrent_requests_with_one_key_play_once(player: User) -> None:
    """One plays; the others wait and get its answer."""
    answers = in_threads([partial(play, player.pk, idempotency_key="k")] * 16)
    assert len({each.answer.psyche.version for each in answers}) == 1
    assert all(each.answer == answers[0].answer for each in answers)
    assert sum(not each.replayed for each in answers) == 1
    assert (row(player.pk)["version"], records(player)) == (2, 1)


def test_many_keys_at_once_each_play_once(player: User) -> None:
    """Ten keys, each sent four times."""
    calls = [partial(play, player.pk, idempotency_key=f"k{n % 10}") for n in range(40)]
    answers = in_threads(calls)
    assert [each.answer for each in answers[:10]] == [each.answer for each in answers[30:]]
    assert (row(player.pk)["version"], records(player)) == (11, 10)


def test_a_taken_key_does_not_spoil_an_outer_transaction(player: User) -> None:
    """The savepoint is undone, the rest goes on."""
    first = play(player.pk, idempotency_key="k")
    with transaction.atomic():
        assert play(player.pk, idempotency_key="k").answer == first.answer
        play(player.pk)
    assert (row(player.pk)["version"], records(player)) == (3, 2)


def test_a_key_whose_record_went_with_the_user_is_refused(player: User, monkeypatch: Any) -> None:
    """Deleted between the violation and the reading of the first answer."""

    def taken(*_: Any, **__: Any) -> None:
        raise ledger.KeyTaken

    monkeypatch.setattr(services.ledger, "record", taken)
    with pytest.raises(services.NoSuchUser):
        play(player.pk, idempotency_key="k")


def test_a_retry_leaves_the_state_in_the_cache(player: User) -> None:
    """What nothing came of puts back what it fenced."""
    play(player.pk, idempotency_key="k")
    assert play(player.pk, idempotency_key="k").replayed
    assert held(player.pk) == row(player.pk)


def test_a_refused_stake_leaves_its_key_free(player: User) -> None:
    """It was answered with an error, not with an outcome."""
    with pytest.raises(StakeOutOfRange):
        play(player.pk, stake=0, idempotency_key="k")
    assert not play(player.pk, idempotency_key="k").replayed


def test_the_stored_answer_is_the_answer_that_was_given(player: User) -> None:
    """A flat wave gives -0.0, which jsonb does not know."""
    PsycheState.objects.filter(pk=player.pk).update(amplitude=0.0, phase=4.7)
    for n in range(20):
        first = play(player.pk, idempotency_key=f"k{n}").answer
        again = play(player.pk, idempotency_key=f"k{n}").answer
        assert repr(again) == repr(first)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM klepsydra_interaction WHERE wave::text = '-0'")
        assert cursor.fetchone() == (0,)
