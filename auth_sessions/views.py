"""The endpoints of sessions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError as WeakPassword
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import status
from rest_framework.exceptions import (
    AuthenticationFailed,
    NotFound,
    ValidationError,
)
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from aevon.api.callers import caller
from aevon.api.exceptions import TooManyAttempts, TooManySessions
from aevon.api.problems import CONTENT_TYPE
from auth_sessions import credentials, selectors, services
from auth_sessions.addresses import client_address
from auth_sessions.authentication import BEARER
from auth_sessions.models import Session
from auth_sessions.serializers import (
    LoginResponseSerializer,
    LoginSerializer,
    LogoutSerializer,
    PasswordSerializer,
    RefreshSerializer,
    SessionListSerializer,
    SessionSerializer,
    TokenPairSerializer,
)
from auth_sessions.tokens import TokenPair

_SID = "0d5ce2a4-2d0c-4a43-a2a9-5ac7d1d53c0c"
_PAIR = {"access": "eyJ…", "refresh": "eyJ…", "expiresAt": 1_795_000_000}


class AnonymousView(APIView):
    """A door that needs no token; a refused one still answers 401."""

    authentication_classes = ()
    permission_classes: tuple[type[BasePermission], ...] = ()

    def get_authenticate_header(self, request: Request) -> str:  # noqa: ARG002
        return BEARER


class TokenView(AnonymousView):
    """Log in."""

    @extend_schema(
        summary="Log in: open a session",
        request=LoginSerializer,
        responses={
            200: LoginResponseSerializer,
            (401, CONTENT_TYPE): OpenApiResponse(
                OpenApiTypes.OBJECT, "No active user has this name and password."
            ),
        },
        auth=[],
        tags=["auth"],
        examples=[
            OpenApiExample("demo", {"username": "demo", "password": "…"}, request_only=True),
            OpenApiExample(
                "a new session", _PAIR | {"sid": _SID}, response_only=True, status_codes=["200"]
            ),
        ],
    )
    def post(self, request: Request) -> Response:
        """Open a session; `session:{userId}` is filled. Failed attempts are limited (429)."""
        data = validated(LoginSerializer, request)
        with login_refusals():
            sid, pair = services.log_in(
                username=data["username"],
                password=data["password"],
                address=client_address(request),
                user_agent=request.META.get("HTTP_USER_AGENT", ""),
                end_others=data["endOthers"],
            )
        return uncached({**_pair(pair), "sid": str(sid)})


class RefreshView(AnonymousView):
    """Rotate the tokens."""

    @extend_schema(
        summary="Rotate the tokens of a session",
        request=RefreshSerializer,
        responses={
            200: TokenPairSerializer,
            (401, CONTENT_TYPE): OpenApiResponse(
                OpenApiTypes.OBJECT, "Expired, used before, or its session has ended."
            ),
        },
        auth=[],
        tags=["auth"],
        examples=[
            OpenApiExample("refresh", {"refresh": "eyJ…"}, request_only=True),
            OpenApiExample("a new pair", _PAIR, response_only=True, status_codes=["200"]),
        ],
    )
    def post(self, request: Request) -> Response:
        """A new pair; the old refresh token is spent, and ends the session if it comes again."""
        data = validated(RefreshSerializer, request)
        try:
            pair = services.refresh(data["refresh"])
        except services.SessionOver:
            raise AuthenticationFailed("The refresh token is no longer good.") from None
        return uncached(_pair(pair))


class LogoutView(APIView):
    """Log out."""

    @extend_schema(
        summary="Log out: end this session, or all of them",
        request=LogoutSerializer,
        responses={204: None},
        tags=["auth"],
        examples=[OpenApiExample("everywhere", {"everywhere": True}, request_only=True)],
    )
    def post(self, request: Request) -> Response:
        """Persists the canvas, then ends the session: the next request with it gets 401."""
        everywhere = validated(LogoutSerializer, request)["everywhere"]
        if everywhere:
            services.end_all_sessions(caller(request).pk)
        else:
            services.end_session(caller(request).pk, caller(request).sid)
        return Response(status=status.HTTP_204_NO_CONTENT)


class PasswordView(APIView):
    """The caller's own password."""

    @extend_schema(
        summary="Change your password, which ends all your sessions",
        request=PasswordSerializer,
        responses={204: None},
        tags=["auth"],
        examples=[
            OpenApiExample(
                "change", {"currentPassword": "…", "newPassword": "…"}, request_only=True
            )
        ],
    )
    def post(self, request: Request) -> Response:
        """This session, too: log in with the new one. Attempts are limited (429) as logins are."""
        data = validated(PasswordSerializer, request)
        try:
            services.change_password(
                caller(request).pk,
                current=data["currentPassword"],
                new=data["newPassword"],
                address=client_address(request),
            )
        except services.SessionOver:
            raise AuthenticationFailed("The session has ended.") from None
        except credentials.WrongCredentials:
            raise ValidationError({"currentPassword": "This is not your password."}) from None
        except credentials.TooManyLogins as refused:
            raise TooManyAttempts(refused.retry_after_seconds) from None
        except WeakPassword as weak:
            raise ValidationError({"newPassword": weak.messages}) from None
        return Response(status=status.HTTP_204_NO_CONTENT)


class SessionsView(APIView):
    """The caller's own sessions."""

    @extend_schema(
        summary="List your live sessions",
        responses={200: SessionListSerializer},
        tags=["auth"],
        examples=[
            OpenApiExample(
                "one session",
                {
                    "sessions": [
                        {
                            "sid": _SID,
                            "createdAt": "2026-11-24T10:00:00.000000Z",
                            "lastSeenAt": "2026-11-24T10:00:00.000000Z",
                            "expiresAt": "2026-12-01T10:00:00.000000Z",
                            "userAgent": "curl/8",
                            "address": "192.0.2.0/24",
                            "current": True,
                        }
                    ]
                },
                response_only=True,
            )
        ],
    )
    def get(self, request: Request) -> Response:
        """Newest first."""
        sessions = list(selectors.sessions_of(caller(request).pk))
        listed = [_listed(session, caller(request).sid) for session in sessions]
        return Response({"sessions": listed})


class SessionView(APIView):
    """One of the caller's own sessions."""

    @extend_schema(summary="End one of your sessions", responses={204: None}, tags=["auth"])
    def delete(self, request: Request, sid: UUID) -> Response:
        """404 for a session that is not the caller's, or has ended: nothing is touched then."""
        if not services.end_session(caller(request).pk, sid, Session.EndReason.ENDED):
            raise NotFound("You have no such live session.")
        return Response(status=status.HTTP_204_NO_CONTENT)


@contextmanager
def login_refusals() -> Iterator[None]:
    """What a login is refused for, as what a client is told."""
    try:
        yield
    except credentials.WrongCredentials:
        raise AuthenticationFailed("No active user has this name and password.") from None
    except credentials.TooManyLogins as refused:
        raise TooManyAttempts(refused.retry_after_seconds) from None
    except services.TooManySessions as refused:
        raise TooManySessions(refused.retry_after_seconds) from None


def validated(serializer_class: type[Any], request: Request) -> dict[str, Any]:
    """The members of the body; raises `ValidationError`."""
    serializer = serializer_class(data=request.data)
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


def _pair(pair: TokenPair) -> dict[str, Any]:
    return {"access": pair.access, "refresh": pair.refresh, "expiresAt": pair.expires_at}


def _listed(session: Session, current_sid: str) -> dict[str, Any]:
    shown = dict(SessionSerializer(session).data)
    return shown | {"current": str(session.sid) == current_sid}


def uncached(data: dict[str, Any]) -> Response:
    """Tokens are not for anybody's cache (RFC 6749, 5.1)."""
    return Response(data, headers={"Cache-Control": "no-store"})
