"""The endpoint of notes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import status
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from aevon.api.callers import caller
from aevon.api.exceptions import PreconditionFailed
from aevon.api.problems import CONTENT_TYPE
from canvas import layout, notes, preconditions
from canvas.models import Note
from canvas.serializers import NoteSerializer

_SHOWN: Final = OpenApiExample(
    "a note",
    {"text": "Buy glass.", "version": 3, "updatedAt": "2026-11-24T10:00:00.000000Z"},
    response_only=True,
)
_APP_ID: Final = OpenApiParameter(
    "appId", str, OpenApiParameter.PATH, description=f"The micro-app. {layout.ID_RULE}"
)
_ETAG: Final = OpenApiParameter(
    "ETag", str, OpenApiParameter.HEADER, response=True, description="The version, in quotes."
)
_IF_MATCH: Final = OpenApiParameter(
    "If-Match",
    preconditions.SCHEMA,
    OpenApiParameter.HEADER,
    description='Replace only this version, for example `"3"`, or `"0"` for a note that was '
    "never written; otherwise 412. Without it, the last writer wins.",
)
_IF_NONE_MATCH: Final = OpenApiParameter(
    "If-None-Match",
    preconditions.SCHEMA,
    OpenApiParameter.HEADER,
    description='304 and no body while the version is this one, for example `"3"`.',
)
_MISMATCH: Final = OpenApiResponse(
    OpenApiTypes.OBJECT, "If-Match names another version; `ETag` and `version` tell the current."
)


class NoteView(APIView):
    """The text that the caller keeps in a micro-app."""

    @extend_schema(
        summary="Read a note",
        parameters=[_APP_ID, _IF_NONE_MATCH, _ETAG],
        responses={200: NoteSerializer, 304: None},
        tags=["canvas"],
        examples=[_SHOWN],
    )
    def get(self, request: Request, appId: str) -> Response:  # noqa: N803  a name of the API
        """With the version as `ETag`. The empty text of version 0 before it is first written."""
        note = notes.read(caller(request).pk, _checked(appId))
        if preconditions.names(request.headers.get("If-None-Match"), str(note.version)):
            return Response(status=status.HTTP_304_NOT_MODIFIED, headers=_headers(note))
        return _answer(note)

    @extend_schema(
        summary="Write a note",
        parameters=[_APP_ID, _IF_MATCH, _ETAG],
        request=NoteSerializer,
        responses={200: NoteSerializer, (412, CONTENT_TYPE): _MISMATCH},
        tags=["canvas"],
        examples=[_SHOWN, OpenApiExample("a text", {"text": "Buy glass."}, request_only=True)],
    )
    def put(self, request: Request, appId: str) -> Response:  # noqa: N803  a name of the API
        """The body holds the whole new text. A user has at most 500 notes."""
        app_id = _checked(appId)
        body = NoteSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        if_match = preconditions.strong(request.headers.get("If-Match"))
        with _refusals():
            text = body.validated_data["text"]
            return _answer(notes.write(caller(request).pk, app_id, text, if_match=if_match))


def _checked(app_id: str) -> str:
    """The id of a micro-app; a path with anything else leads nowhere."""
    if not layout.ID.fullmatch(app_id):
        raise NotFound(f"There is no such micro-app. {layout.ID_RULE}")
    return app_id


@contextmanager
def _refusals() -> Iterator[None]:
    """What the service refuses, as what a client is told."""
    try:
        yield
    except notes.VersionMismatch as mismatch:
        raise PreconditionFailed("version", mismatch.current) from None
    except notes.TooManyNotes:
        detail = f"A user has at most {notes.NOTES_MAX} notes."
        raise ValidationError({"appId": [detail]}, code="too_many") from None
    except notes.NoSuchUser:
        raise NotFound("The user does not exist any more.") from None


def _answer(note: Note) -> Response:
    shown: dict[str, Any] = NoteSerializer(note).data
    return Response(shown, headers=_headers(note))


def _headers(note: Note) -> dict[str, str]:
    return {"ETag": f'"{note.version}"', "Cache-Control": "private, no-cache"}
