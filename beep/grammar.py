"""The grammar of BEEP's commands: English, deterministic, blind to case.

`parse` says what a text asks for and leaves its target (a name or a reference) as it was typed;
`canonical` writes an intent as a command that parses to the same intent again.
Every pattern is matched against text whose white space is single, in time linear in its length.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from aevon.intents import quoted
from beep.phrases import QUOTED, unquoted

OPEN: Final = "canvas.open"
CLOSE: Final = "canvas.close"
MOVE: Final = "canvas.move"
FRONT: Final = "canvas.front"
LIST: Final = "canvas.list"
PLAY: Final = "klepsydra.play"
STATUS: Final = "klepsydra.status"
INSTRUMENTS: Final = "klepsydra.instruments"
HELP: Final = "beep.help"
AGAIN: Final = "beep.again"  # never leaves this package: it is resolved to what it repeats

ACTIONS: Final = frozenset({OPEN, CLOSE, MOVE, FRONT, PLAY})
DEFAULT_STEP_PIXELS: Final = 100

Value = str | int | list[str]
Arguments = Mapping[str, Value]


@dataclass(frozen=True)
class Intent:
    """What BEEP is to do: a dotted name and plain arguments.

    open, close, move, front: `microApps` (a list of names); move also `dx` and `dy`, or `x` and
    `y`, in pixels. play: `instrument` (a name) and, if given, `stake` (ΞCredits). Others: nothing.
    """

    name: str
    arguments: Arguments = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of what this intent acts on."""
        apps = self.arguments.get("microApps", [])
        instrument = self.arguments.get("instrument")
        return tuple(apps) if isinstance(apps, list) and apps else _one(instrument)


@dataclass(frozen=True)
class Command:
    """A parsed text. `target` is as typed, "" where one is missing, None where none belongs."""

    name: str
    target: str | None = None
    arguments: Arguments = field(default_factory=dict)

    def aimed_at(self, names: tuple[str, ...]) -> Intent:
        """The intent of this command with its target settled."""
        if self.target is None:
            return Intent(self.name, self.arguments)
        aim: Arguments = (
            {"instrument": names[0]} if self.name == PLAY else {"microApps": list(names)}
        )
        return Intent(self.name, {**aim, **self.arguments})


_THING: Final = r"(?:micro-?apps?|apps?|windows?|panels?)"
_THINGS: Final = r"(?:micro-?apps|apps|windows|panels)"
_NUMBER: Final = r"-?[0-9]{1,9}"
_STAKE: Final = (
    r" (?:with|for|at|staking|stake)(?: a)?(?: stake)?(?: of)? ([0-9]{1,18})(?: ?Ξ?(?:credits?)?)"
)
_AGAIN_VERBS: Final = {
    "open": OPEN, "show": OPEN, "close": CLOSE, "move": MOVE, "play": PLAY, "spin": PLAY,
}  # fmt: skip
_AGAIN: Final = " again"
_STEPS: Final = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}

Build = Callable[[re.Match[str]], Command]


def _fixed(name: str) -> Build:
    return lambda _: Command(name)


def _aimed(name: str) -> Build:
    return lambda found: Command(name, found[1] or "")


def _stepped(found: re.Match[str]) -> Command:
    across, down = _STEPS[found[2].lower()]
    step = int(found[3] or DEFAULT_STEP_PIXELS)
    return Command(MOVE, found[1] or "", {"dx": across * step, "dy": down * step})


def _moved(first: str, second: str) -> Build:
    return lambda found: Command(
        MOVE, found[1] or "", {first: int(found[2]), second: int(found[3])}
    )


def _played(found: re.Match[str]) -> Command:
    stake: Arguments = {"stake": int(found[2])} if found[2] else {}
    return Command(PLAY, found[1] or "", stake)


def _repeated(found: re.Match[str]) -> Command:
    verb = found[1]
    return Command(AGAIN, None, {"intent": _AGAIN_VERBS[verb.lower()]} if verb else {})


_RULES: Final[tuple[tuple[str, Build], ...]] = (
    (r"help(?: me)?|commands|what can you do", _fixed(HELP)),
    (
        (
            rf"what(?:'s| is| are)(?: {_THING})?(?: are)? open(?: (?:right )?now)?"
            rf"|(?:what|which) {_THING} (?:is|are) open|what(?:'s| is) on my canvas|windows"
            rf"|(?:list|show)(?: me)?(?: all)?(?: the| my)?(?: open)? {_THINGS}"
        ),
        _fixed(LIST),
    ),
    (
        r"(?:(?:show|what(?:'s| is))(?: me)? )?(?:my )?(?:psyche|status|luck)|how am i(?: doing)?",
        _fixed(STATUS),
    ),
    (
        (
            r"(?:(?:list|show)(?: me)?(?: all)?(?: the| my)? )?(?:folly )?"
            r"(?:instruments|games|odds)"
            r"|what can i play|(?:what|which) (?:instruments|games) (?:are there|can i play)"
        ),
        _fixed(INSTRUMENTS),
    ),
    (
        (
            r"(?:do |repeat )?(?:it |that |this |the same |same )?(?:again|once more|one more time)"
            r"|repeat(?: it| that| this)?|(?:do )?(?:the )?same(?: thing)?"
        ),
        lambda _: Command(AGAIN),
    ),
    (rf"({'|'.join(_AGAIN_VERBS)})(?: it| that)? again", _repeated),
    (
        (
            r"(?:move|drag|push|nudge)(?: (.+?))?(?: to the)? (left|right|up|down)"
            r"(?: by)?(?: ([0-9]{1,9}))?(?: ?(?:px|pixels?))?"
        ),
        _stepped,
    ),
    (rf"(?:move|drag|put)(?: (.+?))? by \(?({_NUMBER})(?: ?, ?| )({_NUMBER})\)?",
     _moved("dx", "dy")),
    (
        rf"(?:move|drag|put)(?: (.+?))? to (?:position )?\(?({_NUMBER})(?: ?, ?| )({_NUMBER})\)?",
        _moved("x", "y"),
    ),
    (r"(?:bring|send|put)(?: (.+?))? (?:to(?: the)? front|forward)", _aimed(FRONT)),
    (r"(?:focus(?: on)?|raise)(?: (.+))?", _aimed(FRONT)),
    (rf"(?:play|spin)(?: (.+?))?(?:{_STAKE})?", _played),
    (r"(?:open|show|launch)(?: me)?(?: (.+))?", _aimed(OPEN)),
    (r"(?:close|shut)(?: (.+))?", _aimed(CLOSE)),
)  # fmt: skip
_COMPILED: Final = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), build) for pattern, build in _RULES
)
_POLITE: Final = re.compile(
    r"(?:(?:please|hey|ok|okay|beep|now|and|then|can you|could you|would you),? )+", re.IGNORECASE
)
_THANKS: Final = re.compile(r"(?:,? (?:please|for me|thanks|thank you))+", re.IGNORECASE)
_ARTICLE: Final = re.compile(r"\A(?:the|my|a|an) (?=.)", re.IGNORECASE | re.DOTALL)
_NOUN: Final = re.compile(rf"(?<=.) {_THING}\Z", re.IGNORECASE | re.DOTALL)
_NAMES: Final = re.compile(rf"{QUOTED}(?:(?:, ?and |, ?| and ){QUOTED})*")


def parse(text: str) -> Command | None:
    """The command that a text is, or None. Never raises, whatever the text."""
    plain = tidy(text)
    base = _match(plain[: -len(_AGAIN)]) if plain.lower().endswith(_AGAIN) else None
    # "open it again" opens it; but "again", "play again" and "move it again" repeat.
    return base if base and base.name != AGAIN and base.target != "" else _match(plain)


def tidy(text: str) -> str:
    """The text without courtesies, closing marks and superfluous space; quoted parts untouched."""
    if '"' not in text:
        text = text.translate({ord("“"): '"', ord("”"): '"', ord("’"): "'"})
    spaced = re.sub(rf"({QUOTED})|\s+", lambda found: found[1] or " ", text)
    bare = spaced.strip(" ").rstrip(" .!?")
    polite = _POLITE.match(bare)
    bare = bare[polite.end() :] if polite else bare
    return _without_thanks(bare)


def literal_names(target: str) -> tuple[str, ...]:
    """The names in a target: quoted ones as they are, else one without article and noun."""
    bare = _NOUN.sub("", _ARTICLE.sub("", target, count=1))
    if _NAMES.fullmatch(bare):
        return tuple(name for part in re.findall(QUOTED, bare) if (name := unquoted(part)))
    return _one(bare.strip())


def canonical(intent: Intent) -> str:
    """A command in text that parses to exactly this intent."""
    names = ", ".join(quoted(name) for name in intent.names)
    return _WRITTEN[intent.name](names, intent.arguments)


def _written_move(names: str, arguments: Arguments) -> str:
    if "x" in arguments:
        return f"move {names} to {arguments['x']}, {arguments['y']}"
    return f"move {names} by {arguments['dx']}, {arguments['dy']}"


def _written_play(names: str, arguments: Arguments) -> str:
    return f"play {names}" + (f" with stake {arguments['stake']}" if "stake" in arguments else "")


_WRITTEN: Final[Mapping[str, Callable[[str, Arguments], str]]] = {
    OPEN: lambda names, _: f"open {names}",
    CLOSE: lambda names, _: f"close {names}",
    FRONT: lambda names, _: f"bring {names} to front",
    MOVE: _written_move,
    PLAY: _written_play,
    LIST: lambda *_: "list windows",
    STATUS: lambda *_: "status",
    INSTRUMENTS: lambda *_: "list instruments",
    HELP: lambda *_: "help",
}


def _match(plain: str) -> Command | None:
    for pattern, build in _COMPILED:
        if found := pattern.fullmatch(plain):
            return build(found)
    return None


def _without_thanks(text: str) -> str:
    # Searched for at the end only: a search from the left is quadratic in a text of "please"s.
    start = max(0, len(text) - 40)
    found = re.compile(rf"{_THANKS.pattern}\Z", re.IGNORECASE).search(text, start)
    return text[: found.start()] if found else text


def _one(name: object) -> tuple[str, ...]:
    return (name,) if isinstance(name, str) and name else ()
