"""A resolver by a language model behind an OpenAI-compatible endpoint. Off by default.

docs/beep.md, "Another resolver", says how it is switched on, and what then leaves the house.

The rules are behind it: whatever goes wrong with the model, they resolve the command. An endpoint
that does not answer is left alone for a while, so that it costs one time-out and not one a command.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Annotated, Final

import httpx
import msgspec
from django.conf import settings
from prometheus_client import Counter

from aevon.deadline import Overdue, started
from beep import context, llm_question, llm_reply
from beep.abilities import PLAY
from beep.llm_reply import Useless
from beep.resolution import WINDOW, Canvas, ResolvedCommand, Resolver, Turn

logger = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 30.0
REQUEST_MAX: Final = 100_000  # bytes: five long turns, and a canvas that somebody could still see
REPLY_MAX: Final = 100_000
# Statuses that say something of one question (malformed, too large), not of the endpoint.
_OF_THIS_QUESTION: Final = (400, 413, 422)

RESOLVED: Final = Counter(
    "aevon_beep_model_total",
    "Commands that a language model was to resolve, by result (resolved, asked; the rules did it: "
    "unsure, timeout, unreachable, refused, unreadable, invalid, long, paused).",
    ["result"],
)


class Pause:
    """After a failure nobody asks for a while; then one does, for all.

    In the memory of the process. `aevon.cache.breaker` repairs before it trusts, in a thread of its
    own; here is nothing to repair, and nobody to ask but with a command.
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._until: float | None = None

    def allows(self) -> bool:
        """Whether this caller may ask; what comes of it is to be told."""
        with self._lock:
            if self._until is None:
                return True
            if self._clock() < self._until:
                return False
            self._until = self._clock() + self._seconds  # the others wait for what this one finds
            return True

    def begin(self) -> None:
        """The endpoint does not answer."""
        with self._lock:
            self._until = self._clock() + self._seconds

    def end(self) -> None:
        """It does."""
        with self._lock:
            self._until = None


class LanguageModel:
    """Asks one endpoint, and the `rules` where that comes to nothing."""

    def __init__(
        self, url: str, model: str, key: str, *, timeout_seconds: float, rules: Resolver
    ) -> None:
        self._url = f"{url.rstrip('/')}/chat/completions"
        self._model = model
        self._seconds = timeout_seconds
        self._rules = rules
        self._new_client = partial(httpx.Client, headers=_headers(key), timeout=timeout_seconds)
        self._client = self._new_client()
        self.pause = Pause(PAUSE_SECONDS)

    def __call__(self, command: str, history: Sequence[Turn], canvas: Canvas) -> ResolvedCommand:
        """What the command means, by the model or else by the rules."""
        recent = history[:WINDOW]
        try:
            resolved = self._resolved(command, recent, canvas)
        except Useless as reason:
            RESOLVED.labels(reason.result).inc()
            # Neither the texts nor the endpoint's words: they are somebody's, and may hold a key.
            level = logging.WARNING if reason.is_away else logging.DEBUG
            logger.log(level, "The rules resolve a command, not the model: %s", reason.result)
            return self._rules(command, recent, canvas)
        RESOLVED.labels("resolved" if resolved.intent else "asked").inc()
        return resolved

    def close(self) -> None:
        """Give back the connections."""
        self._client.close()

    def _resolved(self, command: str, history: Sequence[Turn], canvas: Canvas) -> ResolvedCommand:
        body = llm_question.request(self._model, command, history, canvas)
        if len(body) > REQUEST_MAX:
            raise Useless("long")
        reply = llm_reply.read(_content(self._asked(body)))
        resolved = llm_reply.resolved(reply, command, history, canvas)
        if resolved.intent and resolved.intent.name == PLAY:
            return self._play(resolved, command, history, canvas)
        return resolved

    def _play(
        self, play: ResolvedCommand, command: str, history: Sequence[Turn], canvas: Canvas
    ) -> ResolvedCommand:
        """A play costs, and cannot be taken back: only where the rules hear one as well, or ask
        for what, and for the stake that they hear."""
        heard = self._rules(command, history, canvas)
        stake = heard.intent.arguments.get("stake") if heard.intent else None
        asks_for_it = heard.intent is None and heard.candidates == canvas.instruments
        is_play = heard.intent is not None and heard.intent.name == PLAY
        assert play.intent is not None  # noqa: S101  the caller has looked
        if not (is_play or asks_for_it) or play.intent.arguments.get("stake") != stake:
            raise Useless("invalid")
        return play

    def _asked(self, body: bytes) -> bytes:
        """The endpoint's answer, unless it is left alone for now; raises `Useless`."""
        if not self.pause.allows():
            raise Useless("paused")
        try:
            answer = self._within_time(body)
        except Useless as reason:
            if reason.is_away:
                self.pause.begin()
            else:
                self.pause.end()
            raise
        self.pause.end()
        return answer

    def _within_time(self, body: bytes) -> bytes:
        """httpx limits each step, not their sum, and no look-up of a name: so in a thread."""
        call = started(f"beep.llm:{uuid.uuid4()}", partial(self._fetch, body))
        try:
            answer: bytes = call.result(self._seconds)
        except (Overdue, httpx.TimeoutException):
            self._hang_up()
            raise Useless("timeout", is_away=True) from None
        except httpx.HTTPError:
            raise Useless("unreachable", is_away=True) from None
        return answer

    def _hang_up(self) -> None:
        """Whoever still reads from an endpoint that sends a byte now and then stops at the next."""
        old, self._client = self._client, self._new_client()
        old.close()

    def _fetch(self, body: bytes) -> bytes:
        with self._client.stream("POST", self._url, content=body) as response:
            if response.status_code != httpx.codes.OK:
                is_away = response.status_code not in _OF_THIS_QUESTION
                raise Useless("refused", is_away=is_away)
            answer = b""
            # Raw: nothing zipped was asked for, and a little of it may be very much.
            for part in response.iter_raw():
                answer += part
                if len(answer) > REPLY_MAX:
                    raise Useless("long")
            return answer


class _Said(msgspec.Struct):
    content: str


class _Choice(msgspec.Struct):
    message: _Said


class _Completion(msgspec.Struct):
    choices: Annotated[list[_Choice], msgspec.Meta(min_length=1)]


def _content(answer: bytes) -> str:
    """The model's text in the endpoint's answer."""
    try:
        return msgspec.json.decode(answer, type=_Completion).choices[0].message.content
    except (msgspec.MsgspecError, UnicodeError):
        raise Useless("unreadable") from None


def _headers(key: str) -> dict[str, str]:
    plain = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
    return plain | ({"Authorization": f"Bearer {key}"} if key else {})


@lru_cache(maxsize=1)
def _model(url: str, model: str, key: str, timeout_seconds: float) -> LanguageModel:
    return LanguageModel(url, model, key, timeout_seconds=timeout_seconds, rules=context.resolve)


def configured() -> LanguageModel:
    """The one of the settings, once per process."""
    return _model(
        settings.AEVON_BEEP_LLM_URL,
        settings.AEVON_BEEP_LLM_MODEL,
        settings.AEVON_BEEP_LLM_KEY,
        settings.AEVON_BEEP_LLM_TIMEOUT_SECONDS,
    )


def resolve(command: str, history: Sequence[Turn], canvas: Canvas) -> ResolvedCommand:
    """`AEVON_BEEP_RESOLVER=beep.llm.resolve`."""
    return configured()(command, history, canvas)
