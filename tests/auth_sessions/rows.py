"""What the tests of sessions read from both sides, and how they write past Django."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from django.contrib.auth.models import Group, Permission
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from aevon.cache import SESSION, cache_aside, resources
from aevon.cache.connection import store
from aevon.cache.models import Outbox
from auth_sessions import selectors, tokens
from auth_sessions.models import Session, SessionAnchor, User
from auth_sessions.projection import SESSIONS
from tests.threads import in_another_thread, in_thread
from tests.waiting import wait_for_locks

T = TypeVar("T")


def held(user: User) -> Any:
    """What Dragonfly holds under the user's key, without the members of the cache layer; None for
    nothing else."""
    members = resources.held(SESSION, user.pk).value or {}
    return {name: value for name, value in members.items() if name[0] != "_"} or None


def fenced(user: User) -> bool:
    """Whether a writer's mark is on the entry: nobody is served from it."""
    return "_fence" in (resources.held(SESSION, user.pk).value or {})


def fence_runs_out(user: User) -> None:
    """What the server does when the last mark of a fence is past its deadline."""
    assert fenced(user)
    store().command("DEL", SESSION.key(user.pk))


def tombstone(user: User) -> int | None:
    """The version for which the entry says that there is no session."""
    version: int | None = (resources.held(SESSION, user.pk).value or {}).get("_gone")
    return version


def loaded(user: User) -> Any:
    """What a request is told of the user."""
    return msgspec.to_builtins(cache_aside.load(SESSIONS, user.pk))


def loaded_elsewhere(user: User) -> Any:
    """What a request of somebody else is told, who is not in our transaction."""
    return in_another_thread(loaded, user)


def noted(user: User) -> int | None:
    """The version that the outbox has yet to tell the entry of."""
    return Outbox.objects.values_list("version", flat=True).get(keyspace="session", user_id=user.pk)


def row(user: User) -> Any:
    """What PostgreSQL holds, as the cache should."""
    return msgspec.to_builtins(SESSIONS.read_one(user.pk))


def version(user: User) -> int:
    """The version of the user's anchor."""
    return SessionAnchor.objects.get(pk=user.pk).version


def session(sid: UUID) -> Session:
    """The session's row."""
    return Session.objects.get(sid=sid)


def grace_runs_out() -> None:
    """As if every refresh token that was spent had been spent some time ago."""
    long_ago = timezone.now() - timedelta(minutes=1)
    Session.objects.filter(rotated_at__isnull=False).update(rotated_at=long_ago)


def admitted(access: str) -> bool:
    """Whether a request with this access token would be let in."""
    claims = tokens.read_access(access)
    return selectors.admits(cache_aside.load(SESSIONS, claims.user_id), claims.sid)


def permission(codename: str) -> Permission:
    """One of the permissions that Django makes for users."""
    return Permission.objects.get(codename=codename, content_type__app_label="auth_sessions")


def group(name: str, *codenames: str) -> Group:
    """A new group that may do this."""
    made = Group.objects.create(name=name)
    made.permissions.set([permission(codename) for codename in codenames])
    return made


def sql(statement: str, *parameters: Any) -> None:
    """SQL from elsewhere: no signal is sent."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


def behind_a_lock(
    sid: UUID, calls: Sequence[Callable[[], T]], meanwhile: Callable[[], object] = lambda: None
) -> list[T]:
    """What the calls return that have all come as far as the session's row, which is locked by
    somebody who does something `meanwhile` and then commits."""
    return behind(Session.objects.select_for_update().filter(sid=sid), calls, meanwhile)


def behind(
    rows: QuerySet[Any], calls: Sequence[Callable[[], T]], meanwhile: Callable[[], object]
) -> list[T]:
    """As `behind_a_lock`, of other rows."""
    with ThreadPoolExecutor(len(calls)) as pool:
        with transaction.atomic():
            assert rows.first() is not None
            answers = [pool.submit(in_thread(call)) for call in calls]
            wait_for_locks(len(calls))
            meanwhile()
        return [answer.result() for answer in answers]
