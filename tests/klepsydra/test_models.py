"""What PostgreSQL itself holds to, whoever writes."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.db import Error, IntegrityError, connection, transaction
from django.utils import timezone

from aevon.cache import Gone
from aevon.cache.models import VersionFloor
from auth_sessions.models import User
from klepsydra import services
from klepsydra.models import Interaction, PsycheState
from tests.klepsydra.rows import held, play, row, sql
from tests.threads import in_threads

pytestmark = pytest.mark.django_db(transaction=True)


def version(user: User) -> int:
    """The version in the row."""
    return PsycheState.objects.get(pk=user.pk).version


@pytest.mark.parametrize(
    "fields",
    [
        {"sre_wave": 1.1},
        {"sre_wave": -1.1},
        {"sre_wave": math.nan},
        {"loss_streak": -1},
        {"frustration_level": -0.1},
        {"frustration_level": math.nan},
        {"frustration_at": datetime(2200, 1, 1, tzinfo=UTC)},
        {"frustration_at": datetime(1969, 1, 1, tzinfo=UTC)},
        {"is_throttled": False, "throttled_until": datetime(2026, 1, 1, tzinfo=UTC)},
        {"is_throttled": True, "throttled_until": datetime(2300, 1, 1, tzinfo=UTC)},
        {"phase": -0.1},
        {"phase": math.inf},
        {"amplitude": 1.5},
        {"period_seconds": 0.0},
        {"period_seconds": math.inf},
    ],
)
def test_a_state_out_of_its_range_is_refused(player: User, fields: dict[str, Any]) -> None:
    """Also where nobody validates."""
    with pytest.raises(IntegrityError):
        PsycheState.objects.filter(pk=player.pk).update(**fields)
    assert version(player) == 1


def test_an_infinite_time_is_refused(player: User) -> None:
    """Python could not read it."""
    with pytest.raises(IntegrityError):
        sql("UPDATE klepsydra_psychestate SET frustration_at = 'infinity'")


def test_save_raises_the_version_by_one(player: User) -> None:
    """Whatever version the instance believes in."""
    state = PsycheState.objects.get(pk=player.pk)
    state.version = 99
    state.save()
    assert version(player) == 2


def test_update_raises_the_version_by_one(player: User) -> None:
    """A queryset's update, which sends no signal; nobody can choose the version."""
    PsycheState.objects.filter(pk=player.pk).update(loss_streak=2)
    PsycheState.objects.filter(pk=player.pk).update(version=500)
    assert version(player) == 3


def test_bulk_update_and_foreign_sql_raise_the_version(player: User) -> None:
    """One each."""
    state = PsycheState.objects.get(pk=player.pk)
    PsycheState.objects.bulk_update([state], ["loss_streak"])
    sql("UPDATE klepsydra_psychestate SET loss_streak = 3 WHERE user_id = %s", player.pk)
    assert version(player) == 3


def test_an_update_moves_the_time_of_update(player: User) -> None:
    """By the clock, not by the start of the transaction; nobody can choose it."""
    moments = []
    with transaction.atomic():
        for _ in range(2):
            PsycheState.objects.update(loss_streak=1, updated_at=datetime(2000, 1, 1, tzinfo=UTC))
            moments.append(PsycheState.objects.get(pk=player.pk).updated_at)
            sql("SELECT pg_sleep(0.02)")
    assert timedelta(seconds=0.02) <= moments[1] - moments[0] < timedelta(seconds=5)
    assert abs(timezone.now() - moments[1]) < timedelta(seconds=5)


def test_a_play_raises_the_version_by_one(player: User) -> None:
    """And not a second time by the trigger."""
    play(player.pk)
    assert version(player) == 2


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE klepsydra_interaction SET payout = 1000000",
        "UPDATE klepsydra_interaction SET stake = stake",
        "DELETE FROM klepsydra_interaction",
    ],
)
def test_the_record_refuses_changes(player: User, statement: str) -> None:
    """Also from SQL."""
    play(player.pk)
    before = Interaction.objects.values().get()
    with pytest.raises(Error, match="append-only"):
        sql(statement)
    assert Interaction.objects.values().get() == before


def test_the_record_refuses_changes_inside_another_trigger(player: User) -> None:
    """The depth of triggers is no licence."""
    play(player.pk)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE bait (n int) ON COMMIT DROP")
        cursor.execute(
            "CREATE FUNCTION pg_temp.bite() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN DELETE FROM klepsydra_interaction; RETURN NULL; END'"
        )
        cursor.execute("CREATE TRIGGER bite AFTER INSERT ON bait EXECUTE FUNCTION pg_temp.bite()")
        with pytest.raises(Error, match="append-only"), transaction.atomic():
            cursor.execute("INSERT INTO bait VALUES (1)")
    assert Interaction.objects.count() == 1


def test_the_record_goes_with_its_user_only(player: User, make_user: Any) -> None:
    """Others' records stay."""
    other = make_user()
    play(player.pk)
    play(other.pk)
    player.delete()
    assert list(Interaction.objects.values_list("user_id", flat=True)) == [other.pk]


def test_a_user_deleted_with_sql_takes_the_record_along(player: User) -> None:
    """The cascade is the database's."""
    play(player.pk)
    sql("DELETE FROM klepsydra_psychestate")
    sql("DELETE FROM auth_sessions_sessionanchor")
    sql("DELETE FROM auth_sessions_user WHERE id = %s", player.pk)
    assert not Interaction.objects.exists()


def test_a_record_needs_its_user(player: User) -> None:
    """The foreign key is there, though Django does not manage it."""
    play(player.pk)
    record = Interaction.objects.get()
    record.pk, record.user_id = None, 10**9
    with pytest.raises(IntegrityError):
        record.save()


def test_a_version_is_recorded_once(player: User) -> None:
    """Two interactions cannot have raised the same version."""
    play(player.pk)
    record = Interaction.objects.get()
    record.pk = None
    with pytest.raises(IntegrityError, match="interaction_one_per_version"):
        record.save()


def test_a_state_that_begins_again_counts_on(player: User) -> None:
    """Behind the versions that are recorded, and the one that the absence had."""
    play(player.pk)
    play(player.pk)
    PsycheState.objects.get(pk=player.pk).delete()
    assert PsycheState.cached.projection.read([player.pk]) == {player.pk: Gone(4)}
    assert play(player.pk).answer.psyche.version == 6
    assert row(player.pk)["version"] == 6


def test_a_state_that_begins_again_counts_on_from_edits_too(player: User) -> None:
    """Also within one transaction, and where nothing was played."""
    state = PsycheState.objects.get(pk=player.pk)
    for _ in range(4):
        state.save()
    with transaction.atomic():
        state.delete()
        PsycheState.objects.create(user=player, phase=0.5)
    assert version(player) == 7
    assert held(player.pk) == row(player.pk)


def test_states_deleted_and_made_at_once_count_on(user: User) -> None:
    """Neither deadlocks nor counts a version twice."""
    seen: list[int] = []

    def again(_: int) -> None:
        with transaction.atomic():
            PsycheState.objects.filter(pk=user.pk).delete()
        services.begin([user.pk])
        seen.extend(PsycheState.objects.filter(pk=user.pk).values_list("version", flat=True))

    def reader(_: int) -> None:
        before = max(seen, default=0)
        for now in PsycheState.objects.filter(pk=user.pk).values_list("version", flat=True):
            assert now >= before

    calls = [partial(call, n) for n in range(40) for call in (again, reader)]
    in_threads(calls)
    assert version(user) >= max(seen) >= 2


def test_the_floor_outlives_its_user(player: User) -> None:
    """A state that is published late must not look newer than the user's absence."""
    pk = player.pk
    play(pk)
    assert str(VersionFloor.objects.get()) == f"psyche:{pk} v1"
    player.delete()
    assert str(VersionFloor.objects.get()) == f"psyche:{pk} v3"


@pytest.mark.parametrize(
    "change",
    [
        lambda mine, other: PsycheState.objects.filter(pk=mine).update(user=other),
        lambda mine, other: sql(
            "UPDATE klepsydra_psychestate SET user_id = %s WHERE user_id = %s", other, mine
        ),
    ],
)
def test_a_states_owner_cannot_be_changed(
    player: User, make_user: Any, change: Callable[[int, int], Any]
) -> None:
    """Its version would begin again, and the entry of the one who had it would never hear."""
    other = make_user().pk
    with pytest.raises(IntegrityError, match="cannot be changed"):
        change(player.pk, other)
    assert list(PsycheState.objects.values_list("user_id", "version")) == [(player.pk, 1)]
    assert services.psyche(player.pk).version == 1


def test_a_new_state_tells_the_version_that_it_got(user: User) -> None:
    """The database returns it."""
    assert PsycheState.objects.create(user=user, phase=0.5).version == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "rested"},
        {"tier": ""},
        {"tier": "GOLDEN"},
        {"roll": None},
        {"roll": 10_000},
        {"wave": math.nan},
        {"idempotency_key": "k"},
        {"response": {}},
        {"stake": -1},
    ],
)
def test_a_record_that_contradicts_itself_is_refused(player: User, fields: dict[str, Any]) -> None:
    """Kind, tier and roll belong together; a key and its answer too."""
    play(player.pk)
    record = Interaction.objects.get()
    record.pk, record.psyche_version = None, 1
    for name, value in fields.items():
        setattr(record, name, value)
    with pytest.raises(IntegrityError):
        record.save()


def test_the_rows_have_readable_names(player: User) -> None:
    """In the admin."""
    play(player.pk)
    assert str(PsycheState.objects.get()) == f"{player.pk} v2"
    assert str(Interaction.objects.get()) == f"{player.pk} v2 sisyphus-ascent played"


def test_cleaning_ends_a_throttle_with_its_end(player: User) -> None:
    """So that unticking the box in the admin is enough."""
    state = PsycheState.objects.get()
    state.throttled_until = timezone.now()
    state.full_clean()
    assert state.throttled_until is None
    state.is_throttled, state.throttled_until = True, timezone.now()
    state.full_clean()
    assert state.throttled_until is not None
