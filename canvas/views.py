"""The canvas endpoint."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import status
from rest_framework.exceptions import ErrorDetail, NotFound, ParseError, ValidationError
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from aevon.api.callers import caller
from aevon.api.exceptions import PreconditionFailed, ServiceUnavailable
from aevon.api.parsers import MergePatchParser, StrictJSONParser
from aevon.api.problems import CONTENT_TYPE
from canvas import preconditions, services
from canvas.documents import CanvasDocument, public
from canvas.layout import Change, Problem
from canvas.models import Canvas
from canvas.serializers import CanvasSerializer, LayoutPatchSerializer, LayoutSerializer

_LAYOUT: Final[dict[str, Any]] = {
    "microApps": {
        "notes": {
            "type": "note",
            "title": "Notes",
            "position": {"x": 40, "y": 40},
            "size": {"width": 360, "height": 240},
            "zIndex": 1,
        }
    }
}
_CANVAS: Final = {
    "userId": 7,
    "layout": _LAYOUT,
    "revision": 42,
    "updatedAt": "2026-11-24T10:00:00.000000Z",
    "persistedRevision": 40,
    "persistedAt": "2026-11-24T09:57:00.000000Z",
}
_SHOWN: Final = OpenApiExample("a canvas", _CANVAS, response_only=True)
_ETAG: Final = OpenApiParameter(
    "ETag", str, OpenApiParameter.HEADER, response=True, description="The revision, in quotes."
)
_IF_MATCH: Final = OpenApiParameter(
    "If-Match",
    preconditions.SCHEMA,
    OpenApiParameter.HEADER,
    description='Change only this revision, for example `"42"`; otherwise 412. Without it, '
    "changes of different micro-apps at the same time all survive.",
)
_IF_NONE_MATCH: Final = OpenApiParameter(
    "If-None-Match",
    preconditions.SCHEMA,
    OpenApiParameter.HEADER,
    description='304 and no body while the revision is this one, for example `"42"`.',
)
# What a conditional GET must tell although its layout is as before.
_PERSISTED: Final = [
    OpenApiParameter(
        "Aevon-Persisted-Revision",
        int,
        OpenApiParameter.HEADER,
        response=[200, 304],
        description="`persistedRevision`.",
    ),
    OpenApiParameter(
        "Aevon-Persisted-At",
        OpenApiTypes.DATETIME,
        OpenApiParameter.HEADER,
        response=[200, 304],
        description="`persistedAt`; absent while nothing has been persisted.",
    ),
    OpenApiParameter(
        "Cache-Status",
        str,
        OpenApiParameter.HEADER,
        response=True,
        description="RFC 9211. `Aevon; hit`: the live layout. `Aevon; fwd=bypass; detail=away`: "
        "the cache is away, the layout is PostgreSQL's; a change follows to the live one.",
    ),
]
_MISMATCH: Final = OpenApiResponse(
    OpenApiTypes.OBJECT, "If-Match names another revision; `ETag` and `revision` tell the current."
)


class CanvasView(APIView):
    """The caller's live layout."""

    def get_parsers(self) -> list[BaseParser]:
        """A merge patch can be nothing but PATCHed."""
        patching = self.request is not None and self.request.method == "PATCH"
        return [StrictJSONParser(), MergePatchParser()] if patching else [StrictJSONParser()]

    @extend_schema(
        summary="Read the live layout",
        parameters=[_IF_NONE_MATCH, _ETAG, *_PERSISTED],
        responses={200: CanvasSerializer, 304: None},
        tags=["canvas"],
        examples=[_SHOWN],
    )
    def get(self, request: Request) -> Response:
        """With the revision as `ETag`. The empty layout of revision 0 before the first change."""
        document = services.live(caller(request).pk)
        header = request.headers.get("If-None-Match")
        unchanged = preconditions.names(header, str(document.revision))
        # While the cache is away the row may count as the live layout did, and be another one.
        if unchanged and document.incarnation is not None:
            return Response(status=status.HTTP_304_NOT_MODIFIED, headers=_headers(document))
        return _answer(document)

    @extend_schema(
        summary="Replace the layout",
        parameters=[_IF_MATCH, _ETAG, *_PERSISTED],
        request=LayoutSerializer,
        responses={200: CanvasSerializer, (412, CONTENT_TYPE): _MISMATCH},
        tags=["canvas"],
        examples=[_SHOWN, OpenApiExample("one window", _LAYOUT, request_only=True)],
    )
    def put(self, request: Request) -> Response:
        """The body is the whole new layout."""
        return _change(request, {"replace": _body(request)})

    @extend_schema(
        summary="Change the layout by a merge patch",
        parameters=[_IF_MATCH, _ETAG, *_PERSISTED],
        request={
            "application/merge-patch+json": LayoutPatchSerializer,
            "application/json": LayoutPatchSerializer,
        },
        responses={200: CanvasSerializer, (412, CONTENT_TYPE): _MISMATCH},
        tags=["canvas"],
        examples=[
            _SHOWN,
            *(
                OpenApiExample(
                    "drag one window and close another",
                    {"microApps": {"notes": {"position": {"x": 80, "y": 60}}, "ledger": None}},
                    request_only=True,
                    media_type=media_type,
                )
                for media_type in ("application/merge-patch+json", "application/json")
            ),
        ],
    )
    def patch(self, request: Request) -> Response:
        """JSON Merge Patch (RFC 7396) of the layout, applied atomically."""
        return _change(request, {"patch": _body(request)})


def _body(request: Request) -> dict[str, Any]:
    """The parser takes nothing but an object; REST framework does not ask it about no body."""
    if not int(request.META.get("CONTENT_LENGTH") or 0):
        raise ParseError("The body is empty; it must be a JSON object.", code="empty_body")
    body: Any = request.data
    return dict(body)


def _change(request: Request, change: Change) -> Response:
    if_match = preconditions.strong(request.headers.get("If-Match"))
    with _refusals():
        return _answer(services.change(caller(request).pk, change, if_match=if_match))


@contextmanager
def _refusals() -> Iterator[None]:
    """What a service refuses, as what a client is told."""
    try:
        yield
    except services.RevisionMismatch as mismatch:
        raise PreconditionFailed("revision", mismatch.current) from None
    except services.InvalidLayout as invalid:
        raise ValidationError(_by_field(invalid.problems)) from None
    except services.Contended:
        raise ServiceUnavailable("Too many changes at once. Try again.") from None
    except Canvas.DoesNotExist:
        raise NotFound("The user does not exist any more.") from None


def _by_field(problems: list[Problem]) -> dict[str, list[ErrorDetail]]:
    errors: dict[str, list[ErrorDetail]] = {}
    for each in problems:
        errors.setdefault(each.field, []).append(ErrorDetail(each.detail, code=each.code))
    return errors


def _answer(document: CanvasDocument) -> Response:
    return Response(public(document), headers=_headers(document))


def _headers(document: CanvasDocument) -> dict[str, str]:
    live = document.incarnation is not None
    headers = {
        "ETag": f'"{document.revision}"',
        "Cache-Control": "private, no-cache",
        "Cache-Status": "Aevon; hit" if live else "Aevon; fwd=bypass; detail=away",
        "Aevon-Persisted-Revision": str(document.persisted_revision),
    }
    if document.persisted_at is not None:
        headers["Aevon-Persisted-At"] = document.persisted_at
    return headers
