"""Reads: session documents from PostgreSQL, and who a token speaks for."""

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from aevon.cache import Gone, owners, prepared_cursor
from auth_sessions.documents import SessionDocument
from auth_sessions.models import Session

# One statement is one snapshot: the version belongs to what is read beside it.
_DOCUMENTS: Final = """
SELECT a.user_id, a.version, u.username, u.is_active, u.sovereignty_class, live.sessions, live.last,
       ARRAY(
           SELECT DISTINCT ct.app_label || '.' || p.codename
           FROM auth_permission p JOIN django_content_type ct ON ct.id = p.content_type_id
           WHERE u.is_superuser
              OR p.id IN (SELECT permission_id FROM auth_sessions_user_user_permissions
                          WHERE user_id = u.id)
              OR p.id IN (SELECT gp.permission_id FROM auth_group_permissions gp
                          JOIN auth_sessions_user_groups ug ON ug.group_id = gp.group_id
                          WHERE ug.user_id = u.id)
           ORDER BY 1
       )
FROM auth_sessions_user u
JOIN auth_sessions_sessionanchor a ON a.user_id = u.id
JOIN LATERAL (
    SELECT jsonb_object_agg(sid, extract(epoch FROM access_expires_at)::bigint) AS sessions,
           max(extract(epoch FROM access_expires_at)::bigint) AS last
    FROM auth_sessions_session
    WHERE user_id = u.id AND ended_at IS NULL AND access_expires_at > now()
) live ON true
WHERE u.id = ANY(%s)
"""


def read_documents(user_ids: Sequence[int]) -> dict[int, SessionDocument | Gone]:
    """The documents of the users that have a live session, in one query; of those that have none
    the version of that."""
    with prepared_cursor() as cursor:
        cursor.execute(_DOCUMENTS, [list(user_ids)])
        return {row[0]: _document(row) for row in cursor.fetchall()}


def _document(row: tuple[Any, ...]) -> SessionDocument | Gone:
    user_id, version, username, is_active, sovereignty_class, sessions, last, permissions = row
    if sessions is None:
        return Gone(version)
    return SessionDocument(
        user_id=user_id,
        username=username,
        status="active" if is_active else "disabled",
        sovereignty_class=sovereignty_class,
        permissions=permissions,
        sessions=dict(sorted(msgspec.json.decode(sessions).items())),
        version=version,
        expires_at=last,
    )


def without_ended(document: SessionDocument) -> SessionDocument:
    """The document without the sessions whose access token has ended since it was read."""
    now = time.time()
    live = {sid: expiry for sid, expiry in document.sessions.items() if expiry > now}
    return msgspec.structs.replace(document, sessions=live)


def users_with_live_sessions() -> Iterator[int]:
    """Every user with a document, in constant memory."""
    return owners(Session.objects.filter(ended_at=None, access_expires_at__gt=timezone.now()))


def admits(document: SessionDocument | None, sid: str) -> bool:
    """Whether the document lets this session in now."""
    return (
        document is not None
        and document.status == "active"
        and document.sessions.get(sid, 0) > time.time()
    )


def sessions_of(user_id: int) -> QuerySet[Session]:
    """The user's sessions that have neither ended nor run out."""
    return Session.objects.filter(
        user_id=user_id, ended_at=None, refresh_expires_at__gt=timezone.now()
    )


def live_count(*, at_most: int) -> int:
    """How many sessions have not ended, of the first `at_most` that could go on: by the index
    `session_by_its_end`, and bounded."""
    possible = Session.objects.filter(refresh_expires_at__gt=timezone.now())
    looked_at = possible.order_by("refresh_expires_at")[:at_most]
    return int(looked_at.aggregate(live=Count("pk", filter=Q(ended_at=None)))["live"])
