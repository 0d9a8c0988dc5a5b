"""The Contextualization Engine: what a command means after the turns before it.

Pure. It reads at most `WINDOW` recent turns, whose commands it parses again and whose responses
it reads as `beep.phrases` wrote them; nothing else is remembered between two commands. A reference
that the turns do not settle becomes a question with the candidates, never a guess.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aevon.intents import which_one
from beep.grammar import (
    ACTIONS,
    AGAIN,
    HELP,
    PLAY,
    Command,
    Intent,
    canonical,
    literal_names,
    parse,
    tidy,
)
from beep.phrases import (
    answer_of,
    asks_which,
    read_echo,
    read_enumeration,
    read_what_with,
    what_with,
    with_echo,
)

WINDOW: Final = 5  # turns: all that `convo_history:{userId}` holds

NOT_UNDERSTOOD: Final = 'I did not understand that. What would you like me to do? Try "help".'
NOTHING_TO_REPEAT: Final = "There is nothing to repeat yet. What would you like me to do?"


@dataclass(frozen=True)
class Turn:
    """One recorded turn: its number, what the user typed and what BEEP answered."""

    seq: int
    command: str
    response: str


@dataclass(frozen=True)
class Reference:
    """A phrase of the command, what it was resolved to, and the turn that said so."""

    phrase: str
    value: str
    seq: int


@dataclass(frozen=True)
class Resolution:
    """What a command came to: an intent, or a question to the user; never both, never neither."""

    intent: Intent | None
    references: tuple[Reference, ...] = ()
    question: str | None = None

    def as_dict(self) -> dict[str, object]:
        """The API's `resolved` member."""
        return {
            "intent": self.intent.name if self.intent else None,
            "arguments": dict(self.intent.arguments) if self.intent else {},
            "references": [
                {"phrase": each.phrase, "value": each.value, "seq": each.seq}
                for each in self.references
            ],
            "question": self.question,
        }


def resolve(text: str, turns: Sequence[Turn] = ()) -> Resolution:
    """What `text` means after `turns`, the newest first. Never raises, whatever the texts."""
    recent = tuple(turns[:WINDOW])
    command = parse(text)
    if command is None:
        return _answer(tidy(text), recent)
    if command.name == AGAIN:
        return _repeat(text, command, recent)
    if command.target is None:
        return Resolution(command.aimed_at(()))
    return _aim(command, command.target, recent)


def response_for(resolution: Resolution, answer: str) -> str:
    """The response to record: the question, or the answer under what was understood.

    Without the echo a later turn could not know what "it" was once older turns have gone.
    """
    if resolution.intent is None:
        return resolution.question or NOT_UNDERSTOOD
    if not resolution.references:
        return answer
    return with_echo(canonical(resolution.intent), answer)


@dataclass(frozen=True)
class _Mention:
    """What a turn spoke of: the names it acted on and the list that it showed."""

    subject: tuple[str, ...]
    listed: tuple[str, ...]
    domain: str | None
    seq: int

    @property
    def focus(self) -> tuple[str, ...]:
        return self.subject or self.listed


@dataclass(frozen=True)
class _Found:
    """Names that a reference points to and the turn that says so; or none, and the candidates."""

    names: tuple[str, ...] = ()
    seq: int = 0
    candidates: tuple[str, ...] = ()


_ANY_THING: Final = r"(?:one|window|app|micro-?app|panel|instrument|game|thing)"
_IT: Final = re.compile(
    rf"it|(?:that|this|(?:the )?same)(?: {_ANY_THING})?|the {_ANY_THING}", re.IGNORECASE
)
_OTHER: Final = re.compile(rf"(?:the )?other(?: {_ANY_THING})?", re.IGNORECASE)
_THEM: Final = re.compile(r"(?:both|all) of (?:them|these|those)|them|both|these|those", re.I)
_WORDS: Final = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth",
)  # fmt: skip
_ORDINAL: Final = re.compile(
    rf"(?:the )?(?:(last|{'|'.join(_WORDS)})|([0-9]{{1,3}})(?:st|nd|rd|th))(?: {_ANY_THING})?"
    r"|(?:number |no |#)?([0-9]{1,2})",
    re.IGNORECASE,
)


def _aim(command: Command, target: str, turns: tuple[Turn, ...]) -> Resolution:
    """The command with its target settled, by name or by reference."""
    found = _look_up(target, _domain(command.name), turns)
    names = literal_names(target) if found is None else found.names
    candidates = found.candidates if found else ()
    if not names or (command.name == PLAY and len(names) > 1):
        return Resolution(None, (), which_one(names or candidates))
    return Resolution(command.aimed_at(names), _references(target, found) if found else ())


def _answer(text: str, turns: tuple[Turn, ...]) -> Resolution:
    """A text that is no command: an answer to a question, or a reference without a verb."""
    pending = _pending(turns)
    found = _look_up(text, _domain(pending.name) if pending else None, turns) if text else None
    if found is None:
        return _answer_by_name(text, pending, turns)
    if pending is not None:
        return _aim(pending, text, turns)
    if len(found.names) == 1:
        return Resolution(None, _references(text, found), what_with(found.names[0]))
    return Resolution(None, (), which_one(found.names or found.candidates))


def _answer_by_name(text: str, pending: Command | None, turns: tuple[Turn, ...]) -> Resolution:
    names = literal_names(text)
    if pending is None or len(names) != 1:
        return Resolution(None, (), NOT_UNDERSTOOD)
    offered = read_enumeration(answer_of(turns[0].response)) or names
    chosen = tuple(name for name in offered if name.casefold() == names[0].casefold())
    if len(chosen) != 1:
        return Resolution(None, (), NOT_UNDERSTOOD)
    return Resolution(pending.aimed_at(chosen), (Reference(text, chosen[0], turns[0].seq),))


def _repeat(text: str, command: Command, turns: tuple[Turn, ...]) -> Resolution:
    """The newest action again (of one kind, after "play again"), else the newest query."""
    wanted = command.arguments.get("intent")
    done = [
        (intent, turn.seq)
        for turn, intent in _understood_turns(turns)
        if wanted in (None, intent.name) and intent.name != HELP and not asks_which(turn.response)
    ]
    done.sort(key=lambda each: each[0].name not in ACTIONS)  # stable: newest first in each half
    if not done:
        return Resolution(None, (), NOTHING_TO_REPEAT)
    intent, seq = done[0]
    return Resolution(intent, (Reference(tidy(text), canonical(intent), seq),))


def _look_up(phrase: str, domain: str | None, turns: tuple[Turn, ...]) -> _Found | None:
    """What a referring phrase points to; None when the phrase is no reference, but a name."""
    if not phrase:
        return _Found(candidates=_known(_mentions(domain, turns)))
    if _IT.fullmatch(phrase):
        return _it(_mentions(domain, turns))
    if _OTHER.fullmatch(phrase):
        return _other(_mentions(domain, turns))
    if _THEM.fullmatch(phrase):
        return _them(_mentions(domain, turns))
    if ordinal := _ORDINAL.fullmatch(phrase):
        return _nth(_position(ordinal), _mentions(domain, turns))
    return None


def _it(mentions: list[_Mention]) -> _Found:
    if mentions and len(mentions[0].focus) == 1:
        return _Found(mentions[0].focus, mentions[0].seq)
    return _Found(candidates=mentions[0].focus if mentions else ())


def _other(mentions: list[_Mention]) -> _Found:
    """The one that is left beside the newest subject, among the newest list or all known."""
    subject = next((each for each in mentions if each.subject), None)
    shown = next((each for each in mentions if each.listed), None)
    pool = shown.listed if shown else _known(mentions)
    rest = tuple(name for name in pool if subject is None or name not in subject.subject)
    if subject is None or len(rest) != 1:
        return _Found(candidates=rest)
    return _Found(rest, next(each.seq for each in mentions if rest[0] in _all(each)))


def _them(mentions: list[_Mention]) -> _Found:
    if mentions and len(mentions[0].focus) > 1:
        return _Found(mentions[0].focus, mentions[0].seq)
    known = _known(mentions)[::-1]  # in the order in which they were named
    return _Found(known, mentions[0].seq) if len(known) == 2 else _Found(candidates=known)


def _nth(position: int, mentions: list[_Mention]) -> _Found:
    shown = next((each for each in mentions if each.listed), None)
    if shown is None:
        return _Found(candidates=_known(mentions))
    if position > len(shown.listed) or position == 0:
        return _Found(candidates=shown.listed)
    return _Found((shown.listed[position - 1 if position > 0 else -1],), shown.seq)


def _position(ordinal: re.Match[str]) -> int:
    """1 for the first; -1 for the last."""
    word = (ordinal[1] or "").lower()
    if not word:
        return int(ordinal[2] or ordinal[3])
    return -1 if word == "last" else _WORDS.index(word) + 1


def _mentions(domain: str | None, turns: tuple[Turn, ...]) -> list[_Mention]:
    """What the turns spoke of, newest first, as far as it fits the domain."""
    mentions = [_mention(turn, turns[index:]) for index, turn in enumerate(turns, 1)]
    return [
        each
        for each in mentions
        if each.focus and (domain is None or each.domain is None or each.domain == domain)
    ]


def _mention(turn: Turn, older: tuple[Turn, ...]) -> _Mention:
    understood = _understood(turn, older)
    listed = read_enumeration(answer_of(turn.response))
    # A turn that ended in a question has done nothing yet: its list counts, not its target.
    subject = understood.names if understood and not asks_which(turn.response) else ()
    left_open = read_what_with(turn.response)
    command = understood or parse(turn.command)
    return _Mention(
        subject=(left_open,) if left_open else subject,
        listed=listed,
        domain=_domain(command.name) if command and command.name != AGAIN else None,
        seq=turn.seq,
    )


def _understood(turn: Turn, older: tuple[Turn, ...]) -> Intent | None:
    """The intent that a turn was: from its echo, else by resolving its command once more."""
    echo = read_echo(turn.response)
    return resolve(turn.command if echo is None else echo, older).intent


def _understood_turns(turns: tuple[Turn, ...]) -> list[tuple[Turn, Intent]]:
    pairs = ((turn, _understood(turn, turns[index:])) for index, turn in enumerate(turns, 1))
    return [(turn, intent) for turn, intent in pairs if intent is not None]


def _pending(turns: tuple[Turn, ...]) -> Command | None:
    """The command whose target the newest turn asked for."""
    if not turns or not asks_which(turns[0].response):
        return None
    command = parse(read_echo(turns[0].response) or turns[0].command)
    if command is None:
        return _pending(turns[1:])
    return command if command.target is not None else None


def _references(phrase: str, found: _Found) -> tuple[Reference, ...]:
    return (Reference(phrase, ", ".join(found.names), found.seq),) if found.names else ()


def _known(mentions: list[_Mention]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for each in mentions for name in _all(each)))


def _all(mention: _Mention) -> tuple[str, ...]:
    return mention.subject + mention.listed


def _domain(intent_name: str) -> str:
    return intent_name.partition(".")[0]
