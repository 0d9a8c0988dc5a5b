"""Writes: open, refresh and end sessions."""

import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar
from uuid import UUID

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.db import DEFAULT_DB_ALIAS, transaction
from django.db.models.functions import Now
from django.utils import timezone

from aevon.signals import session_ending
from auth_sessions import selectors, tokens
from auth_sessions.addresses import network
from auth_sessions.credentials import WrongCredentials, check_credentials
from auth_sessions.models import USER_AGENT_MAX, Session, User
from auth_sessions.tokens import TokenPair

FORGOTTEN_AT_ONCE: Final = 1_000
T = TypeVar("T")


class SessionOver(Exception):
    """The refresh token is no longer good: expired, ended, used before, or its user is disabled."""


class _Reused(Exception):
    """The refresh token was spent before, or is not where it belongs."""


class TooManySessions(Exception):
    """The user has as many live sessions as may be; the first of them ends in
    `retry_after_seconds`, if it is not used again."""

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(f"Try again in {retry_after_seconds} s.")
        self.retry_after_seconds = retry_after_seconds


def log_in(
    *, username: str, password: str, address: str, user_agent: str, end_others: bool = False
) -> tuple[UUID, TokenPair]:
    """Check the password and open a session; its id and tokens. With `end_others` all that there
    were end first. Raises as `check_credentials` and `open_session`."""
    user = check_credentials(username=username, password=password, address=address)
    if end_others:
        end_all_sessions(user.pk, Session.EndReason.ENDED)
    return open_session(user, user_agent=user_agent, address=address)


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """What a page is told of its session, and the refresh token where its cookie changes."""

    user: User
    sid: UUID
    access: str
    expires_at: int
    refresh: str | None


def log_in_browser(
    *,
    username: str,
    password: str,
    address: str,
    user_agent: str,
    held: str,
    end_others: bool = False,
) -> BrowserSession:
    """As `log_in`, for a browser whose cookie held the token `held`, or "".

    The session of that token ends, whoever's it was: nothing could reach it any more.
    """
    user = check_credentials(username=username, password=password, address=address)
    end_session_of_token(held, Session.EndReason.ENDED)
    if end_others:
        end_all_sessions(user.pk, Session.EndReason.ENDED)
    sid, pair = open_session(user, user_agent=user_agent, address=address, is_page=True)
    return BrowserSession(user, sid, pair.access, pair.expires_at, pair.refresh)


@transaction.atomic
def open_session(
    user: User, *, user_agent: str = "", address: str = "", is_page: bool = False
) -> tuple[UUID, TokenPair]:
    """Open a session for a user who has been authenticated. `session:{userId}` follows.

    Raises `TooManySessions`, and `WrongCredentials` if the password by which they were let in, or
    their standing as an active user, is no longer so.
    """
    user = _as_authenticated(user)
    _leave_room(user)
    sid, now = uuid.uuid4(), timezone.now()
    pair = tokens.issue(user, sid, not_after=now + settings.AUTH_SESSION_LIFETIME)
    Session.objects.create(
        sid=sid,
        user=user,
        is_page=is_page,
        user_agent=user_agent[:USER_AGENT_MAX],
        address=network(address, ipv4=24, ipv6=48),
        last_seen_at=now,
        **_expiries(pair),
    )
    return sid, pair


def _as_authenticated(user: User) -> User:
    """The user's row of now, locked: logins of one user are counted one after the other, and who
    changes the password meanwhile ends this session, too, or is not let in by the old one."""
    rows = User.objects.select_for_update(no_key=True)
    found = rows.filter(pk=user.pk, password=user.password, is_active=True).first()
    if found is None:
        raise WrongCredentials
    return found


def _leave_room(user: User) -> None:
    live, limit = selectors.sessions_of(user.pk), settings.AUTH_SESSIONS_PER_USER
    ends = live.order_by("refresh_expires_at").values_list("refresh_expires_at", flat=True)
    first = list(ends[:limit])
    if len(first) == limit:
        wait = first[0] - timezone.now()
        raise TooManySessions(math.ceil(wait.total_seconds()))


def _expiries(pair: TokenPair) -> dict[str, str | datetime]:
    return {
        "refresh_digest": pair.refresh_digest,
        "access_expires_at": pair.access_expires_at,
        "refresh_expires_at": pair.refresh_expires_at,
    }


def refresh(token: str) -> TokenPair:
    """Rotate a refresh token (RFC 9700, 4.14.2): a new pair, and the old token is spent.

    For `AUTH_REFRESH_GRACE` a spent token is still answered, with the very successor that it was
    given first: two requests at once, or one whose answer was lost, are no theft. One that comes
    later ends its session: one of the two who used it is a thief. Raises `SessionOver`.
    """
    return _with_latest(token, _rotate)


def renew_access(token: str) -> BrowserSession:
    """A new access token for the session of this refresh token, which is not spent.

    Two tabs, or a page reloaded twice, send the same cookie, and an answer may never arrive: what
    rotates would take that for theft. Past half of its life the same token is given a later end,
    so that a session in daily use goes on. For sessions of the page alone, as `refresh` is for all
    others: no script can read the cookie, and whoever brings one kind of token where the other
    belongs has taken it from somebody; it ends its session. Raises `SessionOver`.
    """
    return _with_latest(token, _renew)


def _with_latest(token: str, act: Callable[[tokens.Claims], T]) -> T:
    try:
        claims = tokens.read_refresh(token)
        return act(claims)
    except tokens.InvalidToken:
        raise SessionOver from None
    except _Reused:
        end_session(claims.user_id, claims.sid, Session.EndReason.REUSE)
        raise SessionOver from None


@transaction.atomic
def _rotate(claims: tokens.Claims) -> TokenPair:
    """The new pair. Raises `SessionOver`, `_Reused`."""
    session = _locked(claims, is_page=False)
    if tokens.is_latest(session, claims):
        session.rotated_at = timezone.now()
    elif not _was_just_spent(session, claims):
        raise _Reused
    pair = _next_pair(session, tokens.successor(claims.jti))
    _keep(session, rotated_at=session.rotated_at, is_page=False, **_expiries(pair))
    return pair


def _was_just_spent(session: Session, claims: tokens.Claims) -> bool:
    if session.rotated_at is None or not tokens.is_latest_but_one(session, claims):
        return False
    return timezone.now() - session.rotated_at <= settings.AUTH_REFRESH_GRACE


@transaction.atomic
def _renew(claims: tokens.Claims) -> BrowserSession:
    """The new access token, and the later refresh token if it is time. Raises as `_rotate`."""
    session = _locked(claims, is_page=True)
    if not tokens.is_latest(session, claims):
        raise _Reused
    pair = _next_pair(session, claims.jti)
    later = tokens.is_half_over(claims, pair)
    ends = pair.refresh_expires_at if later else session.refresh_expires_at
    expiries = {"access_expires_at": pair.access_expires_at, "refresh_expires_at": ends}
    _keep(session, is_page=True, **expiries)
    refresh_token = pair.refresh if later else None
    return BrowserSession(session.user, session.sid, pair.access, pair.expires_at, refresh_token)


def _locked(claims: tokens.Claims, *, is_page: bool) -> Session:
    """The live session of a refresh token, latest or not. Raises `SessionOver`; `_Reused` for one
    of the other kind."""
    session = (
        Session.objects.select_for_update(of=("self",))
        .select_related("user")
        .filter(sid=claims.sid, user_id=claims.user_id, ended_at=None)
        .first()
    )
    if session is None or not session.user.is_active or _last_end(session) <= timezone.now():
        raise SessionOver
    if session.is_page is (not is_page):
        raise _Reused
    return session


def _next_pair(session: Session, refresh_id: str) -> TokenPair:
    not_after = _last_end(session)
    return tokens.issue(session.user, session.sid, not_after=not_after, refresh_id=refresh_id)


def _last_end(session: Session) -> datetime:
    """When the session ends however much it is used (NIST SP 800-63B-4, 5.2)."""
    lifetime: timedelta = settings.AUTH_SESSION_LIFETIME
    return session.created_at + lifetime


def _keep(session: Session, **fields: object) -> None:
    fields["last_seen_at"] = timezone.now()
    for name, value in fields.items():
        setattr(session, name, value)
    session.save(update_fields=list(fields))


def change_password(user_id: int, *, current: str, new: str, address: str) -> None:
    """Change the user's own password, which ends all their sessions, after what these left unsaved
    has been persisted.

    Attempts are counted as those to log in. Raises `WrongCredentials`, `TooManyLogins`,
    `SessionOver`, and Django's `ValidationError` where the new one is too weak.
    """
    username = User.objects.values_list("username", flat=True).filter(pk=user_id).first()
    if username is None:  # deleted a moment ago
        raise SessionOver
    user = check_credentials(username=username, password=current, address=address)
    validate_password(new, user)
    session_ending.send(sender=Session, user_id=user.pk)
    with transaction.atomic():
        locked = _as_authenticated(user)
        locked.set_password(new)
        locked.save(update_fields=["password"])


def end_session(user_id: int, sid: UUID | str, reason: str = Session.EndReason.LOGOUT) -> bool:
    """End one live session of this user, after what it left unsaved has been persisted.

    False when the user has no such live session: then nothing was touched. What cannot be
    persisted keeps a session alive, but not one whose refresh token was reused: it may be stolen.
    """
    return _end_sessions(user_id, reason, sid=sid)


def end_all_sessions(user_id: int, reason: str = Session.EndReason.LOGOUT) -> bool:
    """End every live session of this user, and what they have logged in to in the admin; otherwise
    as `end_session`."""
    return _end_sessions(user_id, reason)


def end_session_of_token(token: str, reason: str = Session.EndReason.LOGOUT) -> bool:
    """End the session of a refresh token, also of a spent one; otherwise as `end_session`."""
    try:
        claims = tokens.read_refresh(token)
    except tokens.InvalidToken:
        return False
    return end_session(claims.user_id, claims.sid, reason)


def _end_sessions(user_id: int, reason: str, **which: UUID | str) -> bool:
    live = selectors.sessions_of(user_id).filter(**which)
    are_there = live.exists()
    if which and not are_there:
        return False
    if are_there:
        _announce_end(user_id, reason)
    with transaction.atomic():
        if not which:
            # Locks the user, so that no session begins meanwhile.
            User.objects.filter(pk=user_id).update(logged_out_at=Now())
        live.update(ended_at=timezone.now(), end_reason=reason)
    return are_there


def _announce_end(user_id: int, reason: str) -> None:
    if reason == Session.EndReason.REUSE:
        session_ending.send_robust(sender=Session, user_id=user_id)
    else:
        session_ending.send(sender=Session, user_id=user_id)


def forget_old_sessions() -> int:
    """Delete the records of sessions that have been over for `AUTH_SESSION_RECORDS`, counted from
    when their refresh token would have run out; how many. Constant memory; nobody waits for it,
    and what somebody holds is passed over. No document shows them, so the cache is not told.
    """
    forgotten = 0
    while count := _forget_batch(timezone.now() - settings.AUTH_SESSION_RECORDS):
        forgotten += count
    return forgotten


@transaction.atomic
def _forget_batch(before: datetime) -> int:
    old = Session.objects.filter(refresh_expires_at__lt=before).order_by("refresh_expires_at")
    locked = old.select_for_update(skip_locked=True).values_list("pk", flat=True)
    batch = list(locked[:FORGOTTEN_AT_ONCE])
    Session.objects.filter(pk__in=batch)._raw_delete(DEFAULT_DB_ALIAS)  # noqa: SLF001  see above
    return len(batch)
