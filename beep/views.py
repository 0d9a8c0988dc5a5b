"""BEEP's endpoints."""

from typing import Any, Final

import msgspec
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import status
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from aevon.api import idempotency
from aevon.api.callers import caller
from aevon.api.exceptions import UnprocessableIdempotency
from beep import services
from beep.serializers import CommandAnswerSerializer, CommandSerializer, HistorySerializer

_TURN: Final[dict[str, Any]] = {
    "seq": 8,
    "response": 'Understood: close "Notes".\nClosed Notes.',
    "resolved": {
        "intent": "canvas.close",
        "arguments": {"microApps": ["Notes"]},
        "references": [{"phrase": "it", "value": "Notes", "why": "pronoun", "seq": 7}],
        "question": None,
        "candidates": [],
        "takesBack": None,
    },
    "at": "2026-11-24T10:00:00.000000Z",
}


class CommandsView(APIView):
    """Speak to BEEP."""

    @extend_schema(
        summary="Give BEEP a command",
        request=CommandSerializer,
        responses={200: CommandAnswerSerializer, **idempotency.RESPONSES},
        parameters=idempotency.PARAMETERS,
        tags=["beep"],
        examples=[
            OpenApiExample("reference", {"text": "close it"}, request_only=True),
            OpenApiExample("resolved", _TURN, response_only=True),
        ],
    )
    def post(self, request: Request) -> Response:
        """Resolves "it", "that one", "again", "the second one" against the last turns and the live
        canvas, carries the command out and records the turn. What cannot be resolved gets a
        question back, which the next command may answer."""
        key = idempotency.key_of(request)
        serializer = CommandSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        text = serializer.validated_data["text"]
        try:
            answer = services.command(caller(request).pk, text, idempotency_key=key)
        except services.KeyReused:
            raise UnprocessableIdempotency from None
        except services.UserGone:
            raise AuthenticationFailed("The session has ended.") from None
        return _answered(answer)


class HistoryView(APIView):
    """The last turns."""

    @extend_schema(
        summary="The last turns, oldest first",
        responses={200: HistorySerializer},
        tags=["beep"],
        examples=[
            OpenApiExample(
                "one turn",
                {
                    "turns": [
                        {
                            "seq": 7,
                            "command": "open Notes",
                            "response": "Opened Notes.",
                            "at": "2026-11-24T09:59:00.000000Z",
                        }
                    ]
                },
                response_only=True,
            )
        ],
    )
    def get(self, request: Request) -> Response:
        """At most five, from the cache."""
        turns = services.history(caller(request).pk)
        return Response({"turns": msgspec.to_builtins(turns)})

    @extend_schema(summary="Forget all turns", responses={204: None}, tags=["beep"])
    def delete(self, request: Request) -> Response:
        """All of them, not only the last; numbers go on from where they were."""
        services.forget(caller(request).pk)
        return Response(status=status.HTTP_204_NO_CONTENT)


def _answered(answer: services.Answer) -> Response:
    body = {
        "seq": answer.seq,
        "response": answer.response,
        "resolved": answer.resolved,
        "at": answer.at,
    }
    return Response(body, headers=idempotency.headers(replayed=answer.replayed))
