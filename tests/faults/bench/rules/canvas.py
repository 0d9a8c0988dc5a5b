"""No change of a canvas that was acknowledged is lost, and nothing is shown that nobody drew.

Each window belongs to one client, who draws rising numbers in it. `asked` of a patch is the window,
the number, and from some clients the window that it closes and the revision of its If-Match.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from tests.faults.bench.api import Operation

from .common import Circumstances, Rising, Span, Verdict, by_user, is_refused, may_come_later

NEVER: Final = 1 << 62


class Shown(NamedTuple):
    """A canvas at rest."""

    revision: int
    numbers: Mapping[str, int]


def check(
    verdict: Verdict,
    noted: Sequence[Operation],
    circumstances: Circumstances,
    *,
    live: Mapping[int, Shown],
    rows: Mapping[int, Shown],
) -> None:
    """`live` canvases of the users, and what PostgreSQL has of them after a flush."""
    owners = {each.asked[0]: each.user for each in noted if each.kind == "patch"}
    logouts = dict(by_user(noted, "logout", "logout_everywhere"))
    for user, of_user in by_user(noted, "canvas", "patch"):
        flushes = [*circumstances.flushes, *_of_logouts(logouts.get(user, ()), circumstances)]
        windows = _Windows(user, of_user, owners, circumstances, flushes)
        for each in of_user:
            if each.told is not None:
                _check_shown(verdict, each, windows)
        _check_revisions(verdict, of_user, circumstances)
        _check_at_rest(verdict, windows, {"live": live[user], "row": rows[user]})


def _of_logouts(logouts: Sequence[Operation], circumstances: Circumstances) -> list[Span]:
    """When a session's end persisted the canvas, for which the cache must be there (G6)."""
    return [
        (each.start, each.end)
        for each in logouts
        if each.is_acknowledged and circumstances.told(each) == "cache"
    ]


class _Windows:
    """What was drawn in the windows of one user."""

    def __init__(
        self,
        user: int,
        noted: Sequence[Operation],
        owners: Mapping[str, int],
        circumstances: Circumstances,
        flushes: Sequence[Span],
    ) -> None:
        self.user, self._owners, self._circumstances = user, owners, circumstances
        self._flushes = sorted(flushes)
        patches = [each for each in noted if each.kind == "patch"]
        self._patches = {tuple(each.asked[:2]): each for each in patches}
        self._closed: dict[str, int] = {}
        for each in patches:
            for name in each.asked[2:3]:
                self._closed.setdefault(name, each.start)
        self._floors: dict[tuple[int, bool], dict[str, Rising]] = {}

    def _seen_from(self, patch: Operation, *, away: bool) -> int:
        """When a patch must be seen; `away`: by who reads the row, because the cache is away."""
        if not away or patch.away:
            return self._circumstances.seen_from(patch)
        after = [end for start, end in self._flushes if start >= patch.end]
        return min(after, default=NEVER)

    def _floors_after(self, losses: int, *, away: bool) -> dict[str, Rising]:
        """What must be there of each window once the cache has lost its memory so often."""
        if (losses, away) not in self._floors:
            found: dict[str, list[tuple[int, int]]] = {}
            for (name, number), patch in self._patches.items():
                if patch.told is None or self._circumstances.may_be_lost(patch, losses):
                    continue
                due = found.setdefault(name, [])
                due.append((self._seen_from(patch, away=away), number))
            self._floors[losses, away] = {name: Rising(due) for name, due in found.items()}
        return self._floors[losses, away]

    def lacking(
        self, shown: Mapping[str, int], start: int, end: int, losses: int, *, away: bool = False
    ) -> dict[str, tuple[int, int, float]]:
        """Each window that shows less than was acknowledged before `start`: the number that it
        shows, the one that it lacks, and for how many seconds that had been acknowledged."""
        lacking = {}
        for name, floor in self._floors_after(losses, away=away).items():
            number, least = shown.get(name, 0), floor.before(start)
            if number >= least or self._closed.get(name, end + 1) <= end:
                continue
            came = self._patches.get((name, number))
            if came is None or not may_come_later(came):
                lacking[name] = (
                    number,
                    least,
                    round((start - self._patches[name, least].end) / 1e9, 3),
                )
        return lacking

    def undrawn(self, shown: Mapping[str, int], end: int) -> dict[str, int]:
        """What nobody had begun to draw."""
        return {
            name: number
            for name, number in shown.items()
            if self._owners.get(name) == self.user and not self._is_drawn(name, number, end)
        }

    def _is_drawn(self, name: str, number: int, end: int) -> bool:
        patch = self._patches.get((name, number))
        return patch is not None and not is_refused(patch) and patch.start <= end

    def of_others(self, shown: Mapping[str, int]) -> list[str]:
        """Windows of other users."""
        return [name for name in shown if self._owners.get(name, self.user) != self.user]


def _check_shown(verdict: Verdict, each: Operation, windows: _Windows) -> None:
    shown = each.told[1]
    losses = windows._circumstances.lives(each)[1]
    if lacking := windows.lacking(shown, each.start, each.end, losses, away=each.away):
        verdict.stale.append(f"canvas of {windows.user}: {each} lacks {lacking}")
    if undrawn := windows.undrawn(shown, each.end):
        verdict.stale.append(f"canvas of {windows.user}: {each}: nobody drew {undrawn}")
    if others := windows.of_others(shown):
        verdict.foreign.append(f"canvas of {windows.user}: {each} shows {others}")


def _check_revisions(
    verdict: Verdict, noted: Sequence[Operation], circumstances: Circumstances
) -> None:
    """Of live documents, as long as the cache keeps its memory: they never fall, each patch has one
    of its own, and each shows one content. While the cache is away the row counts by itself
    (caveat 8)."""
    lives: dict[int, list[Operation]] = {}
    for each in noted:
        before, after = circumstances.lives(each)
        if each.told is not None and not each.away and before == after:
            lives.setdefault(before, []).append(each)
    for life in lives.values():
        _check_life(verdict, life)


def _check_life(verdict: Verdict, noted: Sequence[Operation]) -> None:
    seen = Rising([(each.end, each.told[0]) for each in noted])
    contents: dict[int, Operation] = {}
    patches: dict[int, Operation] = {}
    for each in noted:
        revision, numbers = each.told
        if revision < seen.before(each.start):
            verdict.stale.append(f"canvas: {each}: revisions fall from {seen.before(each.start)}")
        other = contents.setdefault(revision, each)
        if other.told[1] != numbers:
            verdict.lost.append(f"canvas: one revision, {each} and {other}")
        if each.kind != "patch":
            continue
        if revision in patches:
            verdict.lost.append(f"canvas: the same revision for {each} and {patches[revision]}")
        patches[revision] = each
        for expected in each.asked[3:]:
            if expected is not None and revision != expected + 1:
                verdict.lost.append(f"canvas: {each}: made of another revision than it names")


def _check_at_rest(verdict: Verdict, windows: _Windows, found: Mapping[str, Shown]) -> None:
    """In the end the live canvas has each window's last number, and so has PostgreSQL."""
    for where, shown in found.items():
        losses = len(windows._circumstances.lost_memory)
        if lacking := windows.lacking(shown.numbers, NEVER, NEVER, losses):
            verdict.lost.append(f"canvas of {windows.user}, {where}: lacks {lacking}")
        if undrawn := windows.undrawn(shown.numbers, NEVER):
            verdict.lost.append(f"canvas of {windows.user}, {where}: nobody drew {undrawn}")
        if others := windows.of_others(shown.numbers):
            verdict.foreign.append(f"canvas of {windows.user}, {where}: shows {others}")
