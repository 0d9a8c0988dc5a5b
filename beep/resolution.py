"""What a resolver is given and what it returns. Pure; what BEEP may do is in docs/beep.md."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from aevon.intents import Window

WINDOW: Final = 5  # turns: all that `convo_history:{userId}` holds

Value = str | int | list[str]
Arguments = Mapping[str, Value]

Why = Literal[
    "pronoun", "focus", "set", "ordinal", "attribute", "other", "ellipsis", "repetition",
    "repair", "undo", "answer",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Turn:
    """One recorded turn: its number, what the user typed and what BEEP answered."""

    seq: int
    command: str
    response: str


@dataclass(frozen=True, slots=True)
class Canvas:
    """What there is to act on: the open windows, the Micro-Apps that can be opened and the
    instruments that can be played, by name."""

    windows: tuple[Window, ...] = ()
    micro_apps: tuple[str, ...] = ()
    instruments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Intent:
    """What BEEP is to do: a dotted name and plain arguments (docs/beep.md)."""

    name: str
    arguments: Arguments = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of what this intent acts on."""
        apps = self.arguments.get("microApps", [])
        if isinstance(apps, list) and apps:
            return tuple(apps)
        instrument = self.arguments.get("instrument")
        return (instrument,) if isinstance(instrument, str) and instrument else ()


@dataclass(frozen=True, slots=True)
class Reference:
    """A phrase of the command, what it was taken to mean and why, and the turn that says so (None:
    the canvas does)."""

    phrase: str
    value: str
    why: Why
    seq: int | None = None


@dataclass(frozen=True, slots=True)
class ResolvedCommand:
    """What a command came to: an intent, or a question to the user; never both, never neither.

    `candidates` are what the question names, where the command stayed ambiguous. `takes_back` is
    the turn to undo before the intent is carried out ("no, the other one").
    """

    intent: Intent | None
    references: tuple[Reference, ...] = ()
    question: str | None = None
    candidates: tuple[str, ...] = ()
    takes_back: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """The API's `resolved` member."""
        return {
            "intent": self.intent.name if self.intent else None,
            "arguments": dict(self.intent.arguments) if self.intent else {},
            "references": [
                {"phrase": each.phrase, "value": each.value, "why": each.why, "seq": each.seq}
                for each in self.references
            ],
            "question": self.question,
            "candidates": list(self.candidates),
            "takesBack": self.takes_back,
        }


class Resolver(Protocol):
    """How a resolver is called: a command of at most 4,000 characters, the last turns, newest
    first, and the canvas. It may not raise, whatever the texts, and names nothing that neither
    the turns nor the canvas do; what it names wrongly all the same is not carried out."""

    def __call__(
        self, command: str, history: Sequence[Turn], canvas: Canvas
    ) -> ResolvedCommand: ...
