"""Every way to write a PsycheState: the entry follows, and shows nothing before its commit."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, connections, transaction
from django.db.models import F
from django.test import Client

from aevon.cache import PSYCHE, Gone, resources
from aevon.cache.connection import ScriptCall, Store, store
from auth_sessions.models import User
from klepsydra import services
from klepsydra.models import PsycheState
from tests.klepsydra.rows import (
    PSYCHES,
    fence_runs_out,
    fenced,
    held,
    noted,
    play,
    row,
    sql,
)
from tests.klepsydra.test_admin import edit, form
from tests.threads import in_another_thread

pytestmark = pytest.mark.django_db(transaction=True)
UPDATE = "UPDATE klepsydra_psychestate SET loss_streak = 7 WHERE user_id = %s"


class Undone(Exception):
    """A transaction thinks better of it."""


def state(user: User) -> PsycheState:
    """The row, by the ORM."""
    return PsycheState.objects.get(pk=user.pk)


def changed(user: User, **fields: Any) -> PsycheState:
    """The row with other fields, not saved."""
    found = state(user)
    for name, value in ({"loss_streak": 7} | fields).items():
        setattr(found, name, value)
    return found


# --- Somebody else reads all the time --------------------------------------------------------


@contextmanager
def watched(user_id: int) -> Iterator[list[Any]]:
    """Before and after every statement of the block somebody else looks: what they are served
    is what PostgreSQL has committed by then. Gives the versions that they saw."""
    seen: list[Any] = []

    def look() -> None:
        committed = PSYCHES.read_one(user_id)
        assert PsycheState.cached.get(user_id) == committed
        if committed and committed.version not in seen:
            seen.append(committed.version)

    with ThreadPoolExecutor(1) as other:

        def watching(execute: Any, *args: Any) -> Any:
            other.submit(look).result()
            result = execute(*args)
            other.submit(look).result()
            return result

        try:
            with connection.execute_wrapper(watching):
                yield seen
            other.submit(look).result()
        finally:
            other.submit(connections.close_all).result()


def _locked_and_saved(user: User) -> None:
    with transaction.atomic():
        locked = PsycheState.objects.select_for_update().get(pk=user.pk)
        locked.loss_streak += 7
        locked.save()


def _durable(user: User) -> None:
    with transaction.atomic(durable=True):
        changed(user).save()


def _inner_commit(user: User) -> None:
    with transaction.atomic(), transaction.atomic():
        changed(user).save()


def _upserted(user: User) -> None:
    PsycheState.objects.bulk_create(
        [PsycheState(user=user, phase=0.5, loss_streak=7)],
        update_conflicts=True,
        unique_fields=["user"],
        update_fields=["loss_streak"],
    )


def _edited_in_the_admin(user: User) -> None:
    desk = Client()
    desk.force_login(User.objects.get(is_superuser=True))
    response = desk.post(edit(user), form(desk, user, loss_streak=7))
    assert response.status_code == 302


def _loaded(user: User) -> None:
    fields = {"loss_streak": 7, "phase": 0.5, "version": 500}
    fixture = [{"model": "klepsydra.psychestate", "pk": user.pk, "fields": fields}]
    with TemporaryDirectory() as folder:
        path = Path(folder, "psyche.json")
        path.write_text(json.dumps(fixture))
        call_command("loaddata", path, verbosity=0)


CHANGES: dict[str, Callable[[User], object]] = {
    "save": lambda u: changed(u).save(),
    "save of some fields": lambda u: changed(u, phase=3.0).save(update_fields=["loss_streak"]),
    "save of an expression": lambda u: changed(u, loss_streak=F("loss_streak") + 7).save(),
    "update": lambda u: PsycheState.objects.filter(pk=u.pk).update(loss_streak=7),
    "update of all": lambda _: PsycheState.objects.update(loss_streak=7),
    "update by a name": lambda u: PsycheState.objects.filter(user__username=u.username).update(
        loss_streak=F("loss_streak") + 7
    ),
    "bulk update": lambda u: PsycheState.objects.bulk_update([changed(u)], ["loss_streak"]),
    "bulk create over what is there": _upserted,
    "update or create": lambda u: PsycheState.objects.update_or_create(
        user=u, defaults={"loss_streak": 7}, create_defaults={"phase": 0.5}
    ),
    "locked and saved": _locked_and_saved,
    "inner commit": _inner_commit,
    "fixture loaded": _loaded,
    "edited in the admin": _edited_in_the_admin,
    "durable": _durable,
}
UNDOABLE = [what for what in CHANGES if what != "durable"]


@pytest.fixture
def scripts(player: User, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the scripts that are sent for the player's entry, in order."""
    sent: list[str] = []
    exchange = Store.exchange

    def noting(self: Store, calls: Any, **options: Any) -> Any:
        own = PSYCHE.key(player.pk)
        sent.extend(c.script.name for c in calls if isinstance(c, ScriptCall) and c.key == own)
        return exchange(self, calls, **options)

    monkeypatch.setattr(Store, "exchange", noting)
    return sent


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_followed_and_not_foreseen(
    player: User, make_user: Callable[..., User], scripts: list[str], what: str
) -> None:
    """Others read version 1, then version 2; the entry is the row at the end. However many
    statements it has, it is fenced once and installed once."""
    make_user(is_staff=True, is_superuser=True)
    with watched(player.pk) as seen:
        CHANGES[what](player)
    assert seen == [1, 2]
    assert scripts == ["fence", "install"]
    assert held(player.pk) == row(player.pk)
    assert (row(player.pk)["lossStreak"], row(player.pk)["version"]) == (7, 2)


@pytest.mark.parametrize("what", UNDOABLE)
def test_a_change_that_is_undone_is_never_seen(
    player: User, make_user: Callable[..., User], what: str
) -> None:
    """Neither in its transaction, nor after the rollback, nor when the fence has run out; also
    where an outer transaction commits without it."""
    make_user(is_staff=True, is_superuser=True)
    before = row(player.pk)
    with watched(player.pk) as seen:
        with suppress(Undone), transaction.atomic():
            CHANGES[what](player)
            raise Undone
        with transaction.atomic(), suppress(Undone), transaction.atomic():
            CHANGES[what](player)
            raise Undone
    assert seen == [1]
    fence_runs_out(player.pk)
    assert as_members(PsycheState.cached.get(player.pk)) == before
    assert held(player.pk) == row(player.pk) == before


@pytest.mark.parametrize("inner_first", [True, False])
def test_what_the_outer_transaction_changes_is_seen_without_what_the_inner_one_undid(
    player: User, *, inner_first: bool
) -> None:
    """The mark of the inner one keeps the entry empty until it runs out; nothing old goes in."""

    def undone() -> None:
        with suppress(Undone), transaction.atomic():
            changed(player, loss_streak=99).save()
            raise Undone

    with watched(player.pk) as seen, transaction.atomic():
        if inner_first:
            undone()
        changed(player).save()
        if not inner_first:
            undone()
    assert seen == [1, 2]
    assert held(player.pk) in (None, row(player.pk))
    assert row(player.pk)["lossStreak"] == 7


@pytest.mark.parametrize("what", UNDOABLE)
def test_a_hook_after_the_commit_reads_what_was_committed(
    player: User, make_user: Callable[..., User], what: str
) -> None:
    """Whether it runs before the entry follows, or after."""
    make_user(is_staff=True, is_superuser=True)
    read: list[Any] = []

    def hook() -> None:
        read.append(as_members(PsycheState.cached.get(player.pk)))

    with transaction.atomic():
        transaction.on_commit(hook)
        CHANGES[what](player)
        transaction.on_commit(hook)
        assert read == []
    assert read == [row(player.pk)] * 2
    assert held(player.pk) == row(player.pk)
    assert row(player.pk)["version"] == 2


def test_a_transaction_reads_its_own_changes(player: User) -> None:
    """And fills nothing with them."""
    with transaction.atomic():
        changed(player).save()
        assert PsycheState.cached.get(player.pk).loss_streak == 7
        assert PsycheState.cached.get_many([player.pk])[player.pk].loss_streak == 7
        assert fenced(player.pk)
        assert in_another_thread(PsycheState.cached.get, player.pk).loss_streak == 0


@pytest.mark.parametrize("what", ["save", "update", "bulk update", "update or create"])
def test_a_change_that_postgresql_refuses_changes_no_answer(player: User, what: str) -> None:
    """The fence runs out, and the entry is as it was."""
    before = row(player.pk)
    sql("ALTER TABLE klepsydra_psychestate ADD CONSTRAINT nothing CHECK (loss_streak < 7)")
    try:
        with watched(player.pk) as seen, pytest.raises(IntegrityError, match="nothing"):
            CHANGES[what](player)
    finally:
        sql("ALTER TABLE klepsydra_psychestate DROP CONSTRAINT nothing")
    assert seen == [1]
    fence_runs_out(player.pk)
    assert as_members(PsycheState.cached.get(player.pk)) == row(player.pk) == before


# --- Many at once ----------------------------------------------------------------------------


# --- Beginnings and ends ---------------------------------------------------------------------

BEGINNINGS: dict[str, Callable[[User], object]] = {
    "create": lambda u: PsycheState.objects.create(user=u, phase=0.5),
    "get or create": lambda u: PsycheState.objects.get_or_create(user=u, defaults={"phase": 0.5}),
    "update or create": lambda u: PsycheState.objects.update_or_create(
        user=u, defaults={"phase": 0.5}
    ),
    "bulk create": lambda u: PsycheState.objects.bulk_create([PsycheState(user=u, phase=0.5)]),
    "bulk create of what may be there": lambda u: PsycheState.objects.bulk_create(
        [PsycheState(user=u, phase=0.5)], ignore_conflicts=True
    ),
    "fixture loaded": _loaded,
    "play": lambda u: play(u.pk),
    "play in a transaction": transaction.atomic(lambda u: play(u.pk)),
}
ENDS: dict[str, Callable[[User], object]] = {
    "delete": lambda u: state(u).delete(),
    "queryset's delete": lambda u: PsycheState.objects.filter(pk=u.pk).delete(),
    "delete of all": lambda _: PsycheState.objects.all().delete(),
}


@pytest.mark.parametrize("what", ENDS)
def test_a_deleted_state_leaves_a_tombstone(
    player: User, what: str, django_assert_num_queries: Any
) -> None:
    """With the version of the absence: who asks is answered without SQL."""
    with watched(player.pk) as seen:
        ENDS[what](player)
    assert seen == [1]
    assert tombstone(player) == 2
    assert PSYCHES.read([player.pk]) == {player.pk: Gone(2)}
    with django_assert_num_queries(0):
        assert PsycheState.cached.get(player.pk) is None
        assert PsycheState.cached.get_many([player.pk]) == {}


@pytest.mark.parametrize("what", ENDS)
def test_a_deletion_that_is_undone_is_never_seen(player: User, what: str) -> None:
    """The state is still there, and is cached again."""
    before = row(player.pk)
    with watched(player.pk) as seen, suppress(Undone), transaction.atomic():
        ENDS[what](player)
        raise Undone
    assert seen == [1]
    fence_runs_out(player.pk)
    assert as_members(PsycheState.cached.get(player.pk)) == before == held(player.pk)


@pytest.mark.parametrize("what", BEGINNINGS)
def test_a_state_that_begins_ends_the_tombstone(player: User, what: str) -> None:
    """Two versions above the one that was deleted; nobody sees it before its commit."""
    PsycheState.objects.all().delete()
    assert tombstone(player) == 2
    with watched(player.pk) as seen:
        BEGINNINGS[what](player)
    assert seen == [4 if what.startswith("play") else 3]
    assert held(player.pk) == row(player.pk)


@pytest.mark.parametrize("what", [name for name in BEGINNINGS if name != "play"])
def test_a_beginning_that_is_undone_is_never_seen(player: User, what: str) -> None:
    """The absence is cached again, with its version."""
    PsycheState.objects.all().delete()
    with watched(player.pk) as seen, suppress(Undone), transaction.atomic():
        BEGINNINGS[what](player)
        raise Undone
    assert seen == []
    fence_runs_out(player.pk)
    assert PsycheState.cached.get(player.pk) is None
    assert tombstone(player) == 2


def test_a_state_made_anew_in_one_transaction_is_never_missing(player: User) -> None:
    """Deleted with SQL and inserted with SQL, it counts on; others see the old one or the new."""
    with watched(player.pk) as seen, transaction.atomic():
        PsycheState.objects.filter(pk=player.pk).delete()
        PsycheState.objects.create(user=player, phase=0.5)
    assert seen == [1, 3]
    assert held(player.pk) == row(player.pk)


def test_the_entry_goes_with_its_user(player: User) -> None:
    """A cascade tells of every row."""
    pk = player.pk
    with watched(pk) as seen:
        player.delete()
    assert seen == [1]
    assert held(pk) is None
    assert PsycheState.cached.get(pk) is None


# --- Past the manager ------------------------------------------------------------------------

FOREIGN: dict[str, Callable[[User], object]] = {
    "SQL": lambda u: sql(UPDATE, u.pk),
    "SQL in a transaction": transaction.atomic(lambda u: sql(UPDATE, u.pk)),
    "another manager": lambda u: PsycheState._base_manager.filter(pk=u.pk).update(loss_streak=7),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_foreign_change_is_noted_and_followed(player: User, what: str) -> None:
    """In the same transaction, with its version: the older entry goes, and the next load fills."""
    resources.repair_waiting()
    FOREIGN[what](player)
    assert noted(player.pk) == 2
    assert held(player.pk)["version"] == 1
    assert resources.repair_waiting() == 1
    assert held(player.pk) is None
    assert PsycheState.cached.get(player.pk).loss_streak == 7
    assert held(player.pk) == row(player.pk)


@pytest.mark.parametrize("what", FOREIGN)
def test_a_foreign_change_that_is_undone_is_not_noted(player: User, what: str) -> None:
    """And costs the entry nothing."""
    resources.repair_waiting()
    with suppress(Undone), transaction.atomic():
        FOREIGN[what](player)
        raise Undone
    assert resources.repair_waiting() == 0
    assert held(player.pk) == row(player.pk)


def test_a_foreign_deletion_is_noted_with_the_version_of_the_absence(player: User) -> None:
    """And a foreign insertion with the next one."""
    columns = "user_id, sre_wave, loss_streak, frustration_level, frustration_at, is_throttled"
    sql("DELETE FROM klepsydra_psychestate WHERE user_id = %s", player.pk)
    assert noted(player.pk) == 2
    resources.repair_waiting()
    assert PsycheState.cached.get(player.pk) is None
    assert tombstone(player) == 2
    sql(
        f"INSERT INTO klepsydra_psychestate ({columns}, phase, amplitude, period_seconds, version)"
        " VALUES (%s, 0, 0, 0, now(), false, 0.5, 1, 3600, 900)",
        player.pk,
    )
    assert noted(player.pk) == 3
    resources.repair_waiting()
    assert PsycheState.cached.get(player.pk).version == 3
    assert held(player.pk) == row(player.pk)


def test_several_foreign_changes_are_noted_once_with_the_last_version(player: User) -> None:
    """One entry, one repair."""
    resources.repair_waiting()
    for _ in range(3):
        sql(UPDATE, player.pk)
    assert noted(player.pk) == 4
    assert resources.repair_waiting() == 1


def test_what_django_writes_is_noted_too_and_its_repair_costs_no_entry(player: User) -> None:
    """The entry is as new as the note: a writer that dies leaves the note behind."""
    changed(player).save()
    assert noted(player.pk) == 2
    resources.repair_waiting()
    assert held(player.pk) == row(player.pk)


def as_members(document: Any) -> Any:
    """As the cache holds it."""
    return msgspec.to_builtins(document)


def tombstone(user: User) -> int | None:
    """The version of the absence that the entry shows."""
    version: int | None = json.loads(store().command("GET", PSYCHE.key(user.pk))).get("_gone")
    return version


# --- What must not be possible ---------------------------------------------------------------


def test_no_manager_deletes_every_row(player: User) -> None:
    """As Django has it: only a queryset does."""
    assert not hasattr(PsycheState.objects, "delete")
    assert not hasattr(User.objects, "delete")


def test_a_write_in_manual_transaction_management(player: User) -> None:
    """It is refused, because nobody would tell of its commit; nothing uncommitted is cached."""
    transaction.set_autocommit(False)
    try:
        with pytest.raises(transaction.TransactionManagementError):
            changed(player).save()
        PsycheState.cached.get(player.pk)
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert PsycheState.cached.get(player.pk) == PSYCHES.read_one(player.pk)


def test_an_exception_after_the_commit(player: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old state does not come back, and nothing is played twice."""
    play(player.pk)

    def broken(_: Any) -> Any:
        raise ValueError("after the commit")

    with monkeypatch.context() as patch:
        patch.setattr("klepsydra.ledger.document_of", broken)
        with pytest.raises(ValueError, match="after the commit"):
            play(player.pk)
    assert PSYCHES.read_one(player.pk).version == 3  # type: ignore[union-attr]
    assert PsycheState.cached.get(player.pk) == PSYCHES.read_one(player.pk)


def test_a_deletion_of_thousands(
    player: User, make_user: Callable[..., User], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not fenced, not one by one either, and lose their entries after the commit."""
    monkeypatch.setattr("aevon.cache.write_through.MANY_USERS", 1)
    other = make_user()
    services.begin([other.pk])
    for user in (player, other):
        PsycheState.cached.get(user.pk)
    with transaction.atomic():
        PsycheState.objects.all().delete()
        assert not fenced(player.pk)
    for user in (player, other):
        assert held(user.pk) is None
        assert PsycheState.cached.get(user.pk) is None


@pytest.mark.parametrize("many", [1, 2_000])
def test_an_update_that_finds_no_connection_free(
    player: User,
    make_user: Callable[..., User],
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    many: int,
) -> None:
    """Who could not tell the cache does not believe it before it has been repaired."""
    monkeypatch.setattr("aevon.cache.write_through.MANY_USERS", many)
    settings.AEVON_CACHE = {**settings.AEVON_CACHE, "POOL_SIZE": 1, "POOL_WAIT_SECONDS": 0.05}
    other = make_user()
    services.begin([other.pk])
    PsycheState.cached.get_many([player.pk, other.pk])
    taken = store().pool.get_connection()
    PsycheState.objects.update(loss_streak=5)
    store().pool.release(taken)
    for user in (player, other):
        state = PsycheState.cached.get(user.pk)
        assert state is not None
        assert state.loss_streak == 5
