"""The list of turns: whole turns in order, at most five, each once, none missing and none that was
forgotten, each with its own text."""

from collections.abc import Mapping, Sequence
from typing import Final

from tests.faults.bench.api import Operation

from .common import Circumstances, Rising, Span, Verdict, by_user, is_refused, may_come

LENGTH: Final = 5
Turn = tuple[int, str]


def check(
    verdict: Verdict,
    noted: Sequence[Operation],
    circumstances: Circumstances,
    *,
    last: Mapping[int, Sequence[Turn]],
) -> None:
    """`last` turns of each user, in the end."""
    for user, of_user in by_user(noted, "command", "history", "forget"):
        turns = _Turns(of_user, circumstances)
        for wrong in turns.numbered_twice():
            verdict.turns.append(f"turns of {user}: {wrong}")
        for each in of_user:
            if each.kind == "history" and each.told is not None:
                for wrong in turns.wrong(each.told, each.start, each.end):
                    verdict.turns.append(f"turns of {user}: {each}: {wrong}")
        for wrong in turns.wrong(last[user], 1 << 62, 1 << 62):
            verdict.turns.append(f"turns of {user}, in the end: {wrong}")


class _Turns:
    """What one user said and forgot."""

    def __init__(self, noted: Sequence[Operation], circumstances: Circumstances) -> None:
        commands = [e for e in noted if e.kind == "command" and not is_refused(e)]
        self._begun: dict[str, int] = {}
        for each in commands:
            self._begun.setdefault(each.asked, each.start)
        # A command that was repeated under its key counts from its first answer.
        self._acknowledged: dict[int, Operation] = {}
        self._twice: list[str] = []
        for each in sorted(commands, key=lambda each: each.end):
            if each.told is not None:
                self._acknowledge(each)
        self._forgotten = [e for e in noted if e.kind == "forget" and not is_refused(e)]
        self._circumstances = circumstances
        self._visible = {
            seq: circumstances.seen_from(each) for seq, each in self._acknowledged.items()
        }
        self._newest = Rising((at, seq) for seq, at in self._visible.items())
        given = Rising((each.end, seq) for seq, each in self._acknowledged.items())
        self._over = Rising(
            (circumstances.seen_from(each), given.before(each.start))
            for each in self._forgotten
            if each.is_acknowledged
        )

    def _acknowledge(self, command: Operation) -> None:
        other = self._acknowledged.setdefault(command.told, command)
        if other.asked != command.asked:
            self._twice.append(f"{command} has the number of {other}")

    def numbered_twice(self) -> list[str]:
        """Commands that were told the number of another, and those that were given two."""
        numbers: dict[str, Operation] = {}
        again = []
        for command in self._acknowledged.values():
            other = numbers.setdefault(command.asked, command)
            span = (self._begun[command.asked], max(command.end, other.end))
            if other is not command and not self._may_be_forgotten_in(span):
                again.append(f"{command} was carried out before: {other}")
        return [*self._twice, *again]

    def _may_be_forgotten_in(self, span: Span) -> bool:
        start, end = span
        return any(each.start <= end and may_come(each, start) for each in self._forgotten)

    def wrong(self, told: Sequence[Turn], start: int, end: int) -> list[str]:
        """What is wrong with a list that was asked for and shown between the two."""
        found = [*self._form(told, end)]
        return [*found, *self._missing(told, start, end), *self._forgotten_ones(told, start)]

    def _form(self, told: Sequence[Turn], end: int) -> list[str]:
        seqs = [seq for seq, _ in told]
        found = []
        if len(seqs) > LENGTH:
            found.append("more than five")
        if seqs and seqs != [*range(seqs[0], seqs[0] + len(seqs))]:
            found.append("a gap, or out of order")
        for seq, text in told:
            known = self._acknowledged.get(seq)
            if self._begun.get(text, end + 1) > end or (known and known.asked != text):
                found.append(f"another text: {text!r}")
        return found

    def _missing(self, told: Sequence[Turn], start: int, end: int) -> list[str]:
        """Turns that were acknowledged before, that nobody may have forgotten, and that are neither
        shown nor pushed out by five later ones."""
        shown = {seq for seq, _ in told}
        newest = max(self._newest.before(start), *shown, 0)
        return [
            f"turn {seq} is missing"
            for seq in range(newest - LENGTH + 1, newest + 1)
            if seq not in shown and self._visible.get(seq, start) < start and self._stays(seq, end)
        ]

    def _stays(self, seq: int, end: int) -> bool:
        since = self._begun[self._acknowledged[seq].asked]
        return not self._may_be_forgotten_in((since, end))

    def _forgotten_ones(self, told: Sequence[Turn], start: int) -> list[str]:
        """Shown although all that had been given their numbers by then were forgotten."""
        through = self._over.before(start)
        return [f"turn {seq} was forgotten" for seq, _ in told if seq <= through]
