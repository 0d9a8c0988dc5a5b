#!/usr/bin/env python3
"""Every interleaving of the bounded list's protocol, for one user and a list of at most two.

    python docs/models/bounded_list.py    # all mixes, then each rule left out

The record has the elements 1 and 2 in the beginning. The key holds nothing, a list (its elements'
numbers, newest first; in the beginning it is complete, or, where a mix begins with `-`, missing) or
the lease of a process. A list is of the life of the server in which it was filled; where there are
restarts, a snapshot is taken once, at any moment, and the next life begins with it. Every commit
notes in the outbox what it was: the number of an element that the application has added, or that
the list must be compared.

Processes
    R  reader: a hit ends it; else lease, read the record, fill
    C  command: commit the next element, append it or take a lease, then read the record and fill
    A  a retry: find the last element that was committed, and go on as who committed it
    F  forgets: commit the end of all elements, remove the key
    P, Q  somebody outside removes the newest element, or the one before it
    D  drain: read the note; tell the list of a number, or compare it: read the list, then the
       record, remove what differs; delete the note if it still is the one that was read. (In which
       order the two are read makes no difference: what changes meanwhile is noted anew.)

A violation is (1) a read that lacks an element which counted before it began, and has not been
removed, or has one whose end counted; or (2) a quiet system, all having ended and nothing noted,
whose list is not the last elements of the record.
What counts: an element when its command acknowledges it, an end when who forgets does, and of both
what there was when a drain that has told the list began. In the scopes without `drain` there is no
outbox: there all holds by leases and numbers alone, without crashes and outsiders.

A `schedule` is one way from the beginning to an end where nothing can happen any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from interleavings import Result, run, search

LIMIT = 2
BEGINNING = (2, 1)
COMPARE = 0  # a note without a number
ENDED = "ended"

Elements = tuple[int, ...]  # newest first


class Lease(NamedTuple):
    token: int


class Full(NamedTuple):
    elements: Elements
    life: int = 0


Key = Lease | Full | None


class Note(NamedTuple):
    number: int
    written: int  # how often, which is its xmin


class Rules(NamedTuple):
    """Switching one off must produce a violation."""

    predecessor: bool = True  # an element is appended to the one before it only
    stays: bool = True  # a list that has gone further takes nothing older in
    lease: bool = True  # only the holder of the key's lease may fill
    incarnation: bool = True  # a list of an earlier life of the server is none
    inherits: bool = True  # an element is of the life of the list that it is appended to
    of_lease: bool = True  # what is filled is of the life that gave the lease
    append_ends_lease: bool = True
    forgetting_ends_lease: bool = True
    drain_ends_lease: bool = True
    newest: bool = True  # a list is filled only with the last element that was ever given
    outbox: bool = True  # every commit is noted
    retry_tells: bool = True  # what a retry acknowledges it appends, too
    compare_stays: bool = True  # a number does not replace a note without one
    recheck: bool = True  # the note is deleted only if it is the one that was read


class Scope(NamedTuple):
    """The faults that may happen."""

    evictions: int = 0
    crashes: int = 0
    lease_expiries: int = 0
    restarts: int = 0
    drain: bool = False  # there is an outbox


class Process(NamedTuple):
    kind: str
    step: str = "start"
    number: int = 0  # of the element that was committed, or of the note that was read
    read: Elements = ()  # of the record
    last: int = 0  # that was given, when the record was read
    held: Key = None  # what a comparison has seen
    life: int = 0  # of the server, when it left its lease, or looked
    written: int = 0
    counted: frozenset[int] = frozenset()  # when the reader began
    ended: frozenset[int] = frozenset()


class World(NamedTuple):
    key: Key
    record: Elements
    last: int
    processes: tuple[Process, ...]
    left: Scope
    note: Note | None = None
    commits: int = 0
    counted: frozenset[int] = frozenset()
    ended: frozenset[int] = frozenset()  # the removed elements whose end counts
    life: int = 0
    snapshot: tuple[Key] | None = None


Move = tuple[str, World, str | None]  # what happens, what then is, and what is wrong with that


# --- the scripts -------------------------------------------------------------------------------


def append(key: Key, number: int, token: int, rules: Rules, life: int) -> Key:
    """The list with the element in front, the list as it was, or a lease."""
    if isinstance(key, Full):
        newest = key.elements[0]
        if newest >= number and rules.stays:
            return key
        if newest == number - 1 or not rules.predecessor or newest >= number:
            elements = tuple(sorted({*key.elements, number}, reverse=True))[:LIMIT]
            return Full(elements, key.life if rules.inherits else life)
    elif not rules.predecessor:
        return Full((number,), life)
    elif isinstance(key, Lease) and not rules.append_ends_lease:
        return key
    return Lease(token)


def fill(key: Key, token: int, me: Process, rules: Rules, life: int) -> Key:
    if key != Lease(token) and rules.lease:
        return key
    complete = me.read and (me.read[0] >= me.last or not rules.newest)
    return Full(me.read[:LIMIT], me.life if rules.of_lease else life) if complete else None


def observe(key: Key, number: int, rules: Rules) -> Key:
    if isinstance(key, Full):
        return key if key.elements[0] >= number else None
    return None if rules.drain_ends_lease else key


# --- the processes -----------------------------------------------------------------------------


def becomes(w: World, i: int, me: Process, step: str, **changes: Any) -> World:
    # What an ended process remembered makes no difference any more.
    me = Process(me.kind, ENDED) if step == ENDED else me._replace(step=step)
    return w._replace(processes=(*w.processes[:i], me, *w.processes[i + 1 :]), **changes)


def reads_record(w: World, i: int, me: Process, step: str) -> Move:
    me = me._replace(read=w.record, last=w.last)
    return f"{me.kind}{i} reads the record {w.record}", becomes(w, i, me, step), None


def commits(w: World, i: int, me: Process, step: str, rules: Rules) -> Move:
    """The next element, or what is left without the ones that are removed."""
    number = w.last + 1 if me.kind == "C" else COMPARE
    record = {"C": (w.last + 1, *w.record), "F": (), "P": w.record[1:]}.get(
        me.kind, (*w.record[:1], *w.record[2:])
    )
    last = w.last + (me.kind == "C")
    if w.note and COMPARE in (number, w.note.number) and rules.compare_stays:
        number = COMPARE
    elif w.note:
        number = max(number, w.note.number)
    note = Note(number, w.commits + 1) if w.left.drain and rules.outbox else None
    me = me._replace(number=last, read=w.record)
    after = becomes(w, i, me, step, record=record, last=last, note=note, commits=w.commits + 1)
    return f"{me.kind}{i} commits {record}", after, None


def wrong(w: World, me: Process, told: Elements) -> str | None:
    """What is wrong with what a reader is told."""
    if list(told) != sorted(set(told), reverse=True) or len(told) > LIMIT:
        return f"returned {told}"
    if back := me.ended & set(told):
        return f"returned {told} when {min(back)} had been removed"
    owed = {n for n in me.counted & set(w.record) if len(told) < LIMIT or n > told[-1]}
    lost = owed - set(told)
    return f"returned {told} without {max(lost)}" if lost else None


def reader(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    if me.step == "start":
        me = me._replace(counted=w.counted, ended=w.ended)
        if isinstance(w.key, Full) and (w.key.life == w.life or not rules.incarnation):
            told = w.key.elements
            yield f"R{i} hits {told}", becomes(w, i, me, ENDED), wrong(w, me, told)
        else:
            key = w.key if isinstance(w.key, Lease) else Lease(i)
            me = me._replace(life=w.life)
            yield f"R{i} misses", becomes(w, i, me, "read record", key=key), None
    elif me.step == "read record":
        yield reads_record(w, i, me, "fill")
    else:
        told, key = me.read[:LIMIT], fill(w.key, i, me, rules, w.life)
        yield f"R{i} fills, returns {told}", becomes(w, i, me, ENDED, key=key), wrong(w, me, told)


def command(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    if me.step == "start" and me.kind == "C":
        yield commits(w, i, me, "append", rules)
    elif me.step == "start":
        if w.record and w.record[0] > BEGINNING[0]:
            me = me._replace(number=w.record[0])
            found = becomes(w, i, me, "append")
            yield (
                f"A{i} finds {me.number}",
                found if rules.retry_tells else acknowledged(w, i, me, w.key),
                None,
            )
    elif me.step == "append":
        key = append(w.key, me.number, i, rules, w.life)
        if key == Lease(i):
            me = me._replace(life=w.life)
            yield f"{me.kind}{i} leases", becomes(w, i, me, "read record", key=key), None
        else:
            yield f"{me.kind}{i} appends {me.number}: {key}", acknowledged(w, i, me, key), None
    elif me.step == "read record":
        yield reads_record(w, i, me, "fill")
    else:
        key = fill(w.key, i, me, rules, w.life)
        yield f"{me.kind}{i} fills", acknowledged(w, i, me, key), None


def acknowledged(w: World, i: int, me: Process, key: Key) -> World:
    return becomes(w, i, me, ENDED, key=key, counted=w.counted | {me.number})


def forgetter(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    if me.step == "start":
        yield commits(w, i, me, "unlink", rules)
    else:
        stays = isinstance(w.key, Lease) and not rules.forgetting_ends_lease
        key, ended = w.key if stays else None, w.ended | set(me.read)
        yield f"F{i} removes the key", becomes(w, i, me, ENDED, key=key, ended=ended), None


def outsider(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    if len(w.record) > (me.kind == "Q"):
        yield commits(w, i, me, ENDED, rules)


def known(w: World) -> dict[str, frozenset[int]]:
    """What there is and what has been, as a drain knows it when it begins."""
    record = frozenset(w.record)
    return {"counted": record, "ended": frozenset(range(1, w.last + 1)) - record}


def drain(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    if me.step == "start" and w.note:
        me = me._replace(number=w.note.number, written=w.note.written, **known(w))
        step = "look" if me.number == COMPARE else "tell"
        yield f"D{i} reads the note {me.number}", becomes(w, i, me, step), None
    elif me.step == "tell":
        key = observe(w.key, me.number, rules)
        counted = w.counted | {me.number}
        yield f"D{i} tells {me.number}", becomes(w, i, me, "clear", key=key, counted=counted), None
    elif me.step == "look":
        me = me._replace(held=w.key, life=w.life)
        yield f"D{i} looks at {w.key}", becomes(w, i, me, "read record"), None
    elif me.step == "read record":
        yield reads_record(w, i, me, "compare")
    elif me.step == "compare":
        yield compares(w, i, me, rules)
    elif me.step == "clear":
        same = w.note is not None and (w.note.written == me.written or not rules.recheck)
        yield f"D{i} clears", becomes(w, i, me, ENDED, note=None if same else w.note), None


def compares(w: World, i: int, me: Process, rules: Rules) -> Move:
    complete = me.read and me.read[0] >= me.last
    right = Full(me.read[:LIMIT], me.life) if complete or (me.read and not rules.newest) else None
    spared = isinstance(me.held, Lease) and not rules.drain_ends_lease
    key = w.key if me.held in (None, right) or spared else None
    told = {"counted": w.counted | me.counted, "ended": w.ended | me.ended}
    return f"D{i} compares", becomes(w, i, me, "clear", key=key, **told), None


PROCESSES: dict[str, Callable[[World, int, Process, Rules], Iterator[Move]]] = {
    "R": reader,
    "C": command,
    "A": command,
    "F": forgetter,
    "P": outsider,
    "Q": outsider,
    "D": drain,
}


# --- what else may happen ----------------------------------------------------------------------


def spent(w: World, fault: str) -> Scope:
    return w.left._replace(**{fault: getattr(w.left, fault) - 1})


def faults(w: World) -> Iterator[Move]:
    if w.key is not None and w.left.evictions:
        yield "eviction", w._replace(key=None, left=spent(w, "evictions")), None
    if isinstance(w.key, Lease) and w.left.lease_expiries:
        yield "lease expires", w._replace(key=None, left=spent(w, "lease_expiries")), None
    if w.left.restarts:
        if w.snapshot is None:
            yield "snapshot", w._replace(snapshot=(w.key,)), None
        else:
            [key] = w.snapshot
            left = spent(w, "restarts")
            yield f"restart with {key}", w._replace(key=key, life=w.life + 1, left=left), None
    if w.left.crashes:
        for i, me in enumerate(w.processes):
            if me.step not in ("start", ENDED):
                left = spent(w, "crashes")
                yield f"{me.kind}{i} dies", becomes(w, i, me, ENDED, left=left), None


def moves(w: World, rules: Rules) -> Iterator[Move]:
    begun = set()
    for i, me in enumerate(w.processes):
        if me.step == "start":
            if me.kind in begun:  # like processes begin in order
                continue
            begun.add(me.kind)
        if me.step != ENDED:
            yield from PROCESSES[me.kind](w, i, me, rules)
    yield from faults(w)


def judged(w: World) -> str | None:
    """Of a quiet system."""
    waits = {("start", "D"), ("start", "A")}
    idle = all(me.step == ENDED or (me.step, me.kind) in waits for me in w.processes)
    if not idle or w.note or not isinstance(w.key, Full) or w.key.life != w.life:
        return None
    if w.key.elements != w.record[:LIMIT]:
        return f"the list stays {w.key.elements}, the record is {w.record}"
    return None


def explore(mix: str, scope: Scope, rules: Rules = Rules()) -> Result:  # noqa: B008  a constant
    """All that can come of these processes at once."""
    begins = None if mix.startswith("-") else Full(BEGINNING)
    processes = tuple(Process(kind) for kind in mix.removeprefix("-"))
    first = World(begins, BEGINNING, 2, processes, scope, counted=frozenset(BEGINNING))
    return search(first, lambda w: moves(w, rules), judged)


SCOPES = {
    "no faults": Scope(),
    "evictions": Scope(evictions=2),
    "leases run out": Scope(evictions=1, lease_expiries=1),
    "a restart": Scope(evictions=1, restarts=1),
    "a restart, drain": Scope(restarts=1, drain=True),
    "drain": Scope(evictions=1, drain=True),
    "a crash": Scope(evictions=1, crashes=1, drain=True),
    "two crashes": Scope(crashes=2, drain=True),
}
MIXES = {
    "no faults": "CCC CAR -CCAR CFAR -CCR CCRR CFR CFCR -CFCR FRR",
    "evictions": "CCR CCRR CFR CFCR -CFRR",
    "leases run out": "CCR CFR -CFRR",
    "a restart": "CCR CAR CFR -CFR FRR -FRR CFRR",
    "a restart, drain": "CRD CPDR CFRD",
    "drain": "CPDR CPDDR CQDR -CPDR CCPDR CCDDR PQDR CFDR FPDR",
    "a crash": "CRD CARD CFARD CCRD CCRDD CFRD CPDRD",
    "two crashes": "CRD CCRD CFRDD CFRR",
}


def without(rule: str) -> tuple[str, Result]:
    """The first mix that shows what the rule is for."""
    rules = Rules()._replace(**{rule: False})
    found = Result(0, 0)
    for title, mixes in MIXES.items():
        for mix in mixes.split():
            found = explore(mix, SCOPES[title], rules)
            if found.violation:
                return f"{mix}, {title}", found
    return "none", found


if __name__ == "__main__":
    raise SystemExit(
        run(MIXES, lambda mix, title: explore(mix, SCOPES[title]), Rules._fields, without)
    )
