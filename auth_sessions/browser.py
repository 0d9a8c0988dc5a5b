"""The page's sessions: the access token in its memory, the refresh token in a cookie that no
script can read."""

from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import status
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response

from aevon.api.problems import CONTENT_TYPE
from auth_sessions import services
from auth_sessions.addresses import client_address
from auth_sessions.serializers import BrowserSessionSerializer, LoginSerializer
from auth_sessions.services import BrowserSession
from auth_sessions.tokens import REFRESH_LIFETIME
from auth_sessions.views import AnonymousView, login_refusals, validated

COOKIE: Final[str] = settings.AUTH_REFRESH_COOKIE_NAME
PATH: Final = "/api/v1/auth/browser/"

_HEADER: Final = OpenApiParameter(
    "X-Aevon-Page",
    str,
    OpenApiParameter.HEADER,
    required=True,
    enum=["1"],
    description="No form and no other site can send it.",
)
_COOKIE: Final = OpenApiParameter(
    COOKIE, str, OpenApiParameter.COOKIE, description="The refresh token; no script can read it."
)
_SET_COOKIE: Final = OpenApiParameter(
    "Set-Cookie", str, OpenApiParameter.HEADER, response=True, description=f"`{COOKIE}`."
)
_SHOWN: Final = OpenApiExample(
    "a session",
    {
        "access": "eyJ…",
        "sid": "0d5ce2a4-2d0c-4a43-a2a9-5ac7d1d53c0c",
        "expiresAt": 1_795_000_000,
        "userId": 7,
        "username": "demo",
        "sovereigntyClass": "INITIATE",
    },
    response_only=True,
    status_codes=["200"],
)
_PROBLEM: Final = OpenApiTypes.OBJECT
_ELSEWHERE: Final = {
    (403, CONTENT_TYPE): OpenApiResponse(_PROBLEM, "The request does not come from the page.")
}


class FromThePage(BasePermission):
    """Lets in what this site's own page sends, so that no other can use the cookie, or change it.

    `X-Aevon-Page` is what a form cannot send, nor a script of another origin without a CORS
    preflight, which nobody answers. Browsers add the other two, and scripts cannot change them.
    """

    message = "Only this site's own page may ask for this."

    def has_permission(self, request: Request, view: Any) -> bool:  # noqa: ARG002  DRF's signature
        """By its headers; those that a browser does not send are not missed."""
        headers = request.headers
        return (
            headers.get("X-Aevon-Page") == "1"
            and headers.get("Sec-Fetch-Site", "same-origin") == "same-origin"
            and _is_of(request, headers.get("Origin"))
        )


def _is_of(request: HttpRequest | Request, origin: str | None) -> bool:
    """Whether the origin is this host, and as safe as the request; "null", anybody's, is not."""
    if origin is None:
        return True
    scheme, _, host = origin.lower().partition("://")
    # Behind a proxy that is not trusted, a request that came over TLS does not look it.
    return host == request.get_host().lower() and (scheme == "https" or not request.is_secure())


class PageView(AnonymousView):
    """A door for the page alone; nobody keeps its answers (RFC 6749, 5.1)."""

    permission_classes = (FromThePage,)

    def finalize_response(self, *args: Any, **kwargs: Any) -> Any:
        """Refusals included."""
        response = super().finalize_response(*args, **kwargs)
        response["Cache-Control"] = "no-store"
        return response


class BrowserView(PageView):
    """Log in and out in a browser."""

    @extend_schema(
        summary="Log in on the page: open a session kept by a cookie",
        parameters=[_HEADER, _SET_COOKIE],
        request=LoginSerializer,
        responses={
            200: BrowserSessionSerializer,
            (401, CONTENT_TYPE): OpenApiResponse(
                _PROBLEM, "No active user has this name and password."
            ),
            **_ELSEWHERE,
        },
        auth=[],
        tags=["auth"],
        examples=[
            OpenApiExample("demo", {"username": "demo", "password": "…"}, request_only=True),
            _SHOWN,
        ],
    )
    def post(self, request: Request) -> Response:
        """As `token/`; the refresh token is in the cookie. The session of its last cookie ends."""
        data = validated(LoginSerializer, request)
        with login_refusals():
            session = services.log_in_browser(
                username=data["username"],
                password=data["password"],
                address=client_address(request),
                user_agent=request.META.get("HTTP_USER_AGENT", ""),
                held=_held(request),
                end_others=data["endOthers"],
            )
        return _answer(session)

    @extend_schema(
        summary="Log out on the page: end the session of its cookie",
        parameters=[_HEADER, _COOKIE, _SET_COOKIE],
        responses={204: None, **_ELSEWHERE},
        auth=[],
        tags=["auth"],
    )
    def delete(self, request: Request) -> Response:
        """Persists the canvas, then ends the session. 204, too, when there was none."""
        services.end_session_of_token(_held(request))
        return _forget(Response(status=status.HTTP_204_NO_CONTENT))


class BrowserAccessView(PageView):
    """A new access token."""

    @extend_schema(
        summary="Get a new access token for the session of the page's cookie",
        parameters=[_HEADER, _COOKIE, _SET_COOKIE],
        request=None,
        responses={
            200: BrowserSessionSerializer,
            (401, CONTENT_TYPE): OpenApiResponse(
                _PROBLEM, "No live session has this cookie, which is removed."
            ),
            **_ELSEWHERE,
        },
        auth=[],
        tags=["auth"],
        examples=[_SHOWN],
    )
    def post(self, request: Request) -> Response:
        """Spends nothing: two tabs may ask at once, and a page that is reloaded asks again."""
        try:
            return _answer(services.renew_access(_held(request)))
        except services.SessionOver:
            raise AuthenticationFailed("There is no session. Log in.") from None

    def finalize_response(self, *args: Any, **kwargs: Any) -> Any:
        """The cookie of a session that is over goes."""
        response = super().finalize_response(*args, **kwargs)
        over = response.status_code == status.HTTP_401_UNAUTHORIZED
        return _forget(response) if over else response


def _held(request: Request) -> str:
    return request.COOKIES.get(COOKIE, "")


def _answer(session: BrowserSession) -> Response:
    response = Response(
        {
            "access": session.access,
            "sid": str(session.sid),
            "expiresAt": session.expires_at,
            "userId": session.user.pk,
            "username": session.user.username,
            "sovereigntyClass": session.user.sovereignty_class,
        }
    )
    if session.refresh is not None:
        _set_cookie(response, session.refresh, REFRESH_LIFETIME)
    return response


def _forget(response: Response) -> Response:
    _set_cookie(response, "", timedelta(0))
    return response


def _set_cookie(response: Response, value: str, lifetime: timedelta) -> None:
    response.set_cookie(
        COOKIE,
        value,
        max_age=lifetime,
        path=PATH,
        httponly=True,
        secure=settings.AUTH_REFRESH_COOKIE_SECURE,
        samesite="Strict",
    )
