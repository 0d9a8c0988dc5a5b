"""Who is calling: a signed token whose session lives in `session:{userId}`."""

from dataclasses import dataclass, field
from typing import Any, Final

from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from aevon.cache import cache_aside
from aevon.telemetry import logs
from auth_sessions import tokens
from auth_sessions.models import SovereigntyClass
from auth_sessions.projection import SESSIONS
from auth_sessions.selectors import admits

BEARER: Final = 'Bearer realm="aevon"'


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller as the session document tells it; no row was read for it."""

    pk: int
    username: str
    sid: str
    sovereignty_class: str
    permissions: frozenset[str] = field(default_factory=frozenset)
    is_authenticated: bool = True
    is_active: bool = True

    @property
    def id(self) -> int:
        """The user id, under the name that Django's users have too."""
        return self.pk

    def has_perm(self, name: str) -> bool:
        """Whether `app.codename` is among the permissions."""
        return name in self.permissions

    def has_class(self, needed: str) -> bool:
        """As `SovereigntyClass.reaches`."""
        return SovereigntyClass(self.sovereignty_class).reaches(needed)


def authenticate(request: HttpRequest | Request) -> Principal | None:
    """The caller; None without a bearer token (RFC 6750). One round trip and no SQL on a hit.

    Cache away: PostgreSQL decides. Both away: the database's error goes through, nobody is let
    in. Raises `AuthenticationFailed`.
    """
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    try:
        claims = tokens.read_access(token.strip(" "))
    except tokens.InvalidToken:
        raise AuthenticationFailed("The access token is not valid or has expired.") from None
    document = cache_aside.load(SESSIONS, claims.user_id)
    if not admits(document, claims.sid):
        # A session that another process has just opened: nobody is refused by what may be late.
        document = cache_aside.past_near(SESSIONS, claims.user_id, document)
    if document is None or not admits(document, claims.sid):
        raise AuthenticationFailed("The session has ended.")
    logs.know(userId=document.user_id)
    return Principal(
        pk=document.user_id,
        username=document.username,
        sid=claims.sid,
        sovereignty_class=document.sovereignty_class,
        permissions=frozenset(document.permissions),
    )


class SessionTokenAuthentication(BaseAuthentication):
    """DRF's door to `authenticate`."""

    def authenticate(self, request: Request) -> tuple[Any, None] | None:
        principal = authenticate(request)
        return (principal, None) if principal else None

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002  DRF's signature
        """For `WWW-Authenticate`; its presence makes DRF answer 401."""
        return BEARER
