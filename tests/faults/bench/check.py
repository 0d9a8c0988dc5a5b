"""Whether what visitors were told may be: per user, psyche, session, canvas and turns.

Each rule is of the form "what begins after something was acknowledged shows it". A visitor's own
numbers only rise, and so do versions, revisions and `seq`; so one pass over time is enough.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aevon.cache import outbox, resources
from canvas import services as canvas
from canvas.models import AwayEdit, Canvas
from klepsydra.models import Interaction, PsycheState
from tests.consistency import history
from tests.consistency.history import GRACE, Read, Told, Write
from tests.waiting import eventually

from .visitors import Operation, Person, numbers

REST_SECONDS: Final = 30.0
Span = tuple[int, int]  # nanoseconds by CLOCK_MONOTONIC, both ends


@dataclass
class Verdict:
    """How much was checked, and each violation in words."""

    operations: int = 0
    stale: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    let_in: list[str] = field(default_factory=list)  # after the session's end was acknowledged
    turns: list[str] = field(default_factory=list)

    @property
    def violations(self) -> list[str]:
        """All of them."""
        return [*self.stale, *self.lost, *self.foreign, *self.let_in, *self.turns]


class _Away:
    """When the cache was away."""

    def __init__(self, outages: Sequence[Span]) -> None:
        self._outages = outages

    def told(self, write: Operation) -> Told:
        """Whether the cache can be held to have been told of it."""
        late = GRACE["away"]
        away = any(begun <= write.end and write.start <= end + late for begun, end in self._outages)
        return "away" if away else "cache"

    def seen_from(self, write: Operation) -> int:
        """The time from which on it must be seen."""
        return write.end + GRACE[self.told(write)]


def _rest() -> None:
    """Until nothing waits to be told to the cache."""
    resources.repair_waiting()
    assert eventually(lambda: outbox.depth() == 0, REST_SECONDS), "the outbox is not drained"
    assert eventually(lambda: not AwayEdit.objects.exists(), REST_SECONDS), "a journal is left"


def check(
    operations: Iterable[Operation],
    people: Sequence[Person],
    *,
    outages: Sequence[Span] = (),
    lost_memory: Sequence[Span] = (),
) -> Verdict:
    """Against each other, and against PostgreSQL and the live canvases once all are at rest.

    `outages`: while the cache was away, up to when every process had it again. A write that was
    acknowledged in one, or `GRACE` after it, may be seen so much later: its process may not have
    reached a cache that another one reads (G4).
    `lost_memory`: from the beginning of the last flush to the moment in which the cache lost its
    memory. What was changed on a canvas in between may be lost (G6).
    """
    noted = sorted(operations, key=lambda each: each.start)
    away = _Away(outages)
    _rest()
    verdict = Verdict(operations=len(noted))
    verdict.foreign = [f"{each}" for each in noted if each.foreign]
    _psyche(verdict, noted, people, away)
    _sessions(verdict, noted)
    for user, of_user in _by_user(noted):
        of_canvas = [each for each in of_user if each.kind in ("canvas", "patch")]
        _canvas(verdict, user, of_canvas, _kept(of_canvas, lost_memory, away))
        of_turns = [each for each in of_user if each.kind in ("command", "history", "forget")]
        _turns(verdict, user, of_turns, away)
    _last_canvases(verdict, _kept(noted, lost_memory, away))
    return verdict


def _by_user(noted: Iterable[Operation]) -> Iterator[tuple[int, list[Operation]]]:
    found: dict[int, list[Operation]] = defaultdict(list)
    for each in noted:
        found[each.user].append(each)
    yield from found.items()


# --- psyche ------------------------------------------------------------------------------------


def _psyche(
    verdict: Verdict, noted: list[Operation], people: Sequence[Person], away: _Away
) -> None:
    """Linearizable: tests.consistency.history says how. What was written without an
    acknowledgement is found by its key."""
    users = [person.user_id for person in people]
    plays = [each for each in noted if each.kind == "play"]
    rows = Interaction.objects.filter(user_id__in=users, idempotency_key__isnull=False)
    versions = dict(rows.values_list("idempotency_key", "psyche_version"))
    writes = [_write(each, versions.get(each.asked), away) for each in plays]
    reads = [
        Read(str(each.user), each.start, each.end, each.told, each.told)
        for each in noted
        if each.kind == "psyche" and each.told is not None
    ]
    first = {str(user): Write(str(user), 0, 0, 1, 1) for user in users}
    now = PsycheState.objects.filter(pk__in=users).values_list("pk", "version")
    found = history.check(reads, writes, first=first, last={str(pk): v for pk, v in now})
    kept = {"stale": verdict.stale, "lost": verdict.lost, "duplicate": verdict.lost}
    for example in found.examples:
        kept.get(example.partition(":")[0], verdict.stale).append(f"psyche {example}")


def _write(play: Operation, version: int | None, away: _Away) -> Write:
    """As the checker takes it; told of another version than PostgreSQL has is lost."""
    if play.told not in (None, version):
        version = None
    end = None if play.told is None else play.end
    return Write(str(play.user), play.start, end, version, version or 0, away.told(play))


# --- sessions ----------------------------------------------------------------------------------


def _sessions(verdict: Verdict, noted: list[Operation]) -> None:
    """Nobody is let in by a session whose end was acknowledged before."""
    ended = {each.asked: each.end for each in noted if each.kind == "logout" and each.status == 204}
    for each in noted:
        let_in = each.kind == "validate" and each.status == 204
        if let_in and each.start > ended.get(each.asked, each.start):
            verdict.let_in.append(f"{each} after {ended[each.asked]}")


# --- canvas ------------------------------------------------------------------------------------


# An acknowledged patch, and the time from which on it must be seen.
Due = tuple[int, Operation]


def _kept(noted: list[Operation], lost_memory: Sequence[Span], away: _Away) -> list[Due]:
    """The acknowledged patches that no loss of memory excuses, as they fall due."""
    patches = [each for each in noted if each.kind == "patch" and each.told is not None]
    return sorted(
        (away.seen_from(patch), patch)
        for patch in patches
        if not any(since <= patch.end and patch.start <= at for since, at in lost_memory)
    )


def _canvas(verdict: Verdict, user: int, noted: list[Operation], due: list[Due]) -> None:
    """Of each window at least the number acknowledged before. Who cannot reach the cache is shown
    the layout as last persisted."""
    for operation, floor in _with_floors(noted, due):
        if operation.told is None or operation.away:
            continue
        shown = operation.told[1]
        missing = {n: k for n, k in floor.items() if shown.get(n, 0) < k}
        if missing:
            verdict.stale.append(f"canvas of {user}: {operation} lacks {missing}")


def _with_floors(
    noted: list[Operation], due: list[Due]
) -> Iterator[tuple[Operation, dict[str, int]]]:
    """Each operation with what had been acknowledged of each window before it began."""
    floor: dict[str, int] = {}
    at = 0
    for operation in noted:
        while at < len(due) and due[at][0] < operation.start:
            name, number = due[at][1].asked
            floor[name] = max(number, floor.get(name, 0))
            at += 1
        yield operation, floor


def _last_canvases(verdict: Verdict, due: list[Due]) -> None:
    """In the end the live canvas has every window's last number, and so has PostgreSQL after a
    flush."""
    last: dict[int, dict[str, int]] = defaultdict(dict)
    for _, each in due:
        name, number = each.asked
        last[each.user][name] = max(number, last[each.user].get(name, 0))
    if not last:
        return
    live = {user: numbers(canvas.live(user).layout) for user in last}
    canvas.persist_now()
    rows = dict(Canvas.objects.filter(pk__in=[*last]).values_list("pk", "layout"))
    for user, windows in last.items():
        for where, shown in (("live", live[user]), ("row", numbers(rows[user]))):
            missing = {n: k for n, k in windows.items() if shown.get(n, 0) < k}
            if missing:
                verdict.lost.append(f"canvas of {user}, {where}: lacks {missing}, shows {shown}")


# --- turns -------------------------------------------------------------------------------------


def _turns(verdict: Verdict, user: int, noted: list[Operation], away: _Away) -> None:
    """Whole turns in order, five at most, each once, none missing, each with its own text; the
    newest is no older than what was acknowledged before."""
    said = {each.asked for each in noted if each.kind == "command"}
    texts = {each.told: each.asked for each in noted if each.kind == "command" and each.told}
    acknowledged = sorted(
        (away.seen_from(e), e.told) for e in noted if e.kind == "command" and e.told
    )
    forgotten = [each for each in noted if each.kind == "forget"]
    newest, at = 0, 0
    for each in noted:
        if each.kind != "history" or each.told is None:
            continue
        while at < len(acknowledged) and acknowledged[at][0] < each.start:
            newest = max(newest, acknowledged[at][1])
            at += 1
        wrong = _wrong_list(each.told, texts, said)
        if not forgotten:
            wrong = wrong or _missing(each.told, newest)
        if wrong:
            verdict.turns.append(f"turns of {user}: {each}: {wrong}")


def _missing(told: Any, newest: int) -> str:
    last = told[-1][0] if told else 0
    if last < newest:
        return f"older than {newest}"
    return "turns are missing" if len(told) < min(5, last) else ""


def _wrong_list(told: Any, texts: dict[int, str], said: set[str]) -> str:
    seqs = [seq for seq, _ in told]
    if len(seqs) > 5:
        return "more than five"
    if seqs and seqs != [*range(seqs[0], seqs[0] + len(seqs))]:
        return "a gap, or out of order"
    if any(text not in said or texts.get(seq, text) != text for seq, text in told):
        return "another text"
    return ""
