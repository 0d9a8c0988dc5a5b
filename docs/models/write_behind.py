#!/usr/bin/env python3
"""Every interleaving of the write-behind, for one user's document, its mark and its row.

    python docs/models/write_behind.py    # all mixes, then each rule left out

The key holds nothing, a `Lease` or a `Document`. The content of a document or a row is a set, of
bits: each process adds an element of its own. A document is stamped with the life of the server in
which it was put in. One of another life is revived before anybody goes by it: under the row's lock
it is compared with the row, and the higher revision put in its place, marked first where that is
unsaved. A row with away edits counts for this as it was before them.

Processes
    U  updater: GET; if empty lease, read the row, fill; compare-and-set, mark, acknowledge
    F  flusher: marks; lock the row, GET; if empty lease, whoever else has, and fill; upsert and
       commit; settle, clear the mark; or lift
    A  away: an updater that cannot reach the cache: row and journal in one transaction
    L  replay: lock the row, read the journal; update the document with it, to above the row; then
       make the row what the document is now, delete the journal, commit
    P  psql: changes the row, and knows of no cache
    K  what a process sent that does not wait for the answer

To settle is to call a document saved that is still, byte for byte, what was read. Only then, and
only up to that document's revision, may its mark be cleared. To lift is to update a document
without a change, to above a revision. A flush does that, once a run, where the mark is above the
document that it read (that is a loss, and reported), or where an unsaved document is not above its
row though this flush did not save it (another just did, or psql wrote the row). Then it
looks again.

A violation is
(1) a row whose revision falls, or that loses an element;
(2) a live document of a lower revision than one before it, though no memory was lost;
(3) a quiet system, all having ended, in which one undisturbed replay and flush leave a change that
    was acknowledged outside the row, a mark, an unsaved document, or one unlike its row;
(4) a persisted revision that the row never had;
(5) a loss that is reported, and was none.
What a loss of memory may take, wherever it is: what was then in the document, not in the row, and
not in the snapshot either that the server restarts from.

Not promised, and left out of the checks:
- psql's change may be overwritten by the document, which is the live truth. A saved document does
  not follow psql before its next change.
- A process that dies between compare-and-set and mark leaves a document that counts as unsaved and
  is not marked, until its next update. Nobody was told of what it holds. A flush may have saved it,
  and died before it said so.
- In a snapshot taken between the two, a change is not marked either: it may be lost with a restart.
- After a restart, psql's write and a flush are not told apart: a row at or above an unsaved
  document wins. After two losses (all memory, then a restart) a flushed change may be overwritten.
- With `unordered`, (5): a mark that comes before its document may be lifted.
- The code sends a change and its mark together. A change that misses its document, because that has
  just been evicted, is computed again; is it refused then, or its process dead, its mark is taken
  for a loss that was none.

Not modelled: `dirtySince`, lifetimes, several users, documents that PostgreSQL refuses (nor a
replay that it refuses), rows that are passed over because somebody holds or deletes them, what a
patch means. To add an element twice is harmless. That a patch which is repeated on the document, be
it once more because its replay died before it committed, puts nothing back over what came after it
is for canvas/recency.py, and checked in tests/canvas/test_recency.py.

Steps are merged where that loses no violation: a lock with the read and the lease after it, a last
step with the acknowledgement, the away edit's transaction. Like processes begin in order. A command
that a frozen process sent is a process that is slow. That an updater loses patience with a living
process's lease is a lease that expires.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from interleavings import Result, run, search

ENDED = "ended"
PSQL = 1 << 30  # its element
UNKNOWN = -1  # the base of a row without away edits


class Document(NamedTuple):
    revision: int
    content: int
    persisted: int
    unsaved: bool
    life: int  # of the server that it was put into


class Lease(NamedTuple):
    token: int


Key = Document | Lease | None


class Row(NamedTuple):
    revision: int = 0
    content: int = 0
    journal: int = 0  # elements of away edits
    base: int = UNKNOWN  # the revision that the first of them found


NO_DOCUMENT, NO_ROW = Document(UNKNOWN, 0, 0, False, 0), Row(UNKNOWN)


class Rules(NamedTuple):
    """Switching one off must produce a violation."""

    layout_first: bool = True  # an updater marks what it has stored
    revision_score: bool = True  # not a time, which two changes may share
    greater: bool = True  # ZADD GT: a mark only rises
    bytes_compared: bool = True  # not the revision: a lost one is given again
    same_life: bool = True  # nothing is acknowledged that another life of the server took
    lease: bool = True  # only the holder of the key's lease may fill
    guard: bool = True  # the upsert writes no older revision over a newer one
    lock_first: bool = True  # a flush reads document and journal once it has the row's lock
    commit_first: bool = True  # nothing is told of what has yet to be committed
    journal_waits: bool = True  # a flush leaves a row with away edits to the replay
    settle_compares: bool = True  # only what is byte for byte what was read is settled
    clear_compares: bool = True  # a mark above the document that was settled stays
    clear_settled: bool = True  # a mark stays whose document could not be settled
    fill_missing: bool = True  # a mark without a document is not cleared because the row is new
    take_over: bool = True  # with the row locked, a flush waits for nobody's lease
    lift_first: bool = True  # a lost mark is never cleared and then looked at again
    lift_if_needed: bool = True  # what is saved, or above, by the time of the lift stays as it is
    lift_behind: bool = True  # an unsaved document that is not above its row is lifted
    floor: bool = True  # a replayed document goes on above its row
    journal_last: bool = True  # away edits are deleted when the document has them
    replay_persists: bool = True  # the replayed document is the row when they are
    incarnation: bool = True  # a document of another life is compared with its row
    higher_wins: bool = True  # by revision, whichever it is
    revive_locks: bool = True  # under the row's lock
    base: bool = True  # for that, a row with away edits counts as it was before them


class Scope(NamedTuple):
    """The faults that may happen."""

    evictions: int = 0
    sticky: bool = True  # what is unsaved is not evicted
    crashes: int = 0
    lease_expiries: int = 0
    losses: int = 0  # of the whole memory
    restarts: int = 0  # with the key and the mark of an earlier moment
    cuts: int = 0  # processes who lose the cache, or die, while what they sent is on its way
    unordered: bool = False  # a mark may come before its document, as on Dragonfly's shards


class Process(NamedTuple):
    kind: str
    step: str = "start"
    document: Document = NO_DOCUMENT  # read, or filled
    row: Row = NO_ROW  # read, or to be
    life: int = 0  # of the server, when it was asked last
    mark: int = 0  # read, or to be set
    floor: int = UNKNOWN  # what it lifts above, or replays above; UNKNOWN: it flushes, or updates
    lifted: bool = False
    ours: bool = False  # the upsert was this flush's
    early: bool = False  # it has marked what it has yet to store


class World(NamedTuple):
    key: Key
    mark: int  # 0: there is none
    row: Row
    processes: tuple[Process, ...]
    left: Scope
    lock: int | None = None  # the process that holds the row's lock
    life: int = 1  # of the server
    snapshot: tuple[Key, int] | None = None  # key and mark
    acknowledged: int = 0
    lost: int = 0  # what a loss of memory may have taken
    seen: int = 0  # the highest revision that was to be seen since
    intact: bool = True  # no memory has been lost
    died: bool = False  # a process has


Move = tuple[str, World, str | None]  # what happens, what then is, and what is wrong with that


# --- what everybody does -----------------------------------------------------------------------


def becomes(w: World, i: int, me: Process, step: str, **changes: Any) -> World:
    # What an ended process remembered makes no difference any more.
    me = Process(me.kind, ENDED) if step == ENDED else me._replace(step=step)
    return w._replace(processes=(*w.processes[:i], me, *w.processes[i + 1 :]), **changes)


def outlived(w: World, rules: Rules) -> bool:
    return rules.incarnation and isinstance(w.key, Document) and w.key.life != w.life


def as_document(row: Row, life: int) -> Document:
    return Document(row.revision, row.content, row.revision, False, life)


def marked(mark: int, revision: int, rules: Rules) -> int:
    if not rules.revision_score:
        return 1  # the present moment
    return max(mark, revision) if rules.greater else revision


def again(me: Process) -> str:
    """Where somebody begins anew whom another has overtaken."""
    if me.kind == "F" and me.floor == UNKNOWN:
        return "look"
    return {"U": "start", "K": ENDED}.get(me.kind, "again")


def adds(w: World, i: int, me: Process, rules: Rules) -> int:
    """The elements by which an update changes the document."""
    if me.kind == "L":
        return w.row.journal if rules.journal_last else me.mark
    return {"U": 1 << i, "K": me.mark}.get(me.kind, 0)


def asks(w: World, i: int, me: Process, found: str, rules: Rules) -> Iterator[Move]:
    """GET, and what follows if there is no document to go by; else the step `found`."""
    me = me._replace(life=w.life)
    if isinstance(w.key, Document):
        step, verb = ("revive", "meets an old") if outlived(w, rules) else (found, "reads")
        after = becomes(w, i, me._replace(document=w.key), step)
        yield f"{me.kind}{i} {verb} {w.key.revision}", after, None
    elif not rules.lease:
        yield f"{me.kind}{i} misses", becomes(w, i, me, "read row"), None
    elif w.key is None or abandoned(w, i, w.key):
        yield f"{me.kind}{i} leases", becomes(w, i, me, "read row", key=Lease(i)), None


def abandoned(w: World, i: int, lease: Lease) -> bool:
    """Nobody will fill by right of it any more."""
    filling = {"read row", "fill", "fill in"}
    return lease.token == i or w.processes[lease.token].step not in filling


def updates(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    """What comes between GET and mark."""
    yield from UPDATE[me.step](w, i, me, rules)


def revives(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    """What counts is put in place of the document of another life, under the row's lock."""
    if w.lock in {None, i} or not rules.revive_locks:
        lock = i if rules.revive_locks else w.lock
        after = becomes(w, i, me._replace(row=w.row), "mark again", lock=lock)
        yield f"{me.kind}{i} locks and reads row {w.row.revision}", after, None


def marks_again(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    new = winner(me, rules)
    mark = marked(w.mark, new.revision, rules) if new.unsaved else w.mark
    yield f"{me.kind}{i} marks {mark}", becomes(w, i, me, "put", mark=mark), None


def puts(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    new, old = winner(me, rules), w.key == me.document and w.life == me.life
    lock = None if w.lock == i and me.kind != "L" else w.lock
    key = new if old else w.key
    me = me._replace(row=NO_ROW, document=NO_DOCUMENT)
    after = becomes(w, i, me, again(me), key=key, lock=lock)
    yield f"{me.kind}{i} {'revives' if old else 'does not revive'} {new.revision}", after, None


def winner(me: Process, rules: Rules) -> Document:
    """Of a document of another life and its row, for this life."""
    document, row = me.document, me.row
    base = row.base if rules.base and row.base != UNKNOWN else row.revision
    if rules.higher_wins and document.revision > base:
        return document._replace(unsaved=True, life=me.life)
    return as_document(row, me.life)


def reads_row(w: World, i: int, me: Process, _: Rules) -> Iterator[Move]:
    after = becomes(w, i, me._replace(row=w.row), "fill")
    yield f"{me.kind}{i} reads row {w.row.revision}", after, None


def fills(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    new = as_document(me.row, me.life)
    me = me._replace(row=NO_ROW)
    if w.key == Lease(i) if rules.lease else w.key is None:
        after = becomes(w, i, me._replace(document=new), "store", key=new)
        yield f"{me.kind}{i} fills {new.revision}", after, None
    else:
        yield f"{me.kind}{i} may not fill", becomes(w, i, me, again(me)), None


def stores(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    """Compare-and-set."""
    new, added = following(w, i, me, rules), adds(w, i, me, rules)
    there = w.life == me.life or not rules.same_life
    if there and same(w.key, me.document, rules):
        me = me._replace(document=NO_DOCUMENT, mark=new.revision)
        after = becomes(w, i, me, "mark", key=new, lost=w.lost & ~added)
        yield f"{me.kind}{i} stores {new.revision}", after, None
    else:
        after = becomes(w, i, me._replace(document=NO_DOCUMENT, early=False), again(me))
        yield f"{me.kind}{i} is too late", after, None


def following(w: World, i: int, me: Process, rules: Rules) -> Document:
    revision = max(me.document.revision, me.floor) + 1
    content = me.document.content | adds(w, i, me, rules)
    return me.document._replace(revision=revision, content=content, unsaved=True)


def same(key: Key, document: Document, rules: Rules) -> bool:
    if rules.bytes_compared:
        return key == document
    return isinstance(key, Document) and key.revision == document.revision


UPDATE = {
    "revive": revives,
    "mark again": marks_again,
    "put": puts,
    "read row": reads_row,
    "fill": fills,
    "store": stores,
}


# --- those who change it -----------------------------------------------------------------------


def updater(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    if me.step == "start":
        yield from asks(w, i, me, "store", rules)
    elif me.step == "mark":
        mark = w.mark if me.early else marked(w.mark, me.mark, rules)
        after = becomes(w, i, me, ENDED, mark=mark, acknowledged=w.acknowledged | 1 << i)
        yield f"U{i} marks {me.mark}, acknowledges", after, None
    else:
        early = me.step == "store" and not me.early
        if early and (w.left.unordered or not rules.layout_first):
            yield marks_early(w, i, me, rules)
        if not early or rules.layout_first:
            yield from updates(w, i, me, rules)


def marks_early(w: World, i: int, me: Process, rules: Rules) -> Move:
    mark = marked(w.mark, following(w, i, me, rules).revision, rules)
    return f"U{i} marks {mark}", becomes(w, i, me._replace(early=True), "store", mark=mark), None


def packet(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    """What somebody sent who does not wait for the answer; `mark` is first what it adds, or whose
    lease it has."""
    if me.step == "mark":
        mark = marked(w.mark, me.mark, rules)
        yield f"K{i} marks {mark}", becomes(w, i, me, ENDED, mark=mark), None
    elif me.step == "fill in":
        key = me.document if w.key == Lease(me.mark) else w.key
        yield f"K{i} fills {me.document.revision}", becomes(w, i, me, ENDED, key=key), None
    else:
        yield f"K{i} is lost", becomes(w, i, me, ENDED), None
        yield from updates(w, i, me, rules)


def away(w: World, i: int, me: Process, _: Rules) -> Iterator[Move]:
    """One transaction."""
    if w.lock is not None:
        return
    row, element = w.row, 1 << i
    base = row.revision if row.base == UNKNOWN else row.base
    row = Row(row.revision + 1, row.content | element, row.journal | element, base)
    known, lost = w.acknowledged | element, w.lost & ~element
    after = becomes(w, i, me, ENDED, row=row, acknowledged=known, lost=lost)
    yield f"A{i} commits {row.revision}, acknowledges", after, None


def psql(w: World, i: int, me: Process, _: Rules) -> Iterator[Move]:
    if w.lock is None:
        row = w.row._replace(revision=w.row.revision + 1, content=w.row.content | PSQL)
        yield f"P{i} commits {row.revision}", becomes(w, i, me, ENDED, row=row), None


def replayer(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    if me.step == "start":
        yield from replay_begins(w, i, me, rules)
    elif me.step == "again":
        yield from asks(w, i, me, "store", rules)
    elif me.step == "store":
        # What it is about to store is what its row will be.
        new = following(w, i, me, rules)
        yield from stores(w, i, me._replace(row=Row(new.revision, new.content)), rules)
    elif me.step == "mark":
        mark = marked(w.mark, me.mark, rules)
        step = "commit" if rules.journal_last else ENDED
        yield f"L{i} marks {mark}", becomes(w, i, me, step, mark=mark), None
    elif me.step == "commit":
        row = me.row if rules.replay_persists else w.row._replace(journal=0, base=UNKNOWN)
        yield f"L{i} commits {row.revision}", becomes(w, i, me, ENDED, row=row, lock=None), None
    else:
        yield from updates(w, i, me, rules)


def replay_begins(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    me = me._replace(floor=w.row.revision if rules.floor else UNKNOWN)
    if not w.row.journal:
        yield f"L{i} has nothing to do", becomes(w, i, me, ENDED), None
    elif w.lock is None and rules.journal_last:
        yield f"L{i} locks the row", becomes(w, i, me, "again", lock=i), None
    elif w.lock is None:
        row, me = w.row._replace(journal=0, base=UNKNOWN), me._replace(mark=w.row.journal)
        yield f"L{i} deletes the journal", becomes(w, i, me, "again", row=row), None


# --- the flush ---------------------------------------------------------------------------------


def flusher(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    if me.step == "start":
        step = "look" if w.mark else ENDED
        yield f"F{i} reads mark {w.mark}", becomes(w, i, me._replace(mark=w.mark), step), None
    elif me.step in FLUSH:
        yield from FLUSH[me.step](w, i, me, rules)
    elif me.step == "store" and rules.lift_if_needed and not low(me):
        me = me._replace(document=NO_DOCUMENT, floor=UNKNOWN, lifted=True)
        yield f"F{i} need not lift", becomes(w, i, me, "look"), None
    else:
        for label, after, wrong in updates(w, i, me, rules):
            yield label, after, wrong or alarm(w, me, after.processes[i])


def looks(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    """Lock the row, GET."""
    if rules.lock_first and w.lock not in {None, i}:
        return
    lock = i if rules.lock_first else w.lock
    if isinstance(w.key, Document):
        for label, after, wrong in asks(w, i, me, "upsert", rules):
            yield label, after._replace(lock=lock), wrong
    elif not rules.fill_missing:
        yield f"F{i} finds no document", becomes(w, i, me, "upsert", lock=lock), None
    else:
        key = Lease(i) if w.key is None or rules.take_over else w.key
        after = becomes(w, i, me._replace(life=w.life), "fill in", lock=lock, key=key)
        yield f"F{i} leases" if key == Lease(i) else f"F{i} meets a lease", after, None


def fills_in(w: World, i: int, me: Process, _: Rules) -> Iterator[Move]:
    """With the row locked it is the row that counts, whether or not it may still be filled in."""
    new = as_document(w.row, me.life)
    key = new if w.key == Lease(i) else w.key
    after = becomes(w, i, me._replace(document=new), "upsert", key=key)
    yield f"F{i} {'fills' if key == new else 'may not fill'} {new.revision}", after, None


def upserts(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    """And reads the row, and commits."""
    if not rules.lock_first and me.row == NO_ROW:
        # Before it waits for a lock, a statement has seen what other tables hold.
        yield f"F{i} reads the journal", becomes(w, i, me._replace(row=w.row), "upsert"), None
        return
    if w.lock not in {None, i}:
        return
    seen, row, document = me.row if me.row != NO_ROW else w.row, w.row, me.document
    if seen.journal and rules.journal_waits:
        yield f"F{i} leaves the row to a replay", becomes(w, i, me, ENDED, lock=None), None
        return
    newer = document.revision > row.revision or not rules.guard
    ours = document != NO_DOCUMENT and newer
    if ours:
        row = row._replace(revision=document.revision, content=document.content)
    me = decided(me._replace(ours=ours, row=row), rules)
    if ours and not rules.commit_first and me.step == "settle":
        yield f"F{i} writes row {row.revision}", becomes(w, i, me, "settle"), None
        return
    label = f"F{i} {'persists' if ours else 'finds row'} {row.revision}"
    yield label, becomes(w, i, me, me.step, row=row, lock=None), None


def commits(w: World, i: int, me: Process, _: Rules) -> Iterator[Move]:
    """Late."""
    yield f"F{i} commits {me.row.revision}", becomes(w, i, me, ENDED, row=me.row, lock=None), None


def decided(me: Process, rules: Rules) -> Process:
    """With the step that follows from what document, mark and row were."""
    document, row = me.document, me.row
    if document == NO_DOCUMENT and row.revision >= me.mark:
        return me._replace(step="clear")
    lost = me.mark > document.revision
    behind = document.unsaved and not me.ours and document.revision <= row.revision
    if not lost and not (behind and rules.lift_behind):
        return me._replace(step="settle")
    me = me._replace(document=NO_DOCUMENT, row=NO_ROW, ours=False)
    if me.lifted:
        return me._replace(step=ENDED)  # the next flush goes on
    if lost and not rules.lift_first:
        return me._replace(step="forget")
    return me._replace(step="again", floor=max(me.mark, row.revision))


def low(me: Process) -> bool:
    """The document that a flush is about to lift has not been lifted, or saved, meanwhile."""
    unsaved, revision = me.document.unsaved, me.document.revision
    return revision < me.mark or (unsaved and revision <= me.floor)


def alarm(w: World, me: Process, then: Process) -> str | None:
    """A mark above the live document is reported as a loss, by the flush that lifts it."""
    reported = then.step == "mark" and me.document.revision < me.mark
    false = reported and w.intact and not w.left.unordered
    return "a loss is reported, and there was none" if false else None


def lifts(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    yield from asks(w, i, me, "store", rules)


def marks_lifted(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    mark = marked(w.mark, me.mark, rules)
    me = me._replace(floor=UNKNOWN, lifted=True)
    yield f"F{i} marks {mark}", becomes(w, i, me, "look", mark=mark), None


def settles(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    """Where the document has changed, it is only told what is persisted."""
    document, key = me.document, w.key
    if key == document or not rules.settle_compares:
        persisted = max(document.persisted, document.revision)
        key = document._replace(persisted=persisted, unsaved=False)
        yield f"F{i} settles {document.revision}", becomes(w, i, me, "clear", key=key), None
        return
    if isinstance(key, Document) and key.life == document.life:
        key = key._replace(persisted=max(key.persisted, me.row.revision))
    step = done(w, i) if rules.clear_settled else "clear"
    yield f"F{i} finds another document", becomes(w, i, me, step, key=key), None


def clears(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    by_document = rules.clear_settled and me.document != NO_DOCUMENT
    newest = me.document.revision if by_document else me.row.revision
    step = done(w, i)
    if w.mark > newest and rules.clear_compares:
        yield f"F{i} leaves the mark", becomes(w, i, me, step), None
    else:
        yield f"F{i} clears the mark", becomes(w, i, me, step, mark=0), None


def done(w: World, i: int) -> str:
    """Only without `commit_first` does it still hold the lock."""
    return "commit" if w.lock == i else ENDED


def forgets(w: World, i: int, me: Process, _: Rules) -> Iterator[Move]:
    mark = 0 if w.mark <= me.mark else w.mark
    yield f"F{i} forgets {me.mark}", becomes(w, i, me, "look again", mark=mark), None


def looks_again(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    mark = w.mark
    if isinstance(w.key, Document) and w.key.unsaved:
        mark = marked(mark, w.key.revision, rules)
    step = "look" if mark else ENDED
    after = becomes(w, i, me._replace(mark=mark), step, mark=mark)
    yield f"F{i} marks what is unsaved", after, None


FLUSH = {
    "look": looks,
    "fill in": fills_in,
    "upsert": upserts,
    "settle": settles,
    "clear": clears,
    "commit": commits,
    "again": lifts,
    "mark": marks_lifted,
    "forget": forgets,
    "look again": looks_again,
}
PROCESSES: dict[str, Callable[[World, int, Process, Rules], Iterator[Move]]] = {
    "U": updater,
    "K": packet,
    "A": away,
    "P": psql,
    "L": replayer,
    "F": flusher,
}


# --- what else may happen ----------------------------------------------------------------------


def spent(w: World, fault: str) -> Scope:
    return w.left._replace(**{fault: getattr(w.left, fault) - 1})


def content(key: Key) -> int:
    return key.content if isinstance(key, Document) else 0


def losing(w: World, kept: int = 0) -> int:
    """What may be lost from now on, when only `kept` stays in memory."""
    return w.lost | content(w.key) & ~w.row.content & ~kept


def evictions(w: World) -> Iterator[Move]:
    if isinstance(w.key, Lease):
        if w.left.lease_expiries:
            yield "lease expires", w._replace(key=None, left=spent(w, "lease_expiries")), None
    elif w.key and w.left.evictions:
        left = spent(w, "evictions")
        if not w.key.unsaved:
            yield "eviction", w._replace(key=None, left=left), None
        elif not w.left.sticky:
            after = w._replace(key=None, left=left, lost=losing(w), seen=0, intact=False)
            yield "eviction of what is unsaved", after, None


def losses(w: World) -> Iterator[Move]:
    if w.left.losses and (w.key or w.mark):
        left = spent(w, "losses")
        after = w._replace(key=None, mark=0, left=left, lost=losing(w), seen=0, intact=False)
        yield "memory is lost", after, None
    if w.left.restarts and w.snapshot is None and w.key is not None:
        yield "snapshot", w._replace(snapshot=(w.key, w.mark)), None
    if w.left.restarts and w.snapshot is not None:
        yield restarts(w, w.snapshot)


def restarts(w: World, snapshot: tuple[Key, int]) -> Move:
    key, mark = snapshot
    # Taken between a compare-and-set and its mark, it keeps that change from every flush.
    whole = isinstance(key, Document) and (mark >= key.revision or not key.unsaved)
    lost = losing(w, content(key)) if whole else losing(w) | content(key) & ~w.row.content
    after = w._replace(
        key=key,
        mark=mark,
        life=w.life + 1,
        snapshot=None,
        left=spent(w, "restarts"),
        lost=lost,
        seen=0,
        intact=False,
    )
    return "restart from the snapshot", after, None


def ends(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    """Of a process, or of its connection to the cache."""
    if me.step == "start" or me.kind == "K":
        return
    if w.left.crashes:
        left = spent(w, "crashes")
        yield f"{me.kind}{i} dies", dead(w, i, me)._replace(left=left), None
    if w.left.cuts:
        yield from cuts(w, i, me, rules)


def dead(w: World, i: int, me: Process) -> World:
    return becomes(w, i, me, ENDED, lock=None if w.lock == i else w.lock, died=True)


def cuts(w: World, i: int, me: Process, rules: Rules) -> Iterator[Move]:
    """Without the lock that it was sent under, a command arrives later than a slow process's."""
    sent, left = me._replace(kind="K", mark=adds(w, i, me, rules)), spent(w, "cuts")
    if me.kind == "U" and me.step == "store":
        after = becomes(w, i, Process("A"), "start", left=left)
        label = f"U{i} is cut off, having sent its change"
    elif me.step == "put" or (me.kind == "L" and me.step == "store"):
        after, label = dead(w, i, me)._replace(left=left), f"{me.kind}{i} dies, having sent"
    elif me.step == "fill in":
        sent = sent._replace(document=as_document(w.row, me.life), mark=i)
        after, label = dead(w, i, me)._replace(left=left), f"F{i} dies, having sent"
    else:
        return
    yield label, after._replace(processes=(*after.processes, sent)), None


def moves(w: World, rules: Rules) -> Iterator[Move]:
    for label, after, wrong in all_moves(w, rules):
        yield label, saw(after, rules), wrong or difference(w, after, rules)


def all_moves(w: World, rules: Rules) -> Iterator[Move]:
    for i, me in enumerate(w.processes):
        waits = i and w.processes[i - 1] == Process(me.kind)
        if me.step == ENDED or waits:
            continue
        yield from PROCESSES[me.kind](w, i, me, rules)
        if me.kind not in "AP":
            yield from ends(w, i, me, rules)
    yield from evictions(w)
    yield from losses(w)


# --- what is promised --------------------------------------------------------------------------


def saw(w: World, rules: Rules) -> World:
    if not isinstance(w.key, Document) or outlived(w, rules):
        return w
    return w._replace(seen=max(w.seen, w.key.revision))


def difference(before: World, after: World, rules: Rules) -> str | None:
    gone = before.row.content & ~after.row.content & ~after.lost & ~PSQL
    if after.row.revision < before.row.revision:
        return f"the row goes back to {after.row.revision}"
    if gone:
        return f"the row loses {elements(gone)}"
    if isinstance(after.key, Document):
        return misleading(after, after.key, rules)
    return None


def misleading(w: World, document: Document, rules: Rules) -> str | None:
    if document.revision < w.seen and not outlived(w, rules):
        return f"{document.revision} is to be seen when {w.seen} was"
    if document.persisted > w.row.revision:
        return f"{document.persisted} counts as persisted, the row is {w.row.revision}"
    return None


def elements(these: int) -> str:
    return ", ".join(f"change {i}" for i in range(31) if these >> i & 1)


def quiet_difference(w: World, rules: Rules) -> str | None:
    if any(each.step != ENDED for each in w.processes):
        return None
    for kind in "LF":
        w = undisturbed(w, kind, rules)
    unsaved = w.acknowledged & ~w.lost & ~w.row.content
    if unsaved:
        return f"after a flush the row is without {elements(unsaved)}"
    if w.mark:
        return f"after a flush there is a mark, {w.mark}"
    if not isinstance(w.key, Document) or outlived(w, rules):
        return None
    return unlike(w.key, w)


def unlike(document: Document, w: World) -> str | None:
    if document.unsaved:
        missing = document.content & ~w.row.content
        untold = missing & ~(w.acknowledged & ~w.lost)
        saved = document.revision == w.row.revision and not missing
        allowed = untold or (w.died and (saved or not w.intact))
        return None if allowed else "after a flush the document is unsaved"
    if (document.content ^ w.row.content) & ~PSQL & ~w.lost:
        return "after a flush the document is not its row"
    return None


def undisturbed(w: World, kind: str, rules: Rules) -> World:
    """After a process of this kind, alone."""
    i = len(w.processes)
    w = w._replace(processes=(*w.processes, Process(kind)))
    while w.processes[i].step != ENDED:
        ((_, w, _),) = PROCESSES[kind](w, i, w.processes[i], rules)
    return w


# --- the enumeration ---------------------------------------------------------------------------


def explore(mix: str, scope: Scope, rules: Rules = Rules()) -> Result:  # noqa: B008  immutable
    """All that can happen to the processes of `mix`, which begin without a row."""
    first = World(None, 0, Row(), tuple(Process(kind) for kind in mix), scope)
    return search(first, lambda w: moves(w, rules), lambda w: quiet_difference(w, rules))


SCOPES = {
    "a crash": Scope(evictions=1, crashes=1, lease_expiries=1),
    "two crashes": Scope(evictions=1, crashes=2),
    "dirty eviction": Scope(evictions=1, crashes=1, sticky=False),
    "memory lost": Scope(losses=1, crashes=1),
    "restart": Scope(restarts=1),
    "restart, crash": Scope(restarts=1, crashes=1),
    "cut off": Scope(evictions=1, crashes=1, cuts=1),
    "cut off, restart": Scope(cuts=1, restarts=1),
    "unordered": Scope(evictions=1, unordered=True),
}
MIXES = {
    "a crash": "UUF UUUF UUFF UUPF UPFF UUAFL UAFLL UAFFL UAPFL",
    "two crashes": "UUF UFF UUFF",
    "dirty eviction": "UUF UUUF UUFF UUAFL",
    "memory lost": "UUF UUUF UUFF UAFFL",
    "restart": "UUF UUUF UUFF UUAFL",
    "restart, crash": "UUF UFF UAFL UAFLL",
    "cut off": "UUF UFFL UUFL UAFL UAFLL",
    "cut off, restart": "UUF UFF UAFL",
    "unordered": "UUF UUUF UAFL",
}
# Of what is not promised: that much is found when it is looked for.
CAVEATS = {
    "two losses": ("UUF", Scope(losses=1, restarts=1)),
    "psql, restart": ("UPF", Scope(restarts=1)),
}
# Where it shows, in a few steps, that a rule is left out.
WITNESSES = {
    "layout_first": ("UF", "a crash"),
    "revision_score": ("UUF", "a crash"),
    "greater": ("UUUF", "a crash"),
    "bytes_compared": ("UUUF", "dirty eviction"),
    "same_life": ("UUF", "restart"),
    "lease": ("UUF", "a crash"),
    "guard": ("UAFL", "restart"),
    "lock_first": ("UUAF", "a crash"),
    "commit_first": ("UF", "a crash"),
    "journal_waits": ("UAFL", "a crash"),
    "settle_compares": ("UUF", "a crash"),
    "clear_compares": ("UUF", "a crash"),
    "clear_settled": ("UUF", "dirty eviction"),
    "fill_missing": ("UUFF", "memory lost"),
    "take_over": ("UFF", "two crashes"),
    "lift_first": ("UUUF", "dirty eviction"),
    "lift_if_needed": ("UFF", "a crash"),
    "lift_behind": ("UPF", "a crash"),
    "floor": ("UAAAL", "a crash"),
    "journal_last": ("UAL", "a crash"),
    "replay_persists": ("UAFL", "restart"),
    "incarnation": ("UUF", "restart"),
    "higher_wins": ("UF", "restart"),
    "base": ("UAFL", "restart"),
    "revive_locks": ("UUAFL", "restart"),
}


def without(rule: str) -> Result:
    mix, scope = WITNESSES[rule]
    return explore(mix, SCOPES[scope], Rules()._replace(**{rule: False}))


def main() -> int:
    return run(
        MIXES,
        lambda mix, scope: explore(mix, SCOPES[scope]),
        Rules._fields,
        lambda rule: (WITNESSES[rule][0], without(rule)),
    )


if __name__ == "__main__":
    raise SystemExit(main())
