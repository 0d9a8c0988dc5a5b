"""Every error as a problem document (RFC 9457, `application/problem+json`).

Members: `type`, `title`, `status`, `detail`; `errors` for validation errors only, a list of
`{field, code, detail}` whose `field` is the dotted path of the member ("" is the whole body).

`type` is the absolute-path reference `/problems/<code>` (RFC 9457, 3.1.1): a stable name to
compare, not a page. `title` is the HTTP reason phrase of `status`.
"""

import json
import logging
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import psycopg
from django.core.exceptions import PermissionDenied, SuspiciousOperation, TooManyFieldsSent
from django.core.serializers.json import DjangoJSONEncoder
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.views import defaults
from drf_standardized_errors.formatter import ExceptionFormatter
from drf_standardized_errors.handler import ExceptionHandler
from drf_standardized_errors.types import Error, ErrorResponse
from rest_framework.exceptions import (
    APIException,
    NotFound,
    ParseError,
    ValidationError,
)
from rest_framework.exceptions import PermissionDenied as Forbidden
from rest_framework.response import Response

from aevon.api.exceptions import InternalError, ServiceUnavailable, whole_seconds
from aevon.cache import CacheUnavailable
from aevon.telemetry import outages

CONTENT_TYPE = "application/problem+json"
# psycopg_pool's time-outs are psycopg.OperationalErrors; Django wraps them where it can.
DATABASE_AWAY = (OperationalError, InterfaceError, psycopg.OperationalError, psycopg.InterfaceError)
ERRORS_SHOWN = 100
FIELD_SHOWN_CHARACTERS = 200
# http.HTTPStatus renamed these to RFC 9110's phrases in Python 3.13.
TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}

logger = logging.getLogger(__name__)


class ProblemResponse(Response):
    """A problem document that renders itself, whatever renderer the client negotiated."""

    def __init__(
        self, data: dict[str, Any], *, status: int, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(data, status=status, headers=headers, exception=True)
        self["Content-Type"] = CONTENT_TYPE

    @property
    def rendered_content(self) -> str:
        """The document as ASCII JSON."""
        return json.dumps(self.data, cls=DjangoJSONEncoder)


def document(
    status: int, *, code: str | None = None, detail: str | None = None, **members: Any
) -> dict[str, Any]:
    """The problem document for `status`; `code` names its type, extra `members` follow."""
    title = TITLES.get(status) or HTTPStatus(status).phrase
    slug = (code or title).lower().replace("_", "-").replace(" ", "-")
    problem = {"type": f"/problems/{slug}", "title": title, "status": status}
    return members | problem | {"detail": detail or f"{title}."}


class ProblemFormatter(ExceptionFormatter):
    """An exception -> its problem document, with the exception's own `members` if it has any."""

    def format_error_response(self, error_response: ErrorResponse) -> dict[str, Any]:
        """The document; `errors` lists at most `ERRORS_SHOWN`, `detail` tells how many."""
        status = self.exc.status_code
        members = getattr(self.exc, "members", {})
        if isinstance(self.exc, ValidationError):
            errors = [_field_error(error) for error in error_response.errors[:ERRORS_SHOWN]]
            summary = _summary(len(error_response.errors), errors)
            return document(
                status, code="validation_error", detail=summary, errors=errors, **members
            )
        code, detail = _code_and_detail(self.exc.detail)
        return document(status, code=code, detail=detail, **members)


def _field_error(error: Error) -> dict[str, str]:
    path = "" if error.attr is None else str(error.attr)  # an index of a list is a number
    field = ".".join(name for name in path.split(".") if name != "non_field_errors")
    return {
        "field": field[:FIELD_SHOWN_CHARACTERS],
        "code": error.code,
        "detail": error.detail,
    }


def _summary(count: int, errors: list[dict[str, str]]) -> str:
    if count != 1:
        return f"The request has {count} errors."
    only = errors[0]
    return f"{only['field']}: {only['detail']}" if only["field"] else only["detail"]


def _code_and_detail(detail: Any) -> tuple[str | None, str | None]:
    """Code and sentence of an `APIException.detail`.

    simplejwt puts a dict there, `{"detail": …, "code": …}`, others a list.
    """
    if isinstance(detail, dict):
        return str(detail.get("code", "")) or None, str(detail.get("detail", "")) or None
    if isinstance(detail, list):
        detail = detail[0] if detail else None
    return getattr(detail, "code", None), None if detail is None else str(detail)


class ProblemHandler(ExceptionHandler):
    """Answers every exception of a REST framework view with a problem document.

    What the server needs and cannot reach is a 503; what nobody foresaw is a 500 that tells the
    client nothing and the log everything.
    """

    def convert_known_exceptions(self, exc: Exception) -> Exception:
        """`exc` as an `APIException`, where it has a meaning of its own."""
        return known(exc) or exc

    def should_not_handle(self, exc: Exception) -> bool:  # noqa: ARG002 - the base's signature
        """Never: a problem document also in DEBUG, so that clients see one shape only."""
        return False

    def convert_unhandled_exceptions(self, exc: Exception) -> APIException:
        """A 500 that leaks nothing."""
        return exc if isinstance(exc, APIException) else InternalError()

    def get_headers(self, exc: APIException) -> dict[str, str]:
        """`WWW-Authenticate` of a 401, `Retry-After` of a throttle, and the exception's own."""
        headers: dict[str, str] = super().get_headers(exc)
        if wait := getattr(exc, "wait", None):
            headers["Retry-After"] = str(whole_seconds(wait))
        return headers | getattr(exc, "headers", {})

    def get_response(self, exc: APIException, data: dict[str, Any]) -> Response:
        """The document with its headers."""
        return ProblemResponse(data, status=exc.status_code, headers=self.get_headers(exc))

    def report_exception(self, exc: APIException, response: Response) -> None:
        """Log a 5xx once: an outage in one line, a bug with its traceback."""
        if exc.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            request = self.context["request"]
            log_outage(self.exc, response, request._request if request else None)  # noqa: SLF001
        else:
            super().report_exception(exc, response)


_MEANINGS: tuple[tuple[Any, Callable[[], APIException]], ...] = (
    (Http404, NotFound),
    (PermissionDenied, Forbidden),
    (
        TooManyFieldsSent,
        lambda: ParseError("The query has too many parameters.", code="too_many_parameters"),
    ),
    (SuspiciousOperation, lambda: ParseError("The request is malformed.", code="bad_request")),
    (DATABASE_AWAY, lambda: ServiceUnavailable("The database cannot be reached. Try again.")),
    (CacheUnavailable, lambda: ServiceUnavailable("The cache cannot be reached. Try again.")),
)


def known(exc: BaseException | None) -> APIException | None:
    """What `exc` means to a client, or `None` when only a 500 can be said of it."""
    if isinstance(exc, APIException):
        return exc
    for kinds, meaning in _MEANINGS:
        if isinstance(exc, kinds):
            return meaning()
    return None


def log_outage(cause: BaseException, response: HttpResponse, request: HttpRequest | None) -> None:
    """One line without a traceback: an outage fails thousands of requests alike."""
    outage = outages.DRAGONFLY if isinstance(cause, CacheUnavailable) else outages.POSTGRESQL
    logger.warning(
        "Unavailable: %s (%s)",
        request.path if request else "",
        type(cause).__name__,
        extra={"outage": outage, "status_code": response.status_code, "request": request},
    )
    # Django's own note that it need not do so as well.
    response._has_been_logged = True  # type: ignore[attr-defined]  # noqa: SLF001


def is_api(request: HttpRequest) -> bool:
    """Whether `request` is for a program, which reads problem documents, rather than a person."""
    return request.path_info.startswith(("/api/", "/.well-known/"))


def from_exception(exc: APIException) -> ProblemResponse:
    """The rendered response for `exc`, outside REST framework's views."""
    code, detail = _code_and_detail(exc.detail)
    members: dict[str, Any] = getattr(exc, "members", {})
    data = document(exc.status_code, code=code, detail=detail, **members)
    response = ProblemResponse(data, status=exc.status_code, headers=getattr(exc, "headers", None))
    response.render()
    # CommonMiddleware may be further in, and would be too late.
    response["Content-Length"] = str(len(response.content))
    return response


def unavailable(request: HttpRequest, problem: APIException) -> HttpResponse:
    """The 503 for `problem`: a document under `/api/`, a plain page elsewhere (the admin)."""
    if is_api(request):
        return from_exception(problem)
    page = f"<!doctype html><title>Unavailable</title><h1>Unavailable</h1><p>{problem.detail}</p>"
    headers: dict[str, str] = getattr(problem, "headers", {})
    return HttpResponse(page, status=problem.status_code, headers=headers)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """`handler400`: a forged Host, an oversized form and the like."""
    if is_api(request):
        return from_exception(known(exception) or ParseError("The request is malformed."))
    return defaults.bad_request(request, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """`handler403`."""
    if is_api(request):
        return from_exception(Forbidden())
    return defaults.permission_denied(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """`handler404`."""
    if is_api(request):
        return from_exception(NotFound())
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponseBase:
    """`handler500`; a 503 when the exception that Django is handling is an outage.

    Django gives this view no exception. `sys.exc_info` has it, also when a middleware raised it.
    """
    problem = known(sys.exc_info()[1])
    if problem is not None and problem.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
        return unavailable(request, problem)
    if is_api(request):
        return from_exception(InternalError())
    return defaults.server_error(request)
