"""The index of what a write-behind buffer has not persisted yet.

Three keys per shard. `dirty`: user ids by revision, never by time, because two marks in one
millisecond must differ; marks only rise (GT) and are cleared only up to the revision that is in
PostgreSQL. `since`: the same users by the time of their first unsaved change, so that the oldest
comes first and its age is known; what decides is the mark. `refused`: what PostgreSQL did not take.
"""

import heapq
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Generic, TypeVar

import msgspec

from aevon.cache import codec, entries
from aevon.cache.codec import VERSION_MAX
from aevon.cache.connection import Command, Script, ScriptCall, WrongType, store
from aevon.cache.entries import Found
from aevon.cache.keyspace import (
    IndexKeys,
    InternalKeyspace,
    InvalidKey,
    canonical_user_id,
    registered,
)
from aevon.cache.projection import Projection

logger = logging.getLogger(__name__)

CLEAR_MARK: Final = Script("clear_mark")
SHARDS: Final = 8
BATCH: Final = 500
# What was refused is tried again after as long as it has been waiting, within these.
BACKOFF_SECONDS: Final = (60.0, 3600.0)

D = TypeVar("D", bound=Any)
T = TypeVar("T")


class Refusal(msgspec.Struct, rename="camel", frozen=True):
    """PostgreSQL did not take this revision, for the first time at `first_at` (Unix seconds); a
    flush of everything leaves it alone until `retry_at`."""

    revision: int
    first_at: float
    retry_at: float


@dataclass(frozen=True, slots=True)
class Exposure:
    """What would be lost with the cache's memory: how many documents, and since when the oldest
    (Unix seconds; None when nothing is unsaved). `refused`: those that PostgreSQL does not take."""

    unsaved: int
    oldest_since: float | None
    refused: int = 0

    def oldest_seconds(self) -> float | None:
        """For how long the oldest has been waiting."""
        return None if self.oldest_since is None else max(0.0, time.time() - self.oldest_since)


@dataclass(frozen=True, slots=True)
class DirtyIndex(Generic[D]):
    """The marks under `keys` of the documents of `projection`.

    An index that somebody replaced by another type is made anew by whoever meets it. Everything
    raises `CacheUnavailable`.
    """

    keys: IndexKeys
    projection: Projection[D]

    def __post_init__(self) -> None:
        for keyspace in self.keys:
            registered(keyspace)

    def mark(self, document: D) -> list[Command]:
        """The commands that mark a document with its revision and its `dirty_since`."""
        user_id, shard = document.user_id, _shard(document.user_id)
        dirty, since = self.keys.dirty.key(shard), self.keys.since.key(shard)
        marks: list[Command] = [
            ("ZADD", dirty, "GT", document.revision, user_id),
            ("ZADD", since, _score(document.dirty_since), user_id),
        ]
        # The index is worth as much as the documents: a server that evicts must spare it too.
        return [*marks, ("STICK", dirty, since)] if store().sticky else marks

    def unmark(self, user_id: int) -> list[Command]:
        """The commands that remove a mark, whatever its revision."""
        shard = _shard(user_id)
        return [
            ("ZREM", self.keys.dirty.key(shard), user_id),
            ("ZREM", self.keys.since.key(shard), user_id),
            ("HDEL", self.keys.refused.key(shard), user_id),
        ]

    def mark_unsaved(self, documents: Iterable[Any]) -> None:
        """Mark the documents that hold something unsaved."""
        unsaved = [each for each in documents if getattr(each, "dirty_since", None) is not None]
        marks = [command for each in unsaved for command in self.mark(each)]
        shards = {_shard(each.user_id) for each in unsaved}
        self._healed(shards, lambda: store().pipeline(marks, idempotent=True))

    def marks_of(self, user_ids: Sequence[int]) -> dict[int, int]:
        """Revisions of those of the users that are marked."""
        scores = self._marks(user_ids)
        if odd := [user_id for user_id, score in scores.items() if not score <= VERSION_MAX]:
            self._mark_anew(odd)
            scores = self._marks(user_ids)
        return {user_id: int(score) for user_id, score in scores.items()}

    def since_of(self, user_ids: Sequence[int]) -> dict[int, float]:
        """Since when those of the users who have a place in the order have it (Unix seconds)."""
        shards = {_shard(user_id) for user_id in user_ids}
        return self._healed(shards, lambda: self._scores(self.keys.since, user_ids))

    def _marks(self, user_ids: Sequence[int]) -> dict[int, float]:
        shards = {_shard(user_id) for user_id in user_ids}
        return self._healed(shards, lambda: self._scores(self.keys.dirty, user_ids))

    def _mark_anew(self, user_ids: Sequence[int]) -> None:
        """Marks that no document can have reached are somebody else's."""
        logger.error("Impossible marks of %d users were replaced", len(user_ids))
        dirty = self.keys.dirty
        store().pipeline([("ZREM", dirty.key(_shard(u)), u) for u in user_ids], idempotent=True)
        held: Mapping[int, Any] = entries.peek_many(self.projection, user_ids)
        self.mark_unsaved(map(self._of_any_life, held.values()))

    def _scores(self, keyspace: InternalKeyspace, user_ids: Sequence[int]) -> dict[int, float]:
        groups = _by_shard(user_ids)
        calls = [("ZMSCORE", keyspace.key(shard), *members) for shard, members in groups.items()]
        found: dict[int, float] = {}
        for members, scores in zip(
            groups.values(), store().pipeline(calls, idempotent=True), strict=True
        ):
            pairs = zip(members, scores, strict=True)
            found |= {user_id: float(score) for user_id, score in pairs if score is not None}
        return found

    def oldest_first(self, shards: Iterable[int], *, until: float) -> Iterator[int]:
        """The users whose first unsaved change was before `until`, oldest first; read in pages, so
        that one who is marked anew while they are read may be left out, or come again."""
        pages = [self._page_through(shard, until) for shard in shards]
        return (user_id for _, user_id in heapq.merge(*pages))

    def _page_through(self, shard: int, until: float) -> Iterator[tuple[float, int]]:
        key, low = self.keys.since.key(shard), "-inf"
        while True:
            limits = (key, low, _score(until), "WITHSCORES", "LIMIT", 0, BATCH)
            flat = self._healed([shard], lambda: store().command("ZRANGEBYSCORE", *limits))  # noqa: B023  called at once
            yield from self._members(shard, key, zip(flat[::2], flat[1::2], strict=True))
            if len(flat) < 2 * BATCH:
                return
            low = f"({flat[-1].decode()}"

    def _members(
        self, shard: int, key: str, pairs: Iterable[tuple[bytes, Any]]
    ) -> Iterator[tuple[float, int]]:
        """Scores and users. A member that is no user of this shard is removed, so that it stops
        nobody."""
        for member, score in pairs:
            user_id = _user_id(member)
            if user_id is not None and _shard(user_id) == shard:
                yield float(score), user_id
            else:
                logger.error("A foreign member in %s was removed", key)
                store().command("ZREM", key, member)

    def everybody(self, shards: Iterable[int]) -> Iterator[int]:
        """All users that are marked, in no order, each at least once."""
        for shard in shards:
            key, cursor = self.keys.dirty.key(shard), "0"
            while True:
                scan = (key, cursor, "COUNT", BATCH)
                cursor, pairs = self._healed([shard], lambda: store().command("ZSCAN", *scan))  # noqa: B023
                yield from (user_id for _, user_id in self._members(shard, key, pairs))
                if int(cursor) == 0:
                    break

    def clear(self, revisions: Mapping[int, int], since: Mapping[int, float]) -> set[int]:
        """Clear the users' marks up to these revisions, and their places in the order up to these
        times; the users that have no mark any more."""
        groups = _by_shard(revisions)
        marks = _clearing(self.keys.dirty, groups, revisions)
        times = _clearing(self.keys.since, groups, {u: _score(since[u]) for u in revisions})
        replies = store().pipeline([*marks, *times], idempotent=True)
        return {
            user_id
            for members, removed in zip(groups.values(), replies[: len(marks)], strict=True)
            for user_id, done in zip(members, removed, strict=True)
            if done
        }

    def forget_order(self, since: Mapping[int, float]) -> None:
        """Remove users without a mark from the order, up to these times."""
        times = {user_id: _score(at) for user_id, at in since.items()}
        calls = _clearing(self.keys.since, _by_shard(times), times)
        store().pipeline(calls, idempotent=True)

    def changed_since(self, user_ids: Sequence[int], moment: float) -> None:
        """What these users have unsaved they have changed after `moment`."""
        calls = [("ZADD", self._since(u), "XX", "GT", _score(moment), u) for u in user_ids]
        store().pipeline(calls, idempotent=True)

    def refusals(self, user_ids: Sequence[int]) -> dict[int, Refusal]:
        """Those of the users whose documents PostgreSQL did not take."""
        groups = _by_shard(user_ids)
        calls = [("HMGET", self.keys.refused.key(s), *members) for s, members in groups.items()]
        shards = list(groups)
        replies = self._healed(shards, lambda: store().pipeline(calls, idempotent=True))
        found = {}
        for members, raws in zip(groups.values(), replies, strict=True):
            for user_id, raw in zip(members, raws, strict=True):
                if raw is not None and (refusal := _refusal(raw)):
                    found[user_id] = refusal
        return found

    def refuse(self, revisions: Mapping[int, int], known: Mapping[int, Refusal]) -> None:
        """Note what PostgreSQL did not take, and when to try again."""
        now = time.time()
        calls: list[Command] = []
        for user_id, revision in revisions.items():
            first_at = known[user_id].first_at if user_id in known else now
            shortest, longest = BACKOFF_SECONDS
            retry_at = now + min(max(now - first_at, shortest), longest)
            noted = codec.encode(Refusal(revision, first_at, retry_at))
            calls.append(("HSET", self.keys.refused.key(_shard(user_id)), user_id, noted))
        store().pipeline(calls, idempotent=True)

    def accept(self, user_ids: Iterable[int]) -> None:
        """These documents are refused no longer."""
        calls = [("HDEL", self.keys.refused.key(_shard(u)), u) for u in user_ids]
        store().pipeline(calls, idempotent=True)

    def counts(self) -> dict[int, int]:
        """How many users are marked or have a place in the order, by shard: one round trip."""
        zsets = (self.keys.dirty, self.keys.since)
        calls = [("ZCARD", each.key(shard)) for shard in range(SHARDS) for each in zsets]
        cards = self._healed(range(SHARDS), lambda: store().pipeline(calls, idempotent=True))
        return {shard: max(cards[2 * shard : 2 * shard + 2]) for shard in range(SHARDS)}

    def exposure(self) -> Exposure:
        """How many documents are marked, and since when the first: one round trip."""
        calls: list[Command] = []
        for shard in range(SHARDS):
            calls.append(("ZCARD", self.keys.dirty.key(shard)))
            calls.append(("ZRANGE", self.keys.since.key(shard), 0, 0, "WITHSCORES"))
            calls.append(("HLEN", self.keys.refused.key(shard)))
        replies = self._healed(range(SHARDS), lambda: store().pipeline(calls, idempotent=True))
        unsaved, refused = sum(replies[::3]), sum(replies[2::3])
        oldest = min((float(first[1]) for first in replies[1::3] if first), default=None)
        return Exposure(unsaved, oldest if unsaved else None, refused)

    def rebuild(self, shard: int) -> None:
        """Make a shard anew from the documents, of which it goes through all."""
        logger.error("%s was no index and is made anew", self.keys.dirty.key(shard))
        store().command("UNLINK", *(each.key(shard) for each in self.keys[:3]))
        keyspace = self.projection.keyspace
        found = map(keyspace.user_id, store().scan(f"{keyspace.name}:*"))
        user_ids = (u for u in found if u is not None and _shard(u) == shard)
        while batch := list(islice(user_ids, BATCH)):
            held: Mapping[int, Any] = entries.peek_many(self.projection, batch)
            self.mark_unsaved(map(self._of_any_life, held.values()))

    def _of_any_life(self, value: Any) -> Any:
        """A document of an earlier life of the server may be unsaved just as well."""
        outlived = isinstance(value, Found) and value.kind == "outlived"
        return codec.decode(value.raw, self.projection.document) if outlived else value

    def _healed(self, shards: Iterable[int], ask: Callable[[], T]) -> T:
        try:
            return ask()
        except WrongType:
            for shard in set(shards):
                if not self._is_sound(shard):
                    self.rebuild(shard)
            return ask()

    def _is_sound(self, shard: int) -> bool:
        wanted = (b"zset", b"zset", b"hash")
        kinds = store().pipeline([("TYPE", each.key(shard)) for each in self.keys[:3]])
        return all(kind in (right, b"none") for kind, right in zip(kinds, wanted, strict=True))

    def _since(self, user_id: int) -> str:
        return self.keys.since.key(_shard(user_id))


def _shard(user_id: int) -> int:
    return user_id % SHARDS


def _user_id(member: bytes) -> int | None:
    try:
        return canonical_user_id(member.decode("ascii", "replace"))
    except InvalidKey:
        return None


def _by_shard(user_ids: Iterable[int]) -> dict[int, list[int]]:
    groups: dict[int, list[int]] = defaultdict(list)
    for user_id in user_ids:
        groups[_shard(user_id)].append(user_id)
    return groups


def _clearing(
    keyspace: InternalKeyspace, groups: Mapping[int, list[int]], highest: Mapping[int, int | str]
) -> list[ScriptCall]:
    """A script for each shard, however many its members are."""
    return [
        CLEAR_MARK.on(keyspace.key(shard), *(part for u in members for part in (u, highest[u])))
        for shard, members in groups.items()
    ]


def _score(moment: float) -> str:
    """A time as a score, exactly."""
    return repr(float(moment))


def _refusal(raw: bytes) -> Refusal | None:
    """What was noted; None for what cannot be read, which is then tried at once."""
    try:
        return msgspec.json.decode(raw, type=Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
