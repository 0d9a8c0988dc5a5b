"""The index of what a write-behind buffer has not persisted yet.

Sorted sets of user ids, in shards so that one never grows too large. A mark's score is the
revision, never a time: two marks in one millisecond must differ. Marks only rise (GT) and are
cleared only up to the revision that is in PostgreSQL.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Generic, TypeVar

from aevon.cache import entries
from aevon.cache.connection import Script, WrongType, store
from aevon.cache.keyspace import InternalKeyspace, InvalidKey, canonical_user_id, registered
from aevon.cache.projection import Projection

logger = logging.getLogger(__name__)

CLEAR_MARK: Final = Script("clear_mark")
SHARDS: Final = 8
BATCH: Final = 500

D = TypeVar("D", bound=Any)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DirtyIndex(Generic[D]):
    """The marks under `keyspace` of the documents of `projection`.

    An index that somebody replaced by another type is made anew by whoever meets it. Everything
    raises `CacheUnavailable`.
    """

    keyspace: InternalKeyspace
    projection: Projection[D]

    def __post_init__(self) -> None:
        registered(self.keyspace)

    def key(self, user_id: int) -> str:
        """The shard that this user belongs to."""
        return self.keyspace.key(user_id % SHARDS)

    def shards(self) -> list[str]:
        """All shards."""
        return [self.keyspace.key(shard) for shard in range(SHARDS)]

    def mark(self, document: D) -> tuple[Any, ...]:
        """The command that marks a document with its revision."""
        key = self.key(document.user_id)
        return ("ZADD", key, "GT", document.revision, document.user_id)

    def unmark(self, user_id: int) -> tuple[Any, ...]:
        """The command that removes a mark, whatever its revision."""
        return ("ZREM", self.key(user_id), user_id)

    def mark_unsaved(self, documents: Iterable[Any]) -> None:
        """Mark the documents that hold something unsaved."""
        unsaved = [each for each in documents if getattr(each, "dirty_since", None) is not None]
        marks = [self.mark(each) for each in unsaved]
        keys = [self.key(each.user_id) for each in unsaved]
        self._healed(keys, lambda: store().pipeline(marks, idempotent=True))

    def marks(self, key: str) -> dict[int, int]:
        """Users and revisions of a shard. A member that is no user id is removed, so that it stops
        nobody."""
        flat = self._healed([key], lambda: store().command("ZRANGE", key, 0, -1, "WITHSCORES"))
        marks = {}
        for member, score in zip(flat[::2], flat[1::2], strict=True):
            try:
                marks[canonical_user_id(member.decode("ascii", "replace"))] = int(float(score))
            except InvalidKey:
                logger.error("A foreign member in %s was removed", key)
                store().command("ZREM", key, member)
        return marks

    def marks_of(self, user_ids: Sequence[int]) -> dict[int, int]:
        """Revisions of those of the users that are marked."""
        keys = [self.key(user_id) for user_id in user_ids]
        calls = [("ZSCORE", key, user_id) for key, user_id in zip(keys, user_ids, strict=True)]
        scores = self._healed(keys, lambda: store().pipeline(calls, idempotent=True))
        return {u: int(float(s)) for u, s in zip(user_ids, scores, strict=True) if s is not None}

    def clear(self, revisions: Mapping[int, int]) -> None:
        """Clear the users' marks up to these revisions."""
        calls = [CLEAR_MARK.on(self.key(user_id), user_id, r) for user_id, r in revisions.items()]
        store().pipeline(calls, idempotent=True)

    def count(self) -> int:
        """How many documents are marked: one round trip."""
        calls = [("ZCARD", key) for key in self.shards()]
        return sum(self._healed(self.shards(), lambda: store().pipeline(calls, idempotent=True)))

    def rebuild(self, key: str) -> None:
        """Make a shard anew from the documents, of which it goes through all."""
        logger.error("%s was no index and is made anew", key)
        store().command("UNLINK", key)
        keyspace = self.projection.keyspace
        found = map(keyspace.user_id, store().scan(f"{keyspace.name}:*"))
        user_ids = (u for u in found if u is not None and self.key(u) == key)
        while batch := list(islice(user_ids, BATCH)):
            held: Mapping[int, Any] = entries.peek_many(self.projection, batch)
            self.mark_unsaved(held.values())

    def _healed(self, keys: Iterable[str], ask: Callable[[], T]) -> T:
        try:
            return ask()
        except WrongType:
            for key in set(keys):
                if store().command("TYPE", key) not in (b"zset", b"none"):
                    self.rebuild(key)
            return ask()
