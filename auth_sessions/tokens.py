"""JWTs (RFC 7519) on simplejwt: what they carry, and one way to read them."""

import functools
import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final
from uuid import UUID

import msgspec
from django.utils.crypto import salted_hmac
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import Token

from aevon.cache import canonical_user_id
from auth_sessions import keys
from auth_sessions.models import Session, User
from auth_sessions.signing import AccessToken, RefreshToken

REFRESH_LIFETIME: Final[timedelta] = RefreshToken.lifetime
# How far another host's clock may be ahead when it signs: no reason to refuse what it gives.
CLOCK_SKEW_SECONDS: Final = 60
# Half a kilobyte each.
TOKENS_REMEMBERED: Final = 4_096


class InvalidToken(Exception):
    """The token is not one of ours, of another kind, altered, or has expired."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says: whose it is, of which session, its own id, and its end in Unix seconds."""

    user_id: int
    sid: str
    jti: str
    expires_at: int


class _Payload(msgspec.Struct):
    """What every token of ours holds beside `iss`, `aud` and `typ`, and of which type."""

    sub: str
    sid: str
    jti: Annotated[str, msgspec.Meta(min_length=1)]
    iat: int
    exp: int


class _AccessPayload(_Payload, rename="camel"):
    """What an access token says of its user, for those who verify it themselves (domain.md)."""

    email: str
    sovereignty_class: str


@dataclass(frozen=True, slots=True)
class TokenPair:
    """A new access and refresh token."""

    access: str
    refresh: str
    access_expires_at: datetime
    refresh_expires_at: datetime
    refresh_digest: str

    @property
    def expires_at(self) -> int:
        """End of the access token, Unix seconds."""
        return int(self.access_expires_at.timestamp())


def issue(
    user: User, sid: UUID, *, refresh_id: str | None = None, not_after: datetime | None = None
) -> TokenPair:
    """Sign a pair for this session. The access token carries id, email and class (domain.md).

    With `refresh_id` the refresh token is the one of that id, with a later end. Neither token lives
    longer than `not_after`.
    """
    access, refresh = AccessToken(), RefreshToken()
    if refresh_id is not None:
        refresh["jti"] = refresh_id
    for token in (access, refresh):
        if not_after is not None:
            token["exp"] = min(token["exp"], int(not_after.timestamp()))
        token["sub"] = str(user.pk)
        token["sid"] = str(sid)
    access["email"] = user.email
    access["sovereigntyClass"] = user.sovereignty_class
    return TokenPair(
        access=str(access),
        refresh=str(refresh),
        access_expires_at=_end(access),
        refresh_expires_at=_end(refresh),
        refresh_digest=digest(refresh["jti"]),
    )


def read_access(token: str) -> Claims:
    """The claims of an access token; raises `InvalidToken`.

    A signature that has been verified stays true, and a client shows the same token with each
    request: the last ones are remembered. Whether it has expired is looked at each time.
    """
    claims = _verified(token, keys.ring())
    if claims.expires_at <= time.time():
        raise InvalidToken("The token has expired.")
    return claims


@functools.lru_cache(TOKENS_REMEMBERED)
def _verified(token: str, _ring: keys.KeyRing) -> Claims:
    """What is refused is not remembered; with other keys nothing is."""
    return _read(token, AccessToken, _AccessPayload)


def read_refresh(token: str) -> Claims:
    """The claims of a refresh token; raises `InvalidToken`."""
    return _read(token, RefreshToken, _Payload)


def successor(jti: str) -> str:
    """The id of the refresh token that follows this one.

    It is derived, so that requests that spend one token at the same time are all given the same
    next one, and nobody has to keep it meanwhile; without Django's secret it cannot be guessed.
    """
    return salted_hmac("auth_sessions.successor", jti, algorithm="sha256").hexdigest()


def digest(jti: str) -> str:
    """What `Session.refresh_digest` keeps of a refresh token's id."""
    return hashlib.sha256(jti.encode()).hexdigest()


def _end(token: Token) -> datetime:
    return datetime.fromtimestamp(token["exp"], UTC)


def _read(text: str, kind: type[Token], shape: type[_Payload]) -> Claims:
    try:
        token = kind(text.encode("ascii"))  # type: ignore[arg-type]  # bytes are what it decodes
        payload = msgspec.convert(token.payload, shape)
        if payload.iat > time.time() + CLOCK_SKEW_SECONDS:
            raise InvalidToken("The token is from the future.")
        return Claims(
            user_id=canonical_user_id(payload.sub),
            sid=str(UUID(payload.sid)),
            jti=payload.jti,
            expires_at=payload.exp,
        )
    except (TokenError, msgspec.ValidationError) as error:
        raise InvalidToken from error
    # simplejwt lets an `exp` that is no number, or an enormous one, through as TypeError,
    # ValueError, OverflowError or OSError, depending on how enormous. InvalidKey is a ValueError.
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise InvalidToken from error


def is_latest(session: Session, claims: Claims) -> bool:
    """Whether the refresh token is the session's latest."""
    return session.refresh_digest == digest(claims.jti)


def is_latest_but_one(session: Session, claims: Claims) -> bool:
    """Whether the refresh token is the one that the session's latest has followed."""
    return session.refresh_digest == digest(successor(claims.jti))


def is_half_over(claims: Claims, pair: TokenPair) -> bool:
    """Whether a refresh token has lived half of its life, or ends before the new access token.

    `pair` was issued just now.
    """
    now_ends = int(pair.refresh_expires_at.timestamp())
    half_over = (now_ends - claims.expires_at) * 2 > REFRESH_LIFETIME.total_seconds()
    return half_over or claims.expires_at < pair.expires_at
