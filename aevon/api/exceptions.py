"""What a service raises so that the client gets a precise RFC 9457 problem.

A module of its own: REST framework imports parsers and authentication while it is itself still
being imported, and `aevon.api.problems` needs all of it.
"""

import math
from typing import Any

from rest_framework.exceptions import APIException


class Problem(APIException):
    """An error with extension `members` (RFC 9457, 3.2) and response `headers` of its own."""

    members: dict[str, Any]
    headers: dict[str, str]

    def __init__(
        self,
        detail: str | None = None,
        code: str | None = None,
        *,
        members: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail, code)
        self.members = members or {}
        self.headers = headers or {}


class PreconditionFailed(Problem):
    """412: `If-Match` names another state; tells the current one in `ETag` and in the member that
    numbers the states of this kind, `revision` or `version`."""

    status_code = 412
    default_code = "precondition_failed"

    def __init__(self, member: str, number: int) -> None:
        super().__init__(
            f"If-Match does not name the current {member}, which is {number}.",
            members={member: number},
            headers={"ETag": f'"{number}"'},
        )


class BodyTooLarge(Problem):
    """413: the body holds more than `limit` bytes."""

    status_code = 413
    default_code = "body_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body may not exceed {limit} bytes.", members={"limit": limit})


class UnprocessableIdempotency(Problem):
    """422: an `Idempotency-Key` came again with another request."""

    status_code = 422
    default_code = "idempotency_key_reused"
    default_detail = "This Idempotency-Key was used with a different request."


class TooManyAttempts(Problem):
    """429: `wait` seconds until the next attempt, as whole seconds in `Retry-After`."""

    status_code = 429
    default_code = "too_many_attempts"

    def __init__(self, wait: float) -> None:
        seconds = whole_seconds(wait)
        super().__init__(
            f"Too many attempts. Try again in {seconds} s.",
            headers={"Retry-After": str(seconds)},
        )


class TooManySessions(Problem):
    """429: the user has as many live sessions as may be; `wait` seconds until the first ends."""

    status_code = 429
    default_code = "too_many_sessions"

    def __init__(self, wait: float) -> None:
        seconds = whole_seconds(wait)
        super().__init__(
            'You have too many live sessions. End one, end all with "endOthers" at the login, or'
            f" try again in {seconds} s.",
            headers={"Retry-After": str(seconds)},
        )


class InternalError(Problem):
    """500: nobody foresaw this; the log has the traceback, the client has no detail."""

    status_code = 500
    default_code = "internal_error"
    default_detail = "The server failed. The failure has been logged."


class ServiceUnavailable(Problem):
    """503: something the server needs is away; `Retry-After` in whole seconds."""

    status_code = 503
    default_code = "service_unavailable"
    default_detail = "The service cannot answer at the moment. Try again."

    def __init__(self, detail: str | None = None, *, wait: float = 1) -> None:
        super().__init__(detail, headers={"Retry-After": str(whole_seconds(wait))})


def whole_seconds(wait: float) -> int:
    """Rounded up and never 0: a client that returns early would only be refused again."""
    return max(1, math.ceil(wait))
