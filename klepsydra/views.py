"""KLEPSYDRA's endpoints."""

from typing import Any, Never

import msgspec
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import AuthenticationFailed, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from aevon.api import idempotency
from aevon.api.callers import caller
from aevon.api.exceptions import UnprocessableIdempotency
from klepsydra import examples, services
from klepsydra.disclosure import disclosed
from klepsydra.engine import StakeOutOfRange
from klepsydra.instruments import UnknownInstrument
from klepsydra.serializers import (
    AnswerSerializer,
    InstrumentListSerializer,
    InteractionSerializer,
    PsycheSerializer,
)


class PlayerView(APIView):
    """A door for players: a user who was deleted since the token was checked gets 401."""

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, services.NoSuchUser):
            exc = AuthenticationFailed("The session has ended.")
        return super().handle_exception(exc)


class PsycheView(PlayerView):
    """The caller's PsycheState."""

    @extend_schema(
        summary="Your PsycheState",
        responses={200: PsycheSerializer},
        tags=["klepsydra"],
        examples=[examples.PSYCHE],
    )
    def get(self, request: Request) -> Response:
        """From the cache; a user's first request makes it."""
        return Response(msgspec.to_builtins(services.psyche(caller(request).pk)))


class InstrumentsView(PlayerView):
    """What can be played."""

    @extend_schema(
        summary="The Folly Instruments with their disclosed odds",
        responses={200: InstrumentListSerializer},
        tags=["klepsydra"],
        examples=[examples.INSTRUMENTS],
    )
    def get(self, request: Request) -> Response:
        """Every table that can decide your next play: now, at crest and trough, and out of pity."""
        return Response(disclosed(services.psyche(caller(request).pk)))


class InteractionsView(PlayerView):
    """Play."""

    @extend_schema(
        summary="Play once",
        request=InteractionSerializer,
        parameters=idempotency.PARAMETERS,
        responses={200: AnswerSerializer, **idempotency.RESPONSES},
        tags=["klepsydra"],
        examples=[examples.INTERACTION, examples.PLAYED, examples.RESTED],
    )
    def post(self, request: Request) -> Response:
        """Raises your PsycheState's version by one and records the outcome.

        A throttled player rests: 200 with `kind` "rested", no stake taken.
        """
        serializer = InteractionSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        played = _play(request, **serializer.validated_data)
        headers = idempotency.headers(replayed=played.replayed)
        return Response(msgspec.to_builtins(played.answer), headers=headers)


def _play(request: Request, *, instrument: str, stake: int) -> services.Played:
    key = idempotency.key_of(request)
    try:
        return services.play(caller(request).pk, instrument, stake, idempotency_key=key)
    except UnknownInstrument as refusal:
        _refuse("instrument", refusal, "unknown_instrument")
    except StakeOutOfRange as refusal:
        _refuse("stake", refusal, "out_of_range")
    except services.KeyReused:
        raise UnprocessableIdempotency from None


def _refuse(field: str, reason: Any, code: str) -> Never:
    raise ValidationError({field: [str(reason)]}, code=code) from None
