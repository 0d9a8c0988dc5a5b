"""What the commands, the admin and the health view may do with each keyspace.

Every service registers its resources when Django starts, so that warm-up, flush, audit and
inspection are written once and know no service.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Literal, Protocol, TypeVar

import msgspec
from django.contrib.auth import get_user_model
from django.db import InterfaceError, OperationalError

from aevon.cache import (
    bounded_list,
    codec,
    entries,
    fences,
    flush,
    flush_preview,
    leases,
    metrics,
    outbox,
    write_behind,
)
from aevon.cache.bounded_list import BoundedList
from aevon.cache.codec import CorruptValue
from aevon.cache.connection import CacheError, Life, before_trusting, store
from aevon.cache.entries import Found
from aevon.cache.keyspace import Keyspace
from aevon.cache.leases import Warmth
from aevon.cache.projection import Gone, Projection
from aevon.cache.write_behind import WriteBehind

logger = logging.getLogger(__name__)

# in sync: what PostgreSQL has. unsaved: newer than PostgreSQL, waiting for the flush. stale:
# differs. missing: not cached. corrupt: cannot be read. absent: neither here nor there.
Verdict = Literal["in sync", "unsaved", "stale", "missing", "corrupt", "absent"]

D = TypeVar("D", bound=Any)


class Resource(Protocol):
    """One keyspace with what it is made of."""

    @property
    def keyspace(self) -> Keyspace: ...

    def user_ids(self) -> Iterator[int]:
        """Every user with something in PostgreSQL, in constant memory."""

    def warm(self, user_ids: Sequence[int]) -> dict[int, Warmth]:
        """Load rows into the cache, never over something newer, and say what became of each; users
        with nothing to be cached are left out. Raises `CacheUnavailable`."""

    def would_warm(self, user_ids: Sequence[int]) -> dict[int, Warmth]:
        """What `warm` would say, as far as one can see: nothing is changed."""

    def drop(self, user_ids: Sequence[int]) -> list[int]:
        """Remove the entries, after what is unsaved has been persisted; the users whose entry
        had to stay, because PostgreSQL does not take it."""

    def would_keep(self, user_ids: Sequence[int]) -> list[int]:
        """The users whose entry `drop` would leave, as far as one can see: nothing is changed."""

    def discard(self, user_ids: Sequence[int]) -> None:
        """Remove the entries and whatever is unsaved in them."""

    def repair(self, user_ids: Sequence[int]) -> None:
        """Make the entries follow PostgreSQL. Raises `CacheUnavailable`."""

    def would_repair(self, user_ids: Sequence[int]) -> list[int]:
        """Those of the users, whose entries are wrong, whom `repair` would help."""

    def observe(self, versions: Mapping[int, int | None]) -> None:
        """As `repair`, of entries that are older than these versions; None: in any case."""

    def rows(self, user_ids: Sequence[int]) -> set[int]:
        """Those of the users who have something in PostgreSQL that belongs into the cache."""

    def verdicts(self, user_ids: Sequence[int]) -> dict[int, Verdict]:
        """Compare cache and PostgreSQL: one query, two round trips. Raises `CacheUnavailable`."""

    def ledger(self, user_id: int) -> Any:
        """What PostgreSQL holds, as the plain value the cache would hold; None for nothing."""


class _Removable:
    """Keys that can go at any time, because PostgreSQL has all that is in them."""

    __slots__ = ()

    @property
    def keyspace(self) -> Keyspace:
        raise NotImplementedError

    def drop(self, user_ids: Sequence[int]) -> list[int]:
        self.discard(user_ids)
        return []

    def would_keep(self, user_ids: Sequence[int]) -> list[int]:  # noqa: ARG002
        return []

    def discard(self, user_ids: Sequence[int]) -> None:
        keys = [self.keyspace.key(user_id) for user_id in user_ids]
        store().pipeline([("UNLINK", key) for key in keys], idempotent=True)

    def repair(self, user_ids: Sequence[int]) -> None:
        self.discard(user_ids)

    def would_repair(self, user_ids: Sequence[int]) -> list[int]:
        return list(user_ids)

    def observe(self, versions: Mapping[int, int | None]) -> None:
        self.repair(list(versions))


@dataclass(frozen=True, slots=True)
class EntryResource(_Removable, Generic[D]):
    """A write-through or cache-aside document."""

    projection: Projection[D]

    @property
    def keyspace(self) -> Keyspace:
        return self.projection.keyspace

    def user_ids(self) -> Iterator[int]:
        return self.projection.user_ids()

    def warm(self, user_ids: Sequence[int]) -> dict[int, Warmth]:
        held = entries.peek_many(self.projection, user_ids)
        missing = {u: value for u, value in held.items() if isinstance(value, Found)}
        return _there(held) | (self._fill(missing) if missing else {})

    def _fill(self, missing: Mapping[int, Found]) -> dict[int, Warmth]:
        return leases.warm(self.projection, missing)

    def would_warm(self, user_ids: Sequence[int]) -> dict[int, Warmth]:
        held = _read_entries(self.projection, user_ids)
        missing = {u: value for u, value in held.items() if isinstance(value, Found)}
        return _there(held) | (self._would_fill(missing) if missing else {})

    def _would_fill(self, missing: Mapping[int, Found]) -> dict[int, Warmth]:
        left_alone = ("fence", "lease")
        rows = self.rows(list(missing))
        return {u: "busy" if missing[u].kind in left_alone else "loaded" for u in rows}

    def discard(self, user_ids: Sequence[int]) -> None:
        fences.drop(self.projection, user_ids)

    def observe(self, versions: Mapping[int, int | None]) -> None:
        known = {user_id: v for user_id, v in versions.items() if v is not None}
        fences.observe(self.projection, known)
        if others := [user_id for user_id in versions if user_id not in known]:
            self.repair(others)

    def rows(self, user_ids: Sequence[int]) -> set[int]:
        return set(self.projection.living(self.projection.read(user_ids)))

    def verdicts(self, user_ids: Sequence[int]) -> dict[int, Verdict]:
        held = _read_entries(self.projection, user_ids)
        rows = self.projection.documents(user_ids)
        return {u: self._verdict(held[u], rows.get(u)) for u in user_ids}

    def _verdict(self, held: D | Gone | Found, row: D | None) -> Verdict:
        if row is not None and self.projection.ended(row):
            row = None
        if isinstance(held, Gone):
            return "absent" if row is None else "stale"
        if isinstance(held, Found):
            if held.is_wrong:
                return "corrupt"
            return "absent" if row is None else "missing"
        current = self.projection.current
        return "in sync" if row is not None and current(held) == current(row) else "stale"

    def ledger(self, user_id: int) -> Any:
        return msgspec.to_builtins(self.projection.read_one(user_id))


@dataclass(frozen=True, slots=True)
class BufferResource(EntryResource[D]):
    """A write-behind document: dropping it persists it first and keeps what cannot be."""

    buffer: WriteBehind[D]

    def _fill(self, missing: Mapping[int, Found]) -> dict[int, Warmth]:
        """As of other entries; but what is left of an earlier life of the server may hold changes
        that exist nowhere else."""
        outlived = {u: each for u, each in missing.items() if _is_outlived_document(each)}
        others = {u: each for u, each in missing.items() if u not in outlived}
        done = super(BufferResource, self)._fill(others) if others else {}
        if outlived:
            with self.buffer.locked(list(outlived)) as rows:
                known = {u: each for u, each in outlived.items() if rows.get(u) is not None}
                write_behind.revived(self.buffer, known, rows, strict=True)
                done |= dict.fromkeys(known, "loaded")
        return done

    def _would_fill(self, missing: Mapping[int, Found]) -> dict[int, Warmth]:
        outlived = [u for u, each in missing.items() if _is_outlived_document(each)]
        users = get_user_model().objects.filter(pk__in=outlived) if outlived else ()
        done = super(BufferResource, self)._would_fill(missing)
        return done | {user.pk: "loaded" for user in users}

    def would_keep(self, user_ids: Sequence[int]) -> list[int]:
        return flush_preview.refused_before(self.buffer, user_ids)

    def would_repair(self, user_ids: Sequence[int]) -> list[int]:
        held: Mapping[int, Any] = entries.peek_many(self.projection, user_ids)
        return [u for u in user_ids if getattr(held[u], "dirty_since", None) is None]

    def drop(self, user_ids: Sequence[int]) -> list[int]:
        try:
            flush.flush_users(self.buffer, user_ids)
        except (OperationalError, InterfaceError):
            logger.exception("PostgreSQL is away: unsaved documents stay in the cache")
        return write_behind.discard_saved(self.buffer, user_ids)

    def discard(self, user_ids: Sequence[int]) -> None:
        write_behind.discard(self.buffer, user_ids)

    def repair(self, user_ids: Sequence[int]) -> None:
        write_behind.discard_saved(self.buffer, user_ids)

    def observe(self, versions: Mapping[int, int | None]) -> None:
        # A committed version says nothing about what is unsaved.
        self.repair(list(versions))

    def _verdict(self, held: D | Gone | Found, row: D | None) -> Verdict:
        if isinstance(held, Gone | Found):
            return super(BufferResource, self)._verdict(held, row)
        saved = row.revision if row is not None else 0
        if held.revision > saved:
            # Newer, and nobody is going to persist it: PostgreSQL was set back.
            return "unsaved" if held.dirty_since else "stale"
        row = row or self.buffer.empty(held.user_id)
        return "in sync" if write_behind.same(self.buffer, held, row) else "stale"


@dataclass(frozen=True, slots=True)
class ListResource(_Removable, Generic[D]):
    """A bounded list."""

    blist: BoundedList[D]

    @property
    def keyspace(self) -> Keyspace:
        return self.blist.keyspace

    def user_ids(self) -> Iterator[int]:
        return self.blist.user_ids()

    def warm(self, user_ids: Sequence[int]) -> dict[int, Warmth]:
        return bounded_list.warm(self.blist, user_ids)

    def would_warm(self, user_ids: Sequence[int]) -> dict[int, Warmth]:
        return bounded_list.would_warm(self.blist, user_ids)

    def observe(self, versions: Mapping[int, int | None]) -> None:
        bounded_list.observe(self.blist, versions)

    def rows(self, user_ids: Sequence[int]) -> set[int]:
        return {u for u, recent in self.blist.recent(user_ids).items() if recent.elements}

    def verdicts(self, user_ids: Sequence[int]) -> dict[int, Verdict]:
        held, life = bounded_list.held_by(self.blist, user_ids)
        rows = self.blist.recent(user_ids)
        return {u: self._verdict(held[u], life, rows[u].elements) for u in user_ids}

    def _verdict(self, reply: Any, life: Life, elements: list[D]) -> Verdict:
        try:
            held = bounded_list.understand(self.blist, reply, life)
        except CorruptValue:
            return "corrupt"
        if not held:
            return "missing" if elements else "absent"
        return "in sync" if held == elements else "stale"

    def ledger(self, user_id: int) -> Any:
        return msgspec.to_builtins(self.blist.recent([user_id])[user_id].elements) or None


def _there(held: Mapping[int, Any]) -> dict[int, Warmth]:
    return {u: "there" for u, value in held.items() if not isinstance(value, Gone | Found)}


def _is_outlived_document(found: Found) -> bool:
    return found.kind == "outlived" and codec.members_of_the_layer(found.raw) is None


def _read_entries(
    projection: Projection[D], user_ids: Sequence[int]
) -> dict[int, D | Gone | Found]:
    """The entries; raises `CacheUnavailable`. MGET takes a key of another type for an empty one:
    TYPE tells."""
    held = entries.peek_many(projection, user_ids)
    outlived = {u: f for u, f in held.items() if isinstance(f, Found) and f.kind == "outlived"}
    life = store().life if outlived else None
    for user_id, found in outlived.items():
        if life and _rewritten(found.raw, life):
            held[user_id] = Found("corrupt", found.raw)
    empty = [user_id for user_id in user_ids if held[user_id] == entries.EMPTY]
    for user_id, kind in types(projection.keyspace, empty).items():
        if kind not in ("none", "string"):
            held[user_id] = entries.FOREIGN_TYPE
    return held


def _rewritten(raw: bytes, life: Life) -> bool:
    """Whether somebody has written a state of this life anew, in a form that nobody here writes:
    our readers take it for a miss, but others would believe it."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("_incarnation") == life.incarnation


def types(keyspace: Keyspace, user_ids: Sequence[int]) -> dict[int, str]:
    """The type of each user's key, `none` for no key: one round trip; raises `CacheUnavailable`."""
    calls = [("TYPE", keyspace.key(user_id)) for user_id in user_ids]
    kinds = store().pipeline(calls, idempotent=True)
    return {u: kind.decode() for u, kind in zip(user_ids, kinds, strict=True)}


_registry: Final[dict[str, Resource]] = {}


def register(resource: Resource) -> None:
    """Make a keyspace known to the commands, the admin and the health view."""
    _registry[resource.keyspace.name] = resource
    metrics.begin(resource.keyspace.name, buffered=isinstance(resource, BufferResource))


def resource(name: str) -> Resource:
    """The resource of a keyspace; raises `LookupError`."""
    return _registry[name]


def resources() -> list[Resource]:
    """All of them, in the order of the services."""
    return list(_registry.values())


def repair_waiting(*, only: Sequence[int] | None = None) -> int:
    """Repair what waits in the outbox (of its rows `only`, where given); how many entries.

    Raises `CacheUnavailable`.
    """
    repairs = {each.keyspace.name: each.observe for each in resources()}
    repaired = outbox.drain(repairs, only=only)
    if only is None:
        outbox.tell_of_others(list(repairs))
    return repaired


before_trusting(repair_waiting)


def forget_users(user_ids: Sequence[int]) -> None:
    """Remove everything the cache holds on users that no longer exist.

    Cache away: the outbox remembers, and the repair finds that they have no rows.
    """
    for each in resources():
        try:
            each.discard(user_ids)
        except CacheError:
            outbox.add(each.keyspace, user_ids)


@dataclass(frozen=True, slots=True)
class Held:
    """What the cache holds under one key."""

    key: str
    type: str
    ttl_seconds: float | None
    value: Any = field(default=None)
    raw: bytes = field(default=b"", repr=False)


def held(keyspace: Keyspace, user_id: int) -> Held:
    """Type, lifetime (None: no expiry or no key) and value of a user's key, whatever is in it.

    Raises `CacheUnavailable`.
    """
    key = keyspace.key(user_id)
    kind = types(keyspace, [user_id])[user_id]
    ttl_ms = int(store().command("PTTL", key))
    value: Any = None
    raw = b""
    if kind == "string":
        raw = store().command("GET", key) or b""
        value = _shown(raw)
    elif kind == "list":
        value = [_shown(raw) for raw in store().command("LRANGE", key, 0, -1)]
    return Held(key, kind, ttl_ms / 1000 if ttl_ms >= 0 else None, value, raw)


def _shown(raw: bytes | None) -> Any:
    try:
        return json.loads(raw or b"null")
    except (ValueError, RecursionError):
        return f"not JSON: {len(raw or b'')} bytes"
