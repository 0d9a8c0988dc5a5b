"""The checker of histories over HTTP accepts what is promised, and nothing else."""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.consistency.history import SECOND
from tests.faults.bench.api import Operation
from tests.faults.bench.check import AtRest, Circumstances, Verdict, judge
from tests.faults.bench.line import NOBODY
from tests.faults.bench.rules.canvas import Shown
from tests.faults.bench_model import USER, Noted, history

CALM: Final = Circumstances()
NOTHING: Final = Shown(0, {})


def op(kind: str, start: float, end: float, told: Any = None, **other: Any) -> Operation:
    """An operation of the user, by seconds; of success, unless its status says otherwise."""
    values = {"status": 200, "asked": None, **other}
    return Operation(kind, USER, int(start * SECOND), int(end * SECOND), told=told, **values)


def judged(*noted: Operation, circumstances: Circumstances = CALM, **end: Any) -> Verdict:
    """The verdict; in the end there is what the last ones say."""
    ordered = sorted(noted, key=lambda each: each.start)
    plays = {e.asked: e.told for e in ordered if e.kind == "play" and e.told}
    shown = [e.told for e in ordered if e.kind in ("canvas", "patch") and e.told]
    last = Shown(*shown[-1]) if shown else NOTHING
    forgotten = any(each.kind == "forget" for each in ordered)
    said = {} if forgotten else {e.told: e.asked for e in ordered if e.kind == "command" and e.told}
    values: dict[str, Any] = {
        "versions": plays,
        "last": {USER: max(plays.values(), default=1)},
        "live": {USER: last},
        "rows": {USER: last},
        "turns": {USER: sorted(said.items())[-5:]},
        **end,
    }
    return judge(ordered, AtRest(**values), circumstances)


def kinds(verdict: Verdict) -> set[str]:
    """What is wrong."""
    names = ("stale", "lost", "foreign", "let_in", "refused", "turns")
    return {name for name in names if getattr(verdict, name)}


# --- histories of a model, and what is wrong with them -----------------------------------------


@examples(max_examples=60)
@given(st.randoms(use_true_random=False), st.integers(1, 120))
def test_a_site_that_keeps_its_promises(rng: random.Random, length: int) -> None:
    """Whatever overlaps, and whatever answer is lost."""
    noted, end = history(rng, length)
    assert judge(noted, end, CALM).violations == []


Broken = tuple[Noted, AtRest]


def changed(noted: Noted, which: Operation, **fields: Any) -> Noted:
    """The history with one operation told otherwise."""
    return [each._replace(**fields) if each is which else each for each in noted]


def pairs(noted: Noted, first: str, then: str) -> Iterator[tuple[Operation, Operation]]:
    """What was acknowledged, with what began after it."""
    for each in noted:
        for later in noted:
            both = (each.kind, later.kind) == (first, then) and each.end < later.start
            if both and each.is_acknowledged and later.is_acknowledged:
                yield each, later


def older_psyche(noted: Noted, end: AtRest) -> Iterator[Broken]:
    """A read of a version before an acknowledged play."""
    for play, read in pairs(noted, "play", "psyche"):
        yield changed(noted, read, told=play.told - 1), end


def play_lost(noted: Noted, end: AtRest) -> Iterator[Broken]:
    """PostgreSQL has nothing of an acknowledged play."""
    for play in noted:
        if play.kind == "play" and play.told:
            versions = {k: v for k, v in end.versions.items() if k != play.asked}
            yield noted, replace(end, versions=versions)


def older_window(noted: Noted, end: AtRest) -> Iterator[Broken]:
    """A canvas before an acknowledged change of it."""
    for patch, read in pairs(noted, "patch", "canvas"):
        name, number = patch.asked[:2]
        revision, shown = read.told
        if shown.get(name) == number:
            yield changed(noted, read, told=(revision, {**shown, name: number - 1})), end


def revision_falls(noted: Noted, end: AtRest) -> Iterator[Broken]:
    """A canvas with everything in it, of a revision before."""
    for patch, read in pairs(noted, "patch", "canvas"):
        yield changed(noted, read, told=(patch.told[0] - 1, read.told[1])), end


def drawn_by_nobody(noted: Noted, end: AtRest) -> Iterator[Broken]:
    """A number that is still to come."""
    for read in noted:
        if read.kind == "canvas" and read.told and read.told[1]:
            name = next(iter(read.told[1]))
            yield changed(noted, read, told=(read.told[0], {**read.told[1], name: 999})), end


def change_lost(noted: Noted, end: AtRest) -> Iterator[Broken]:
    """In the end PostgreSQL lacks a window."""
    closed = {patch.asked[2] for patch in noted if patch.kind == "patch"}
    for patch in noted:
        if patch.kind == "patch" and patch.told and patch.asked[0] not in closed:
            shown = {k: v for k, v in end.rows[USER].numbers.items() if k != patch.asked[0]}
            yield noted, replace(end, rows={USER: Shown(end.rows[USER].revision, shown)})


def one_revision_for_two(noted: Noted, end: AtRest) -> Iterator[Broken]:
    """A patch was given the revision of another."""
    for patch, other in pairs(noted, "patch", "patch"):
        yield changed(noted, other, told=(patch.told[0], other.told[1])), end


def turn_missing(noted: Noted, end: AtRest) -> Iterator[Broken]:
    """The newest turn is not shown."""
    forgets = [each for each in noted if each.kind == "forget"]
    for command, read in pairs(noted, "command", "history"):
        over = [f for f in forgets if f.end >= command.start or not f.is_acknowledged]
        forgotten = any(each.start <= read.end for each in over)
        if not forgotten and read.told and read.told[-1][0] == command.told:
            yield changed(noted, read, told=read.told[:-1]), end


def turns_out_of_order(noted: Noted, end: AtRest) -> Iterator[Broken]:
    """The other way round."""
    for read in noted:
        if read.kind == "history" and len(read.told or ()) > 1:
            yield changed(noted, read, told=read.told[::-1]), end


def turn_twice(noted: Noted, end: AtRest) -> Iterator[Broken]:
    """Two commands have one number."""
    for command, other in pairs(noted, "command", "command"):
        yield changed(noted, other, told=command.told), end


def forgotten_shown(noted: Noted, end: AtRest) -> Iterator[Broken]:
    """A turn that was forgotten."""
    for command, forget in pairs(noted, "command", "forget"):
        for _, read in pairs([forget, *noted], "forget", "history"):
            if forget.end < read.start:
                yield changed(noted, read, told=((command.told, command.asked),)), end


def let_in_after_its_end(noted: Noted, end: AtRest) -> Iterator[Broken]:
    """By a session that was logged out."""
    for logout, later in pairs(noted, "logout", "validate"):
        yield changed(noted, later, sid=logout.sid), end


def live_refused(noted: Noted, end: AtRest) -> Iterator[Broken]:
    """Nothing has ended it."""
    ended = any(each.kind.startswith("logout") for each in noted)
    for each in noted:
        if each.kind == "validate" and each.status == 204 and not ended:
            yield changed(noted, each, status=401, told=None), end


BREAKS: Final[dict[Callable[[Noted, AtRest], Iterator[Broken]], set[str]]] = {
    older_psyche: {"stale"},
    play_lost: {"lost"},
    older_window: {"stale"},
    revision_falls: {"stale"},
    drawn_by_nobody: {"stale"},
    change_lost: {"lost"},
    one_revision_for_two: {"lost"},
    turn_missing: {"turns"},
    turns_out_of_order: {"turns"},
    turn_twice: {"turns"},
    forgotten_shown: {"turns"},
    let_in_after_its_end: {"let_in"},
    live_refused: {"refused"},
}


@pytest.mark.parametrize("break_it", BREAKS, ids=lambda each: each.__name__)
def test_a_promise_that_was_broken_is_noticed(break_it: Any) -> None:
    """Each way to break one, wherever there is a place for it in many histories."""
    broken = 0
    for seed in range(40):
        noted, end = history(random.Random(seed), 14 if seed % 2 else 60)
        for wrong, wrong_end in itertools.islice(break_it(noted, end), 3):
            verdict = judge(wrong, wrong_end, CALM)
            assert BREAKS[break_it] <= kinds(verdict), (seed, verdict)
            broken += 1
    assert broken >= 10


# --- what faults excuse, and what they do not --------------------------------------------------

SID: Final = "s0"
AWAY: Final = Circumstances(outages=[(0, 5 * SECOND)])


def test_a_play_whose_answer_was_lost() -> None:
    """It may show, or not; but its version belongs to nobody else."""
    lost = op("play", 1, 2, status=NOBODY, asked="k")
    read = op("psyche", 3, 4, 2)
    assert kinds(judged(lost, read, versions={"k": 2}, last={USER: 2})) == set()
    assert kinds(judged(lost, read, versions={}, last={USER: 1})) == {"stale"}


def test_a_play_that_was_repeated_under_its_key() -> None:
    """It is one write, and both answers tell the same."""
    first, again = op("play", 1, 2, 2, asked="k"), op("play", 3, 4, 2, asked="k")
    assert kinds(judged(first, again)) == set()
    other = judged(first, again._replace(told=3), versions={"k": 2}, last={USER: 2})
    assert kinds(other) == {"lost"}


def test_two_contents_of_one_version() -> None:
    """One of the two was never there."""
    reads = [op("psyche", 1, 2, 1, content=7), op("psyche", 3, 4, 1, content=8)]
    assert kinds(judged(*reads)) == {"stale"}
    assert kinds(judged(reads[0], reads[1]._replace(content=7))) == set()


def test_an_older_state_than_another_was_shown() -> None:
    """It is counted: nobody was told yet that it is written."""
    play = op("play", 1, 9, 2, asked="k")
    verdict = judged(play, op("psyche", 2, 3, 2), op("psyche", 4, 5, 1))
    assert (kinds(verdict), verdict.unsettled) == (set(), 1)


@pytest.mark.parametrize(
    ("write", "before", "after"),
    [
        (op("play", 1, 2, 2, asked="k"), op("psyche", 3, 4, 1), "stale"),
        (
            op("patch", 1, 2, (1, {"w": 1}), asked=("w", 1), away=True),
            op("canvas", 3, 4, (0, {})),
            "stale",
        ),
        (op("command", 1, 2, 1, asked="text"), op("history", 3, 4, ()), "turns"),
        (op("logout", 1, 2, status=204, asked=SID), op("validate", 3, 4, 1, sid=SID), "let_in"),
        (op("login", 1, 2, SID, sid=SID), op("validate", 3, 4, status=401, sid=SID), "refused"),
    ],
)
def test_what_the_cache_could_not_be_told(write: Operation, before: Operation, after: str) -> None:
    """It may be late by two seconds, and no longer; where the cache was there, not at all."""
    end = {"live": {USER: Shown(1, {"w": 1})}, "rows": {USER: Shown(1, {"w": 1})}}
    late = before._replace(start=int(4.1 * SECOND), end=5 * SECOND)
    assert kinds(judged(write, before, circumstances=AWAY, **end)) == set()
    assert kinds(judged(write, late, circumstances=AWAY, **end)) == {after}
    assert kinds(judged(write, before, **end)) == {after}


@pytest.mark.parametrize(("kind", "status"), [("validate", 403), ("refresh", 401)])
def test_what_is_no_lateness_of_a_login(kind: str, status: int) -> None:
    """It is asked of the row, or of nothing that a login changes."""
    login = op("login", 1, 2, SID, sid=SID)
    refused = op(kind, 3, 4, status=status, sid=SID)
    assert kinds(judged(login, refused, circumstances=AWAY)) == {"refused"}


def test_memory_that_was_lost() -> None:
    """What was changed since the flush may be gone afterwards, and nothing else."""
    kept = op("patch", 1, 2, (1, {"w": 1}), asked=("w", 1))
    gone = op("patch", 4, 5, (2, {"w": 2}), asked=("w", 2))
    loss = Circumstances(lost_memory=[(3 * SECOND, 6 * SECOND)])
    after = op("canvas", 7, 8, (1, {"w": 1}))
    assert kinds(judged(kept, gone, after, circumstances=loss)) == set()
    assert kinds(judged(kept, gone, after)) == {"stale", "lost"}
    assert kinds(judged(kept, gone, after._replace(told=(1, {})), circumstances=loss)) >= {"stale"}
    early = op("canvas", 5.1, 5.2, (3, {"w": 1}))
    assert kinds(judged(kept, gone, early, after, circumstances=loss)) == {"stale"}


def test_a_patch_that_comes_late() -> None:
    """Whoever gave it up may find it over a later one; who was answered may not."""
    given_up = op("patch", 1, 2, status=NOBODY, asked=("w", 1))
    later = op("patch", 3, 4, (1, {"w": 2}), asked=("w", 2))
    read = op("canvas", 5, 6, (2, {"w": 1}))
    assert kinds(judged(given_up, later, read)) == set()
    assert kinds(judged(given_up._replace(status=503), later, read)) == {"stale", "lost"}


def test_a_window_that_was_closed() -> None:
    """Nobody looks for it any more."""
    first = op("patch", 1, 2, (1, {"w": 1}), asked=("w", 1, "", None))
    closing = op("patch", 3, 4, (2, {"x": 1}), asked=("x", 1, "w", None))
    assert kinds(judged(first, closing, op("canvas", 5, 6, (2, {"x": 1})))) == set()
    assert kinds(judged(first, op("canvas", 2.5, 2.9, (1, {})), closing)) == {"stale", "lost"}


def test_a_change_of_another_revision_than_it_names() -> None:
    """`If-Match` was not looked at."""
    patch = op("patch", 1, 2, (3, {"w": 1}), asked=("w", 1, "", 1))
    assert kinds(judged(patch)) == {"lost"}
    assert kinds(judged(patch._replace(asked=("w", 1, "", 2)))) == set()


def test_two_patches_of_one_revision() -> None:
    """One of the two was made of a canvas that it did not look at."""
    told = (1, {"w": 1, "x": 1})
    patches = [op("patch", 1, 2, told, asked=("w", 1)), op("patch", 1, 2, told, asked=("x", 1))]
    assert kinds(judged(*patches)) == {"lost"}


def test_a_patch_that_is_shown_before_it_begins() -> None:
    """Nobody can have drawn it."""
    patch = op("patch", 3, 4, (1, {"w": 1}), asked=("w", 1))
    assert kinds(judged(op("canvas", 1, 2, (1, {"w": 1})), patch)) == {"stale"}
    assert kinds(judged(op("canvas", 1, 3, (1, {"w": 1})), patch)) == set()


def test_a_refused_patch_that_is_shown() -> None:
    """Nobody drew it."""
    refused = op("patch", 1, 2, status=412, asked=("w", 1, "", 7))
    assert kinds(judged(refused, op("canvas", 3, 4, (1, {"w": 1})))) == {"stale", "lost"}


def test_a_window_of_another_user() -> None:
    """It is seen by its name."""
    theirs = op("patch", 1, 2, (1, {"w": 1}), asked=("w", 1))._replace(user=2)
    ends = {2: Shown(1, {"w": 1}), USER: NOTHING}
    verdict = judged(theirs, op("canvas", 3, 4, (1, {"w": 1})), live=ends, rows=ends)
    assert kinds(verdict) == {"foreign"}


def test_a_canvas_while_the_cache_is_away() -> None:
    """It is the one that was persisted last, and what was changed in the row since."""
    live = op("patch", 1, 2, (1, {"w": 1}), asked=("w", 1))
    row = op("patch", 3, 4, (1, {"x": 1}), asked=("x", 1), away=True)
    after = op("canvas", 9, 10, (2, {"w": 1, "x": 1}))
    read = op("canvas", 5, 6, (1, {"x": 1}), away=True)
    assert kinds(judged(live, row, read, after)) == set()
    assert kinds(judged(live, row, read._replace(told=(0, {})), after)) == {"stale"}
    assert kinds(judged(live, row, read, after._replace(told=(2, {"x": 1})))) == {"stale", "lost"}
    flushed = Circumstances(flushes=[(2 * SECOND + 1, 3 * SECOND)])
    assert kinds(judged(live, row, read, after, circumstances=flushed)) == {"stale"}
    logout = op("logout", 2.1, 2.2, status=204, asked=SID)
    assert kinds(judged(live, logout, row, read, after)) == {"stale"}


def test_rows_that_count_by_themselves() -> None:
    """While the cache is away a revision may be given twice; live ones are given once."""
    live = op("patch", 1, 2, (1, {"w": 1}), asked=("w", 1))
    row = op("patch", 3, 4, (1, {"w": 1, "x": 1}), asked=("x", 1))
    assert kinds(judged(live, row._replace(away=True))) == set()
    assert kinds(judged(live, row)) == {"lost"}


def test_a_turn_of_another_text() -> None:
    """Also of one that nobody has said yet."""
    command = op("command", 1, 2, 1, asked="text")
    said_later = op("command", 5, 6, 2, asked="later")
    assert kinds(judged(command, op("history", 3, 4, ((1, "other"),)))) == {"turns"}
    early = op("history", 3, 4, ((1, "text"), (2, "later")))
    assert kinds(judged(command, early, said_later)) == {"turns"}


def test_texts_that_were_exchanged() -> None:
    """Both were said, but not under these numbers."""
    commands = [op("command", n, n + 0.5, n, asked=f"text {n}") for n in (1, 2)]
    assert kinds(judged(*commands, op("history", 3, 4, ((1, "text 2"), (2, "text 1"))))) == {
        "turns"
    }


def test_more_than_five_turns() -> None:
    """The list is cut."""
    commands = [op("command", n, n + 0.5, n, asked=f"text {n}") for n in range(1, 7)]
    turns = tuple((n, f"text {n}") for n in range(1, 7))
    assert kinds(judged(*commands, op("history", 8, 9, turns))) == {"turns"}
    assert kinds(judged(*commands, op("history", 8, 9, turns[1:]))) == set()


def test_a_forgetting_whose_answer_was_lost() -> None:
    """It may come at any time."""
    lost, command = op("forget", 1, 2, status=NOBODY), op("command", 3, 4, 1, asked="text")
    assert kinds(judged(lost, command, op("history", 5, 6, ()))) == set()
    assert kinds(judged(command, op("history", 5, 6, ()))) == {"turns"}


def test_what_there_is_in_the_end() -> None:
    """A list without its turn, and an entry that is not what PostgreSQL has."""
    command = op("command", 1, 2, 1, asked="text")
    assert kinds(judged(command, turns={USER: []})) == {"turns"}
    assert kinds(judged(differs=["psyche:1 is stale"])) == {"stale"}


def test_an_answer_that_names_another_user() -> None:
    """Whatever it holds."""
    assert kinds(judged(op("psyche", 1, 2, 1, foreign=True))) == {"foreign"}


def test_a_command_that_was_carried_out_twice() -> None:
    """Under one key; unless its turn was forgotten in between."""
    first, again = op("command", 1, 2, 1, asked="t"), op("command", 5, 6, 2, asked="t")
    assert kinds(judged(first, again)) == {"turns"}
    assert kinds(judged(first, op("forget", 3, 4, status=204), again)) == set()


def test_a_logout_whose_answer_was_lost() -> None:
    """The session may have ended, or not."""
    lost = op("logout", 1, 2, status=NOBODY, asked=SID, sid=SID)
    for status in (204, 401):
        assert kinds(judged(lost, op("validate", 3, 4, status=status, sid=SID))) == set()


def test_a_user_who_is_disabled() -> None:
    """All sessions end, no login is let in; afterwards a new one is."""
    off, on = op("disable", 1, 2), op("enable", 5, 6)
    refused = op("login", 3, 4, status=401)
    assert kinds(judged(off, on, refused, op("validate", 3, 4, status=401, sid=SID))) == set()
    assert kinds(judged(off, on, op("validate", 3, 4, 1, sid=SID))) == {"let_in"}
    assert kinds(judged(off, on, op("login", 3, 4, "new", sid="new"))) == {"let_in"}
    assert kinds(judged(off, on, op("login", 7, 8, status=401))) == {"refused"}
    login = op("login", 7, 8, "new", sid="new")
    assert kinds(judged(off, on, login, op("validate", 9, 10, 1, sid="new"))) == set()
    assert kinds(judged(off, on, login, op("validate", 9, 10, status=401, sid="new"))) == {
        "refused"
    }


@pytest.mark.parametrize("status", [400, 404, 409, 422, 429])
def test_a_sound_request_that_is_refused(status: int) -> None:
    """With whatever words."""
    assert kinds(judged(op("validate", 1, 2, status=status, sid=SID))) == {"refused"}
