"""`Idempotency-Key`: a request that is sent again gets its first answer (IETF draft
draft-ietf-httpapi-idempotency-key-header).
"""

import re
from typing import Any, Final

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
KEY_MAX: Final = 200
_KEY: Final = re.compile(rf"[!-~]{{1,{KEY_MAX}}}")

PARAMETERS: Final = [
    OpenApiParameter(
        HEADER,
        {"type": "string", "pattern": f"^{_KEY.pattern}$"},
        OpenApiParameter.HEADER,
        description="A retry with the same key gets the first answer, and nothing is done again; "
        "with another request, 422.",
    ),
    OpenApiParameter(
        REPLAYED,
        {"type": "string", "enum": ["true"]},
        OpenApiParameter.HEADER,
        description="Present when this is the first answer to the same Idempotency-Key.",
        response=[200],
    ),
]
# Of an operation that takes one, beside its answers of success.
RESPONSES: Final[dict[Any, Any]] = {
    (422, "application/problem+json"): OpenApiResponse(
        OpenApiTypes.OBJECT, "The Idempotency-Key came before, with another request."
    )
}


def key_of(request: Request) -> str | None:
    """The request's key, None without one. Raises `ValidationError` naming the header."""
    key: str | None = request.headers.get(HEADER)
    if key is not None and not _KEY.fullmatch(key):
        detail = f"1 to {KEY_MAX} visible ASCII characters."
        raise ValidationError({HEADER: [detail]}, code="invalid")
    return key


def headers(*, replayed: bool) -> dict[str, Any]:
    """The answer's headers."""
    return {REPLAYED: "true"} if replayed else {}
