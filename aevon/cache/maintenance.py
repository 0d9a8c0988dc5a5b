"""Warm-up, flush and audit: what the commands and the admin do to whole keyspaces.

Everything works in batches; memory grows only with entries that have no rows. Every batch leaves
cache and PostgreSQL consistent, so stopping at any moment is harmless. Keys are found by SCAN,
never KEYS, and a key that is not exactly `name:{userId}` is never touched. All raise
`CacheUnavailable`, and what PostgreSQL raises when it is away.
"""

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Final, Protocol, TypeVar

from django.contrib.auth import get_user_model
from django.db.models import Max

from aevon.cache import resources
from aevon.cache.connection import CacheError, CacheUnavailable, store
from aevon.cache.keyspace import Keyspace
from aevon.cache.resources import Resource, Verdict
from aevon.cache.user_ranges import UserRanges

logger = logging.getLogger(__name__)

BATCH: Final = 500
# Named one by one up to here; a larger selection is met by going through all there are.
FEW_USERS: Final = 10_000
# Long enough for a write that was under way between the two reads to finish.
RECHECK_SECONDS: Final = 0.05
WRONG: Final = ("stale", "corrupt")
NOT_CACHED: Final = ("missing", "absent")
EXAMPLES: Final = 5
# Guesses for each user of a sample. Where these are not enough, there are few to go through.
GUESSES: Final = 64

T = TypeVar("T")


class Progress(Protocol):
    """Who wants to know how far it is."""

    def start(self, service: str, count: Callable[[], int] | None) -> None:
        """The next keyspace begins; `count()` gives the number of users, where it is known."""

    def advance(self, users: int) -> None:
        """So many more are done."""


class Unwatched:
    """Nobody wants to know."""

    def start(self, service: str, count: Callable[[], int] | None) -> None:
        """Nothing."""

    def advance(self, users: int) -> None:
        """Nothing."""


def chosen(service: str) -> list[Resource]:
    """The resource of one keyspace, or `all` of them; raises `LookupError`."""
    return resources.resources() if service == "all" else [resources.resource(service)]


@dataclass(slots=True)
class Warmed:
    """What a warm-up did: users with rows, how many of these are cached now, how many of those
    were not before, and how many could not be cached (the cache is full, or was flushed)."""

    service: str
    users: int = 0
    cached: int = 0
    loaded: int = 0
    failed: int = 0


def warm_up(
    services: Sequence[Resource],
    users: UserRanges | None = None,
    *,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> list[Warmed]:
    """Load PostgreSQL's rows into the cache, of these users or of all.

    Never over something newer: an entry that is there stays, and an empty one is filled under a
    lease. A batch costs one or two queries and five round trips.
    """
    watch = progress or Unwatched()
    done = []
    for resource in services:
        watch.start(resource.keyspace.name, partial(_count, resource, users))
        warmed = Warmed(resource.keyspace.name)
        for user_ids in batches(_in_rows(resource, users), batch):
            warm_batch(resource, user_ids, warmed)
            watch.advance(len(user_ids))
        done.append(warmed)
    return done


def warm_batch(resource: Resource, user_ids: list[int], warmed: Warmed) -> None:
    """Warm these users' entries and add the result to `warmed`."""
    before = _present(resource.keyspace, user_ids)
    resource.warm(user_ids)
    after = _present(resource.keyspace, user_ids)
    absent = [user_id for user_id in user_ids if user_id not in after]
    failed = len(resource.rows(absent)) if absent else 0
    warmed.users += len(after) + failed
    warmed.cached += len(after)
    warmed.loaded += len(after - before)
    warmed.failed += failed


@dataclass(slots=True)
class Emptied:
    """What a flush removed (or would remove), and what had to stay: unsaved, and PostgreSQL did
    not take it or it changed again meanwhile."""

    service: str
    removed: int = 0
    kept: int = 0


def flush(
    services: Sequence[Resource],
    users: UserRanges | None = None,
    *,
    dry_run: bool = False,
    discard_unsaved: bool = False,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> list[Emptied]:
    """Remove the entries of these users, or of all, and no other key.

    What is unsaved is persisted first and stays where that fails, unless `discard_unsaved`.
    """
    watch = progress or Unwatched()
    done = []
    for resource in services:
        watch.start(resource.keyspace.name, None)
        emptied = Emptied(resource.keyspace.name)
        for user_ids in batches(_in_cache(resource.keyspace, users), batch):
            present = sorted(_present(resource.keyspace, user_ids))
            kept = [] if dry_run else remove(resource, present, discard_unsaved=discard_unsaved)
            emptied.removed += len(present) - len(kept)
            emptied.kept += len(kept)
            watch.advance(len(user_ids))
        done.append(emptied)
    return done


def remove(resource: Resource, user_ids: list[int], *, discard_unsaved: bool = False) -> list[int]:
    """Remove these users' entries; the users whose unsaved document had to stay."""
    if discard_unsaved:
        resource.discard(user_ids)
        return []
    kept = resource.drop(user_ids)
    # Once more: a document that changed while it was being persisted is not stuck.
    return resource.drop(kept) if kept else []


@dataclass(slots=True)
class Audited:
    """How one keyspace compares with PostgreSQL. `counts` is as found; `repaired` of the stale
    and corrupt ones are right, or no longer cached, by now. `examples` are users of some of them.
    """

    service: str
    counts: Counter[Verdict] = field(default_factory=Counter)
    repaired: int = 0
    examples: list[int] = field(default_factory=list)

    @property
    def cached(self) -> int:
        """Entries in the cache that were looked at."""
        return sum(n for verdict, n in self.counts.items() if verdict not in NOT_CACHED)

    @property
    def wrong(self) -> int:
        """Stale or corrupt entries as found."""
        return sum(self.counts[verdict] for verdict in WRONG)


def consistency(audited: Iterable[Audited]) -> float:
    """The share of the cached entries that are in sync or newer than PostgreSQL (0 … 1); 1 when
    nothing is cached."""
    together = list(audited)
    cached = sum(each.cached for each in together)
    return 1.0 - sum(each.wrong for each in together) / cached if cached else 1.0


def audit(
    services: Sequence[Resource],
    *,
    sample: int | None = None,
    repair: bool = False,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> list[Audited]:
    """Compare cache and PostgreSQL for every user known to either, or for `sample` of them.

    An entry that looks wrong is looked at again before it counts, because a write may have been
    under way between the two reads. `repair` makes wrong entries follow PostgreSQL.
    """
    watch = progress or Unwatched()
    done = []
    for resource in services:
        watch.start(resource.keyspace.name, partial(_count, resource, None) if not sample else None)
        audited = Audited(resource.keyspace.name)
        for user_ids in _everyone(resource, batch) if sample is None else _some(resource, sample):
            _audit_batch(resource, user_ids, audited, repair=repair)
            watch.advance(len(user_ids))
        done.append(audited)
    return done


def _audit_batch(
    resource: Resource, user_ids: list[int], audited: Audited, *, repair: bool
) -> None:
    verdicts = judge(resource, user_ids)
    audited.counts.update(verdicts.values())
    wrong = [user_id for user_id, verdict in verdicts.items() if verdict in WRONG]
    audited.examples = [*audited.examples, *wrong][:EXAMPLES]
    if repair and wrong:
        resource.repair(wrong)
        after = resource.verdicts(wrong)
        audited.repaired += sum(verdict not in WRONG for verdict in after.values())


def judge(resource: Resource, user_ids: Sequence[int]) -> dict[int, Verdict]:
    """The verdict on each user's entry; what looks wrong is looked at twice."""
    verdicts = resource.verdicts(user_ids)
    doubtful = [user_id for user_id, verdict in verdicts.items() if verdict in WRONG]
    if doubtful:
        time.sleep(RECHECK_SECONDS)
        verdicts |= resource.verdicts(doubtful)
    return verdicts


def _everyone(resource: Resource, batch: int) -> Iterator[list[int]]:
    """Every user once: those in PostgreSQL, then those that only the cache knows."""
    yield from batches(resource.user_ids(), batch)
    strays: set[int] = set()
    for user_ids in batches(_in_cache(resource.keyspace, None), batch):
        if new := set(user_ids) - resource.rows(user_ids) - strays:
            strays |= new
            yield sorted(new)


def _some(resource: Resource, size: int) -> Iterator[list[int]]:
    """`size` users, drawn from PostgreSQL and from the cache's keys alike."""
    drawn = {*_draw_from_rows(resource, size), *_draw_from_keys(resource.keyspace, size)}
    yield from batches(random.sample(sorted(drawn), min(size, len(drawn))), BATCH)


def _draw_from_rows(resource: Resource, size: int) -> list[int]:
    """A fair draw of users with rows: by guessing their ids, where there are many users."""
    highest = get_user_model().objects.aggregate(highest=Max("pk"))["highest"] or 0
    if highest > size * GUESSES:
        found: set[int] = set()
        guesses = random.sample(range(1, highest + 1), size * GUESSES)
        for user_ids in batches(guesses, min(size, BATCH)):
            found |= resource.rows(user_ids)
            if len(found) >= size:
                return random.sample(sorted(found), size)
    # There are few users, or few of them have rows.
    return _draw(resource.user_ids(), size)


def _draw_from_keys(keyspace: Keyspace, size: int) -> list[int]:
    """A fair draw of users with an entry: by RANDOMKEY, where there are many keys. Fewer than
    `size` where the keyspace has a small share of them."""
    if int(store().command("DBSIZE")) > size * GUESSES:
        try:
            found = _found_at_random(keyspace, size)
            return random.sample(sorted(found), min(size, len(found)))
        except CacheUnavailable:
            raise
        except CacheError as error:
            logger.debug("The server draws no keys: %s", error)
    return _draw(_in_cache(keyspace, None), size)


def _found_at_random(keyspace: Keyspace, size: int) -> set[int]:
    found: set[int] = set()
    for draws in batches(range(size * GUESSES), BATCH):
        keys = store().pipeline([("RANDOMKEY",)] * len(draws), idempotent=True)
        user_ids = (keyspace.user_id((key or b"").decode("utf-8", "replace")) for key in keys)
        found.update(user_id for user_id in user_ids if user_id is not None)
        if len(found) >= size:
            break
    return found


def _draw(items: Iterator[T], size: int) -> list[T]:
    """A fair draw from a stream of unknown length (Vitter's Algorithm R)."""
    drawn = list(islice(items, size))
    for number, item in enumerate(items, start=size + 1):
        place = random.randrange(number)  # noqa: S311  not a secret
        if place < size:
            drawn[place] = item
    return drawn


def _in_rows(resource: Resource, users: UserRanges | None) -> Iterator[int]:
    """These users, or all, as far as they may have rows."""
    if users is None:
        return resource.user_ids()
    if len(users) <= FEW_USERS:
        return iter(users)
    return (user_id for user_id in resource.user_ids() if user_id in users)


def _count(resource: Resource, users: UserRanges | None) -> int:
    return sum(1 for _ in _in_rows(resource, users))


def _in_cache(keyspace: Keyspace, users: UserRanges | None) -> Iterator[int]:
    """These users, or all, as far as they may have an entry. SCAN may name one twice."""
    if users is not None and len(users) <= FEW_USERS:
        return iter(users)
    found = map(keyspace.user_id, store().scan(f"{keyspace.name}:*"))
    return (u for u in found if u is not None and (users is None or u in users))


def _present(keyspace: Keyspace, user_ids: Sequence[int]) -> set[int]:
    """The users whose key exists."""
    kinds = resources.types(keyspace, user_ids)
    return {user_id for user_id, kind in kinds.items() if kind != "none"}


def batches(user_ids: Iterable[int], size: int) -> Iterator[list[int]]:
    """The ids in lists of `size`."""
    items = iter(user_ids)
    while batch := list(islice(items, size)):
        yield batch
