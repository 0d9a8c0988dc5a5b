"""What goes wrong before, after and beside REST framework's views, as problem documents too."""

from collections.abc import Callable
from http import HTTPStatus
from io import BytesIO
from typing import IO

from django.conf import settings
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpResponse, HttpResponseBase
from rest_framework.exceptions import APIException, ParseError

from aevon.api import problems
from aevon.api.exceptions import BodyTooLarge
from aevon.api.parsers import read_limited

# Enough for a client that is over the limit by mistake to finish sending and read its 413.
DRAINED_MAX_BYTES = 16 * 1024 * 1024
DRAIN_CHUNK_BYTES = 64 * 1024
LENGTH_MAX_DIGITS = 19
BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})
PERMANENT_REDIRECT = HTTPStatus.PERMANENT_REDIRECT


class ProblemMiddleware:
    """Refuses oversized bodies under `/api/` unread, a NUL in another page's query, and gives
    Django's own errors one shape.

    Outages in any view, the admin's included, are a 503 with `Retry-After`.
    """

    def __init__(self, get_response: Callable[[WSGIRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: WSGIRequest) -> HttpResponseBase:
        """The response, or the refusal of the body."""
        if not problems.is_api(request):
            # PostgreSQL's text has no such character, and the admin looks for what it is given.
            if "%00" in request.META.get("QUERY_STRING", ""):
                raise SuspiciousOperation("The query has a NUL character.")
            return self.get_response(request)
        try:
            check_body(request)
        except APIException as refusal:
            drain(request.environ["wsgi.input"], still_coming(request))
            return problems.from_exception(refusal)
        response = as_problem(request, self.get_response(request))
        if not request.META.get("HTTP_EXPECT"):
            # What a view answered without reading, a 401 for example. Left in the connection, the
            # rest of the body would be taken for the next request.
            drain(request._stream, settings.AEVON_MAX_BODY_BYTES)  # noqa: SLF001
        return response

    def process_exception(self, request: WSGIRequest, exception: Exception) -> HttpResponse | None:
        """Outages, and oversized forms, in views that are not REST framework's."""
        if isinstance(exception, RequestDataTooBig) and problems.is_api(request):
            return problems.from_exception(BodyTooLarge(settings.AEVON_MAX_BODY_BYTES))
        problem = problems.known(exception)
        if problem is None or problem.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
            return None
        response = problems.unavailable(request, problem)
        problems.log_outage(exception, response, request)
        return response


def check_body(request: WSGIRequest) -> None:
    """Raise `ParseError` for a malformed Content-Length, or for a chunked body that may be only the
    beginning of one, `BodyTooLarge` for an oversized body."""
    limit: int = settings.AEVON_MAX_BODY_BYTES
    length = request.META.get("CONTENT_LENGTH") or ""
    if not length:
        buffer_chunked(request)
        return
    if not (length.isascii() and length.isdigit()):
        raise ParseError("Content-Length must be a whole number.", code="bad_content_length")
    if (declared_length(request) or 0) > limit:
        raise BodyTooLarge(limit)


def declared_length(request: WSGIRequest) -> int | None:
    """Content-Length in bytes; `None` when it is absent, malformed or absurd."""
    length = request.META.get("CONTENT_LENGTH") or ""
    if not (length.isascii() and length.isdigit()):
        return None
    return int(length[:LENGTH_MAX_DIGITS])


def buffer_chunked(request: WSGIRequest) -> None:
    """Give a chunked body the length that Django and REST framework want to see.

    Both take a missing Content-Length for an empty body. Only a server that marks the end of
    its input (`wsgi.input_terminated`, as granian does) can be read without hanging. It marks it
    where a body breaks off as well. The beginning of a JSON object is none; nothing at all would
    pass for a request without a body, and nobody sends that in chunks. Raises `ParseError`,
    `BodyTooLarge`.
    """
    coding = request.META.get("HTTP_TRANSFER_ENCODING", "").strip().lower()
    if not (coding and request.environ.get("wsgi.input_terminated", False)):
        return
    if coding != "chunked":
        # The server has undone the chunks only: what is left would pass for the body itself.
        raise ParseError("Transfer-Encoding may be nothing but chunked.", code="bad_coding")
    if request.method not in BODY_METHODS:
        return
    body = read_limited(request.environ["wsgi.input"])
    if not body:
        raise ParseError("The chunked body is empty, or broke off.", code="empty_body")
    request.META["CONTENT_LENGTH"] = str(len(body))
    request._stream = BytesIO(body)  # noqa: SLF001 - as WSGIRequest does


def still_coming(request: WSGIRequest) -> int:
    """At most how many bytes the client sends after a refusal."""
    if request.META.get("HTTP_EXPECT"):
        return 0  # it waits for a "100 Continue" (RFC 9110, 10.1.1), which reading would send
    if request.META.get("CONTENT_LENGTH"):
        return declared_length(request) or 0
    return DRAINED_MAX_BYTES  # refused while chunked, so the server marks the end


def drain(stream: IO[bytes], length: int) -> None:
    """Discard what is left of a stream, up to `length` and not more than `DRAINED_MAX_BYTES`.

    Closing at once resets the connection, and the client never reads the answer. A WSGI
    application may not send `Connection: close` (PEP 3333): past the bound the server closes.
    """
    left = min(length, DRAINED_MAX_BYTES)
    try:
        while left > 0 and (chunk := stream.read(min(left, DRAIN_CHUNK_BYTES))):
            left -= len(chunk)
    except OSError:
        return  # the client has gone, and so has the reason to wait


def as_problem(request: WSGIRequest, response: HttpResponseBase) -> HttpResponseBase:
    """`response`, with Django's own error page replaced by a problem document in place.

    In place, so that cookies, headers and the note that it has been logged stay.
    """
    if response.status_code == HTTPStatus.MOVED_PERMANENTLY and request.method in BODY_METHODS:
        # APPEND_SLASH: after a 301 clients turn a POST into a GET (RFC 9110, 15.4.2).
        response.status_code = PERMANENT_REDIRECT
    page = "json" not in response.get("Content-Type", "")
    if (
        response.status_code >= HTTPStatus.BAD_REQUEST
        and page
        and isinstance(response, HttpResponse)
    ):
        document = problems.ProblemResponse(
            problems.document(response.status_code), status=response.status_code
        )
        response.content = document.rendered_content
        response["Content-Type"] = problems.CONTENT_TYPE
        response["Content-Length"] = str(len(response.content))
    return response
