"""The grammar of BEEP's commands: English, deterministic, blind to case (docs/beep.md).

What stands around a command in a sentence has been taken off (`beep/sentences.py`). A target, which
is a name or a reference, is left as it was typed; `canonical` writes an intent as a command that
parses to the same intent again. The templates are read by `beep/patterns.py`; each is matched in
time linear in the text's length.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from aevon.intents import quoted
from beep.abilities import (
    BACK,
    CLOSE,
    FRONT,
    HELP,
    INSTRUMENTS,
    LIST,
    MOVE,
    NEVER_MIND,
    OPEN,
    PLAY,
    RESIZE,
    SESSIONS,
    STATUS,
    TIDY,
    TILE,
    UNDO,
    UNSAVED,
)
from beep.measures import (
    EDGE,
    MOVES,
    PAIR_SIZE,
    SHIFT,
    SIZES,
    SLOTS,
    Groups,
    Tail,
    at_edge,
    degree,
    grown,
    of_pair,
    sides,
)
from beep.patterns import Pattern
from beep.resolution import Arguments, Intent

# These never leave this package: each is resolved to what it repeats, turns round or corrects.
AGAIN: Final = "again"
OTHER_WAY: Final = "other way"
PAIR: Final = "pair"
DEGREE: Final = "degree"
REDO: Final = "redo"
ALSO: Final = "also"
INSTEAD: Final = "instead"
# Understood, and not to be had: the engine says what there is instead.
FAR_EDGE: Final = "far edge"
FULL_SCREEN: Final = "full screen"
MINIMISE: Final = "minimise"
UNDO_MANY: Final = "undo many"
SWAP: Final = "swap"


@dataclass(frozen=True, slots=True)
class Command:
    """A parsed text. `target` is as typed, "" where one is missing, None where none belongs.

    `arguments` is None where they are missing, as in "move Notes". A `fragment` has no verb
    ("bigger"). `inner` is the command inside a correction ("no, close it").
    """

    name: str
    target: str | None = None
    arguments: Arguments | None = field(default_factory=dict)
    fragment: bool = False
    inner: "Command | None" = None

    def aimed_at(self, names: tuple[str, ...]) -> Intent:
        """The intent of this command with its target settled."""
        aim: Arguments = {}
        if self.name == PLAY:
            aim = {"instrument": names[0]}
        elif self.target is not None:
            aim = {"microApps": list(names)}
        return Intent(self.name, {**aim, **(self.arguments or {})})


Build = Callable[[Groups], Command]

_THING: Final = "(micro-app|microapp|app|window|panel)"
_THINGS: Final = "(micro-apps|microapps|apps|windows|panels)"
_ALL: Final = f"(all [of them]|everything|them|things|[all] [of] [the|my] {_THINGS})"
_SCREEN: Final = "[the|my] (canvas|screen|desk|desktop|mess|place)"
_LIST_MY: Final = "(list|show|name) [me] [all] [of] [the|my]"
_NOW: Final = "[right] [now]"
_SAVED: Final = "(saved|safe|persisted|in the ledger)"
_IN_A_GRID: Final = "((in|into) (a grid|tiles)|side by side)"
_WORK: Final = "(everything|it|it all|all|[all] my (changes|work|windows|canvas|layout))"
_STAKED: Final = (
    "[this time] (with|for|at|staking|stake|betting) [a] [stake] [of] <stake> [this time]"
)

_FIXED: Final[Mapping[str, tuple[str, ...]]] = {
    HELP: (
        "[show] [me] [the] help [me] [out]",
        "commands",
        "what (can|do) you (do|understand)",
        "what (can|could) i (say|do|ask) [you] [here]",
        "how (do|does) (i|it|this) work",
    ),
    LIST: (
        f"(what|what's|whats) [{_THING}|{_THINGS}] [is|are] [currently] open {_NOW}",
        f"(what|which) {_THINGS} are [currently] open {_NOW}",
        f"(what|which) {_THINGS} (do i have|have i) [open] {_NOW}",
        f"what do i have open {_NOW}",
        "(what is|what's) on (my|the) (canvas|screen)",
        "[open] windows",
        f"{_LIST_MY} [open] {_THINGS} [that are] [open]",
    ),
    UNSAVED: (
        "[list|show] [me] [all] [the|my] unsaved [changes]",
        "[do i have|are there] [any] unsaved changes",
        "(what is|what's|is anything|anything|do i have anything) [still] unsaved [yet]",
        f"(what is|what's|is anything|anything) [still] not [yet] {_SAVED} [yet]",
        f"(what isn't|what is not|what hasn't been|what has not been) {_SAVED} [yet]",
        f"(is|are) {_WORK} [all] {_SAVED} [yet|already]",
        f"(has|have) {_WORK} [all] been {_SAVED} [yet|already]",
    ),
    SESSIONS: (
        "sessions",
        "my (sessions|devices|logins)",
        "(list|show) [me] [all] [of] [my] [live|open|active] (sessions|devices|logins)",
        f"(where|on what devices|on which devices) am i [still] (signed|logged) in {_NOW}",
        "(what|which) devices am i (signed|logged) in (on|with)",
        "(what|which) (devices|sessions) (are (open|active|live|there)|do i have [open])",
        "who [else] is (signed|logged) in",
    ),
    STATUS: (
        "[show|tell|what is|what's] [me] [my] (psyche|psyche state|status|luck|mood)",
        "how am i [doing|feeling] [today|now]",
        "(how's|how is) my (luck|psyche|mood|status) [today|doing]",
        "how (lucky|frustrated) am i",
        "am i (throttled|resting|lucky)",
    ),
    INSTRUMENTS: (
        f"[{_LIST_MY}] [folly] (instruments|games|odds)",
        "what (can|could) i play",
        "(what|which) [folly] (instruments|games) (are there|can i play|do you have|have you got)",
        "(what is there|what's there) to play",
        "what are the odds",
    ),
    TILE: (
        f"tile [{_ALL}]",
        f"(arrange|lay out|put|organise|organize) [{_ALL}] {_IN_A_GRID}",
    ),
    TIDY: (
        f"(tidy|clean|straighten|sort|neaten) [up|out] [{_ALL}|{_SCREEN}] [up]",
        f"(arrange|organise|organize|line up) [{_ALL}|{_SCREEN}] [neatly]",
    ),
    NEVER_MIND: (
        "(never mind|nevermind) [it|that|about it|about that]",
        "(cancel|stop|skip) [that|it]",
        "forget (it|that|about it)",
        "(neither|none) [one|of (them|those|these)]",
        "nothing",
        "[no] (no thanks|no thank you)",
        "leave it [be]",
        "don't [bother]",
        "(ok|okay|hello|hi|hey|great|perfect|nice|good|lovely|cool|fine)",
    ),
}

_MOVING: Final = "(move|drag|push|shove|nudge|shift|put|place|slide|pull|bring|send|position)"
_PLAYING: Final = "(play|spin|roll) [a (round|game|go) (of|on|with|at)]"
_OPENING: Final = (
    "(open [up]|reopen|re-open|launch|start [up]|show [me]|(bring|pull) (up|back)|fetch"
    "|let me see|(i'd like|i want|i need) to see)"
)
_CLOSING: Final = (
    "(close [down]|shut [down]|dismiss|remove|quit|exit|kill|delete|get rid of|put away)"
)
_TO_FRONT: Final = (
    "((to|into) [the] (front|foreground)|forward|forwards|[right] on top [of (everything|all [the]"
    " [others]|the others)]|[up] in front [of (everything|the others)])"
)
_TO_BACK: Final = (
    "((to|into|at|in) [the] (back|background)"
    "|behind (everything|all [the] others|the (others|rest)))"
)
_TO_EDGE: Final = f"(to|into|at|in) [the|my] {EDGE} [of (the|my) (screen|canvas)]"
_UNDOING: Final = "(undo|revert|reverse|take back|roll back)"
_SEVERAL: Final = "(two|three|four|five|2|3|4|5)"
_AS_BEFORE: Final = "[(where|how|as|the way) (it|they|that) (was|were|used to be) [before]]"
_ONCE_MORE: Final = "(again|once more|one more time|another time)"

_AGAIN_VERBS: Final = {
    "open": OPEN, "show": OPEN, "close": CLOSE, "move": MOVE, "resize": RESIZE, "play": PLAY,
    "spin": PLAY, "roll": PLAY,
}  # fmt: skip


def _fixed(name: str) -> Build:
    return lambda _: Command(name)


def _aimed(name: str, arguments: Arguments | None = None, *, lacking: bool = False) -> Build:
    given = None if lacking else arguments or {}
    return lambda groups: Command(name, groups.get("target", ""), given)


def _with(name: str, arguments: Callable[[Groups], Arguments | None]) -> Build:
    return lambda groups: Command(name, groups.get("target", ""), arguments(groups))


def _to_edge(groups: Groups) -> Command:
    place = at_edge(groups)
    return Command(FAR_EDGE) if place is None else Command(MOVE, groups.get("target", ""), place)


def _grown(becomes: str) -> Build:
    return _with(RESIZE, lambda groups: grown(becomes, degree(groups["degree"])))


def _played(groups: Groups) -> Command:
    target, stake = groups.get("target", ""), groups.get("stake", "")
    if not stake and (bare := _STAKED_BARE.fullmatch(target)):
        target, stake = bare["name"], bare["stake"]
    return Command(PLAY, target, {"stake": int(stake)} if stake else {})


def _again(groups: Groups) -> Command:
    """Of one kind, by another step, or for another stake."""
    given: dict[str, str | int] = {}
    if verb := groups.get("verb"):
        given["intent"] = _AGAIN_VERBS[verb.lower()]
    if stake := groups.get("stake"):
        given |= {"intent": PLAY, "stake": int(stake)}
    return Command(AGAIN, None, given | {"degree": degree(groups.get("degree", ""))})


def _more(groups: Groups) -> Command:
    """The same move or change of size once more; a play is never meant."""
    return Command(AGAIN, None, {"degree": degree(groups.get("degree", "")), "adjusts": 1})


def _undone(groups: Groups) -> Command:
    if turn := groups.get("turn"):
        return Command(UNDO, None, {"turn": int(turn)})
    return Command(UNDO, groups.get("target", ""))


def _moved_back(groups: Groups) -> Command:
    return Command(UNDO, f"move {groups.get('target', '')}".strip())


def _after(verbs: str, name: str, tails: tuple[Tail, ...]) -> Iterator[tuple[str, Build]]:
    for tail in tails:
        yield f"{verbs} [<target>] {tail.template}", _with(name, tail.arguments)


_RULES: Final[tuple[tuple[str, Build], ...]] = (
    *((each, _fixed(name)) for name, templates in _FIXED.items() for each in templates),
    (f"{_UNDOING} turn <turn>", _undone),
    (f"{_UNDOING} [the] last (thing|one|change|command|step|action)", _undone),
    (f"{_UNDOING} (what (you|i) [just] did|another [one]|one more|again)", _undone),
    (f"{_UNDOING} [the] last {_SEVERAL} [things|changes|steps]", _fixed(UNDO_MANY)),
    (f"{_UNDOING} (both [of them]|them [both]|everything|all [of (it|them)])", _fixed(UNDO_MANY)),
    (f"{_UNDOING} [<target>]", _undone),
    ("redo [it|that|the last (thing|one|change)]", _fixed(REDO)),
    (f"(bring|put|move|get|pull|send|keep) [<target>] {_TO_FRONT}", _aimed(FRONT)),
    (f"(send|put|move|push|bring) [<target>] {_TO_BACK}", _aimed(BACK)),
    (f"move [<target>] back [again] [to] {_AS_BEFORE}", _moved_back),
    (f"(take|roll|put|turn|change) [<target>] back [again] [to] {_AS_BEFORE}", _undone),
    (f"[do|repeat] [it|that|this|the same|same] {_ONCE_MORE}", _again),
    ("repeat [it|that|this]", _again),
    ("[do] [the] same [thing] [again]", _again),
    ("(one more [time]|another (one|round|go))", _again),
    ("[<degree>] again", _again),
    ("[<degree>] (more|further|farther)", _more),
    ("(keep going|go on)", _more),
    (f"[do] [it|that|the same] {_ONCE_MORE} {_STAKED}", _again),
    (f"<verb> [it|that|the same] {_ONCE_MORE}", _again),
    ("[in|to] [the] (other way [round|around]|opposite [direction|way]|other direction|reverse)",
     _fixed(OTHER_WAY)),
    ("bring (forward|to the front|to front) <target>", _aimed(FRONT)),
    ("(raise|activate|focus [on]|(switch|go|jump) [over] to) [<target>]", _aimed(FRONT)),
    ("(maximize|maximise|fullscreen|full screen) [<target>]", _fixed(FULL_SCREEN)),
    ("make [<target>] (full screen|fullscreen|as big as possible)", _fixed(FULL_SCREEN)),
    ("(minimize|minimise|iconify|hide) [<target>]", _fixed(MINIMISE)),
    ("(swap|exchange|switch) <target>", _fixed(SWAP)),
    ("(center|centre) [<target>]", _fixed(FAR_EDGE)),
    (f"{_MOVING} [<target>] {_TO_EDGE}", _to_edge),
    *_after(_MOVING, MOVE, MOVES),
    *_after("(move|drag|put|shift)", MOVE, (SHIFT,)),
    *_after("(make|resize|scale|size|set)", RESIZE, (*SIZES, PAIR_SIZE)),
    ("(enlarge|grow|expand|magnify|scale up|blow up) [<target>] [<degree>]", _grown("bigger")),
    ("(shrink|reduce|scale down) [<target>] [<degree>]", _grown("smaller")),
    ("(widen|broaden) [<target>] [<degree>]", _grown("wider")),
    ("narrow [<target>] [<degree>]", _grown("narrower")),
    ("double [the size of] [<target>]", _aimed(RESIZE, sides("", 200))),
    ("halve [the size of] [<target>]", _aimed(RESIZE, sides("", 50))),
    ("(bet|stake|put) <stake> on <target>", _played),
    (f"{_PLAYING} {_STAKED}", _played),
    (f"{_PLAYING} <target> {_STAKED}", _played),
    (f"{_PLAYING} [<target>]", _played),
    ("(move|drag|shift|nudge) [<target>]", _aimed(MOVE, lacking=True)),
    ("resize [<target>]", _aimed(RESIZE, lacking=True)),
    ("bring <target> back", _aimed(OPEN)),
    (f"{_OPENING} [<target>]", _aimed(OPEN)),
    (f"{_CLOSING} [<target>]", _aimed(CLOSE)),
)  # fmt: skip
_FRAGMENTS: Final[tuple[tuple[str, Build], ...]] = (
    ("<degree>", lambda groups: Command(DEGREE, "", {"degree": degree(groups["degree"])})),
    ("<pair>", lambda groups: Command(PAIR, "", of_pair("first", "other", groups))),
    (_TO_EDGE, _to_edge),
    (EDGE, _to_edge),
    *((tail.template, _with(MOVE, tail.arguments)) for tail in MOVES),
    *((tail.template, _with(RESIZE, tail.arguments)) for tail in SIZES),
    (_TO_FRONT, _aimed(FRONT)),
    (_TO_BACK, _aimed(BACK)),
    (_STAKED, _played),
)
_GRAMMAR_SLOTS: Final = {
    **SLOTS,
    "turn": "(?P<turn>[0-9]{1,18}) ",
    "verb": f"(?P<verb>{'|'.join(_AGAIN_VERBS)}) ",
}


def _compiled(rules: tuple[tuple[str, Build], ...]) -> tuple[tuple[Pattern, Build], ...]:
    return tuple((Pattern(each, slots=_GRAMMAR_SLOTS), build) for each, build in rules)


_WHOLE: Final = _compiled(_RULES)
_PARTIAL: Final = _compiled(_FRAGMENTS)

_FLAGS: Final = re.IGNORECASE | re.DOTALL
# "SpinForge 5", but not "number 5" or "the 5".
_STAKED_BARE: Final = re.compile(
    r"(?P<name>(?!(?:the )?(?:the|number|no|instrument|game|one) [0-9]).+?) (?P<stake>[0-9]{1,18})"
    r"(?: ?Ξ?(?:credits?)?)",
    _FLAGS,
)
_AGAIN_AFTER: Final = re.compile(r" (?:again|once more)\Z", _FLAGS)


def whole(plain: str) -> Command | None:
    """A command with a verb of its own."""
    without = _AGAIN_AFTER.sub("", plain)
    base = _first(_WHOLE, without) if without != plain else None
    # "open it again" opens it; but "again", "play it again" and "move it again" repeat.
    has_own = base and base.name not in (AGAIN, UNDO) and base.target and base.arguments is not None
    is_play = base and base.name == PLAY and not base.arguments
    if has_own and is_play and (repeated := _first(_WHOLE, plain)) and repeated.name == AGAIN:
        return repeated
    return base if has_own else _first(_WHOLE, plain)


def fragment(plain: str) -> Command | None:
    """A command without a verb: "bigger", "to the left"."""
    found = _first(_PARTIAL, plain)
    return replace(found, fragment=True) if found else None


def _first(rules: tuple[tuple[Pattern, Build], ...], plain: str) -> Command | None:
    for pattern, build in rules:
        if (groups := pattern.match(plain)) is not None:
            return build(groups)
    return None


def canonical(intent: Intent, *, names: str = "") -> str:
    """A command in text that parses to exactly this intent, unless `names` stand for its own."""
    names = names or ", ".join(quoted(name) for name in intent.names)
    return _WRITTEN[intent.name](names, intent.arguments)


def _written_move(names: str, arguments: Arguments) -> str:
    if "dx" in arguments:
        return f"move {names} by {arguments['dx']}, {arguments['dy']}"
    if "x" in arguments and "y" in arguments:
        return f"move {names} to {arguments['x']}, {arguments['y']}"
    axis = "x" if "x" in arguments else "y"
    return f"move {names} to {axis} {arguments[axis]}"


def _written_resize(names: str, arguments: Arguments) -> str:
    if "widthPercent" in arguments:
        percents = f"{arguments['widthPercent']}, {arguments['heightPercent']}"
        return f"resize {names} to {percents} percent"
    if "width" in arguments and "height" in arguments:
        return f"resize {names} to {arguments['width']} by {arguments['height']}"
    side = "width" if "width" in arguments else "height"
    return f"resize {names} to {side} {arguments[side]}"


def _written_play(names: str, arguments: Arguments) -> str:
    return f"play {names}" + (f" with stake {arguments['stake']}" if "stake" in arguments else "")


_WRITTEN: Final[Mapping[str, Callable[[str, Arguments], str]]] = {
    OPEN: lambda names, _: f"open {names}",
    CLOSE: lambda names, _: f"close {names}",
    FRONT: lambda names, _: f"bring {names} to front",
    BACK: lambda names, _: f"send {names} to back",
    MOVE: _written_move,
    RESIZE: _written_resize,
    PLAY: _written_play,
    TILE: lambda *_: "tile windows",
    TIDY: lambda *_: "tidy windows",
    LIST: lambda *_: "list windows",
    UNSAVED: lambda *_: "unsaved changes",
    STATUS: lambda *_: "status",
    INSTRUMENTS: lambda *_: "list instruments",
    SESSIONS: lambda *_: "list sessions",
    HELP: lambda *_: "help",
    NEVER_MIND: lambda *_: "never mind",
    UNDO: lambda _, arguments: f"undo turn {arguments['turn']}",
}
