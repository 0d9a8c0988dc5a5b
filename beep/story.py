"""What the recorded turns say: what each did, spoke of, listed or asked. Pure.

Nothing but the turns' own texts is read: what was done stands in the command, or in the line of the
response that says what it was taken to mean.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from beep.abilities import DEEDS, PLAY, UNDO
from beep.grammar import Command
from beep.phrases import (
    QUOTED,
    answer_of,
    asks_which,
    left_open,
    read_echo,
    read_kinds,
    read_listed,
    unquoted,
    was_done,
)
from beep.references import is_reference
from beep.resolution import WINDOW, Intent, Turn
from beep.sentences import parse, tidy

Names = tuple[str, ...]

_PARTS: Final = re.compile(rf"((?:{QUOTED}|[^\",&])+?)(?:, ?(?:and )?| and | & |\Z)", re.IGNORECASE)
_ARTICLE: Final = re.compile(r"\A(?:the|my|a|an) (?=.)", re.IGNORECASE | re.DOTALL)
_NOUN: Final = re.compile(
    r"(?<=.) (?:micro-?apps?|apps?|windows?|panels?)\Z", re.IGNORECASE | re.DOTALL
)


NOTHING: Final = Intent("")


@dataclass(frozen=True, slots=True)
class Told:
    """One turn: what was understood, whether it was carried out, and what it spoke of.

    `intent` is `NOTHING` where none was understood.
    `subject` are the names it acted on, or asked something about; `listed` the list that it showed.
    `kinds` is what it said beside their names. `asks`: it ended by asking which of them; `lacks`:
    what it asked for instead, and about which names. `takes_back` is the turn that it undid,
    `taken_back`: a later turn has undone it.
    """

    seq: int
    command: Command | None
    intent: Intent
    done: bool
    subject: Names = ()
    listed: Names = ()
    asks: bool = False
    lacks: tuple[str, Names] | None = None
    kinds: Names = ()
    takes_back: int | None = None
    taken_back: bool = False

    @property
    def is_deed(self) -> bool:
        """Whether it changed something that still stands."""
        return self.done and not self.taken_back and self.kind in DEEDS

    @property
    def kind(self) -> str:
        """The intent's name."""
        return self.intent.name

    @property
    def focus(self) -> Names:
        """What "it" after this turn is."""
        return self.subject or self.listed


def read(history: Sequence[Turn]) -> tuple[Told, ...]:
    """The last turns, newest first, each with whether it still stands."""
    told: dict[int, Told] = {}  # oldest first
    for turn in reversed(history[:WINDOW]):
        each = _told(turn)
        undone = told.get(each.takes_back or 0)
        if undone:
            told[undone.seq] = replace(undone, taken_back=True)
        # What an undone undoing had undone. Of a correction only what it did itself is taken back.
        if undone and undone.kind == UNDO and undone.takes_back in told:
            told[undone.takes_back] = replace(told[undone.takes_back], taken_back=False)
        is_undo = each.kind == UNDO and each.done
        told[each.seq] = replace(each, subject=undone.subject) if undone and is_undo else each
    return tuple(reversed(told.values()))


def _told(turn: Turn) -> Told:
    echo, instead_of = read_echo(turn.response)
    text = turn.command if echo is None else echo
    answer, intent = answer_of(turn.response), literal_intent(text) or NOTHING
    if echo is not None and intent == NOTHING and (command := parse(echo)) and "." in command.name:
        intent = Intent(command.name)  # of too many names to say
    done, lacks = was_done(turn.response), left_open(answer)
    # What could not be taken back does not stand either: the next "undo" goes on to the one before.
    is_undo = intent.name == UNDO and (done or echo is not None)
    undone = intent.arguments["turn"] if is_undo else instead_of
    named = intent.names if done else ()
    return Told(
        seq=turn.seq,
        command=parse(text),
        intent=intent,
        done=done,
        subject=lacks[1] if lacks else named,
        listed=read_listed(answer),
        asks=asks_which(turn.response),
        lacks=lacks,
        kinds=read_kinds(answer, named),
        takes_back=undone if isinstance(undone, int) else None,
    )


def literal_intent(text: str) -> Intent | None:
    """What a command says by itself, without any turn or canvas; None where it needs them."""
    command = parse(text)
    if command is None or command.fragment or "." not in command.name or command.arguments is None:
        return None
    if command.target is None:
        return command.aimed_at(())
    names = literal_names(command.target)
    if command.name == UNDO or not names or (command.name == PLAY and len(names) > 1):
        return None
    return command.aimed_at(names)


def literal_names(target: str) -> Names:
    """The names in a target: quoted ones as they are, others without article and noun; empty where
    one is a reference."""
    found = [bare_name(part) for part in parts(target)]
    return tuple(found) if all(found) else ()


def parts(target: str) -> list[str]:
    """A target's parts, divided by commas and "and"; what is quoted stays whole."""
    first, *others = (part.strip() for part in _PARTS.findall(target) or [""])
    rest = (re.sub(r"\Aalso ", "", tidy(other), flags=re.IGNORECASE) for other in others)
    return [part for part in (first, *rest) if part]


def bare_name(part: str) -> str:
    """A part as a name; "" for a reference, and for quotation marks with nothing between."""
    bare = _NOUN.sub("", _ARTICLE.sub("", part, count=1)).strip()
    if re.fullmatch(QUOTED, bare):
        return unquoted(bare)
    return "" if is_reference(part) or '"' in bare else bare


def says_it_all(text: str, intent: Intent) -> bool:
    """Whether a command by itself comes to this intent, names blind to case."""
    literal = literal_intent(text)
    return literal is not None and _folded(literal) == _folded(intent)


def _folded(intent: Intent) -> tuple[object, ...]:
    others = {k: v for k, v in intent.arguments.items() if k not in ("microApps", "instrument")}
    return intent.name, tuple(name.casefold() for name in intent.names), others
