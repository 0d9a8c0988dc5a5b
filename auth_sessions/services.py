"""Writes: open, refresh and end sessions."""

import hashlib
import uuid
from datetime import datetime
from typing import Final
from uuid import UUID

from django.conf import settings
from django.contrib.auth import authenticate
from django.db import transaction
from django.utils import timezone

from aevon.cache import (
    LOGIN_ATTEMPTS_BY_ADDRESS,
    LOGIN_ATTEMPTS_BY_NAME,
    InternalKeyspace,
    rate_limit,
)
from aevon.signals import session_ending
from auth_sessions import selectors, tokens
from auth_sessions.models import Session, User
from auth_sessions.tokens import TokenPair

LOGIN_WINDOW_SECONDS: Final = 60


class WrongCredentials(Exception):
    """No active user has this name and password."""


class SessionOver(Exception):
    """The refresh token is no longer good: expired, ended, used before, or its user is disabled."""


class _Reused(Exception):
    """The refresh token was spent before."""


class TooManyLogins(Exception):
    """A login was refused unseen; try again after `retry_after_seconds`."""

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(f"Try again in {retry_after_seconds} s.")
        self.retry_after_seconds = retry_after_seconds


def log_in(
    *, username: str, password: str, address: str, user_agent: str
) -> tuple[UUID, TokenPair]:
    """Check the password and open a session; its id and tokens.

    Failed attempts are counted per name and per address in a window of a minute; those that
    succeed are not. Raises `TooManyLogins`, `WrongCredentials`.
    """
    _reserve_attempt(username, address)
    user = authenticate(username=username, password=password)
    if not isinstance(user, User):
        raise WrongCredentials
    _give_back_attempt(username, address)
    return open_session(user, user_agent=user_agent)


def _reserve_attempt(username: str, address: str) -> None:
    name, limit = _part(username), settings.AUTH_LOGIN_ATTEMPTS_PER_USERNAME
    if wait := _reserve(LOGIN_ATTEMPTS_BY_NAME, name, limit):
        raise TooManyLogins(wait)
    limit = settings.AUTH_LOGIN_ATTEMPTS_PER_ADDRESS
    if wait := _reserve(LOGIN_ATTEMPTS_BY_ADDRESS, _part(address), limit):
        rate_limit.give_back(LOGIN_ATTEMPTS_BY_NAME, name)
        raise TooManyLogins(wait)


def _reserve(keyspace: InternalKeyspace, part: str, limit: int) -> int:
    return rate_limit.reserve(keyspace, part, limit=limit, window_seconds=LOGIN_WINDOW_SECONDS)


def _give_back_attempt(username: str, address: str) -> None:
    rate_limit.give_back(LOGIN_ATTEMPTS_BY_NAME, _part(username))
    rate_limit.give_back(LOGIN_ATTEMPTS_BY_ADDRESS, _part(address))


def _part(text: str) -> str:
    """A digest: any text fits a key, and the cache learns no names."""
    return hashlib.sha256(text.casefold().encode("utf-8", "replace")).hexdigest()


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
    try:
        claims = tokens.read_refresh(token)
        return _rotate(claims)
    except tokens.InvalidToken:
        raise SessionOver from None
    except _Reused:
        end_session(claims.user_id, claims.sid, Session.EndReason.REUSE)
        raise SessionOver from None


@transaction.atomic
def _rotate(claims: tokens.Claims) -> TokenPair:
    """The new pair. Raises `SessionOver`, `_Reused`."""
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
    pair = tokens.issue(session.user, session.sid)
    session.refreshed_at = timezone.now()
    for name, value in _expiries(pair).items():
        setattr(session, name, value)
    session.save(update_fields=["refreshed_at", *_expiries(pair)])
    return pair


def end_session(user_id: int, sid: UUID | str, reason: str = Session.EndReason.LOGOUT) -> bool:
    """End one live session of this user, after what it left unsaved has been persisted.

    False when the user has no such live session: then nothing was touched. What cannot be
    persisted keeps a session alive, but not one whose refresh token was reused: it may be stolen.
    """
    return _end_sessions(user_id, reason, sid=sid)


def end_all_sessions(user_id: int, reason: str = Session.EndReason.LOGOUT) -> bool:
    """End every live session of this user; otherwise as `end_session`."""
    return _end_sessions(user_id, reason)


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
