"""Writes: open, refresh and end sessions."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from aevon.signals import session_ending
from auth_sessions import selectors, tokens
from auth_sessions.attempts import check_credentials
from auth_sessions.models import Session, User
from auth_sessions.tokens import TokenPair

T = TypeVar("T")


class SessionOver(Exception):
    """The refresh token is no longer good: expired, ended, used before, or its user is disabled."""


class _Reused(Exception):
    """The refresh token was spent before."""


def log_in(
    *, username: str, password: str, address: str, user_agent: str
) -> tuple[UUID, TokenPair]:
    """Check the password and open a session; its id and tokens. Raises as `check_credentials`."""
    user = check_credentials(username=username, password=password, address=address)
    return open_session(user, user_agent=user_agent)


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """What a page is told of its session, and the refresh token where its cookie changes."""

    user: User
    sid: UUID
    access: str
    expires_at: int
    refresh: str | None


def log_in_browser(
    *, username: str, password: str, address: str, user_agent: str, held: str
) -> BrowserSession:
    """As `log_in`, for a browser whose cookie held the token `held`, or "".

    The session of that token ends, whoever's it was: nothing could reach it any more.
    """
    user = check_credentials(username=username, password=password, address=address)
    end_session_of_token(held, Session.EndReason.ENDED)
    sid, pair = open_session(user, user_agent=user_agent)
    return BrowserSession(user, sid, pair.access, pair.expires_at, pair.refresh)


def open_session(user: User, *, user_agent: str = "") -> tuple[UUID, TokenPair]:
    """Open a session for a user who has been authenticated. `session:{userId}` follows."""
    sid, now = uuid.uuid4(), timezone.now()
    pair = tokens.issue(user, sid)
    Session.objects.create(
        sid=sid, user=user, user_agent=user_agent[:200], refreshed_at=now, **_expiries(pair)
    )
    return sid, pair


def _expiries(pair: TokenPair) -> dict[str, str | datetime]:
    return {
        "refresh_digest": pair.refresh_digest,
        "access_expires_at": pair.access_expires_at,
        "refresh_expires_at": pair.refresh_expires_at,
    }


def refresh(token: str) -> TokenPair:
    """Rotate a refresh token (RFC 9700, 4.14.2): a new pair, and the old token is spent.

    A spent token that comes again ends its session: one of the two who used it is a thief.
    Raises `SessionOver`.
    """
    return _with_latest(token, _rotate)


def renew_access(token: str) -> BrowserSession:
    """A new access token for the session of this refresh token, which is not spent.

    Two tabs, or a page reloaded twice, send the same cookie, and an answer may never arrive: what
    rotates would take that for theft. Past half of its life the same token is given a later end,
    so that a session in daily use goes on. One that `refresh` has spent ends its session here,
    too: a page never sends its cookie there. Raises `SessionOver`.
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
    session = _locked(claims)
    pair = tokens.issue(session.user, session.sid)
    session.refreshed_at = timezone.now()
    for name, value in _expiries(pair).items():
        setattr(session, name, value)
    session.save(update_fields=["refreshed_at", *_expiries(pair)])
    return pair


@transaction.atomic
def _renew(claims: tokens.Claims) -> BrowserSession:
    """The new access token, and the later refresh token if it is time. Raises as `_rotate`."""
    session = _locked(claims)
    pair = tokens.issue(session.user, session.sid, refresh_id=claims.jti)
    session.refreshed_at, session.access_expires_at = timezone.now(), pair.access_expires_at
    later = tokens.is_half_over(claims, pair)
    if later:
        session.refresh_expires_at = pair.refresh_expires_at
    session.save(update_fields=["refreshed_at", "access_expires_at", "refresh_expires_at"])
    refresh_token = pair.refresh if later else None
    return BrowserSession(session.user, session.sid, pair.access, pair.expires_at, refresh_token)


def _locked(claims: tokens.Claims) -> Session:
    """The live session of its latest refresh token. Raises `SessionOver`, `_Reused`."""
    session = (
        Session.objects.select_for_update(of=("self",))
        .select_related("user")
        .filter(sid=claims.sid, user_id=claims.user_id, ended_at=None)
        .first()
    )
    if session is None or not session.user.is_active:
        raise SessionOver
    if not tokens.belongs(session, claims):
        raise _Reused
    return session


def end_session(user_id: int, sid: UUID | str, reason: str = Session.EndReason.LOGOUT) -> bool:
    """End one live session of this user, after what it left unsaved has been persisted.

    False when the user has no such live session: then nothing was touched. What cannot be
    persisted keeps a session alive, but not one whose refresh token was reused: it may be stolen.
    """
    return _end_sessions(user_id, reason, sid=sid)


def end_all_sessions(user_id: int, reason: str = Session.EndReason.LOGOUT) -> bool:
    """End every live session of this user; otherwise as `end_session`."""
    return _end_sessions(user_id, reason)


def end_session_of_token(token: str, reason: str = Session.EndReason.LOGOUT) -> bool:
    """End the session of a refresh token, also of a spent one; otherwise as `end_session`."""
    try:
        claims = tokens.read_refresh(token)
    except tokens.InvalidToken:
        return False
    return end_session(claims.user_id, claims.sid, reason)


def _end_sessions(user_id: int, reason: str, **which: UUID | str) -> bool:
    sessions = list(selectors.sessions_of(user_id).filter(**which))
    if not sessions:
        return False
    if reason == Session.EndReason.REUSE:
        session_ending.send_robust(sender=Session, user_id=user_id)
    else:
        session_ending.send(sender=Session, user_id=user_id)
    with transaction.atomic():
        _end(sessions, reason)
    return True


def _end(sessions: list[Session], reason: str) -> None:
    """Mark as ended; `session:{userId}` follows after the commit."""
    live = Session.objects.filter(sid__in=[session.sid for session in sessions], ended_at=None)
    live.update(ended_at=timezone.now(), end_reason=reason)
