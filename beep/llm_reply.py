"""What a language model may answer: its schema, and the strict reading of it. Pure.

Whatever a model was talked into by a title or a turn, it can choose only among what a user may ask
for, about things that are there; and no word of its own is ever shown: questions are put in BEEP's.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from aevon.intents import which_one
from beep.abilities import ABILITIES, OPEN, UNDO, Arguments, Name, Seq
from beep.questions import CANDIDATES_MAX
from beep.resolution import WINDOW, Canvas, Intent, Reference, ResolvedCommand, Turn, Why

# What servers that hold a model to a schema know of JSON Schema; ranges are looked at here.
_KEYWORDS: Final = {
    "$ref", "additionalProperties", "anyOf", "enum", "items", "properties", "required", "type",
}  # fmt: skip


class Said(msgspec.Struct, forbid_unknown_fields=True):
    """A phrase of the command, what it was taken to mean, and the turn that says so."""

    phrase: Name
    names: list[Name]
    why: Why
    seq: Seq | None = None


class Reply(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """The whole answer: an intent, or the candidates among which the user is to choose."""

    intent: str | None = None
    arguments: Arguments | None = None
    references: list[Said] = []
    candidates: list[Name] = []
    takes_back: Seq | None = None


class Useless(Exception):
    """Nothing came of asking the model. `result` says why in a word: unreadable (no JSON of this
    form), invalid (an intent that there is none of, names of what is not there, a turn out of
    reach), unsure, and what llm.py has; `is_away`: so will the next question."""

    def __init__(self, result: str, *, is_away: bool = False) -> None:
        super().__init__(result)
        self.result = result
        self.is_away = is_away


def schema() -> dict[str, Any]:
    """The JSON Schema of `Reply`, as far as servers hold a model to one."""
    (_, parts) = msgspec.json.schema_components([Reply])
    parts["Reply"]["properties"]["intent"] = {"enum": [*ABILITIES, None]}
    plain = {name: _plain(part) for name, part in parts.items()}
    return {**plain.pop("Reply"), "$defs": plain}


def _plain(part: dict[str, Any]) -> dict[str, Any]:
    """With nothing but the known keywords; every member is required, which null satisfies."""
    kept = {name: value for name, value in part.items() if name in _KEYWORDS}
    for name in {"anyOf"} & kept.keys():
        kept[name] = [_plain(each) for each in kept[name]]
    for name in {"items"} & kept.keys():
        kept[name] = _plain(kept[name])
    if members := kept.get("properties"):
        kept["properties"] = {name: _plain(each) for name, each in members.items()}
        kept["required"] = [*members]
    return kept


def read(text: str) -> Reply:
    """The JSON object in a model's answer, also between other words; raises `Useless`."""
    try:
        return msgspec.json.decode(text[text.find("{") : text.rfind("}") + 1], type=Reply)
    except (msgspec.MsgspecError, UnicodeError):
        raise Useless("unreadable") from None


def resolved(
    reply: Reply, command: str, history: Sequence[Turn], canvas: Canvas
) -> ResolvedCommand:
    """What the reply comes to; raises `Useless`."""
    return _Reading(command, history[:WINDOW], canvas).resolved(reply)


class _Reading:
    """What a reply is held against."""

    def __init__(self, command: str, history: Sequence[Turn], canvas: Canvas) -> None:
        self._command = command
        self._windows = [each.name for each in canvas.windows]
        self._canvas = canvas
        self._seqs = {turn.seq for turn in history}
        said = (text for turn in history for text in (turn.command, turn.response))
        self._told = [command, *said]

    def resolved(self, reply: Reply) -> ResolvedCommand:
        references = tuple(self._reference(each) for each in reply.references if each.names)
        if reply.intent is None:
            return self._question(reply.candidates, references)
        intent = self._intent(reply.intent, reply.arguments or Arguments())
        possible = {None} if intent.name == UNDO else {None, *self._seqs}
        if reply.takes_back not in possible:
            raise Useless("invalid")
        return ResolvedCommand(intent, references, takes_back=reply.takes_back)

    def _question(
        self, candidates: list[str], references: tuple[Reference, ...]
    ) -> ResolvedCommand:
        if not candidates:
            raise Useless("unsure")
        names = tuple(self._known(name) for name in candidates)
        if len(names) > CANDIDATES_MAX:
            names = ()
        return ResolvedCommand(None, references, which_one(names), names)

    def _intent(self, name: str, arguments: Arguments) -> Intent:
        if name not in ABILITIES:
            raise Useless("invalid")
        if arguments.micro_apps is not None:
            apps = (self._app(name, each) for each in arguments.micro_apps)
            arguments.micro_apps = list(dict.fromkeys(apps))
        if arguments.instrument is not None:
            arguments.instrument = _one_of(self._canvas.instruments, arguments.instrument)
        given = ABILITIES[name].completed(arguments.given())
        if given is None or arguments.turn not in {None, *self._seqs}:
            raise Useless("invalid")
        return Intent(name, given)

    def _app(self, intent: str, name: str) -> str:
        """A window that is there; for `open` also what can be opened or was spoken of.

        A name that the command itself says may be nobody's: BEEP answers so.
        """
        if intent == OPEN:
            return self._known(name)
        return _one_of(self._windows, name, unless=_mentions([self._command], name))

    def _known(self, name: str) -> str:
        there = [*self._windows, *self._canvas.micro_apps, *self._canvas.instruments]
        return _one_of(there, name, unless=_mentions(self._told, name))

    def _reference(self, said: Said) -> Reference:
        if said.seq not in {None, *self._seqs} or not _mentions([self._command], said.phrase):
            raise Useless("invalid")
        value = ", ".join(self._known(name) for name in said.names)
        return Reference(said.phrase, value, said.why, said.seq)


def _one_of(names: Iterable[str], wanted: str, *, unless: bool = False) -> str:
    """The name as it is written there; `unless`: it may be none of them."""
    alike = [each for each in names if each.casefold() == wanted.casefold()]
    if not alike and not unless:
        raise Useless("invalid")
    return wanted if wanted in alike or not alike else alike[0]


def _mentions(texts: Iterable[str], name: str) -> bool:
    """Whether a text has these words, whole, blind to case."""
    words = re.compile(rf"(?<!\w){re.escape(name.casefold())}(?!\w)")
    return any(words.search(text.casefold()) for text in texts)
