"""Write-behind (protocol 3.2): updated in Dragonfly at once, in PostgreSQL at the next flush.

The order is what keeps every acknowledged change (docs/design.md): the document, then its mark,
then the acknowledgement. How the marked documents come into PostgreSQL is in `flush.py`.
"""

import random
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar, cast

import msgspec

from aevon.cache import codec, entries, leases
from aevon.cache.connection import CacheUnavailable, Script, ScriptCall, WrongType, store
from aevon.cache.dirty_index import DirtyIndex
from aevon.cache.entries import Found
from aevon.cache.failsafe import attempt
from aevon.cache.keyspace import IndexKeys
from aevon.cache.leases import Lease
from aevon.cache.metrics import CONFLICTS
from aevon.cache.projection import Gone, Projection
from aevon.cache.together import Read, together

COMPARE_AND_SET: Final = Script("compare_and_set", uses="told")
REVIVE: Final = Script("revive", uses="told")
DROP_SAVED: Final = Script("drop_saved")

ATTEMPTS: Final = 200
# No document counts so far by itself; above VERSION_MAX it could not be read any more.
REVISION_MAX: Final = 2**52
# Tries after which somebody else's lease on a missing document counts as a dead process's.
PATIENT_ATTEMPTS: Final = 20

D = TypeVar("D", bound=Any)


class Contended(Exception):
    """Too many writers changed the document at once; the change was not made. Try again."""


class LockedRow(NamedTuple):
    """A user's row while it is locked: its revision, and the one before the first of the changes
    that it took past the cache and the live document has not yet; None where it took none."""

    revision: int
    before_away: int | None = None


class Locking(Protocol):
    """How `WriteBehind.locked` is called."""

    def __call__(
        self, user_ids: Sequence[int], *, wait: bool = True
    ) -> AbstractContextManager[Mapping[int, LockedRow | None]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteBehind(Generic[D]):
    """A document that lives in Dragonfly and is persisted later.

    The document has `user_id`, `revision` (rises by one with each change) and, as its last members
    and with these defaults left out, `persisted_revision` (the highest that is known to be in
    PostgreSQL; 0), `persisted_at` (when it came there, RFC 3339; None), `dirty_since` (Unix seconds
    since when it holds something that PostgreSQL does not; None) and `incarnation`, the life of the
    server that holds it.

    `empty(user_id)` is the document of a user who has no row. `locked(user_ids)` holds the users'
    rows, made where they are missing, for the length of a block inside a transaction; who changes a
    row past the cache, and who brings that change to the live document, holds it too. A user who
    does not exist has None; with `wait=False` rows that somebody else holds are left out.
    `save(documents)` writes documents into rows that are held, never an older revision over a newer
    one, and tells when (RFC 3339). `sealed` is the document with its content as it stands in the
    bytes (`msgspec.Raw`), which a flush has only to pass on: so `save` is given it too.
    """

    projection: Projection[D]
    keys: IndexKeys
    empty: Callable[[int], D]
    locked: Locking
    save: Callable[[Sequence[D]], Mapping[int, str]]
    sealed: type[Any] | None = None
    index: DirtyIndex[D] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", DirtyIndex(self.keys, self.projection))


# Requests of one process that change the same document take turns here instead of losing the
# compare-and-set to each other; across processes the script decides.
_turns = [threading.RLock() for _ in range(64)]


def turn(user_id: int) -> AbstractContextManager[object]:
    """Hold back this process's other changes of the user's document. Who holds the row as well
    takes the turn first: a change may wait for the row, where it finds an earlier life's document.
    """
    return _turns[user_id % len(_turns)]


# Members of the layer's own at the end of a document, in their order (lua/told.lua).
_NOTED: Final = re.compile(
    rb'(?:,"_persistedRevision":\d+)?(?:,"_persistedAt":"[\d.:TZ-]+")?(?:,"_dirtySince":[\d.eE+-]+)?'
    rb',"_incarnation":"\w+"}\Z'
)
_NOTED_MAX: Final = 200
# How each of them begins: in a text of a user's the quotation mark is escaped.
_NOTE: Final = b',"_'


class Held(NamedTuple):
    """A document and its bytes. Those of a life of the server have a head and a stamp."""

    document: Any
    raw: bytes

    @property
    def head(self) -> bytes:
        """Its bytes without what the cache layer notes at their end."""
        start = self.raw.find(_NOTE, max(0, len(self.raw) - _NOTED_MAX))
        # It is stamped, or it would not be of this life: there is one that matches.
        while not _NOTED.match(self.raw, start):
            start = self.raw.index(_NOTE, start + 1)
        return self.raw[:start]

    @property
    def stamp(self) -> bytes:
        """The end of its bytes."""
        return codec.stamp(self.document.incarnation)


def plain(document: D) -> D:
    """The document without what the cache layer notes in it."""
    nothing: D = msgspec.structs.replace(
        document, persisted_revision=0, persisted_at=None, dirty_since=None, incarnation=None
    )
    return nothing


def made(document: Any) -> Held:
    """A document that is not read but made, as the cache layer will write it."""
    return Held(document, codec.encode(document))


def same(buffer: WriteBehind[D], one: D, other: D) -> bool:
    """Whether two documents hold the same, whatever is noted in them."""
    content = buffer.projection.current
    return bool(content(plain(one)) == content(plain(other)))


def sealed(buffer: WriteBehind[D], held: Held) -> Held:
    """The same, with its content undecoded where the buffer has a type for that: thousands are held
    at a time, and each object of their contents would be one for the garbage collector to visit."""
    if buffer.sealed is None:
        return held
    return held._replace(document=codec.decode(held.raw, buffer.sealed))


def unsealed(buffer: WriteBehind[D], held: Held) -> D:
    """The document with its content, without what the cache layer notes in it."""
    document: Any = codec.decode(held.head + b"}", buffer.projection.document)
    return cast("D", document)


def load(buffer: WriteBehind[D], user_id: int) -> D:
    """The live document: from Dragonfly, else PostgreSQL, else the empty one. A hit is one
    round trip. Cache away: what PostgreSQL has."""
    return together(reading(buffer, user_id))[0]


def reading(buffer: WriteBehind[D], user_id: int) -> Read[D]:
    """What `load` does, to be read `together` with other things."""

    def found(value: Any, raw: bytes) -> D:
        value = _counted(buffer, value, raw)
        if value is None:
            value = buffer.projection.read_one(user_id) or buffer.empty(user_id)
        if isinstance(value, Found):
            value = _missing(buffer, user_id, value).document
        return cast("D", value)

    return entries.reading(buffer.projection, user_id, found)


def _look(buffer: WriteBehind[D], user_id: int) -> tuple[Any, bytes]:
    value, raw = entries.look(buffer.projection, user_id)
    return _counted(buffer, value, raw), raw


def _counted(buffer: WriteBehind[D], value: Any, raw: bytes) -> Any:
    return sound(entries.counted(buffer.projection, value), raw)


def sound(value: Any, raw: bytes) -> Any:
    """What was found; what is neither a document nor a lease, such as another pattern's fence or
    tombstone, as something to be replaced."""
    if isinstance(value, Found):
        outlived = value.kind == "outlived" and codec.members_of_the_layer(raw) is not None
        foreign = value.kind in ("fence", "stray fence") or outlived
    else:
        foreign = isinstance(value, Gone) or getattr(value, "revision", 0) > REVISION_MAX
    return Found("corrupt", raw) if foreign else value


def _missing(buffer: WriteBehind[D], user_id: int, found: Found, *, strict: bool = False) -> Held:
    """The document, filled from its row or from the empty document.

    With the cache away or full it fills nothing, or, if `strict`, raises `CacheUnavailable`.
    """
    if found.kind == "outlived":
        with buffer.locked([user_id]) as rows:
            return revived(buffer, {user_id: found}, rows, strict=strict)[user_id]
    # Inside a transaction too: the row follows the document, not the other way round, so there is
    # nothing uncommitted in it.
    projection = with_empty(buffer)
    leased = leases.lease(projection, {user_id: found}, strict=strict).get(user_id)
    if leased is not None and not isinstance(leased, Found | Lease):
        return made(leased)
    row: Any = projection.read([user_id])[user_id]
    if isinstance(leased, Lease):
        leases.fill(projection, {user_id: leased}, {user_id: row}, strict=strict)
        row = msgspec.structs.replace(row, incarnation=leased.life.incarnation)
    return made(row)


def revived(
    buffer: WriteBehind[D],
    found: Mapping[int, Found],
    rows: Mapping[int, LockedRow | None],
    *,
    strict: bool = False,
) -> dict[int, Held]:
    """The documents in place of those of an earlier life of the server: of each and its row, which
    is held, the one with the higher revision (guarantee G6). One query and two round trips for all.

    An older snapshot must not be taken for what has been persisted since; but what is unsaved in
    it, and newer than its row, exists nowhere else. A row that took changes past the cache counts
    as before them: they will be repeated on what is put in.
    """
    documents: Mapping[int, Any] = with_empty(buffer).documents(list(found))
    put_in = {u: _newer(buffer, each, documents[u], rows.get(u)) for u, each in found.items()}

    def put() -> None:
        # Marked first: one who dies in between leaves at worst a needless mark.
        buffer.index.mark_unsaved(put_in.values())
        calls = [_reviving(buffer, each, put_in[u]) for u, each in found.items()]
        store().pipeline(calls, idempotent=True)

    if strict:
        put()
    else:
        attempt(put, away=None)
    return {user_id: made(document) for user_id, document in put_in.items()}


def _newer(buffer: WriteBehind[D], found: Found, document: Any, row: LockedRow | None) -> Any:
    assert found.life is not None  # noqa: S101  every outlived one has it
    earlier: Any = codec.decode(found.raw, buffer.projection.document)
    before_away = row.before_away if row is not None else None
    known = document.revision if before_away is None else before_away
    if earlier.revision > known:
        document = msgspec.structs.replace(
            earlier,
            dirty_since=earlier.dirty_since or time.time(),
            persisted_revision=known,
            persisted_at=document.persisted_at,
        )
    return msgspec.structs.replace(document, incarnation=found.life.incarnation)


def _reviving(buffer: WriteBehind[D], found: Found, document: Any) -> ScriptCall:
    lifetime = buffer.projection.lifetime(document)[1] if document.dirty_since is None else ""
    key = buffer.projection.keyspace.key(document.user_id)
    return REVIVE.on(key, found.raw, codec.encode(document), lifetime, sticky())


def sticky() -> str:
    """What keeps a key from being evicted, where the server can."""
    return "STICK" if store().sticky else ""


def noted(**members: object) -> bytes:
    """Members of the layer's own, as they stand at the end of a document."""
    return b"," + codec.encode(members)[1:-1] if members else b""


def with_empty(buffer: WriteBehind[D]) -> Projection[D]:
    """The projection in which every user has a document."""

    def documents(user_ids: Sequence[int]) -> dict[int, D]:
        rows = buffer.projection.documents(user_ids)
        return {user_id: buffer.empty(user_id) for user_id in user_ids} | rows

    return replace(buffer.projection, read=documents)


def update(buffer: WriteBehind[D], user_id: int, change: Callable[[D], D], *, floor: int = 0) -> D:
    """Apply `change` to the live document atomically and acknowledge the new revision.

    `change(document)` gives the next content and raises to refuse; revision and mark are set
    here, the revision above `floor`. Two round trips and no SQL while the document is there. It may
    be applied twice where the server ends meanwhile. Raises `CacheUnavailable` when the cache
    cannot take it (then change the row; it may have taken it all the same where that is
    `Unanswered`), `Contended`, and whatever `change` raises.
    """
    with turn(user_id):
        for tried in range(ATTEMPTS):
            held, was_there = _held(buffer, user_id, patient=tried < PATIENT_ATTEMPTS)
            following: D = _next(held.document, change(held.document), floor)
            if following.revision > REVISION_MAX:
                break
            if _stored(buffer, held, following, was_there=was_there):
                return following
            CONFLICTS.labels(buffer.projection.keyspace.name, "compare-and-set").inc()
            time.sleep(random.uniform(0, 0.0005 * min(tried, 20)))  # noqa: S311  not a secret
    raise Contended


def _held(buffer: WriteBehind[D], user_id: int, *, patient: bool) -> tuple[Held, bool]:
    """The live document, and whether it was there; else it has been filled."""
    value, raw = _look(buffer, user_id)
    if value is None:
        raise CacheUnavailable("The live document cannot be read.")
    if not isinstance(value, Found):
        return Held(value, raw), True
    found = value if patient else taken_over(value)
    return _missing(buffer, user_id, found, strict=True), False


def taken_over(found: Found) -> Found:
    """What was found; a lease as something to be replaced: whoever left it, and has not died, fills
    nothing any more, and may only go by what it has read."""
    return Found("corrupt", found.raw) if found.kind == "lease" else found


def _next(current: D, changed: D, floor: int) -> D:
    result: D = msgspec.structs.replace(
        changed,
        revision=max(current.revision, floor) + 1,
        persisted_revision=current.persisted_revision,
        persisted_at=current.persisted_at,
        dirty_since=current.dirty_since or time.time(),
        incarnation=current.incarnation,
    )
    return result


def _stored(buffer: WriteBehind[D], held: Held, following: D, *, was_there: bool) -> bool:
    """Document and mark in one round trip; in two for a document that was only just filled:
    somebody else may hold the lease, and a mark without a document would be taken for a loss.

    The mark of a lost comparison is harmless: the winner has that revision and marks it too. Where
    the document has just been evicted there is no winner: is the change refused when it is computed
    again, the next flush reports a loss that was none. What another life of the server took than
    the one that was read from does not count: it may not know of what was persisted since.
    """
    if following.incarnation is None:
        return False  # it comes from its row alone: somebody else is about to put it in
    key = buffer.projection.keyspace.key(following.user_id)
    # One that has been persisted since it was read holds something unsaved from now on.
    since = following.dirty_since if held.document.dirty_since is None else time.time()
    replacing = COMPARE_AND_SET.on(
        key, held.raw, codec.encode(following), noted(_dirtySince=since), sticky()
    )
    marks = buffer.index.mark(following) if was_there else []
    try:
        (outcome, *_), life = store().exchange([replacing, *marks])
    except WrongType:
        # The document may have been stored, and must not be without its mark.
        buffer.index.mark_unsaved([following])
        return bool(entries.peek(buffer.projection, following.user_id) == following)
    if outcome != b"stored" or life.incarnation != following.incarnation:
        return False
    if not was_there:
        buffer.index.mark_unsaved([following])
    return True


def discard_saved(buffer: WriteBehind[D], user_ids: Sequence[int]) -> list[int]:
    """Remove the documents that hold nothing unsaved; the users whose document stays."""
    keys = [buffer.projection.keyspace.key(user_id) for user_id in user_ids]
    removed = store().pipeline([DROP_SAVED.on(key) for key in keys], idempotent=True)
    return [user_id for user_id, done in zip(user_ids, removed, strict=True) if not done]


def discard(buffer: WriteBehind[D], user_ids: Sequence[int]) -> None:
    """Remove documents and marks, unsaved or not."""
    keys = [buffer.projection.keyspace.key(user_id) for user_id in user_ids]
    marks = [command for user_id in user_ids for command in buffer.index.unmark(user_id)]
    store().pipeline([*(("UNLINK", key) for key in keys), *marks], idempotent=True)
