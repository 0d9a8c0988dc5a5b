"""`session:{userId}` follows what Django changes: after the commit, and never after a rollback."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db import IntegrityError, InternalError, transaction

from aevon.cache import (
    CANVAS,
    CONVO_HISTORY,
    PSYCHE,
    SESSION,
    cache_aside,
    resources,
    write_through,
)
from aevon.cache.connection import Store, store
from aevon.cache.keyspace import Keyspace
from aevon.cache.metrics import PUBLISHES
from aevon.cache.models import Outbox
from aevon.cache.tasks import drain_outbox
from auth_sessions import services
from auth_sessions.models import Session, User
from auth_sessions.projection import SESSIONS
from beep import services as beep
from canvas import services as canvas
from klepsydra import services as klepsydra
from tests.auth_sessions.rows import (
    admitted,
    fence_runs_out,
    fenced,
    group,
    held,
    loaded,
    loaded_elsewhere,
    noted,
    permission,
    row,
    session,
    sql,
    tombstone,
    version,
)
from tests.cache.conftest import counted
from tests.threads import in_thread
from tests.waiting import wait_for_locks

pytestmark = pytest.mark.django_db(transaction=True)
MakeUser = Callable[..., User]


@dataclass(frozen=True, slots=True)
class Scene:
    """Ada has two sessions, may change users, and is a reader; readers may view users."""

    pk: int
    first: UUID
    second: UUID

    @property
    def ada(self) -> User:
        """As PostgreSQL has her now."""
        return User.objects.get(pk=self.pk)


@pytest.fixture
def scene(make_user: MakeUser) -> Scene:
    """Her document is cached."""
    ada = make_user(username="ada")
    group("writers", "delete_user")
    ada.groups.set([group("readers", "view_user")])
    ada.user_permissions.set([permission("change_user")])
    first, _ = services.open_session(ada)
    second, _ = services.open_session(ada)
    return Scene(ada.pk, first, second)


def readers() -> Group:
    """Ada's group."""
    return Group.objects.get(name="readers")


def writers() -> Group:
    """A group that Ada is not in."""
    return Group.objects.get(name="writers")


def saved(**fields: Any) -> Callable[[Scene], None]:
    """A change: Ada is saved with these fields."""

    def change(scene: Scene) -> None:
        ada = scene.ada
        for name, value in fields.items():
            setattr(ada, name, value)
        ada.save()

    return change


def shortened(scene: Scene) -> None:
    """A session's access ends earlier."""
    first = session(scene.first)
    first.access_expires_at = datetime.now(UTC) + timedelta(seconds=60)
    first.save()


def renamed(given: Permission) -> None:
    """Another codename."""
    given.codename = "look"
    given.save()


CHANGES: dict[str, Callable[[Scene], object]] = {
    "user: class": saved(sovereignty_class="ARCHITECT"),
    "user: name": saved(username="lovelace"),
    "user: disabled": saved(is_active=False),
    "user: superuser": saved(is_superuser=True),
    "groups: add": lambda s: s.ada.groups.add(writers()),
    "groups: remove": lambda s: s.ada.groups.remove(readers()),
    "groups: clear": lambda s: s.ada.groups.clear(),
    "groups: set": lambda s: s.ada.groups.set([writers()]),
    "groups: set after clearing": lambda s: s.ada.groups.set([writers()], clear=True),
    "members: add": lambda s: writers().user_set.add(s.ada),
    "members: remove": lambda s: readers().user_set.remove(s.ada),
    "members: clear": lambda s: readers().user_set.clear(),
    "members: set": lambda s: writers().user_set.set([s.ada]),
    "members: set to nobody": lambda s: readers().user_set.set([]),
    "user's permissions: add": lambda s: s.ada.user_permissions.add(permission("add_user")),
    "user's permissions: remove": lambda s: s.ada.user_permissions.remove(
        permission("change_user")
    ),
    "user's permissions: clear": lambda s: s.ada.user_permissions.clear(),
    "user's permissions: set": lambda s: s.ada.user_permissions.set([permission("add_user")]),
    "permission's users: add": lambda s: permission("add_user").user_set.add(s.ada),
    "permission's users: remove": lambda s: permission("change_user").user_set.remove(s.ada),
    "permission's users: clear": lambda s: permission("change_user").user_set.clear(),
    "permission's users: set": lambda s: permission("add_user").user_set.set([s.ada]),
    "group's permissions: add": lambda s: readers().permissions.add(permission("add_user")),
    "group's permissions: remove": lambda s: readers().permissions.remove(permission("view_user")),
    "group's permissions: clear": lambda s: readers().permissions.clear(),
    "group's permissions: set": lambda s: readers().permissions.set([permission("add_user")]),
    "permission's groups: add": lambda s: permission("add_user").group_set.add(readers()),
    "permission's groups: remove": lambda s: permission("view_user").group_set.remove(readers()),
    "permission's groups: clear": lambda s: permission("view_user").group_set.clear(),
    "permission's groups: set": lambda s: permission("add_user").group_set.set([readers()]),
    "group: deleted": lambda s: readers().delete(),
    "groups: deleted": lambda s: Group.objects.filter(name="readers").delete(),
    "permission: renamed": lambda s: renamed(permission("view_user")),
    "permission: deleted": lambda s: permission("view_user").delete(),
    "permission of her own: deleted": lambda s: permission("change_user").delete(),
    "permissions: deleted with their model": lambda s: ContentType.objects.get_for_model(
        User
    ).delete(),
    "session: ended": lambda s: services.end_session(s.pk, s.first),
    "session: saved": shortened,
    "session: deleted": lambda s: session(s.first).delete(),
    "sessions: deleted": lambda s: Session.objects.filter(sid=s.first).delete(),
    "sessions: updated": lambda s: Session.objects.filter(sid=s.first).update(
        ended_at=datetime.now(UTC), end_reason=Session.EndReason.ADMIN
    ),
    "users: disabled": lambda s: User.objects.filter(pk=s.pk).update(is_active=False),
    "session: opened": lambda s: services.open_session(s.ada),
}


class Undone(Exception):
    """A transaction thinks better of it."""


@pytest.mark.parametrize("members", [30, 150])
def test_a_groups_permissions_reach_all_members_at_once(
    make_user: MakeUser,
    monkeypatch: pytest.MonkeyPatch,
    django_assert_max_num_queries: Any,
    members: int,
) -> None:
    """Two round trips, a fence before the commit and what was committed after it, and as many
    queries, however many they are."""
    readers = group("readers", "view_user")
    readers.user_set.set([make_user() for _ in range(members)])
    pairs = [services.open_session(user)[1] for user in readers.user_set.all()]
    added, sent = permission("add_user"), []
    exchange = Store._exchange

    def counted_exchange(self: Store, commands: Any, *how: Any, **options: Any) -> Any:
        sent.append(len(commands))
        return exchange(self, commands, *how, **options)

    with monkeypatch.context() as patched, django_assert_max_num_queries(8):
        patched.setattr(Store, "_exchange", counted_exchange)
        readers.permissions.add(added)
    assert sent == [members, members]
    documents = [loaded(user) for user in readers.user_set.all()]
    assert {tuple(each["permissions"]) for each in documents} == {
        ("auth_sessions.add_user", "auth_sessions.view_user")
    }
    assert all(admitted(pair.access) for pair in pairs)


@pytest.mark.parametrize("what", CHANGES)
def test_the_document_follows_a_change_right_after_its_commit(scene: Scene, what: str) -> None:
    """Nobody else sees it before; afterwards it is the row's document, and another one."""
    ada = scene.ada
    before = held(ada)
    with transaction.atomic():
        CHANGES[what](scene)
        assert fenced(ada)
        assert loaded_elsewhere(ada) == before
    assert held(ada) == row(ada) != before


def test_the_document_never_follows_a_rollback(scene: Scene) -> None:
    """Whatever was changed: PostgreSQL is asked until the fence runs out, then it is cached."""
    before = held(scene.ada)
    for what, change in CHANGES.items():
        with suppress(Undone), transaction.atomic():
            change(scene)
            raise Undone
        assert loaded(scene.ada) == before, what
        fence_runs_out(scene.ada)
        assert loaded(scene.ada) == held(scene.ada) == before, what


def test_the_document_never_follows_the_rollback_of_an_inner_transaction(scene: Scene) -> None:
    """The outer one commits and changes nothing of it."""
    before = held(scene.ada)
    for what, change in CHANGES.items():
        with transaction.atomic(), suppress(Undone), transaction.atomic():
            change(scene)
            raise Undone
        assert loaded(scene.ada) == before, what
        fence_runs_out(scene.ada)
        assert loaded(scene.ada) == held(scene.ada) == before, what


def test_several_changes_of_one_transaction_are_followed_together(scene: Scene) -> None:
    """With the version that the last of them made."""
    ada = scene.ada
    with transaction.atomic():
        for what in ("user: class", "groups: add", "group's permissions: clear", "session: ended"):
            CHANGES[what](scene)
    assert held(ada) == row(ada)
    assert held(ada)["version"] == version(ada)
    assert held(ada)["permissions"] == ["auth_sessions.change_user", "auth_sessions.delete_user"]


# --- Whom a change concerns ------------------------------------------------------------------


@pytest.mark.parametrize(
    "what",
    [
        "group's permissions: add",
        "group's permissions: clear",
        "permission's groups: clear",
        "members: clear",
        "group: deleted",
    ],
)
def test_a_change_of_a_group_is_followed_by_all_its_members(
    scene: Scene, make_user: MakeUser, what: str
) -> None:
    """And the document of somebody else keeps its bytes."""
    bob, stranger = make_user(), make_user()
    bob.groups.set([readers()])
    for user in (bob, stranger):
        services.open_session(user)
    bobs, other = held(bob), store().command("GET", SESSION.key(stranger.pk))
    CHANGES[what](scene)
    assert held(scene.ada) == row(scene.ada)
    assert held(bob) == row(bob) != bobs
    assert store().command("GET", SESSION.key(stranger.pk)) == other


@pytest.mark.parametrize("what", ["group's permissions: add", "permission's groups: clear"])
def test_a_change_of_a_group_is_published_once_for_each_member(scene: Scene, what: str) -> None:
    """Not before it and after it."""
    with counted(PUBLISHES, "session", "stored") as more:
        CHANGES[what](scene)
    assert more() == 1


def test_a_change_of_a_group_reads_all_its_members_in_one_query(
    scene: Scene, make_user: MakeUser, django_assert_num_queries: Any
) -> None:
    """Who they are, and their documents."""
    users = [make_user() for _ in range(3)]
    readers().user_set.add(*users)
    for user in users:
        services.open_session(user)
    bulk = Group.permissions.through.objects
    bulk.create(group=readers(), permission=permission("add_user"))
    with django_assert_num_queries(1):
        write_through.publish_on_commit(SESSIONS, [user.pk for user in users])
    assert all(held(user) == row(user) for user in users)
    assert "auth_sessions.add_user" in held(users[0])["permissions"]


def test_superusers_get_a_new_permission(scene: Scene) -> None:
    """Without being given it, and lose it with its end."""
    saved(is_superuser=True)(scene)
    kind = ContentType.objects.get_for_model(User)
    new = Permission.objects.create(codename="new", name="New", content_type=kind)
    assert "auth_sessions.new" in held(scene.ada)["permissions"]
    new.delete()
    assert held(scene.ada) == row(scene.ada)
    assert "auth_sessions.new" not in held(scene.ada)["permissions"]


@pytest.mark.parametrize(
    "what",
    [
        "group's permissions: clear",
        "permission's groups: clear",
        "permission: deleted",
        "group: deleted",
    ],
)
def test_who_joins_a_group_while_it_changes_is_not_missed(
    scene: Scene, make_user: MakeUser, what: str
) -> None:
    """Joining waits for the change's commit, and then shows what the group may do by then."""
    bob = make_user()
    services.open_session(bob)
    group_id = readers().pk
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            CHANGES[what](scene)
            joining = pool.submit(in_thread(joined), bob, group_id)
            if what not in ("permission: deleted", "group: deleted"):
                wait_for_locks()
        joining.result()
    # Who could not join, because the group has gone, has left a fence.
    assert held(bob) == row(bob) or (what == "group: deleted" and fenced(bob))
    assert loaded(bob) == row(bob)
    assert loaded(bob)["permissions"] == []


@pytest.mark.parametrize("new_user", [False, True])
def test_who_becomes_a_superuser_while_permissions_change_is_not_missed(
    scene: Scene, make_user: MakeUser, *, new_user: bool
) -> None:
    """Becoming one waits for the change's commit, and then shows what there is by then."""
    kind = ContentType.objects.get_for_model(User)

    def become() -> User:
        user = make_user(is_superuser=True) if new_user else scene.ada
        user.is_superuser = True
        user.save()
        services.open_session(user)
        return user

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            sql(
                "INSERT INTO auth_permission (name, codename, content_type_id)"
                " VALUES ('New', 'new', %s)",
                kind.pk,
            )
            becoming = pool.submit(in_thread(become))
            wait_for_locks()
        user = becoming.result()
    assert held(user) == row(user)
    assert "auth_sessions.new" in held(user)["permissions"]


@pytest.mark.parametrize("what", ["group's permissions: clear", "permission: deleted"])
def test_permissions_do_not_change_in_a_transaction_that_cannot_see_whom_it_concerns(
    scene: Scene, what: str
) -> None:
    """Who joined since it began would keep what is taken away."""
    before = row(scene.ada)
    with transaction.atomic():
        sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        with pytest.raises(InternalError, match="READ COMMITTED"), transaction.atomic():
            CHANGES[what](scene)
    assert row(scene.ada) == before


def joined(user: User, group_id: int) -> None:
    """The user is a member, unless the group has gone."""
    with suppress(IntegrityError):
        user.groups.add(group_id)


def test_a_user_without_a_session_gets_no_document(user: User) -> None:
    """Whatever changes: nobody could use it."""
    user.sovereignty_class = "ARCHITECT"
    user.save()
    user.groups.add(group("readers", "view_user"))
    readers().permissions.clear()
    assert held(user) is None


# --- Sessions --------------------------------------------------------------------------------


def test_the_key_ends_earlier_once_the_longest_session_has_ended(scene: Scene) -> None:
    """With the access token that is the last one now, to the second."""
    shortened(scene)
    services.end_session(scene.pk, scene.second)
    end = session(scene.first).access_expires_at.timestamp()
    ttl_ms = store().command("PTTL", SESSION.key(scene.pk))
    assert abs(time.time() + ttl_ms / 1000 - end) <= 1
    assert abs(held(scene.ada)["expiresAt"] - end) <= 1


def test_the_last_session_takes_the_key_along(scene: Scene) -> None:
    """A logout of the one leaves the document; after that of the other there is no key, and a
    tombstone for who asks."""
    services.end_session(scene.pk, scene.first)
    assert list(held(scene.ada)["sessions"]) == [str(scene.second)]
    services.end_session(scene.pk, scene.second)
    assert store().command("EXISTS", SESSION.key(scene.pk)) == 0
    assert loaded(scene.ada) is None
    assert tombstone(scene.ada) == version(scene.ada)


def test_a_tombstone_answers_without_sql_until_a_session_is_opened(
    scene: Scene, django_assert_num_queries: Any
) -> None:
    """Then it is the session's document."""
    services.end_all_sessions(scene.pk)
    assert cache_aside.load(SESSIONS, scene.pk) is None
    with django_assert_num_queries(0):
        assert cache_aside.load(SESSIONS, scene.pk) is None
        assert cache_aside.load_many(SESSIONS, [scene.pk]) == {}
    sid, _ = services.open_session(scene.ada)
    with django_assert_num_queries(0):
        assert list(loaded(User(pk=scene.pk))["sessions"]) == [str(sid)]
    assert held(scene.ada) == row(scene.ada)


def test_a_session_that_runs_out_leaves_a_tombstone_of_the_same_version(scene: Scene) -> None:
    """Nothing was written; a refresh is newer."""
    services.end_session(scene.pk, scene.second)
    past = datetime.now(UTC) - timedelta(seconds=1)
    Session.objects.filter(sid=scene.first).update(access_expires_at=past)
    drain_outbox()
    assert loaded(scene.ada) is None
    assert tombstone(scene.ada) == version(scene.ada)
    later = session(scene.first)
    later.access_expires_at = datetime.now(UTC) + timedelta(seconds=60)
    later.save()
    assert loaded(scene.ada) == held(scene.ada) == row(scene.ada) is not None


def test_an_opening_that_was_rolled_back_does_not_end_the_tombstone(scene: Scene) -> None:
    """Others are refused during the transaction, and after it."""
    services.end_all_sessions(scene.pk)
    with suppress(Undone), transaction.atomic():
        services.open_session(scene.ada)
        assert loaded_elsewhere(scene.ada) is None
        raise Undone
    assert loaded(scene.ada) is None
    fence_runs_out(scene.ada)
    assert loaded(scene.ada) is None
    assert tombstone(scene.ada) == version(scene.ada)


def test_sessions_opened_again_are_a_newer_document(scene: Scene) -> None:
    """The version goes on where the last document's ended."""
    last = held(scene.ada)["version"]
    services.end_all_sessions(scene.pk)
    services.open_session(scene.ada)
    assert held(scene.ada)["version"] == last + 3


def test_a_change_past_django_is_followed_when_it_is_told(scene: Scene) -> None:
    """An update of a queryset sends no signal; the database has raised the version."""
    before = held(scene.ada)["version"]
    User.objects.filter(pk=scene.pk).update(sovereignty_class="SOVEREIGN")
    write_through.publish_on_commit(SESSIONS, [scene.pk])
    assert held(scene.ada) == row(scene.ada)
    assert held(scene.ada)["version"] == before + 1


def test_a_change_made_while_the_cache_is_away_is_followed_later(
    scene: Scene, cache_away: Any
) -> None:
    """The older document goes with the outbox."""
    ada = scene.ada
    drain_outbox()
    with cache_away():
        CHANGES["group's permissions: clear"](scene)
    assert list(Outbox.objects.values_list("keyspace", "user_id")) == [("session", ada.pk)]
    assert noted(ada) == version(ada)
    drain_outbox()
    assert held(ada) is None
    assert loaded(ada) == held(ada) == row(ada)
    assert not Outbox.objects.exists()


# --- Past Django -----------------------------------------------------------------------------

FOREIGN = {
    "user": "UPDATE auth_sessions_user SET is_active = false WHERE id = %s",
    "session": "UPDATE auth_sessions_session SET ended_at = now(), end_reason = 'admin'"
    " WHERE user_id = %s",
    "session deleted": "DELETE FROM auth_sessions_session WHERE user_id = %s",
    "membership": "DELETE FROM auth_sessions_user_groups WHERE user_id = %s",
    "permission": "DELETE FROM auth_sessions_user_user_permissions WHERE user_id = %s",
    "group's permission": "DELETE FROM auth_group_permissions WHERE group_id IN"
    " (SELECT group_id FROM auth_sessions_user_groups WHERE user_id = %s)",
    "anchor": "UPDATE auth_sessions_sessionanchor SET version = version + 1 WHERE user_id = %s",
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_change_with_sql_is_noted_and_followed(scene: Scene, what: str) -> None:
    """In the same transaction, with the anchor's version; the older document goes."""
    ada = scene.ada
    drain_outbox()
    before = held(ada)
    sql(FOREIGN[what], scene.pk)
    assert noted(ada) == version(ada) > before["version"]
    assert held(ada) == before
    assert resources.repair_waiting() == 1
    assert held(ada) is None
    assert loaded(ada) == row(ada) == held(ada) != before


@pytest.mark.parametrize("what", FOREIGN)
def test_a_change_with_sql_that_is_undone_is_not_noted(scene: Scene, what: str) -> None:
    """The document keeps its bytes."""
    drain_outbox()
    before = store().command("GET", SESSION.key(scene.pk))
    with suppress(Undone), transaction.atomic():
        sql(FOREIGN[what], scene.pk)
        raise Undone
    assert resources.repair_waiting() == 0
    assert store().command("GET", SESSION.key(scene.pk)) == before


def test_a_field_that_is_not_shown_is_not_noted(scene: Scene) -> None:
    """A login makes no document older."""
    drain_outbox()
    sql("UPDATE auth_sessions_user SET last_login = now() WHERE id = %s", scene.pk)
    assert not Outbox.objects.exists()


def test_a_deletion_with_sql_is_noted_with_a_version_above_the_last(scene: Scene) -> None:
    """The document goes, although the user has none any more."""
    drain_outbox()
    last = version(scene.ada)
    sql("DELETE FROM auth_sessions_sessionanchor WHERE user_id = %s", scene.pk)
    assert noted(scene.ada) == last + 1
    resources.repair_waiting()
    assert loaded(scene.ada) is held(scene.ada) is None


# --- A user who is deleted -------------------------------------------------------------------

FOUR = {"psyche", "canvas", "session", "convo_history"}


@pytest.fixture
def everywhere(scene: Scene) -> Scene:
    """Ada is in all four keyspaces; her canvas is saved."""
    klepsydra.psyche(scene.pk)
    canvas.change(scene.pk, {"patch": {"microApps": {}}})
    canvas.persist_now()
    beep.command(scene.pk, "hello")
    assert cached(scene.pk) == FOUR
    return scene


def cached(user_id: int) -> set[str]:
    """The keyspaces that hold something on the user."""
    spaces = (PSYCHE, CANVAS, SESSION, CONVO_HISTORY)
    return {s.name for s in spaces if store().command("EXISTS", s.key(user_id))}


def test_a_deleted_user_is_forgotten_after_the_commit(everywhere: Scene) -> None:
    """In all four keyspaces, and not before; what the outbox was told changes nothing."""
    ada, before = everywhere.ada, held(everywhere.ada)
    with transaction.atomic():
        everywhere.ada.delete()
        assert cached(everywhere.pk) == FOUR
        assert loaded_elsewhere(ada) == before
    assert cached(everywhere.pk) == set()
    drain_outbox()
    assert loaded(ada) is None
    assert cached(everywhere.pk) == set()
    assert not Outbox.objects.exists()


def test_a_user_whose_deletion_was_rolled_back_is_not_forgotten(everywhere: Scene) -> None:
    """Nothing is lost, also where only the inner transaction was undone."""
    ada, before = everywhere.ada, held(everywhere.ada)
    others = [kept(space, ada) for space in (CANVAS, CONVO_HISTORY)]
    with suppress(Undone), transaction.atomic():
        everywhere.ada.delete()
        raise Undone
    with transaction.atomic(), suppress(Undone), transaction.atomic():
        everywhere.ada.delete()
        raise Undone
    assert [kept(space, ada) for space in (CANVAS, CONVO_HISTORY)] == others
    fence_runs_out(ada)
    store().command("DEL", PSYCHE.key(ada.pk))
    assert loaded(ada) == held(ada) == row(ada) == before
    assert klepsydra.psyche(ada.pk).version == 1
    assert cached(everywhere.pk) == FOUR


def kept(space: Keyspace, user: User) -> Any:
    """What a keyspace holds on the user."""
    return resources.held(space, user.pk).value


def test_users_deleted_together_are_all_forgotten(everywhere: Scene, make_user: MakeUser) -> None:
    """A queryset's delete; who stays keeps everything."""
    gone, staying = make_user(), make_user()
    for user in (gone, staying):
        services.open_session(user)
        klepsydra.psyche(user.pk)
    User.objects.exclude(pk=staying.pk).delete()
    assert cached(everywhere.pk) == cached(gone.pk) == set()
    assert cached(staying.pk) == {"psyche", "session"}


def test_a_user_deleted_while_the_cache_is_away_is_forgotten_later(
    everywhere: Scene, cache_away: Any
) -> None:
    """The outbox names all four; once it is drained nothing is left."""
    with cache_away():
        everywhere.ada.delete()
    noted = Outbox.objects.filter(user_id=everywhere.pk).values_list("keyspace", flat=True)
    assert set(noted) == FOUR == cached(everywhere.pk)
    drain_outbox()
    assert cached(everywhere.pk) == set()
    assert not Outbox.objects.exists()
