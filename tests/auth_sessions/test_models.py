"""What PostgreSQL itself holds to, whoever writes: constraints, and the anchor's version."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group, Permission
from django.db import IntegrityError, connection, transaction

from aevon.cache import triggers
from auth_sessions import services
from auth_sessions.credentials import WrongCredentials
from auth_sessions.models import Session, SessionAnchor, User
from tests.auth_sessions.rows import group, permission, session, sql, version

pytestmark = pytest.mark.django_db
MakeUser = Callable[..., User]

GROUPS = User.groups.through
PERMISSIONS = User.user_permissions.through
GROUP_PERMISSIONS = Group.permissions.through
SHOWN = {
    "username": "lovelace",
    "is_superuser": True,
    "sovereignty_class": "ARCHITECT",
}
HIDDEN = {
    "first_name": "Ada",
    "last_name": "King",
    "email": "ada@example.org",
    "is_staff": True,
    "last_login": datetime(2026, 1, 1, tzinfo=UTC),
    "date_joined": datetime(2026, 1, 1, tzinfo=UTC),
}


@dataclass(frozen=True, slots=True)
class Scene:
    """Ada and Bob are readers and may view users; a third user is nobody's member."""

    ada: User
    bob: User
    stranger: User
    readers: Group
    writers: Group
    view: Permission
    delete: Permission

    def versions(self) -> tuple[int, int, int]:
        """Of Ada, Bob and the stranger."""
        return version(self.ada), version(self.bob), version(self.stranger)


@pytest.fixture
def scene(make_user: MakeUser) -> Scene:
    """Three users with one session each."""
    ada, bob, stranger = (make_user() for _ in range(3))
    readers, writers = group("readers", "view_user"), group("writers", "add_user")
    readers.user_set.set([ada, bob])
    ada.user_permissions.set([permission("view_user")])
    for user in (ada, bob, stranger):
        services.open_session(user)
    view, delete = permission("view_user"), permission("delete_user")
    return Scene(ada, bob, stranger, readers, writers, view, delete)


def rises(scene: Scene, change: Callable[[Scene], object]) -> tuple[int, ...]:
    """By how much the change raises the three versions."""
    before = scene.versions()
    change(scene)
    return tuple(new - old for old, new in zip(before, scene.versions(), strict=True))


# --- Constraints -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["GOD", "", "initiate"])
def test_a_class_that_is_not_known_is_refused(user: User, name: str) -> None:
    """Also where nobody validates."""
    with pytest.raises(IntegrityError, match="user_sovereignty_class_known"):
        User.objects.filter(pk=user.pk).update(sovereignty_class=name)


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"access_expires_at": datetime(2200, 1, 1, tzinfo=UTC)}, "session_access_ends_before"),
        ({"refresh_expires_at": datetime(2000, 1, 1, tzinfo=UTC)}, "session_access_ends_before"),
        ({"ended_at": datetime(2026, 1, 1, tzinfo=UTC)}, "session_end_has_reason"),
        ({"end_reason": "logout"}, "session_end_has_reason"),
    ],
)
def test_a_session_that_contradicts_itself_is_refused(
    user: User, fields: dict[str, Any], constraint: str
) -> None:
    """Access ends no later than refresh; an end has its time and its reason."""
    services.open_session(user)
    with pytest.raises(IntegrityError, match=constraint):
        Session.objects.update(**fields)


def test_a_session_may_end_with_its_access_token(user: User) -> None:
    """The same instant is no contradiction."""
    sid, pair = services.open_session(user)
    Session.objects.update(refresh_expires_at=pair.access_expires_at)
    assert session(sid).refresh_expires_at == session(sid).access_expires_at


def test_a_version_below_one_is_refused(user: User) -> None:
    """Versions begin with 1."""
    with pytest.raises(IntegrityError, match="session_anchor_version_ge_1"):
        SessionAnchor.objects.update(version=0)


def test_the_rows_have_readable_names(user: User) -> None:
    """In the admin."""
    sid, _ = services.open_session(user)
    assert str(session(sid)) == str(sid)
    assert str(SessionAnchor.objects.get()) == f"{user.pk} v2"


# --- Making anchors --------------------------------------------------------------------------


def _created(user: User) -> None:
    User.objects.create(username="new")


def _bulk_created(user: User) -> None:
    User.objects.bulk_create([User(username="new"), User(username="newer")])


def _inserted(user: User) -> None:
    names = [f.column for f in User._meta.concrete_fields if f.column not in ("id", "username")]
    columns = ", ".join(names)
    sql(
        f"INSERT INTO auth_sessions_user (username, {columns})"
        f" SELECT 'new', {columns} FROM auth_sessions_user WHERE id = %s",
        user.pk,
    )


@pytest.mark.parametrize("make", [_created, _bulk_created, _inserted])
def test_a_new_user_has_an_anchor(user: User, make: Callable[[User], None]) -> None:
    """At version 1, however the user was made; the others' stay as they are."""
    services.open_session(user)
    make(user)
    made = SessionAnchor.objects.exclude(pk=user.pk)
    assert made.count() == User.objects.count() - 1 >= 1
    assert set(made.values_list("version", flat=True)) == {1}
    assert version(user) == 2


# --- Fields of the user ----------------------------------------------------------------------


def _save(user: User, name: str, value: object) -> None:
    fresh = User.objects.get(pk=user.pk)
    setattr(fresh, name, value)
    fresh.save()


def _update(user: User, name: str, value: object) -> None:
    User.objects.filter(pk=user.pk).update(**{name: value})


def _bulk_update(user: User, name: str, value: object) -> None:
    fresh = User.objects.get(pk=user.pk)
    setattr(fresh, name, value)
    User.objects.bulk_update([fresh], [name])


def _foreign_sql(user: User, name: str, value: object) -> None:
    sql(f"UPDATE auth_sessions_user SET {name} = %s WHERE id = %s", value, user.pk)


WRITERS = pytest.mark.parametrize("write", [_save, _update, _bulk_update, _foreign_sql])


@WRITERS
@pytest.mark.parametrize("name", SHOWN)
def test_a_field_that_is_shown_raises_the_version_by_one(
    scene: Scene, name: str, write: Callable[[User, str, object], None]
) -> None:
    """Whoever writes; the other users' stay."""
    assert rises(scene, lambda s: write(s.ada, name, SHOWN[name])) == (1, 0, 0)


@WRITERS
@pytest.mark.parametrize("name", HIDDEN)
def test_a_field_that_is_not_shown_raises_nothing(
    scene: Scene, name: str, write: Callable[[User, str, object], None]
) -> None:
    """A login does not make the document older."""
    assert rises(scene, lambda s: write(s.ada, name, HIDDEN[name])) == (0, 0, 0)
    assert User.objects.filter(pk=scene.ada.pk, **{name: HIDDEN[name]}).exists()


@WRITERS
@pytest.mark.parametrize("name", SHOWN)
def test_a_field_written_with_its_own_value_raises_nothing(
    scene: Scene, name: str, write: Callable[[User, str, object], None]
) -> None:
    """Nothing has changed."""
    assert rises(scene, lambda s: write(s.ada, name, getattr(s.ada, name))) == (0, 0, 0)


def test_all_shown_fields_at_once_raise_the_version_by_one(scene: Scene) -> None:
    """One row, one change."""
    assert rises(scene, lambda s: User.objects.filter(pk=s.ada.pk).update(**SHOWN)) == (1, 0, 0)


def test_an_update_of_many_raises_each_that_changed(scene: Scene) -> None:
    """By one; who had the value before is left out."""
    _update(scene.bob, "sovereignty_class", "SOVEREIGN")
    change = User.objects.all().update
    assert rises(scene, lambda s: change(sovereignty_class="SOVEREIGN")) == (1, 0, 1)


# --- Sessions --------------------------------------------------------------------------------


def _inserted_session(scene: Scene) -> None:
    names = [f.column for f in Session._meta.concrete_fields if f.column != "sid"]
    columns = ", ".join(names)
    sql(
        f"INSERT INTO auth_sessions_session (sid, {columns})"
        f" SELECT gen_random_uuid(), {columns}"
        " FROM auth_sessions_session WHERE user_id = %s",
        scene.ada.pk,
    )


def _refreshed(scene: Scene) -> None:
    _, pair = services.open_session(scene.ada)
    services.refresh(pair.refresh)


def _moved(scene: Scene) -> None:
    sql(
        "UPDATE auth_sessions_session SET user_id = %s WHERE user_id = %s",
        scene.stranger.pk,
        scene.ada.pk,
    )


SESSION_CHANGES: dict[str, tuple[Callable[[Scene], object], tuple[int, int, int]]] = {
    "opened": (lambda s: services.open_session(s.ada), (1, 0, 0)),
    "opened and refreshed": (_refreshed, (2, 0, 0)),
    "ended": (lambda s: services.end_all_sessions(s.ada.pk), (1, 0, 0)),
    "inserted": (_inserted_session, (1, 0, 0)),
    "updated": (
        lambda s: Session.objects.filter(user=s.ada).update(
            access_expires_at=datetime.now(UTC) + timedelta(seconds=60)
        ),
        (1, 0, 0),
    ),
    "deleted": (lambda s: Session.objects.filter(user=s.ada).delete(), (1, 0, 0)),
    "deleted with SQL": (lambda s: sql("DELETE FROM auth_sessions_session"), (1, 1, 1)),
}


def test_a_session_cannot_be_given_to_another_user(scene: Scene) -> None:
    """The cache would follow one side only."""
    with pytest.raises(IntegrityError, match="cannot be changed"):
        _moved(scene)


@pytest.mark.parametrize("what", SESSION_CHANGES)
def test_a_session_raises_its_users_version_by_one(scene: Scene, what: str) -> None:
    """Each row that changed, and for both users where it changes hands."""
    change, expected = SESSION_CHANGES[what]
    assert rises(scene, change) == expected


def test_each_session_of_one_statement_counts(scene: Scene) -> None:
    """Three ended at once are three changes."""
    services.open_session(scene.ada)
    services.open_session(scene.ada)
    assert rises(scene, lambda s: services.end_all_sessions(s.ada.pk)) == (3, 0, 0)


def _ends(scene: Scene) -> dict[int, list[str]]:
    """Why each user's sessions have ended, "" of one that lives."""
    rows = Session.objects.order_by("created_at").values_list("user_id", "end_reason")
    return {
        u.pk: [why for owner, why in rows if owner == u.pk]
        for u in (scene.ada, scene.bob, scene.stranger)
    }


@WRITERS
@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [("password", "!", "password"), ("is_active", False, "disabled")],
)
def test_a_changed_password_and_a_deactivation_end_all_sessions(
    scene: Scene, write: Callable[[User, str, object], None], name: str, value: Any, reason: str
) -> None:
    """Of this user, whoever writes; one that had ended keeps its reason. Written as it was, nothing
    ends; and what has ended stays so when the user is let in again."""
    gone, _ = services.open_session(scene.ada)
    services.open_session(scene.ada)
    services.end_session(scene.ada.pk, gone)
    write(scene.ada, name, getattr(scene.ada, name))
    assert _ends(scene)[scene.ada.pk] == ["", "logout", ""]
    write(scene.ada, name, value)
    assert _ends(scene) == {
        scene.ada.pk: [reason, "logout", reason],
        scene.bob.pk: [""],
        scene.stranger.pk: [""],
    }
    write(scene.ada, name, getattr(scene.ada, name))
    assert "" not in _ends(scene)[scene.ada.pk]


def test_a_logout_from_everywhere_is_not_taken_back(user: User) -> None:
    """By whoever saves the row as it was before, or enables a user whom they have just disabled."""

    def now() -> Any:
        return User.objects.get(pk=user.pk).logged_out_at

    stale = User.objects.get(pk=user.pk)
    services.end_all_sessions(user.pk)
    first = now()
    stale.save()
    assert now() == first is not None
    for active in (False, True):
        stale.is_active = active
        stale.save()
    assert now() > first


def test_sessions_of_users_disabled_before_end_with_the_migration(scene: Scene) -> None:
    """Those of others live on."""
    last = import_module("auth_sessions.migrations.0009_sessions_of_the_disabled")
    _update(scene.ada, "is_active", False)
    Session.objects.filter(user=scene.ada).update(ended_at=None, end_reason="")
    sql(last.END)
    assert _ends(scene) == {
        scene.ada.pk: ["disabled"],
        scene.bob.pk: [""],
        scene.stranger.pk: [""],
    }


@pytest.mark.parametrize("how", ["ended", "run out"])
def test_the_record_of_what_is_over_raises_nothing_when_it_goes(scene: Scene, how: str) -> None:
    """No document shows it."""
    now = datetime.now(UTC)
    over = (
        {"ended_at": now, "end_reason": "logout"} if how == "ended" else {"access_expires_at": now}
    )
    Session.objects.filter(user=scene.ada).update(**over)
    assert rises(scene, lambda _: sql("DELETE FROM auth_sessions_session")) == (0, 1, 1)


def test_a_hash_made_anew_ends_no_session(scene: Scene, settings: Any) -> None:
    """Old parameters are replaced at the next login, of two at once by one; a password that was
    changed in between stays so, and its change ends them."""
    hashers = "django.contrib.auth.hashers."
    settings.PASSWORD_HASHERS = [hashers + "MD5PasswordHasher", hashers + "PBKDF2PasswordHasher"]
    ada = User.objects.get(pk=scene.ada.pk)
    old = make_password("lovelace", hasher="pbkdf2_sha256")
    sql("ALTER TABLE auth_sessions_user DISABLE TRIGGER end_sessions")
    _foreign_sql(ada, "password", old)
    sql("ALTER TABLE auth_sessions_user ENABLE TRIGGER end_sessions")
    ada.refresh_from_db()
    slower, slowest = User.objects.get(pk=ada.pk), User.objects.get(pk=ada.pk)
    assert ada.check_password("lovelace")
    now = User.objects.get(pk=ada.pk).password
    assert now == ada.password != old
    assert _ends(scene)[ada.pk] == [""]
    assert async_to_sync(slower.acheck_password)("lovelace")
    assert User.objects.get(pk=ada.pk).password == now
    services.open_session(slower)
    assert _ends(scene)[ada.pk] == ["", ""]
    changed = make_password("analytical engine")
    _update(ada, "password", changed)
    assert _ends(scene)[ada.pk] == ["password", "password"]
    assert slowest.check_password("lovelace")  # it was, when it was read
    assert User.objects.get(pk=ada.pk).password == changed
    with pytest.raises(WrongCredentials):
        services.open_session(slowest)


# --- Groups and permissions of the user ------------------------------------------------------

MEMBERSHIP_CHANGES: dict[str, tuple[Callable[[Scene], object], tuple[int, int, int]]] = {
    "joined": (lambda s: s.ada.groups.add(s.writers), (1, 0, 0)),
    "let in": (lambda s: s.writers.user_set.add(s.ada, s.stranger), (1, 0, 1)),
    "left": (lambda s: s.ada.groups.remove(s.readers), (1, 0, 0)),
    "emptied": (lambda s: s.readers.user_set.clear(), (1, 1, 0)),
    "changed groups": (lambda s: s.ada.groups.set([s.writers]), (2, 0, 0)),
    "joined in bulk": (
        lambda s: GROUPS.objects.bulk_create(
            [GROUPS(user=user, group=s.writers) for user in (s.ada, s.bob)]
        ),
        (1, 1, 0),
    ),
    "inserted": (
        lambda s: sql(
            "INSERT INTO auth_sessions_user_groups (user_id, group_id) VALUES (%s, %s)",
            s.ada.pk,
            s.writers.pk,
        ),
        (1, 0, 0),
    ),
    "deleted": (lambda s: sql("DELETE FROM auth_sessions_user_groups"), (1, 1, 0)),
    "updated to another group": (
        lambda s: GROUPS.objects.filter(user=s.ada).update(group=s.writers),
        (1, 0, 0),
    ),
    "given to another user": (
        lambda s: GROUPS.objects.filter(user=s.ada).update(user=s.stranger),
        (1, 0, 1),
    ),
}


@pytest.mark.parametrize("what", MEMBERSHIP_CHANGES)
def test_a_membership_raises_its_users_version_by_one(scene: Scene, what: str) -> None:
    """From either side, in bulk, and past Django."""
    change, expected = MEMBERSHIP_CHANGES[what]
    assert rises(scene, change) == expected


PERMISSION_CHANGES: dict[str, tuple[Callable[[Scene], object], tuple[int, int, int]]] = {
    "given": (lambda s: s.ada.user_permissions.add(s.delete), (1, 0, 0)),
    "given to several": (lambda s: s.delete.user_set.add(s.ada, s.stranger), (1, 0, 1)),
    "taken": (lambda s: s.ada.user_permissions.remove(s.view), (1, 0, 0)),
    "taken from all": (lambda s: s.view.user_set.clear(), (1, 0, 0)),
    "exchanged": (lambda s: s.ada.user_permissions.set([s.delete]), (2, 0, 0)),
    "given in bulk": (
        lambda s: PERMISSIONS.objects.bulk_create(
            [PERMISSIONS(user=user, permission=s.delete) for user in (s.ada, s.bob)]
        ),
        (1, 1, 0),
    ),
    "inserted": (
        lambda s: sql(
            "INSERT INTO auth_sessions_user_user_permissions (user_id, permission_id)"
            " VALUES (%s, %s)",
            s.ada.pk,
            s.delete.pk,
        ),
        (1, 0, 0),
    ),
    "deleted": (lambda s: sql("DELETE FROM auth_sessions_user_user_permissions"), (1, 0, 0)),
    "updated": (
        lambda s: PERMISSIONS.objects.filter(user=s.ada).update(permission=s.delete),
        (1, 0, 0),
    ),
    "given to another user": (
        lambda s: PERMISSIONS.objects.filter(user=s.ada).update(user=s.stranger),
        (1, 0, 1),
    ),
}


@pytest.mark.parametrize("what", PERMISSION_CHANGES)
def test_a_permission_raises_its_users_version_by_one(scene: Scene, what: str) -> None:
    """From either side, in bulk, and past Django."""
    change, expected = PERMISSION_CHANGES[what]
    assert rises(scene, change) == expected


# --- What a group may do ---------------------------------------------------------------------

GROUP_CHANGES: dict[str, tuple[Callable[[Scene], object], tuple[int, int, int]]] = {
    "given": (lambda s: s.readers.permissions.add(s.delete), (1, 1, 0)),
    "given from the other side": (lambda s: s.delete.group_set.add(s.readers), (1, 1, 0)),
    "given to a group without members": (lambda s: s.writers.permissions.add(s.view), (0, 0, 0)),
    "two given": (
        lambda s: s.readers.permissions.add(s.delete, permission("add_user")),
        (2, 2, 0),
    ),
    "taken": (lambda s: s.readers.permissions.remove(s.view), (1, 1, 0)),
    "cleared": (lambda s: s.readers.permissions.clear(), (1, 1, 0)),
    "cleared from the other side": (lambda s: s.view.group_set.clear(), (1, 1, 0)),
    "given in bulk": (
        lambda s: GROUP_PERMISSIONS.objects.bulk_create(
            [GROUP_PERMISSIONS(group=s.readers, permission=s.delete)]
        ),
        (1, 1, 0),
    ),
    "inserted": (
        lambda s: sql(
            "INSERT INTO auth_group_permissions (group_id, permission_id) VALUES (%s, %s)",
            s.readers.pk,
            s.delete.pk,
        ),
        (1, 1, 0),
    ),
    "deleted": (
        lambda s: sql("DELETE FROM auth_group_permissions WHERE group_id = %s", s.readers.pk),
        (1, 1, 0),
    ),
    "updated": (
        lambda s: GROUP_PERMISSIONS.objects.filter(group=s.readers).update(permission=s.delete),
        (1, 1, 0),
    ),
}


@pytest.mark.parametrize("what", GROUP_CHANGES)
def test_what_a_group_may_do_raises_every_members_version(scene: Scene, what: str) -> None:
    """By one for each permission; nobody else's."""
    change, expected = GROUP_CHANGES[what]
    assert rises(scene, change) == expected


def test_a_permission_given_to_another_group_raises_the_members_of_both_once(
    scene: Scene,
) -> None:
    """Ada is a member of both, Bob of the one, the stranger of the other."""
    scene.writers.user_set.set([scene.ada, scene.stranger])
    held = GROUP_PERMISSIONS.objects.filter(group=scene.readers)
    assert rises(scene, lambda s: held.update(group=s.writers)) == (1, 1, 1)


def test_a_group_deleted_raises_its_members_versions(scene: Scene) -> None:
    """And nobody else's."""
    ada, bob, stranger = rises(scene, lambda s: s.readers.delete())
    assert ada == bob >= 1
    assert stranger == 0


def test_a_permission_deleted_raises_the_version_of_all_who_had_it(scene: Scene) -> None:
    """Ada had it twice: by herself, and as a reader."""
    assert rises(scene, lambda s: s.view.delete()) == (2, 1, 0)


# --- The end of an anchor --------------------------------------------------------------------


def test_a_deleted_user_leaves_no_anchor(scene: Scene) -> None:
    """The rows that the cascade removes do not bring it back."""
    User.objects.filter(pk=scene.ada.pk).delete()
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    assert list(SessionAnchor.objects.order_by("pk").values_list("pk", flat=True)) == [
        scene.bob.pk,
        scene.stranger.pk,
    ]


def test_rows_removed_after_the_anchor_do_not_bring_it_back(scene: Scene) -> None:
    """In the order that is worst: the anchor first, the user last."""
    sql("DELETE FROM auth_sessions_sessionanchor WHERE user_id = %s", scene.ada.pk)
    sql("UPDATE auth_sessions_user SET is_active = false WHERE id = %s", scene.ada.pk)
    sql("DELETE FROM auth_group_permissions")
    for table in ("session", "user_groups", "user_user_permissions"):
        sql(f"DELETE FROM auth_sessions_{table} WHERE user_id = %s", scene.ada.pk)
    assert not SessionAnchor.objects.filter(pk=scene.ada.pk).exists()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({"codename": "look"}, (1, 1, 0)), ({"name": "Can look"}, (0, 0, 0))],
)
def test_a_permission_renamed_raises_the_version_of_all_who_have_it(
    scene: Scene, fields: dict[str, str], expected: tuple[int, int, int]
) -> None:
    """Once, however often they were given it; its description is not shown."""
    change = Permission.objects.filter(pk=scene.view.pk).update
    assert rises(scene, lambda _: change(**fields)) == expected


def test_a_permission_that_comes_or_goes_raises_the_superusers(scene: Scene) -> None:
    """They have it without being given it."""
    _update(scene.stranger, "is_superuser", True)
    new = Permission(codename="new", name="New", content_type=scene.view.content_type)
    assert rises(scene, lambda _: new.save()) == (0, 0, 1)
    assert rises(scene, lambda _: new.delete()) == (0, 0, 1)


def test_users_of_before_the_triggers_get_an_anchor(scene: Scene) -> None:
    """A site that was migrated in two steps; who has one keeps it."""
    second = import_module("auth_sessions.migrations.0003_permissions_are_followed")
    sql("DELETE FROM auth_sessions_sessionanchor WHERE user_id = %s", scene.ada.pk)
    bobs = version(scene.bob)
    sql(second.BACKWARDS)
    sql(second.FORWARDS)
    assert (version(scene.ada), version(scene.bob)) == (1, bobs)


def test_the_triggers_can_be_taken_back_and_made_again(scene: Scene) -> None:
    """Backwards nothing of them is left; forwards they are there again."""
    first = import_module("auth_sessions.migrations.0002_anchor_triggers")
    second = import_module("auth_sessions.migrations.0003_permissions_are_followed")
    third = import_module("auth_sessions.migrations.0004_anchors_are_followed")
    operations = third.Migration.operations
    fourth = import_module("auth_sessions.migrations.0007_sessions_end_with_the_password")
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    with transaction.atomic():
        sql(fourth.SESSIONS_AS_BEFORE)
        sql(fourth.USERS_AS_BEFORE)
        for operation in reversed(operations):
            sql(operation.reverse_sql)
        sql(second.BACKWARDS)
        assert rises(scene, lambda s: s.readers.permissions.clear()) == (1, 1, 0)
        sql("SET CONSTRAINTS ALL IMMEDIATE")
        sql(first.REMOVE)
        assert rises(scene, lambda s: services.open_session(s.ada)) == (0, 0, 0)
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_proc WHERE proname LIKE 'auth\\_sessions\\_%%'")
            assert cursor.fetchone() == (0,)
        sql("SET CONSTRAINTS ALL IMMEDIATE")
        sql(first.FUNCTIONS)
        sql(second.FORWARDS)
        [sql(operation.sql) for operation in operations]
        sql(triggers.PIN + fourth.USERS)
        sql(fourth.SESSIONS)
    assert rises(scene, lambda s: services.open_session(s.ada)) == (1, 0, 0)
