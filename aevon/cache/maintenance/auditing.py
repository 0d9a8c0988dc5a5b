"""Audit: cache and PostgreSQL compared, and made equal where that is wanted."""

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

from django.contrib.auth import get_user_model
from django.db.models import Max

from aevon.cache.connection import CacheError, CacheUnavailable, store
from aevon.cache.keyspace import Keyspace
from aevon.cache.maintenance.walking import BATCH, Progress, Unwatched, batches, count, in_cache
from aevon.cache.resources import Resource, Verdict

logger = logging.getLogger(__name__)

# Long enough for a write that was under way between the two reads to finish.
RECHECK_SECONDS: Final = 0.05
WRONG: Final = ("stale", "corrupt")
NOT_CACHED: Final = ("missing", "absent")
EXAMPLES: Final = 5
# Guesses for each user of a sample. Where these are not enough, there are few to go through.
GUESSES: Final = 64

T = TypeVar("T")

# Makes these users' entries follow, or finds out which it could; those that are right then.
Mend = Callable[[Resource, list[int]], list[int]]


@dataclass(slots=True)
class Audited:
    """How one keyspace compares with PostgreSQL. `counts` is as found; `repaired` of the stale
    and corrupt ones are right, or no longer cached, by now. `examples` are users of some others.
    """

    service: str
    counts: Counter[Verdict] = field(default_factory=Counter)
    repaired: int = 0
    examples: list[int] = field(default_factory=list)

    @property
    def cached(self) -> int:
        """Entries in the cache that were looked at."""
        return tally(self.counts).cached

    @property
    def wrong(self) -> int:
        """Stale or corrupt entries as found."""
        return tally(self.counts).wrong


class Tally(NamedTuple):
    """How many entries in the cache were looked at, and how many of them were wrong."""

    cached: int
    wrong: int

    @property
    def consistency(self) -> float | None:
        """The share of those that are in sync or newer than PostgreSQL (0 … 1); None of none."""
        return 1.0 - self.wrong / self.cached if self.cached else None


def tally(verdicts: Mapping[Any, int]) -> Tally:
    """Of so many of each verdict."""
    cached = sum(n for verdict, n in verdicts.items() if verdict not in NOT_CACHED)
    return Tally(cached, sum(verdicts.get(verdict, 0) for verdict in WRONG))


def consistency(audited: Iterable[Audited]) -> float:
    """That of all of them together; 1 when nothing is cached."""
    together: Counter[Verdict] = Counter()
    for each in audited:
        together.update(each.counts)
    share = tally(together).consistency
    return 1.0 if share is None else share


def audit(
    services: Sequence[Resource],
    *,
    sample: int | None = None,
    repair: bool = False,
    dry_run: bool = False,
    batch: int = BATCH,
    progress: Progress | None = None,
    done: list[Audited] | None = None,
) -> list[Audited]:
    """Compare cache and PostgreSQL for every user known to either, or for `sample` of them.

    An entry that looks wrong is looked at again before it counts, because a write may have been
    under way between the two reads. `repair` makes wrong entries follow PostgreSQL; in a dry run
    it only counts those that it would mend. `done` is added to as it goes.
    """
    watch = progress or Unwatched()
    mend = (_would_mend if dry_run else _mend) if repair else None
    done = [] if done is None else done
    for resource in services:
        watch.start(resource.keyspace.name, None if sample else partial(_count, resource))
        audited = Audited(resource.keyspace.name)
        done.append(audited)
        for user_ids in _everyone(resource, batch) if sample is None else _some(resource, sample):
            _audit_batch(resource, user_ids, audited, mend)
            watch.advance(len(user_ids))
    return done


def _audit_batch(
    resource: Resource, user_ids: list[int], audited: Audited, mend: Mend | None
) -> None:
    verdicts = judge(resource, user_ids)
    audited.counts.update(verdicts.values())
    wrong = [user_id for user_id, verdict in verdicts.items() if verdict in WRONG]
    mended = mend(resource, wrong) if mend is not None and wrong else []
    audited.repaired += len(mended)
    left = [user_id for user_id in wrong if user_id not in mended]
    audited.examples = [*audited.examples, *left][:EXAMPLES]


def _mend(resource: Resource, user_ids: list[int]) -> list[int]:
    """Make entries follow PostgreSQL; those that are right, or no longer cached, by now."""
    resource.repair(user_ids)
    after = resource.verdicts(user_ids)
    return [user_id for user_id, verdict in after.items() if verdict not in WRONG]


def _would_mend(resource: Resource, user_ids: list[int]) -> list[int]:
    return resource.would_repair(user_ids)


def _count(resource: Resource) -> int:
    return count(resource.user_ids())


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
    for user_ids in batches(in_cache(resource.keyspace, None), batch):
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
    return _draw(in_cache(keyspace, None), size)


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
