"""One id per request, in its answer and in every record; and one line per request.

A client, or a proxy in front, may give the id (`X-Request-ID`); what is no id is replaced.
"""

import logging
import re
import time
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import structlog
from django.http import HttpRequest, HttpResponseBase

from aevon.telemetry import logs
from aevon.telemetry.redaction import redacted
from aevon.telemetry.routes import PROBES, method, route

HEADER: Final = "X-Request-ID"
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)

access = structlog.stdlib.get_logger("aevon.access")
# Asked first: who drops a line that has been put together has paid for it.
_lines = logging.getLogger("aevon.access")


class RequestIdMiddleware:
    """The outermost: what all others log has the id, and what they answer is told."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """The answer, with its id."""
        began = time.perf_counter()
        request_id = given(request) or str(uuid.uuid4())
        token = logs.know(requestId=request_id)
        try:
            response = self.get_response(request)
            response.headers[HEADER] = request_id
            tell(request, response, time.perf_counter() - began)
        finally:
            logs.forget(token)
        return response


def given(request: HttpRequest) -> str | None:
    """The id that came with the request, if it is one; a token is none, and is told nowhere."""
    text = request.META.get("HTTP_X_REQUEST_ID", "")
    return text if _ID.fullmatch(text) and redacted(text) == text else None


def tell(request: HttpRequest, response: HttpResponseBase, seconds: float) -> None:
    """The line of a request: never its query, a header or anything of a body."""
    probe = request.path_info in PROBES and response.status_code < HTTPStatus.BAD_REQUEST
    level = logging.DEBUG if probe else logging.INFO
    if not _lines.isEnabledFor(level):
        return
    access.log(
        level,
        "request",
        method=method(request),
        route=route(request),
        status=response.status_code,
        durationMs=round(seconds * 1000, 1),
        **_admin(request),
    )


def _admin(request: HttpRequest) -> dict[str, int]:
    """Who is logged in at the admin, where somebody has asked already."""
    user_id = getattr(getattr(request, "_cached_user", None), "pk", None)
    return {"userId": user_id} if user_id else {}
