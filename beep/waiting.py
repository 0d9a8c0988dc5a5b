"""A command that waits for its object, and what it becomes of a deed that it corrects."""

from dataclasses import dataclass, replace

from beep.abilities import CLOSE, MOVE, PLAY, RESIZE
from beep.antecedents import Found
from beep.grammar import DEGREE, OTHER_WAY, Command
from beep.measures import reversed_, to_degree
from beep.resolution import Arguments, Why
from beep.sentences import parse
from beep.story import Names, Told, parts


@dataclass(frozen=True, slots=True)
class Task:
    """A command that waits for its object: the one just given, or one that a question was about.

    `wrong` are names that it is not about, `takes_back` the turn that it corrects and `back` what
    then comes back. `why` is the reason for every reference in it, where there is one. `settled` is
    what else it is about.
    """

    command: Command
    wrong: Names = ()
    takes_back: int | None = None
    back: Names = ()
    why: Why | None = None
    settled: tuple[tuple[str, Found], ...] = ()


def correcting(deed: Told, command: Command | None = None) -> Task:
    """What is done in place of a deed, which is taken back unless it was a play: another command,
    or the same to something else."""
    return Task(
        command or like(deed),
        wrong=() if command else deed.subject,
        takes_back=None if deed.kind == PLAY else deed.seq,
        back=deed.subject if deed.kind == CLOSE else (),
        why="repair",
    )


def with_stake(task: Task, answer: str) -> tuple[Task, str]:
    """ "The oracle with 5": an answer may say the stake as well."""
    said = parse(f"play {answer}") if task.command.name == PLAY else None
    if said is None or said.name != PLAY or not said.target or not said.arguments:
        return task, answer
    return replace(task, command=replace(task.command, arguments=said.arguments)), said.target


def number_said(command: Command) -> int:
    """How far a step goes, which may be the end of a title instead."""
    arguments = command.arguments or {}
    far = [abs(n) for n in (arguments.get("dx"), arguments.get("dy")) if isinstance(n, int)]
    return max(far, default=0)


def is_several_commands(command: Command, target: str) -> bool:
    """ "Notes left and the clock right", "Notes and move it left"."""
    first, *others = parts(target) or [""]
    if others and command.name == MOVE:
        alone = parse(f"move {first}")
        return alone is not None and alone.arguments is not None
    return any(found is not None and "." in found.name for found in map(parse, others))


def measured(inner: Command, deed: Told) -> Arguments | None:
    """A deed's arguments by what a correction says of them; None where that means nothing."""
    own, said = like(deed).arguments or {}, inner.arguments or {}
    if inner.name == OTHER_WAY:
        return reversed_(own)
    if inner.name == DEGREE:
        much = str(said["degree"])
        return to_degree(own, much) if much and {"dx", "widthPercent"} & own.keys() else None
    sides = {MOVE: ("x", "y"), RESIZE: ("width", "height")}.get(deed.kind)
    return dict(zip(sides, said.values(), strict=True)) if sides else None


def like(deed: Told) -> Command:
    """The command that a deed was, without its object."""
    own = ("microApps", "instrument")
    arguments: Arguments = {k: v for k, v in deed.intent.arguments.items() if k not in own}
    return Command(deed.kind, "", arguments)
