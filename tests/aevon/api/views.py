"""A small API, its pages beside it, and their urlconf: `pytest.mark.urls(__name__)`."""

from collections.abc import Callable
from typing import Any

import psycopg
import psycopg_pool
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView
from rest_framework import serializers
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated, Throttled
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from aevon.api.exceptions import (
    BodyTooLarge,
    PreconditionFailed,
    ServiceUnavailable,
    TooManyAttempts,
    UnprocessableIdempotency,
)
from aevon.api.parsers import MergePatchParser, StrictJSONParser
from aevon.api.serializers import StrictIntegerField, StrictSerializer
from aevon.cache import CacheUnavailable

SECRET = "host=10.0.0.7 password=hunter2"  # what a driver may put into its message
MISTAKES = {"layout": {"microApps": {"a": {"position": {"x": ["Too far."]}}}}}
RAISED: dict[str, Callable[[], Exception]] = {
    "database": lambda: OperationalError(SECRET),
    "interface": lambda: InterfaceError(SECRET),
    "psycopg": lambda: psycopg.OperationalError(SECRET),
    "pool": lambda: psycopg_pool.PoolTimeout(SECRET),
    "cache": lambda: CacheUnavailable(SECRET),
    "bug": lambda: RuntimeError(SECRET),
    "missing": Http404,
    "denied": PermissionDenied,
    "suspicious": lambda: SuspiciousOperation(SECRET),
    "too-big": RequestDataTooBig,
    "precondition": lambda: PreconditionFailed("revision", 7),
    "body": lambda: BodyTooLarge(262_144),
    "idempotency": UnprocessableIdempotency,
    "attempts": lambda: TooManyAttempts(12.01),
    "throttled": lambda: Throttled(wait=3),
    "unavailable": lambda: ServiceUnavailable(wait=2.5),
    "nested": lambda: serializers.ValidationError(MISTAKES),
    "whole": lambda: serializers.ValidationError({"non_field_errors": ["No."]}),
    "many": lambda: serializers.ValidationError({f"m{n}": ["No."] for n in range(1000)}),
    "no-token": NotAuthenticated,
    "jwt": lambda: AuthenticationFailed({"detail": "Expired.", "code": "token_not_valid"}),
}


class Bearer(BaseAuthentication):
    """Lets nobody in."""

    def authenticate(self, request: Request) -> None:
        return None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="api"'


class BearerScheme(OpenApiAuthenticationExtension):
    """How the schema describes `Bearer`."""

    target_class = Bearer
    name = "testBearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}


class OpenView(APIView):
    authentication_classes = []
    permission_classes = []
    parser_classes = [StrictJSONParser, MergePatchParser]


class StakeSerializer(StrictSerializer):
    stake = StrictIntegerField(min_value=1)
    version = StrictIntegerField(read_only=True)


@extend_schema(request=StakeSerializer, responses=StakeSerializer)
class EchoView(OpenView):
    def get(self, request: Request) -> Response:
        return Response({})

    def delete(self, request: Request) -> Response:
        return Response(status=204)

    def post(self, request: Request) -> Response:
        return Response(request.data)

    patch = post


@extend_schema(request=StakeSerializer, responses=StakeSerializer)
class StakeView(OpenView):
    def post(self, request: Request) -> Response:
        stake = StakeSerializer(data=request.data)
        stake.is_valid(raise_exception=True)
        return Response(stake.validated_data)


@extend_schema(request=None, responses={204: None})
class RaiseView(OpenView):
    authentication_classes = [Bearer]

    def get(self, request: Request, name: str) -> Response:
        failure = RAISED[name]()
        raise failure


@extend_schema(request=None, responses={204: None})
class PrivateView(OpenView):
    authentication_classes = [Bearer]
    permission_classes = [IsAuthenticated]

    def get(self, request: Request) -> Response:
        return Response({})


def raises(request: HttpRequest, name: str) -> HttpResponse:
    """A view that is not REST framework's."""
    failure = RAISED[name]()
    raise failure


@require_GET
def only_get(request: HttpRequest) -> HttpResponse:
    return HttpResponse("fine")


@csrf_exempt
def own_error(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"mine": True}, status=409)


def middleware_loses_database(get_response: Any) -> Any:
    """A middleware that finds the database away, as the session middleware may."""

    def middleware(request: HttpRequest) -> HttpResponse:
        raise OperationalError(SECRET)

    return middleware


urlpatterns = [
    path("api/echo/", EchoView.as_view()),
    path("api/stake/", StakeView.as_view()),
    path("api/private/", PrivateView.as_view()),
    path("api/raise/<str:name>/", RaiseView.as_view()),
    path("api/plain/<str:name>/", raises),
    path("api/only-get/", only_get),
    path("api/own-error/", own_error),
    path(
        "api/schema/",
        SpectacularAPIView.as_view(authentication_classes=[], permission_classes=[]),
        name="schema",
    ),
    path("page/<str:name>/", raises),
]
handler400 = "aevon.api.problems.bad_request"
handler403 = "aevon.api.problems.permission_denied"
handler404 = "aevon.api.problems.not_found"
handler500 = "aevon.api.problems.server_error"
