#!/usr/bin/env python3
"""Every interleaving of the entry protocol, for one key and one row.

    python docs/models/entry_protocol.py    # all mixes, then each rule left out

The key holds nothing, an `Entry` (a state, or a tombstone where the row is gone), a `Lease` or a
`Fence`. An entry is stamped with the life of the server under which the lease or the mark was
obtained that put it in; one of another life is a miss, and may be leased over. The row's version
rises with every commit, also across a deletion, and every commit writes the outbox with it.

Processes
    R  reader: GET (a hit ends it), lease, read the row, fill
    W  lock the row, fence, commit an update or roll back, install
    D, I  as W, with a delete or an insert
    S  a save in autocommit: fence, commit, read the row, install what was read
    G  guarded: load and fence in one script, UPDATE ... WHERE version = seen, install; or write
       nothing, and put back what was read
    P  somebody outside, such as psql: commits, and knows of no cache

A violation is (1) a read that returns an older version than one that counted before it began, or
(2) a quiet system, all having ended, whose cache would serve something else than the row.
What counts: a write, when its writer acknowledges it after an install, or without one because the
cache is away for all; and any version, once the outbox has told the key of it. So before that
nothing is promised of a write from outside, or by a writer who alone was cut off from the cache.

The outbox repairs, sooner or later, whatever leases and fences would have prevented. So that it
does not hide what they do, the scopes without `drain` have no outbox at all: there (1) and (2) hold
by leases and fences alone. With `drain`, quiet means that the outbox is empty too; then a fence may
even be evicted while its writer dies.

Not modelled: that each process finds out by itself when the cache is back. Here it is back for all,
and trusted after one drain of what the outbox then held.

Steps are merged where that loses no violation: taking the row's lock with the fence after it, and
an install with its acknowledgement (later, it only promises less). Like processes begin in order.
A `schedule` is one way from the beginning to an end where nothing can happen any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from interleavings import Result, run, search

UNKNOWN = 99  # a floor that no version reaches
ENDED = "ended"


class Entry(NamedTuple):
    """A state, or a tombstone, of this version."""

    version: int
    exists: bool
    life: int  # of the server, when the lease or mark was obtained; 0: none was


class Lease(NamedTuple):
    token: int


class Fence(NamedTuple):
    tokens: tuple[int, ...]
    floor: int


Key = Entry | Lease | Fence | None


class Rules(NamedTuple):
    """Switching one off must produce a violation."""

    lease: bool = True  # only the holder of the key's lease may fill
    fence: bool = True  # a writer fences before its commit
    compare: bool = True  # an install respects fences, floors and newer entries
    floor: bool = True  # a fence remembers versions that could not be installed
    joint: bool = True  # a fence names all writers in flight, not only the last
    kill_lease: bool = True  # who has a commit to tell deletes a lease
    taint: bool = True  # a mark that ran out leaves an unknown outcome: nothing may be installed
    tombstone: bool = True  # a deleter tells the version of the absence
    outbox: bool = True  # every commit writes the outbox
    recheck: bool = True  # the outbox is cleared only of what the key was told
    incarnation: bool = True  # an entry of another life of the server is a miss
    carried_stamp: bool = True  # the stamp is the lease's or the mark's life, not today's
    marked: bool = True  # without a mark nothing is put in, what is older is removed
    drain_first: bool = True  # a cache that was away is trusted after a drain
    outlived: bool = True  # an install puts nothing over an entry of another life


class Scope(NamedTuple):
    """The faults that may happen, and what guards against them."""

    evictions: int = 0  # or flushes, which spare fences
    crashes: int = 0
    lease_expiries: int = 0
    outages: int = 0
    restarts: int = 0  # with the key's content of an earlier moment
    cuts: int = 0  # writers who lose the cache, alone
    hands: int = 0  # that write an entry of another life over whatever is there
    sticky: bool = False  # fences are not evicted
    drain: bool = False  # there is an outbox


class Process(NamedTuple):
    kind: str
    step: str = "start"
    life: int = 0  # of the server, when the lease or the mark was obtained; 0: none was
    version: int = 0  # read or committed
    exists: bool = True
    state: int = 0  # the version of the state that its fence has replaced; 0: there was none
    counted: int = 0  # when the reader began
    cut: bool = False


class World(NamedTuple):
    key: Key
    version: int  # of the row in PostgreSQL, or of its absence
    exists: bool
    processes: tuple[Process, ...]
    left: Scope
    lock: int | None = None  # the process that holds the row's lock
    counted: int = 0  # the highest version that must be seen
    outbox: int = 0  # the version that it was written with last; 0: empty
    told: int = 0  # the outbox's version that the key was told
    cache: str = "up"  # "away"; or "back", and not yet trusted
    life: int = 1  # of the server
    snapshot: Key = None


Move = tuple[str, World, str | None]  # what happens, what then is, and what is wrong with that


# --- the scripts -------------------------------------------------------------------------------


def fence(key: Key, token: int, rules: Rules) -> Key:
    if not rules.fence:
        return key
    if isinstance(key, Fence):
        tokens = tuple(sorted({*key.tokens, token})) if rules.joint else (token,)
        return Fence(tokens, key.floor)
    return Fence((token,), key.version if isinstance(key, Entry) else 0)


def install(key: Key, token: int, new: Entry, rules: Rules) -> Key:
    if not new.life:
        return observe(key, new.version, rules)
    if not rules.compare:
        return new
    if isinstance(key, Fence):
        others = tuple(each for each in key.tokens if each != token)
        if others:
            return Fence(others, max(key.floor, new.version))
        return new if new.version >= key.floor or not rules.floor else None
    if isinstance(key, Entry):
        stays = key.version > new.version
        replaces = key.life == new.life or not rules.outlived
        return key if stays else new if replaces else None
    return None if rules.kill_lease else key


def observe(key: Key, version: int, rules: Rules) -> Key:
    if isinstance(key, Fence):
        return Fence(key.tokens, max(key.floor, version))
    if isinstance(key, Entry):
        return key if key.version >= version else None
    return None if rules.kill_lease else key


def abandon(key: Key, token: int) -> Key:
    if not isinstance(key, Fence):
        return key
    others = tuple(each for each in key.tokens if each != token)
    return Fence(others, key.floor) if others else None


def fill(key: Key, token: int, new: Entry, rules: Rules) -> Key:
    if not rules.lease:
        older = isinstance(key, Entry) and key.version < new.version
        return new if key is None or older else key
    return new if key == Lease(token) else key


# --- the processes -----------------------------------------------------------------------------


def served(w: World, rules: Rules) -> Entry | None:
    """What a reader would take for a hit."""
    if w.cache != "up" or not isinstance(w.key, Entry):
        return None
    return w.key if w.key.life == w.life or not rules.incarnation else None


def becomes(w: World, i: int, me: Process, step: str, **changes: Any) -> World:
    # What an ended process remembered makes no difference any more.
    me = Process(me.kind, ENDED) if step == ENDED else me._replace(step=step)
    return w._replace(processes=(*w.processes[:i], me, *w.processes[i + 1 :]), **changes)


def reads_row(w: World, i: int, me: Process, step: str) -> Move:
    me = me._replace(version=w.version, exists=w.exists)
    return f"{me.kind}{i} reads row {w.version}", becomes(w, i, me, step), None


def too_old(version: int, counted: int) -> str | None:
    return f"returned {version} when {counted} counted" if version < counted else None


def reader(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    if me.step == "start":
        yield get_or_lease(w, i, me, rules)
    elif me.step == "read row":
        yield reads_row(w, i, me, "fill")
    else:
        key = w.key
        if w.cache == "up":
            new = Entry(me.version, me.exists, me.life if rules.carried_stamp else w.life)
            key = fill(w.key, i, new, rules)
        verb = "returns" if key == w.key else "fills and returns"
        after = becomes(w, i, me, ENDED, key=key)
        yield f"R{i} {verb} {me.version}", after, too_old(me.version, me.counted)


def get_or_lease(w: World, i: int, me: Process, rules: Rules) -> Move:
    hit = served(w, rules)
    if hit:
        return f"R{i} hits {hit.version}", becomes(w, i, me, ENDED), too_old(hit.version, w.counted)
    me = me._replace(counted=w.counted)
    if w.cache != "up" or isinstance(w.key, Lease | Fence):
        return f"R{i} misses", becomes(w, i, me, "read row"), None
    key, label = (Lease(i), "misses, leases") if rules.lease else (w.key, "misses")
    return f"R{i} {label}", becomes(w, i, me._replace(life=w.life), "read row", key=key), None


def fenced(w: World, i: int, me: Process, step: str, rules: Rules, **changes: Any) -> World:
    """With the writer's mark in the key, if it can reach that."""
    if me.cut or w.cache != "up":
        return becomes(w, i, me, step, **changes)
    key = fence(w.key, i, rules)
    return becomes(w, i, me._replace(life=w.life), step, key=key, **changes)


def commits(w: World, i: int, me: Process, step: str, rules: Rules) -> Move:
    version, exists = w.version + 1, me.kind != "D"
    row = {"version": version, "exists": exists, "lock": None if w.lock == i else w.lock}
    outbox = version if w.left.drain and rules.outbox else 0
    me = me._replace(version=version, exists=exists)
    return f"{me.kind}{i} commits {version}", becomes(w, i, me, step, outbox=outbox, **row), None


def row_lock_writer(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    """W, D and I."""
    name = f"{me.kind}{i}"
    if me.step == "start" and w.lock is None:
        if w.exists == (me.kind == "I"):
            yield f"{name} has nothing to do", becomes(w, i, me, ENDED), None
        else:
            yield f"{name} locks the row, fences", fenced(w, i, me, "commit", rules, lock=i), None
    elif me.step == "commit":
        yield commits(w, i, me, "install", rules)
        yield f"{name} rolls back", becomes(w, i, me, ENDED, lock=None), None
    elif me.step == "install":
        yield installs(w, i, me, rules)


def saver(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    if me.step == "start":
        yield f"S{i} fences", fenced(w, i, me, "commit", rules), None
    elif me.step == "commit" and w.lock is None:
        if w.exists:
            yield commits(w, i, me, "read row", rules)
        else:
            yield f"S{i} finds no row", becomes(w, i, me, "leave"), None
    elif me.step == "read row":
        yield reads_row(w, i, me, "install")
    elif me.step == "install":
        yield installs(w, i, me, rules)
    elif me.step == "leave":
        yield leaves(w, i, me, rules)


def guarded_writer(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    if me.step == "start":
        hit, step = None if me.cut else served(w, rules), "read row"
        if hit:
            state = hit.version if hit.exists else 0
            me = me._replace(version=hit.version, exists=hit.exists, state=state)
            step = "update"
        yield f"G{i} loads and fences", fenced(w, i, me, step, rules), None
    elif me.step == "read row":
        yield reads_row(w, i, me, "update")
    elif me.step == "update":
        yield f"G{i} decides not to write", becomes(w, i, me, "leave"), None
        if me.exists and w.lock is None and w.version == me.version:
            yield commits(w, i, me, "install", rules)
        elif me.exists and w.lock is None:
            yield f"G{i} is too late", becomes(w, i, me, "read row"), None
    elif me.step == "install":
        yield installs(w, i, me, rules)
    elif me.step == "leave":
        yield leaves(w, i, me, rules)


def installs(w: World, i: int, me: Process, rules: Rules) -> Move:
    key, verb = w.key, "installs and acknowledges"
    if me.cut or w.cache != "up":
        verb = "acknowledges"
    elif me.kind == "D" and not rules.tombstone:
        key, verb = abandon(key, i), "leaves and acknowledges"
    else:
        life = me.life if rules.carried_stamp and (me.life or rules.marked) else w.life
        key = install(key, i, Entry(me.version, me.exists, life), rules)
    counted = w.counted if me.cut else max(w.counted, me.version)
    after = becomes(w, i, me, ENDED, key=key, counted=counted)
    return f"{me.kind}{i} {verb} {me.version}", after, None


def leaves(w: World, i: int, me: Process, rules: Rules) -> Move:
    """Without having written: G puts back what its fence has replaced."""
    key = w.key
    if not me.cut and w.cache == "up":
        back = me.life and me.state
        new = Entry(me.state, True, me.life)
        key = install(key, i, new, rules) if back else abandon(key, i)
    return f"{me.kind}{i} leaves", becomes(w, i, me, ENDED, key=key), None


def outsider(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    if w.lock is None:
        yield commits(w, i, me, ENDED, rules)


PROCESSES: dict[str, Callable[[World, int, Process, Rules], Iterator[Move]]] = {
    "R": reader,
    "W": row_lock_writer,
    "D": row_lock_writer,
    "I": row_lock_writer,
    "S": saver,
    "G": guarded_writer,
    "P": outsider,
}


# --- what else may happen ----------------------------------------------------------------------


def spent(w: World, fault: str) -> Scope:
    return w.left._replace(**{fault: getattr(w.left, fault) - 1})


def losses(w: World, rules: Rules) -> Iterator[Move]:
    """Of the key's content."""
    if w.left.hands:
        for version in range(w.version + 1):
            after = w._replace(key=Entry(version, True, 0), left=spent(w, "hands"))
            yield f"somebody writes {version} of another life", after, None
    if w.key is None:
        return
    if w.left.evictions:
        left = spent(w, "evictions")
        if not (w.left.sticky and isinstance(w.key, Fence)):
            yield "eviction", w._replace(key=None, left=left), None
        if isinstance(w.key, Fence) and w.key.floor != UNKNOWN:
            yield "flush", w._replace(key=w.key._replace(floor=UNKNOWN), left=left), None
    if isinstance(w.key, Lease) and w.left.lease_expiries:
        yield "lease expires", w._replace(key=None, left=spent(w, "lease_expiries")), None
    if isinstance(w.key, Fence):
        live = tuple(token for token in w.key.tokens if w.processes[token].step != ENDED)
        floor = UNKNOWN if rules.taint else w.key.floor
        if live != w.key.tokens:
            yield "marks run out", w._replace(key=Fence(live, floor) if live else None), None


def outages(w: World, rules: Rules) -> Iterator[Move]:
    if w.cache == "up" and w.left.outages:
        yield "cache goes away", w._replace(cache="away", left=spent(w, "outages")), None
    if w.cache == "away":
        yield "cache is back", w._replace(cache="back" if rules.drain_first else "up"), None
    if w.left.restarts:
        if w.key is not None and w.snapshot is None:
            yield "snapshot", w._replace(snapshot=w.key), None
        left = spent(w, "restarts")
        restarted = w._replace(key=w.snapshot, snapshot=None, life=w.life + 1, left=left)
        yield "restart from the snapshot", restarted, None


def drains(w: World, rules: Rules) -> Iterator[Move]:
    if w.outbox and w.cache != "away" and (w.told != w.outbox or w.cache == "back"):
        key, counted = observe(w.key, w.outbox, rules), max(w.counted, w.outbox)
        after = w._replace(key=key, told=w.outbox, counted=counted, cache="up")
        yield f"outbox tells {w.outbox}", after, None
    if w.told and (w.told == w.outbox or not rules.recheck):
        yield "outbox is cleared", w._replace(outbox=0, told=0), None
    if w.cache == "back" and not w.outbox:
        yield "outbox is found empty", w._replace(cache="up"), None


def ends(w: World, i: int, me: Process) -> Iterator[Move]:
    """Of a writer, or of its connection to the cache."""
    name = f"{me.kind}{i}"
    if me.cut:
        yield f"{name} is connected again", becomes(w, i, me._replace(cut=False), me.step), None
    elif w.left.cuts:
        after = becomes(w, i, me._replace(cut=True), me.step, left=spent(w, "cuts"))
        yield f"{name} is cut off", after, None
    if w.left.crashes and me.step != "start":
        lock, left = None if w.lock == i else w.lock, spent(w, "crashes")
        yield f"{name} dies", becomes(w, i, me, ENDED, lock=lock, left=left), None


def moves(w: World, rules: Rules) -> Iterator[Move]:
    for i, me in enumerate(w.processes):
        waits = i and w.processes[i - 1] == Process(me.kind)
        if me.step == ENDED or waits:
            continue
        yield from PROCESSES[me.kind](w, i, me, rules)
        if me.kind not in "RP":
            yield from ends(w, i, me)
    yield from losses(w, rules)
    yield from outages(w, rules)
    yield from drains(w, rules)


# --- the enumeration ---------------------------------------------------------------------------


def explore(mix: str, scope: Scope, rules: Rules = Rules()) -> Result:  # noqa: B008  immutable
    """All that can happen to the processes of `mix`; a leading "-": without a row."""
    processes = tuple(Process(kind) for kind in mix.removeprefix("-"))
    first = World(None, 0, not mix.startswith("-"), processes, scope)
    return search(first, lambda w: moves(w, rules), lambda w: quiet_difference(w, rules))


def quiet_difference(w: World, rules: Rules) -> str | None:
    hit = served(w, rules)
    if not hit or w.outbox or any(each.step != ENDED for each in w.processes):
        return None
    if (hit.version, hit.exists) == (w.version, w.exists):
        return None
    return f"the cache serves {hit.version}, the row is {w.version}"


SCOPES = {
    "evictions": Scope(evictions=2, lease_expiries=1),
    "a crash": Scope(evictions=2, lease_expiries=1, crashes=1, sticky=True),
    "two crashes": Scope(evictions=1, lease_expiries=1, crashes=2, sticky=True),
    "drain": Scope(evictions=1, lease_expiries=1, crashes=1, drain=True),
    "outage": Scope(evictions=1, crashes=1, outages=1, drain=True),
    "restart": Scope(lease_expiries=1, crashes=1, restarts=1, drain=True),
    "outage, restart": Scope(outages=1, restarts=1, drain=True),
    "cut off, restart": Scope(cuts=1, restarts=1, drain=True),
    "hands": Scope(evictions=1, lease_expiries=1, hands=1),
}
LEASES_AND_FENCES = "WWR GGR GWR SSR GGRR GWRR WWRR GGWR GWWR GSWR WDIR GDIR SDIR -WIDR"
AND_OUTBOX = "PPR WWR GRR SRR GPR SPR WPR WDR DIR -IPR"
MIXES = {scope: AND_OUTBOX if SCOPES[scope].drain else LEASES_AND_FENCES for scope in SCOPES}
MIXES["hands"] = "WWR GGR GWR SSR WDR GGRR GWRR"
MIXES["drain"] += " GSR WPRR PIDR"
MIXES["outage"] += " GSR"
MIXES["restart"] += " GSR"
# Where it shows, in a few steps, that a rule is left out.
WITNESSES = {
    "lease": ("WR", "evictions"),
    "fence": ("WR", "a crash"),
    "compare": ("WWR", "evictions"),
    "floor": ("WWR", "evictions"),
    "joint": ("SSR", "a crash"),
    "kill_lease": ("WR", "evictions"),
    "taint": ("WWR", "a crash"),
    "tombstone": ("WDR", "evictions"),
    "outbox": ("PR", "drain"),
    "recheck": ("PPR", "drain"),
    "incarnation": ("WR", "restart"),
    "carried_stamp": ("WR", "restart"),
    "marked": ("WPR", "cut off, restart"),
    "drain_first": ("WWR", "outage"),
    "outlived": ("WWR", "hands"),
}


# Another rule holds what this one holds: it shows only where both are left out.
SECOND_LINES = {"marked": "outlived"}


def without(rule: str) -> Result:
    mix, scope = WITNESSES[rule]
    left_out = {each: False for each in (rule, SECOND_LINES.get(rule)) if each}
    return explore(mix, SCOPES[scope], Rules()._replace(**left_out))


def main() -> int:
    return run(
        MIXES,
        lambda mix, scope: explore(mix, SCOPES[scope]),
        Rules._fields,
        lambda rule: (WITNESSES[rule][0], without(rule)),
    )


if __name__ == "__main__":
    raise SystemExit(main())
