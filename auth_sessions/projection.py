"""How users, sessions and permissions become `session:{userId}`, and what makes it follow them."""

from collections.abc import Iterable
from typing import Any, Final

from django.contrib.auth.models import Group, Permission
from django.db.models import Q, QuerySet
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete

from aevon.cache import (
    SESSION,
    EntryResource,
    Projection,
    after_commit,
    forget_users,
    register,
    write_through,
)
from auth_sessions import selectors
from auth_sessions.documents import SessionDocument
from auth_sessions.models import Session, SessionAnchor, User

SESSIONS: Final = Projection(
    keyspace=SESSION,
    document=SessionDocument,
    read=selectors.read_documents,
    user_ids=selectors.users_with_live_sessions,
    version=lambda document: document.version,
    expires_at=lambda document: document.expires_at,
    current=selectors.without_ended,
    anchor=SessionAnchor._meta.db_table,  # noqa: SLF001  public by convention
)


# Signals after the change. A clear from the other side tells only before it whom it concerned.
DONE: Final = ("post_add", "post_remove", "post_clear")


def connect() -> None:
    """Register the resource and follow everything that the document shows."""
    register(EntryResource(SESSIONS))
    write_through.follow(SESSIONS, User, "pk")
    write_through.follow(SESSIONS, Session)
    m2m_changed.connect(_membership_changed, sender=User.groups.through)
    m2m_changed.connect(_membership_changed, sender=User.user_permissions.through)
    m2m_changed.connect(_group_changed, sender=Group.permissions.through)
    pre_delete.connect(_group_deleted, sender=Group)
    post_save.connect(_permission_changed, sender=Permission)
    pre_delete.connect(_permission_deleted, sender=Permission)
    pre_delete.connect(_lock_sessions, sender=User)
    post_delete.connect(_user_deleted, sender=User)


def _membership_changed(
    *, instance: Any, action: str, reverse: bool, pk_set: set[int] | None, **_: Any
) -> None:
    """A user's groups or permissions changed, from either side of the relation."""
    if reverse and action == "pre_clear":
        _lock(instance)
        _follow(instance.user_set.values_list("pk", flat=True))
    elif action in DONE:
        _follow((pk_set or ()) if reverse else [instance.pk])


def _group_changed(
    *, instance: Any, action: str, reverse: bool, pk_set: set[int] | None, **_: Any
) -> None:
    """What a group may do changed, from either side of the relation."""
    if reverse and action == "pre_clear":
        _lock(instance)
        _follow_members(instance.group_set.values_list("pk", flat=True))
    elif action in DONE:
        _follow_members((pk_set or ()) if reverse else [instance.pk])


def _follow_members(groups: Iterable[int]) -> None:
    members = User.objects.filter(groups__in=list(groups)).values_list("pk", flat=True)
    _follow(members.distinct())


def _group_deleted(*, instance: Group, **_: Any) -> None:
    _lock(instance)
    _follow(User.objects.filter(groups=instance).values_list("pk", flat=True))


def _permission_changed(*, instance: Permission, **_: Any) -> None:
    """Renamed or moved; or new, which only superusers have at once."""
    holds = Q(user_permissions=instance) | Q(groups__permissions=instance) | Q(is_superuser=True)
    _follow(User.objects.filter(holds).values_list("pk", flat=True).distinct())


def _permission_deleted(*, instance: Permission, **_: Any) -> None:
    _lock(instance)
    _permission_changed(instance=instance)


def _lock(instance: Group | Permission) -> None:
    """Let nobody refer to the row before our commit: who is asked for next are all there are.

    Where a statement changed what is shown, its trigger has done the same (migration 0003).
    """
    rows: QuerySet[Any] = type(instance).objects.select_for_update()
    list(rows.filter(pk=instance.pk))


def _lock_sessions(*, instance: User, **_: Any) -> None:
    """Sessions before their anchor, as whoever changes them takes them; a deletion would begin with
    the anchor. The user has been locked by then."""
    list(Session.objects.select_for_update().filter(user=instance).order_by("pk"))


def _follow(user_ids: Iterable[int]) -> None:
    if wanted := list(user_ids):
        write_through.publish_on_commit(SESSIONS, wanted)


def _user_deleted(*, instance: User, **_: Any) -> None:
    """Every keyspace forgets the user, not only this service's."""
    after_commit(forget_users, [instance.pk])
