"""The evaluation set of BEEP's Contextualization Engine: read, checked, scored and reported.

Pure: `test_dialogues.py` plays the dialogues. Their form is told in `dialogues/README.md`.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from klepsydra.instruments import INSTRUMENTS

FOLDER: Final = Path(__file__).parent / "dialogues"
PHENOMENA: Final = (
    "literal", "pronoun", "set", "ordinal", "attribute", "ellipsis", "repetition", "undo",
    "repair", "question", "topic_shift", "window",
)  # fmt: skip
LEAST: Final = 150
LEAST_EACH: Final = 12
ADVERSARIAL_SHARE: Final = 1 / 3
TURNS: Final = range(2, 8)  # say-turns of a dialogue
REMEMBERED: Final = 5  # turns: nothing may be resolved to what is further back
ACCURACY: Final = 0.95
ACCURACY_EACH: Final = 0.90
ANYTHING: Final = "any"

ON_WINDOWS: Final = frozenset(
    f"canvas.{verb}" for verb in ("open", "close", "move", "resize", "front", "back")
)
WITHOUT_OBJECT: Final = frozenset({
    "canvas.tile", "canvas.tidy", "canvas.list", "canvas.unsaved", "klepsydra.status",
    "klepsydra.instruments", "auth_sessions.list", "beep.help", "beep.never_mind",
})  # fmt: skip
# What each intent is expected with at least, so that no expectation is met by anything.
OBJECTS: Final[Mapping[str, str | None]] = {
    **dict.fromkeys(sorted(ON_WINDOWS), "microApps"),
    **dict.fromkeys(sorted(WITHOUT_OBJECT), None),
    "klepsydra.play": "instrument",
    "beep.undo": "turn",
}
NUMBERS: Final = (
    "dx", "dy", "x", "y", "width", "height", "widthPercent", "heightPercent", "stake",
)  # fmt: skip
MEMBERS: Final = {"intent", "microApps", "instrument", "turn", "takesBack", *NUMBERS}
# The place in the list of the question before, which nothing but that question tells: "#2".
PLACE: Final = re.compile(r"#(\d)\Z")

RIGHT: Final = "right"
WRONG_TARGET: Final = "wrong target"
WRONG_INTENT: Final = "wrong intent"
WRONG_ARGUMENTS: Final = "wrong arguments"
ASKED: Final = "asked instead"
DID: Final = "did instead of asking"
OTHER_CANDIDATES: Final = "other candidates"
NOT_UNDERSTOOD: Final = "not understood"
VERDICTS: Final = (
    RIGHT, WRONG_TARGET, WRONG_INTENT, WRONG_ARGUMENTS, ASKED, DID, OTHER_CANDIDATES,
    NOT_UNDERSTOOD,
)  # fmt: skip


class WrongFormat(Exception):
    """A dialogue cannot be read; the message says which, where and why."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A window as a dialogue describes it; what is None is for the player to choose."""

    title: str
    id: str
    type: str
    at: tuple[int, int] | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class ByHand:
    """What the user does on the page between two commands. `to` belongs to "move"."""

    deed: str
    name: str
    to: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Expect:
    """What a command must come to: an intent with these arguments, or a question (`ask`)."""

    intent: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    takes_back: int | None = None
    ask: tuple[str, ...] | str | None = None

    @property
    def kind(self) -> str:
        """The row of the confusion table."""
        return self.intent or "a question"


@dataclass(frozen=True, slots=True)
class Say:
    """One command; without an expectation it is context only."""

    text: str
    expect: Expect | None = None


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A few turns on a canvas of its own, back to front."""

    id: str
    phenomenon: str
    adversarial: bool
    canvas: tuple[Opened, ...]
    turns: tuple[Say | ByHand, ...]

    @property
    def said(self) -> tuple[Say, ...]:
        """The commands."""
        return tuple(turn for turn in self.turns if isinstance(turn, Say))


# --- reading ---------------------------------------------------------------------------------


def load(folder: Path = FOLDER) -> list[Dialogue]:
    """All dialogues, file by file. Raises `WrongFormat`."""
    files = sorted(folder.glob("*.yaml"))
    if unknown := sorted({each.stem for each in files} - {*PHENOMENA}):
        raise WrongFormat(f"{folder.name}: no such phenomenon: {', '.join(unknown)}")
    dialogues = [each for path in files for each in read(path.read_text("utf-8"), path.stem)]
    counted = Counter(each.id for each in dialogues)
    if twice := [name for name, count in counted.items() if count > 1]:
        raise WrongFormat(f"an id is given twice: {', '.join(twice)}")
    return dialogues


def read(text: str, phenomenon: str) -> list[Dialogue]:
    """The dialogues of one file. Raises `WrongFormat`."""
    try:
        rows = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise WrongFormat(f"{phenomenon}.yaml: no YAML: {error}") from None
    _must(isinstance(rows, list), f"{phenomenon}.yaml", "must be a list of dialogues")
    return [_dialogue(row, phenomenon, f"{phenomenon}.yaml, no. {n}") for n, row in enumerate(rows)]


def _must(condition: object, where: str, what: str) -> None:
    if not condition:
        raise WrongFormat(f"{where}: {what}")


def _members(row: Any, where: str, needed: set[str], optional: set[str]) -> None:
    _must(isinstance(row, dict), where, "must be a mapping")
    _must(needed <= row.keys(), where, f"lacks {', '.join(sorted(needed - row.keys()))}")
    unknown = sorted(map(str, row.keys() - needed - optional))
    _must(not unknown, where, f"unknown: {', '.join(unknown)}")


def _text(value: Any, where: str, what: str) -> str:
    _must(isinstance(value, str) and value.strip(), where, f"{what} must be text (quote it)")
    return str(value)


def _pair(value: Any, where: str, what: str) -> tuple[int, int] | None:
    if value is None:
        return None
    numbers = isinstance(value, list) and [type(each) for each in value] == [int, int]
    _must(numbers, where, f"{what} must be two whole numbers")
    return value[0], value[1]


def _dialogue(row: Any, phenomenon: str, where: str) -> Dialogue:
    _members(row, where, {"id", "turns"}, {"adversarial", "canvas"})
    name = _text(row["id"], where, "id")
    _must(re.fullmatch(rf"{phenomenon}-\d{{3}}", name), where, f"{name} must be {phenomenon}-001")
    adversarial = row.get("adversarial", False)
    _must(isinstance(adversarial, bool), name, "adversarial must be true or false")
    _must(isinstance(row["turns"], list), name, "turns must be a list")
    turns = tuple(_turn(each, f"{name}, turn {n}") for n, each in enumerate(row["turns"], 1))
    dialogue = Dialogue(name, phenomenon, adversarial, _canvas(row.get("canvas", []), name), turns)
    _check_whole(dialogue)
    return dialogue


def _canvas(rows: Any, where: str) -> tuple[Opened, ...]:
    _must(isinstance(rows, list), where, "canvas must be a list of windows, back to front")
    taken: set[str] = set()
    windows = []
    for row in rows:
        windows.append(_window({"title": row} if isinstance(row, str) else row, where, taken))
        taken.add(windows[-1].id)
    return tuple(windows)


def _window(row: Any, where: str, taken: set[str]) -> Opened:
    _members(row, f"{where}, canvas", {"title"}, {"id", "type", "at", "size"})
    title = _text(row["title"], where, "a title")
    slug = slug_of(title)
    app_id = _text(row.get("id", unused(slug, taken)), where, "an id")
    _must(app_id not in taken, where, f"two windows have the id {app_id}")
    kind = _text(row.get("type", slug), where, "a type")
    at, size = _pair(row.get("at"), where, "at"), _pair(row.get("size"), where, "size")
    return Opened(title, app_id, kind, at, size)


def slug_of(title: str) -> str:
    """The id and type of a window that says no other."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "app"


def unused(slug: str, taken: Iterable[str]) -> str:
    """`notes`, or `notes-2` where there is one already."""
    names = {*taken}
    numbered = (slug if n == 1 else f"{slug}-{n}" for n in range(1, len(names) + 2))
    return next(each for each in numbered if each not in names)


def _turn(row: Any, where: str) -> Say | ByHand:
    if isinstance(row, dict) and "by_hand" in row:
        _members(row, where, {"by_hand"}, set())
        return _by_hand(row["by_hand"], where)
    _members(row, where, {"say"}, {"expect"})
    expect = _expect(row["expect"], where) if "expect" in row else None
    return Say(_text(row["say"], where, "say"), expect)


def _by_hand(row: Any, where: str) -> ByHand:
    _members(row, where, set(), {"close", "open", "move", "to"})
    deeds = [each for each in ("close", "open", "move") if each in row]
    _must(len(deeds) == 1, where, "by_hand does one thing: close, open or move")
    _must(("to" in row) == (deeds == ["move"]), where, "move, and nothing else, has a to")
    to = _pair(row.get("to"), where, "to")
    return ByHand(deeds[0], _text(row[deeds[0]], where, "a name"), to)


def _expect(row: Any, where: str) -> Expect:
    if isinstance(row, dict) and "ask" in row:
        _members(row, where, {"ask"}, set())
        return Expect(
            ask=row["ask"] if row["ask"] == ANYTHING else _names(row["ask"], where, "ask")
        )
    _members(row, where, {"intent"}, MEMBERS)
    _must(row["intent"] in OBJECTS, where, f"no such intent: {row['intent']}")
    _must((OBJECTS[row["intent"]] or "intent") in row, where, f"lacks {OBJECTS[row['intent']]}")
    arguments = {k: _argument(k, v, where) for k, v in row.items() if k in MEMBERS - {"intent"}}
    return Expect(row["intent"], arguments, arguments.pop("takesBack", None))


def _names(value: Any, where: str, what: str) -> tuple[str, ...]:
    _must(isinstance(value, list), where, f"{what} must be a list of names")
    return tuple(_text(each, where, f"a name in {what}") for each in value)


def _argument(name: str, value: Any, where: str) -> Any:
    if name == "microApps":
        _must(value, where, "microApps must name something")
        return _names(value, where, name)
    if name == "instrument":
        _must(_instrument(value) in INSTRUMENTS, where, f"no such instrument: {value}")
        return value
    _must(type(value) is int, where, f"{name} must be a whole number")
    return value


def _check_whole(dialogue: Dialogue) -> None:
    """What only the whole dialogue shows."""
    said, where = dialogue.said, dialogue.id
    _check_hands(dialogue)
    _must(len(said) in TURNS, where, f"{len(said)} commands, not 2 to 7")
    _must(any(each.expect for each in said), where, "expects nothing")
    _must(
        isinstance(dialogue.turns[-1], Say) and said[-1].expect, where, "ends with no expectation"
    )
    for number, each in enumerate(said, 1):
        if each.expect:
            _check_turns(each.expect, number, where)
            _check_names(dialogue, each.expect, where)


def _check_hands(dialogue: Dialogue) -> None:
    """A hand is never unsure what it takes."""
    there = [name for each in dialogue.canvas for name in {each.id, each.title.casefold()}]
    for turn in dialogue.turns:
        if isinstance(turn, Say):
            there.append(turn.text.casefold())
        elif turn.deed == "open":
            there.append(turn.name.casefold())
        else:
            name = turn.name.casefold()
            _must(any(name in each for each in there), dialogue.id, f"no {turn.name} at hand")
            _must(there.count(name) <= 1, dialogue.id, f"which {turn.name}? Name it by its id")


def _check_turns(expect: Expect, number: int, where: str) -> None:
    pointed = (expect.takes_back, expect.arguments.get("turn"))
    for turn in pointed:
        _must(turn is None or 1 <= turn < number, where, f"turn {turn} is no turn before {number}")


def _check_names(dialogue: Dialogue, expect: Expect, where: str) -> None:
    """A slip of the pen would otherwise count as an error of the engine."""
    known = [text.casefold() for text in _all_texts(dialogue)]
    asked = () if expect.ask == ANYTHING else expect.ask or ()
    for name in (*expect.arguments.get("microApps", ()), *asked):
        spoken = PLACE.match(name) or any(name.casefold() in text for text in known)
        _must(spoken, where, f"nothing is called {name} there")


def _all_texts(dialogue: Dialogue) -> Iterator[str]:
    for window in dialogue.canvas:
        yield from (window.title, window.id)
    for turn in dialogue.turns:
        yield turn.text if isinstance(turn, Say) else turn.name
    yield from (each.name for each in INSTRUMENTS.values())


def check_shares(dialogues: Sequence[Dialogue]) -> None:
    """Enough of everything, and enough of what is hard. Raises `WrongFormat`."""
    each = Counter(dialogue.phenomenon for dialogue in dialogues)
    hard = sum(dialogue.adversarial for dialogue in dialogues)
    _must(len(dialogues) >= LEAST, "all", f"{len(dialogues)} dialogues, not {LEAST}")
    for name in PHENOMENA:
        _must(each[name] >= LEAST_EACH, name, f"{each[name]} dialogues, not {LEAST_EACH}")
    enough = hard >= ADVERSARIAL_SHARE * len(dialogues)
    _must(enough, "all", f"{hard} of {len(dialogues)} are adversarial: less than a third")


# --- scoring ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Heard:
    """A command as it was played: what was there before, and what came of it.

    `windows` maps the ids of what was open to the titles; `before` are the answers to the earlier
    commands of the dialogue; `changed`: the canvas is another now.
    """

    text: str
    seq: int
    response: str
    resolved: Mapping[str, Any]
    windows: Mapping[str, str]
    before: tuple["Heard", ...] = ()
    changed: bool = False

    @property
    def intent(self) -> str | None:
        """What was done."""
        intent = self.resolved.get("intent")
        return str(intent) if intent else None

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What it was done with."""
        return self.resolved.get("arguments") or {}

    @property
    def candidates(self) -> tuple[str, ...]:
        """What the question named."""
        return tuple(self.resolved.get("candidates") or ())


def judge(expect: Expect, heard: Heard) -> str:
    """One of `VERDICTS`."""
    if expect.ask is not None:
        return _judge_question(expect, heard)
    if heard.intent is None:
        return ASKED if _asks(heard) else NOT_UNDERSTOOD
    if heard.intent != expect.intent:
        return WRONG_INTENT
    if not _same_target(expect, heard):
        return WRONG_TARGET
    return RIGHT if _same_arguments(expect, heard) else WRONG_ARGUMENTS


def _judge_question(expect: Expect, heard: Heard) -> str:
    if expect.ask == ANYTHING:
        return DID if heard.intent and not _refused(heard) else RIGHT
    if heard.intent:
        return DID
    same = _things(expect.ask or (), heard) == _things(heard.candidates, heard)
    return RIGHT if same else OTHER_CANDIDATES


def _refused(heard: Heard) -> bool:
    """Whether something that changes windows has changed none: the canvas answered, not BEEP."""
    return heard.intent in {*ON_WINDOWS, "beep.undo"} and not heard.changed


def _asks(heard: Heard) -> bool:
    """Whether it was a question about the command, and not that it made no sense."""
    question = heard.resolved.get("question") or ""
    return bool(heard.candidates) or ("?" in question and "not understand" not in question)


def _same_target(expect: Expect, heard: Heard) -> bool:
    wanted, got = expect.arguments, heard.arguments
    if "instrument" in wanted and _instrument(wanted["instrument"]) != _instrument(
        got.get("instrument")
    ):
        return False
    if "turn" in wanted and got.get("turn") != _seq(wanted["turn"], heard):
        return False
    names = got.get("microApps") or ()
    return "microApps" not in wanted or _things(wanted["microApps"], heard) == _things(names, heard)


def _same_arguments(expect: Expect, heard: Heard) -> bool:
    numbers = {name: value for name, value in expect.arguments.items() if name in NUMBERS}
    same = all(heard.arguments.get(name) == value for name, value in numbers.items())
    return same and (
        expect.takes_back is None
        or heard.resolved.get("takesBack") == _seq(expect.takes_back, heard)
    )


def _seq(turn: int, heard: Heard) -> int:
    """The number that PostgreSQL gave the dialogue's n-th command."""
    return heard.before[turn - 1].seq


def _instrument(name: Any) -> str:
    """The slug, for a slug or a name in any case."""
    wanted = str(name).casefold()
    slugs = {each.name.casefold(): slug for slug, each in INSTRUMENTS.items()}
    return slugs.get(wanted, wanted)


def _things(names: Iterable[str], heard: Heard) -> set[str]:
    """What the names mean: the ids of open windows, as the canvas finds them; else themselves."""
    return {thing for name in names for thing in _thing(_placed(name, heard), heard.windows)}


def _placed(name: str, heard: Heard) -> str:
    place = PLACE.match(name)
    if not place:
        return name
    listed = heard.before[-1].candidates if heard.before else ()
    index = int(place[1]) - 1
    return listed[index] if index < len(listed) else name


def _thing(name: str, windows: Mapping[str, str]) -> list[str]:
    wanted = name.casefold()
    by_id = [f"id:{app_id}" for app_id in windows if app_id.casefold() == wanted]
    by_title = [f"id:{app_id}" for app_id, title in windows.items() if title.casefold() == wanted]
    return by_id or by_title or [f"name:{wanted}"]


def trespasses(heard: Heard) -> list[str]:
    """Where a command reached what it may not: further back than five turns, or off the canvas.

    Of every command, whether something was expected of it or not.
    """
    recent = heard.before[-REMEMBERED:]
    known = {turn.seq for turn in recent}
    pointed = [each.get("seq") for each in heard.resolved.get("references") or ()]
    pointed += [heard.resolved.get("takesBack"), heard.arguments.get("turn")]
    wrong = [
        f"turn {seq} is not among {sorted(known)}" for seq in pointed if seq not in {None, *known}
    ]
    texts = [heard.text, *(text for turn in recent for text in (turn.text, turn.response))]
    unknown = [name for name in _named(heard) if not _is_known(name, heard.windows, texts)]
    return wrong + [f"{name!r} is neither open nor spoken of" for name in unknown]


def _named(heard: Heard) -> list[str]:
    apps = heard.arguments.get("microApps") or ()
    instrument = heard.arguments.get("instrument")
    return [*apps, *([instrument] if instrument else ())]


def _is_known(name: str, windows: Mapping[str, str], texts: Iterable[str]) -> bool:
    there = {name.casefold() for pair in windows.items() for name in pair}
    spoken = [" ".join(text.casefold().split()) for text in texts]
    if name.casefold() in there or any(name.casefold() in text for text in spoken):
        return True
    # "Spin the oracle" names the Oracle of Delphi by a word of its name.
    slug = _instrument(name)
    words = slug.split("-") if slug in INSTRUMENTS else []
    return any(len(word) > 3 and word in text for word in words for text in spoken)


# --- the result ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Miss:
    """An expected turn that came out otherwise."""

    heard: Heard
    expect: Expect
    verdict: str


@dataclass(frozen=True, slots=True)
class Result:
    """A dialogue, played. It is right only if all that it expects came true."""

    dialogue: Dialogue
    verdicts: tuple[tuple[str, str], ...]
    misses: tuple[Miss, ...]
    trespasses: tuple[str, ...]

    @property
    def right(self) -> bool:
        """All or nothing."""
        return not self.misses


def score(dialogue: Dialogue, heard: Sequence[Heard]) -> Result:
    """What became of a dialogue, given its commands as they were played."""
    pairs = [(s.expect, h) for s, h in zip(dialogue.said, heard, strict=True) if s.expect]
    judged = [(expect, each, judge(expect, each)) for expect, each in pairs]
    return Result(
        dialogue,
        tuple((expect.kind, verdict) for expect, _, verdict in judged),
        tuple(Miss(each, expect, verdict) for expect, each, verdict in judged if verdict != RIGHT),
        tuple(f"{each.text!r}: {wrong}" for each in heard for wrong in trespasses(each)),
    )


def accuracy(results: Sequence[Result]) -> float:
    """The share of dialogues that are right; none are none right."""
    return sum(each.right for each in results) / len(results) if results else 0.0


def by_phenomenon(results: Sequence[Result]) -> dict[str, list[Result]]:
    """In the order of `PHENOMENA`."""
    return {
        name: [each for each in results if each.dialogue.phenomenon == name] for name in PHENOMENA
    }


def shortfalls(results: Sequence[Result]) -> list[str]:
    """Why the engine is not good enough; empty when it is."""
    parts = [("overall", results, ACCURACY)]
    parts += [(name, part, ACCURACY_EACH) for name, part in by_phenomenon(results).items()]
    short = [
        f"{name}: {accuracy(part):.1%}, not {least:.0%}"
        for name, part, least in parts
        if accuracy(part) < least
    ]
    return short + [f"{each.dialogue.id}: {t}" for each in results for t in each.trespasses]


def report(results: Sequence[Result]) -> str:
    """Accuracy per phenomenon, the confusion table, every failure."""
    return "\n".join(["", *_accuracies(results), "", *_confusion(results), "", *_failures(results)])


def _accuracies(results: Sequence[Result]) -> Iterator[str]:
    yield f"{'phenomenon':<14}{'n':>5}{'right':>7}{'accuracy':>10}{'adversarial':>13}{'right':>7}"
    for name, part in {**by_phenomenon(results), "overall": results}.items():
        hard = [each for each in part if each.dialogue.adversarial]
        counts = [sum(each.right for each in some) for some in (part, hard)]
        yield (
            f"{name:<14}{len(part):>5}{counts[0]:>7}{accuracy(part):>10.1%}"
            f"{len(hard):>13}{counts[1]:>7}"
        )


def _confusion(results: Sequence[Result]) -> Iterator[str]:
    counted = Counter(pair for each in results for pair in each.verdicts)
    yield "expected turns, by what they came to:"
    yield " " * 22 + "".join(
        f"{verdict.replace(' ', '-'):>{len(verdict) + 2}}" for verdict in VERDICTS
    )
    for kind in sorted({kind for kind, _ in counted}):
        cells = (f"{counted[kind, v] or '·':>{len(v) + 2}}" for v in VERDICTS)
        yield f"{kind:<22}" + "".join(cells)


def _failures(results: Sequence[Result]) -> Iterator[str]:
    for each in results:
        for miss in each.misses:
            yield f"{each.dialogue.id}: {miss.heard.text!r}: {miss.verdict}"
            yield f"    expected {_expected(miss.expect)}"
            yield f"    got      {_got(miss.heard)}"
            yield f"    BEEP     {miss.heard.response!r}"
        yield from (f"{each.dialogue.id}: OUT OF BOUNDS: {wrong}" for wrong in each.trespasses)


def _expected(expect: Expect) -> str:
    if expect.ask is not None:
        return f"a question: {expect.ask if expect.ask == ANYTHING else list(expect.ask)}"
    back = f", takes back turn {expect.takes_back}" if expect.takes_back else ""
    return f"{expect.intent} {dict(expect.arguments)}{back}"


def _got(heard: Heard) -> str:
    if heard.intent is None:
        return f"a question: {list(heard.candidates)}"
    back = heard.resolved.get("takesBack")
    return f"{heard.intent} {dict(heard.arguments)}" + (f", takes back seq {back}" if back else "")
