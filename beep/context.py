"""The Contextualization Engine: what a command means after the turns before it (docs/beep.md).

Pure: the same command, turns and canvas come to the same intent, or to the same question. A
reference that they do not settle becomes a question with the candidates, never a guess.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from beep.abilities import (
    CLOSE,
    DEEDS,
    HELP,
    MOVE,
    NEVER_MIND,
    OPEN,
    PLAY,
    RESIZE,
    TIDY,
    TILE,
    UNDO,
)
from beep.antecedents import Found, find
from beep.grammar import (
    AGAIN,
    ALSO,
    DEGREE,
    INSTEAD,
    OTHER_WAY,
    PAIR,
    REDO,
    Command,
    canonical,
)
from beep.measures import by_a_step, reversed_, to_degree
from beep.phrases import (
    A_PLAY_STANDS,
    A_PLAY_STANDS_SAY_IT,
    INSTEAD_WHAT,
    NO_OTHER_WAY,
    NOT_UNDERSTOOD,
    NOTHING_TO_REPEAT,
    NOTHING_TO_TAKE_BACK,
    ONE_AT_A_TIME,
    how_large,
    what_with,
    where_to,
    with_echo,
)
from beep.questions import CANNOT, ask, asked, not_understood
from beep.references import point
from beep.resolution import Arguments, Canvas, Intent, Reference, ResolvedCommand, Turn, Why
from beep.scene import Scene, has_words
from beep.sentences import parse, tidy
from beep.story import Names, Told, parts, read, says_it_all
from beep.waiting import (
    Task,
    correcting,
    is_several_commands,
    like,
    measured,
    number_said,
    with_stake,
)

ECHO_MAX: Final = 2_000  # characters


def resolve(command: str, history: Sequence[Turn], canvas: Canvas) -> ResolvedCommand:
    """What `command` means after `history`, the newest turn first. Never raises.

    Of a longer history only the newest five turns are read.
    """
    return _Engine(tidy(command), read(history), canvas).resolve(parse(command))


def response_for(text: str, resolved: ResolvedCommand, answer: str) -> str:
    """The response to record: the question, or the answer, below what was understood unless the
    command says it by itself. So a later turn knows what "it" was when older turns have gone."""
    if resolved.intent is None:
        return resolved.question or NOT_UNDERSTOOD
    if resolved.takes_back is None and says_it_all(text, resolved.intent):
        return answer
    understood = canonical(resolved.intent)
    if len(understood) > ECHO_MAX:  # it must not be cut
        understood = canonical(resolved.intent, names=f"{len(resolved.intent.names)} windows")
    return with_echo(understood, answer, instead_of=resolved.takes_back)


@dataclass(frozen=True, slots=True)
class _Engine:
    """What was said, and all that it may refer to."""

    said: str
    story: tuple[Told, ...]
    canvas: Canvas

    def resolve(self, command: Command | None) -> ResolvedCommand:
        """What the command that was said comes to; None where it is none."""
        if command is None:
            return self._answer(self.said)
        special: Mapping[str, Callable[[Command], ResolvedCommand]] = {
            AGAIN: self._again,
            OTHER_WAY: self._other_way,
            ALSO: self._also,
            INSTEAD: self._instead,
            UNDO: self._undo,
            REDO: self._redo,
            PAIR: self._of_a_pair,
            DEGREE: lambda _: not_understood(),
        }
        if command.name in special:
            return special[command.name](command)
        if command.name in CANNOT:
            return asked(CANNOT[command.name])
        if command.target is None:
            return ResolvedCommand(command.aimed_at(()))
        if command.fragment or not command.target:
            return self._without_object(command)
        return self._aim(Task(command), command.target)

    # --- aiming ---

    def _scene(self, task: Task, among: Names | None = None) -> Scene:
        name = task.command.name
        return Scene(name, self.story, self.canvas, task.back, task.wrong, among)

    def _aim(self, task: Task, target: str) -> ResolvedCommand:
        """The command with its target settled, by name or by reference."""
        scene = self._scene(task)
        if not scene.is_open(target) and is_several_commands(task.command, target):
            return asked(ONE_AT_A_TIME)
        number = number_said(task.command)
        if number and scene.is_open(longer := f"{target} {number}"):
            # "Notes 2" is a title, and no two pixels.
            arguments = by_a_step(task.command.arguments or {})
            task = replace(task, command=replace(task.command, arguments=arguments))
            target = longer
        return self._settle(task, scene, _found(scene, target))

    def _settle(
        self, task: Task, scene: Scene, found: Sequence[tuple[str, Found]]
    ) -> ResolvedCommand:
        names = tuple(dict.fromkeys(name for _, each in found for name in each.names))
        if unsettled := [each for _, each in found if not each.names]:
            return ask(scene, unsettled[0])
        if task.command.name == PLAY and len(names) > 1:
            return ask(scene, Found(candidates=names))
        return self._complete(task, names, _references(found, task.why))

    def _complete(
        self, task: Task, names: Names, references: tuple[Reference, ...]
    ) -> ResolvedCommand:
        """With its object; without the rest of what it needs it asks for that."""
        command = task.command
        if command.arguments is None:
            question = where_to(names) if command.name == MOVE else how_large(names)
            return replace(asked(question), references=references)
        return ResolvedCommand(command.aimed_at(names), references, takes_back=task.takes_back)

    def _without_object(self, command: Command) -> ResolvedCommand:
        """ "Bigger", "close": done to what was just asked about, or what the last deed was done to;
        a verb by itself asks."""
        lacks = self.story[0].lacks if self.story else None
        task, scene = self._task_for(command), Scene(command.name, self.story, self.canvas)
        phrase = self.said
        if lacks and all(scene.fit(name) for name in lacks[1]):
            reference = Reference(phrase, ", ".join(lacks[1]), "answer", self.story[0].seq)
            return self._complete(task, lacks[1], (reference,))
        if not command.fragment:
            return ask(scene, Found(candidates=scene.everything))
        for told in self.story:
            names = scene.fit_of(told.subject)
            if told.done and told.kind in DEEDS | {UNDO} and names:
                reference = Reference(phrase, ", ".join(names), "ellipsis", told.seq)
                return self._complete(task, names, (reference,))
        return self._settle(replace(task, why="ellipsis"), scene, [(phrase, find(scene, "it"))])

    def _task_for(self, command: Command) -> Task:
        """What was asked for may belong to a correction: "no, move" – "Where …?" – "left"."""
        asked = self.story[0].command if self.story and self.story[0].lacks else None
        before = _Engine("", self.story[1:], self.canvas)
        deed = before._newest_deed
        if deed and asked and asked.name == INSTEAD and deed.kind != PLAY:
            return correcting(deed, command)
        return Task(command)

    def _of_a_pair(self, pair: Command) -> ResolvedCommand:
        """ "300 200": a place or a size, whichever was asked for."""
        lacks = self.story[0].lacks if self.story else None
        if lacks is None or lacks[0] == "what":
            return not_understood()
        name, sides = (MOVE, ("x", "y")) if lacks[0] == "where" else (RESIZE, ("width", "height"))
        numbers = (pair.arguments or {}).values()
        arguments: Arguments = dict(zip(sides, numbers, strict=True))
        return self._without_object(Command(name, "", arguments, fragment=True))

    # --- what refers to an earlier command ---

    @property
    def _newest_deed(self) -> Told | None:
        return next((told for told in self.story if told.is_deed), None)

    def _again(self, command: Command) -> ResolvedCommand:
        """The newest deed once more (of one kind, after "play again"), else the newest query."""
        if self.story and self.story[0].lacks:
            return not_understood()  # "a bit" is no place
        given = dict(command.arguments or {})
        wanted, degree = given.pop("intent", None), str(given.pop("degree", ""))
        if given.pop("adjusts", 0) and (deed := self._newest_deed) and deed.kind == PLAY:
            return not_understood()
        done = [t for t in self.story if t.done and t.kind and wanted in (None, t.kind)]
        deeds = [t for t in done if t.kind in DEEDS | {UNDO} and not t.taken_back]
        queries = [t for t in done if t.kind not in (*DEEDS, UNDO, HELP, NEVER_MIND)]
        told = next(iter(deeds or queries), None)
        if told is None:
            return asked(NOTHING_TO_REPEAT)
        if told.kind == UNDO:
            return self._redo(command) if self._is_redo(told) else self._undo(Command(UNDO, ""))
        if told.kind in DEEDS - {TILE, TIDY} and not told.subject:
            return asked(NOTHING_TO_REPEAT)  # of too many names to say
        arguments = {**to_degree(told.intent.arguments, degree), **given}
        return self._repeat(told, Intent(told.kind, arguments))

    def _repeat(self, told: Told, intent: Intent) -> ResolvedCommand:
        """An intent like the one that a turn was, if what it acts on is still fit for it."""
        scene = Scene(intent.name, self.story, self.canvas)
        fit = [scene.fit(name) for name in intent.names]
        if any(len(each) != 1 for each in fit):
            return ask(scene, Found(candidates=scene.everything))
        reference = Reference(self.said, canonical(intent), "repetition", told.seq)
        return ResolvedCommand(intent, (reference,))

    def _other_way(self, _: Command) -> ResolvedCommand:
        deed = self._newest_deed
        if deed is None:
            return asked(NOTHING_TO_REPEAT)
        arguments = reversed_(deed.intent.arguments)
        if arguments is None:
            return asked(NO_OTHER_WAY)
        return self._repeat(deed, Intent(deed.kind, arguments))

    def _also(self, command: Command) -> ResolvedCommand:
        """ "And the clock?": the newest deed, done to this; or the answer to a question."""
        if answered := self._answer_to_question(command.target or ""):
            return answered
        deed = self._newest_deed
        if deed is None or not deed.subject:
            return asked(NOTHING_TO_REPEAT)
        return self._aim(Task(like(deed), why="ellipsis"), command.target or "")

    def _undo(self, command: Command) -> ResolvedCommand:
        deeds = self._meant_to_undo(command)
        if not deeds:
            return asked(NOTHING_TO_TAKE_BACK)
        if deeds[0].kind == PLAY:
            return asked(A_PLAY_STANDS)
        reference = Reference(self.said, canonical(deeds[0].intent), "undo", deeds[0].seq)
        return ResolvedCommand(Intent(UNDO, {"turn": deeds[0].seq}), (reference,))

    def _meant_to_undo(self, command: Command) -> list[Told]:
        """The deeds that stand, newest first, as far as they are meant."""
        deeds, target = [told for told in self.story if told.is_deed], command.target or ""
        if command.target is None:
            return [told for told in deeds if told.seq == (command.arguments or {})["turn"]]
        if target.casefold() in _ONE_BEFORE:
            return deeds if deeds and self.story[0].kind == UNDO else deeds[1:]
        pointer = point(target)
        if pointer and not pointer.words:
            is_newest = pointer.kind in ("it", "this") or pointer.position == -1
            return deeds if is_newest else []  # "the first one": of what?
        return [told for told in deeds if _speaks_of(told, target)] if target else deeds

    def _is_redo(self, told: Told) -> bool:
        """Whether this took a taking back back."""
        undone = next((t for t in self.story if t.seq == told.takes_back), None)
        return undone is not None and undone.kind == UNDO

    def _redo(self, _: Command) -> ResolvedCommand:
        """What was taken back last, once more: the taking back is taken back."""
        changes = [t for t in self.story if t.is_deed or (t.takes_back and not t.taken_back)]
        if not changes or changes[0].kind != UNDO or self._is_redo(changes[0]):
            return asked(NOTHING_TO_REPEAT)
        intent = Intent(UNDO, {"turn": changes[0].seq})
        reference = Reference(self.said, canonical(changes[0].intent), "undo", changes[0].seq)
        return ResolvedCommand(intent, (reference,))

    def _instead(self, command: Command) -> ResolvedCommand:
        """ "No, the other one": the newest deed is taken back, and done to this instead."""
        target, inner = command.target or "", command.inner
        if inner is None and (answer := self._answer_to_question(target)):
            return answer
        deed = self._newest_deed
        if inner is not None and (deed is None or self.story[0].asks or self.story[0].lacks):
            return self.resolve(inner)
        # After an undo nothing has been said of what was done before it.
        if deed is None or self.story[0].kind == UNDO or not (inner or deed.subject):
            return not_understood()
        if deed.kind == PLAY and (inner is None or inner.name == PLAY):
            return asked(A_PLAY_STANDS_SAY_IT)
        if inner is not None:
            return self._correct_command(inner, deed)
        return self._aim(correcting(deed), target) if target else asked(INSTEAD_WHAT)

    def _correct_command(self, inner: Command, deed: Told) -> ResolvedCommand:
        """ "No, right", "no, close the clock": something else, to the same or to another."""
        if inner.name in (DEGREE, OTHER_WAY, PAIR):
            return self._correct_measure(inner, deed)
        if inner.name not in DEEDS:
            return self.resolve(inner)  # a question corrects nothing
        task = correcting(deed, inner)
        if inner.target is None:
            return ResolvedCommand(inner.aimed_at(()), takes_back=task.takes_back)
        pointer = point(inner.target)
        if inner.target and (pointer is None or pointer.kind not in ("it", "this", "them")):
            return self._aim(replace(task, wrong=deed.subject if pointer else ()), inner.target)
        scene = self._scene(task)
        found = Found(scene.fit_of(deed.subject), "repair", deed.seq, scene.everything)
        return self._settle(task, scene, [(inner.target or self.said, found)])

    def _correct_measure(self, inner: Command, deed: Told) -> ResolvedCommand:
        """ "No, a bit", "no, the other way", "no, 300 200": the same, by another measure."""
        arguments = measured(inner, deed)
        if arguments is None:
            return not_understood()
        task = correcting(deed)
        corrected = replace(task, command=replace(task.command, arguments=arguments))
        found = Found(self._scene(task).fit_of(deed.subject), "repair", deed.seq)
        return self._settle(corrected, self._scene(task), [(self.said, found)])

    # --- answers ---

    def _answer(self, text: str) -> ResolvedCommand:
        """A text that is no command: an answer to a question, or a reference without a verb."""
        if answered := self._answer_to_question(text):
            return answered
        scene = Scene(CLOSE, self.story, self.canvas)  # a verb that needs an open window
        found = find(scene, text) if text else Found(missing=text)
        if len(found.names) == 1:
            references = _references([(text, found)], None)
            return replace(asked(what_with(found.names[0])), references=references)
        return not_understood() if found.missing or not text else ask(scene, found)

    def _answer_to_question(self, text: str) -> ResolvedCommand | None:
        """The command that the newest turn asked about, if this answers it."""
        task = self._pending(self.story)
        if task is None or not text:
            return None
        scene = self._scene(task)
        among = scene.fit_of(self.story[0].listed) or None
        task, text = with_stake(replace(task, why="answer"), text)
        if among and len(self.story[0].listed) == 1 and text.lower() in _YES:
            return self._settle(task, scene, [(text, Found(among, "answer", self.story[0].seq))])
        found = _found(self._scene(task, among), text)
        if any(each.missing for _, each in found):
            # Another one than those that were offered, by its name.
            found = _found(scene, text)
            if task.command.name == OPEN or any(each.missing for _, each in found):
                return None
        return self._settle(task, scene, [*task.settled, *found])

    def _pending(self, story: tuple[Told, ...]) -> Task | None:
        """The command whose object the newest of these turns asked for."""
        if not story or not story[0].asks:
            return None
        told, before = story[0], _Engine("", story[1:], self.canvas)
        if told.command is None:
            return self._pending(story[1:])
        deed = before._newest_deed
        if deed and told.command.name == ALSO:
            return Task(like(deed))
        if deed and told.command.name == INSTEAD:
            return correcting(deed, told.command.inner)
        if told.command.target is None or "." not in told.command.name:
            return None
        return Task(told.command, settled=before._settled_parts(told.command))

    def _settled_parts(self, command: Command) -> tuple[tuple[str, Found], ...]:
        """Those of several things that a command spoke of about which there was no question."""
        scene = self._scene(Task(command))
        found = _found(scene, command.target) if command.target else []
        return tuple((p, each) for p, each in found if each.names) if len(found) > 1 else ()


def _found(scene: Scene, target: str) -> list[tuple[str, Found]]:
    """What each part of a target means; the whole, if that is something's name."""
    whole, several = find(scene, target), parts(target)
    found = [(each, find(scene, each)) for each in several]
    is_there = whole.names and not whole.is_new
    parts_are = all(each.names for _, each in found)
    is_one = is_there and (whole.why is None or not parts_are)  # by its name, or by its words
    return [(target, whole)] if len(several) < 2 or is_one else found


def _references(found: Sequence[tuple[str, Found]], why: Why | None) -> tuple[Reference, ...]:
    """Those of the phrases that were no plain names, or all, where the command gives a reason."""
    reasons = [(phrase, each, why or each.why) for phrase, each in found]
    return tuple(
        Reference(phrase, ", ".join(each.names), reason, each.seq)
        for phrase, each, reason in reasons
        if reason is not None
    )


_ONE_BEFORE: Final = ("the one before", "the one before that", "the previous one")
_YES: Final = ("yes", "yeah", "yep", "that one", "that")
_EMPTY_WORDS: Final = frozenset(
    ["the", "my", "last", "one", "of", "it", "that", "this", "them", "thing"]
)
_KINDS: Final = {
    MOVE: ("move", "moving", "moved"), RESIZE: ("resize", "resizing", "size"),
    CLOSE: ("close", "closing"), OPEN: ("open", "opening"), PLAY: ("play", "playing"),
}  # fmt: skip


def _speaks_of(told: Told, target: str) -> bool:
    """Whether a deed was this kind of thing ("the last move"), or was done to this."""
    words = set(target.casefold().split()) - _EMPTY_WORDS
    kinds = {kind for kind, names in _KINDS.items() if not words.isdisjoint(names)}
    rest = " ".join(words - {word for names in _KINDS.values() for word in names})
    is_of_kind = told.kind in kinds or not kinds
    return is_of_kind and (not rest or any(has_words(name, rest) for name in told.subject))
