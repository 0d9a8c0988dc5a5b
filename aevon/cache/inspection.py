"""What the cache holds on one user, and how the cache as a whole is doing."""

import contextlib
import difflib
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, TypeVar

import psycopg
from django.contrib.auth import get_user_model
from django.db import DatabaseError
from django.utils import timezone

from aevon.cache import flush, history, maintenance, outbox, processes, resources, shared_metrics
from aevon.cache.connection import CacheUnavailable, store
from aevon.cache.flush import FlushRecord
from aevon.cache.keyspace import REGISTRY, InvalidKey, canonical_user_id
from aevon.cache.metrics import LOADS
from aevon.cache.models import Outbox
from aevon.cache.processes import Process
from aevon.cache.resources import BufferResource, Held, Resource, Verdict
from aevon.cache.shown import masked
from aevon.cache.standing import Standing, standing

T = TypeVar("T")

HIT: Final = "hit"
AWAY: Final = "away"
DAY_SECONDS: Final = 86_400
# Of names that begin with these letters so many are compared with one that is nobody's.
SAME_LETTERS: Final = 2
NAMES_COMPARED: Final = 1_000


@dataclass(frozen=True, slots=True)
class Inspected:
    """One keyspace's entry of one user beside what PostgreSQL holds; tokens are masked.
    `waiting`: the outbox says that the entry may be older than its rows; `noted`: what it says.
    `mark`: the document is unsaved."""

    held: Held
    standing: Standing
    verdict: Verdict
    ledger: Any
    waiting: bool
    noted: "Noted | None"
    mark: "UnsavedMark | None"


class Noted(NamedTuple):
    """A row of the outbox: the version that was committed, None for an unknown one, and since when
    it waits."""

    version: int | None
    seconds: float

    def __str__(self) -> str:
        version = "any version" if self.version is None else f"version {self.version}"
        return f"{version}, for {duration(self.seconds)}"


class UnsavedMark(NamedTuple):
    """The mark of an unsaved document: its revision, for how long it has been waiting, where that
    is known, and whether PostgreSQL has refused it."""

    revision: int
    seconds: float | None
    refused: bool

    def __str__(self) -> str:
        since = "" if self.seconds is None else f", for {duration(self.seconds)}"
        return f"revision {self.revision}{since}{', refused by PostgreSQL' if self.refused else ''}"


class NoSuchUser(LookupError):
    """Neither a user id nor anybody's name."""


def user_of(text: str) -> int:
    """The id of the user who is meant by an id, who need not exist, or by a name.

    Raises `NoSuchUser`, which suggests names that begin alike.
    """
    with contextlib.suppress(InvalidKey):
        return canonical_user_id(text)
    shown = repr(text if len(text) <= 40 else text[:37] + "…")
    if "\0" not in text and (user_id := _by_name(text)) is not None:
        return user_id
    alike = ", ".join(_names_like(text)) if text.isprintable() else ""
    hint = f" Did you mean {alike}?" if alike else ""
    raise NoSuchUser(f"Not a user id, and nobody's name: {shown}.{hint}")


def _by_name(name: str) -> int | None:
    users = get_user_model().objects.filter(**{get_user_model().USERNAME_FIELD: name})
    found: int | None = users.values_list("pk", flat=True).first()
    return found


def _names_like(text: str) -> list[str]:
    field = get_user_model().USERNAME_FIELD
    users = get_user_model().objects.filter(**{f"{field}__istartswith": text[:SAME_LETTERS]})
    names = users.order_by(field).values_list(field, flat=True)[:NAMES_COMPARED]
    return difflib.get_close_matches(text, list(names), n=3)


def who(user_id: int) -> str | None:
    """The user's name; None where there is no such user."""
    users = get_user_model().objects.filter(pk=user_id)
    name: str | None = users.values_list(get_user_model().USERNAME_FIELD, flat=True).first()
    return name


def inspect(user_id: object) -> list[Inspected]:
    """Every keyspace's entry of a user, who need not exist.

    Raises `InvalidKey`, `CacheUnavailable`, and what PostgreSQL raises when it is away.
    """
    wanted = canonical_user_id(user_id)
    return [inspect_one(each, wanted) for each in resources.resources()]


def inspect_one(resource: Resource, user_id: int) -> Inspected:
    """One keyspace's entry of a user; raises as `inspect`."""
    verdict = maintenance.judge(resource, [user_id])[user_id]
    noted = _noted(resource.keyspace.name, user_id)
    held = resources.held(resource.keyspace, user_id)
    return Inspected(
        held=replace(held, value=masked(held.value)),
        standing=standing(held),
        verdict=verdict,
        ledger=masked(resource.ledger(user_id)),
        # Every change is noted, and most have been followed by the time they are looked at.
        waiting=noted is not None and (verdict != "in sync" or noted.version is None),
        noted=noted,
        mark=_mark(resource, user_id),
    )


def _noted(keyspace: str, user_id: int) -> Noted | None:
    row = Outbox.objects.filter(keyspace=keyspace, user_id=user_id).first()
    if row is None:
        return None
    return Noted(row.version, max(0.0, (timezone.now() - row.added_at).total_seconds()))


def _mark(resource: Resource, user_id: int) -> UnsavedMark | None:
    if not isinstance(resource, BufferResource):
        return None
    index = resource.buffer.index
    revision = index.marks_of([user_id]).get(user_id)
    if revision is None:
        return None
    since = index.since_of([user_id]).get(user_id)
    seconds = None if since is None else max(0.0, time.time() - since)
    return UnsavedMark(revision, seconds, bool(index.refusals([user_id])))


def lifetime(held: Held) -> str:
    """`1 h 5 min left`, `without end`, `no key`."""
    told = remaining(held.type, held.ttl_seconds)
    return told if held.ttl_seconds is None else f"{told} left"


def remaining(type_: str, ttl_seconds: float | None) -> str:
    """The same of a key's type and time to live, without `left`."""
    if ttl_seconds is not None:
        return duration(ttl_seconds)
    return "no key" if type_ == "none" else "without end"


def duration(seconds: float) -> str:
    """The two largest units: `3 d 4 h`, `5 min 6 s`."""
    # A score that somebody has put into the index can be without end.
    minutes, left = divmod(int(min(seconds, 1e11)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (left, "s")]
    first = next((i for i, (count, _) in enumerate(parts) if count), 3)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2])


def size(count: float) -> str:
    """Bytes: `512 B`, `1.5 KiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:,.0f} B" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"


@dataclass(frozen=True, slots=True)
class Server:
    """The cache server. Bytes; `memory_limit` 0 means none; hits and misses since its start."""

    software: str
    version: str
    uptime_seconds: int
    memory_used: int
    memory_peak: int
    memory_limit: int
    clients: int
    role: str
    keys: int
    hits: int
    misses: int


@dataclass(frozen=True, slots=True)
class Unsaved:
    """What would be lost with the cache's memory. `oldest_seconds` is None when nothing is.
    `refused`: those that PostgreSQL does not take. `last_flush` is None when there was none."""

    documents: int
    oldest_seconds: float | None
    refused: int
    last_flush: FlushRecord | None


@dataclass(frozen=True, slots=True)
class Stats:
    """How the cache is doing. None stands for what could not be asked: the cache is away
    (`server`, `unsaved`, `entries`, `processes`, `day`), PostgreSQL is (`outbox`), or this process
    serves nobody and shares no counters with those that do (`loads`). The breaker is this
    process's own."""

    server: Server | None
    unsaved: dict[str, Unsaved] | None
    entries: dict[str, int] | None
    loads: dict[str, dict[str, int]] | None
    outbox: int | None
    breaker: str
    processes: list[Process] | None
    day: "Day | None"


@dataclass(frozen=True, slots=True)
class Day:
    """What all processes together counted in the last 24 hours: `loads` by keyspace and result,
    `audited` by keyspace and verdict, and the flushes by keyspace, newest first, as far as they are
    on record."""

    loads: dict[str, dict[str, int]]
    audited: dict[str, Counter[str]]
    flushes: dict[str, list[FlushRecord]]

    def flushes_since(self, keyspace: str) -> float | None:
        """Since when (Unix seconds) the flushes are on record, where that is less than the day: a
        short period makes more of them than are kept."""
        records = self.flushes.get(keyspace, [])
        return records[-1].began if len(records) >= flush.KEPT else None

    def consistency(self, keyspace: str) -> float | None:
        """The share of the cached entries that the continuous audit found right (0 … 1)."""
        return maintenance.tally(self.audited.get(keyspace, {})).consistency


def stats(*, count_entries: bool = False) -> Stats:
    """Ask the server, the outbox and the counters; never raises because one of them is away.

    `count_entries` goes through all keys by SCAN.
    """
    return Stats(
        server=_unless_away(server),
        unsaved=_unless_away(unsaved),
        entries=_unless_away(_count_entries) if count_entries else None,
        loads=loads() or None,
        outbox=_outbox_depth(),
        breaker=store().breaker.state,
        processes=_unless_away(processes.processes),
        day=_unless_away(_day),
    )


def _day() -> Day:
    loads: dict[str, Counter[str]] = defaultdict(Counter)
    audited: dict[str, Counter[str]] = defaultdict(Counter)
    for slot in history.slots():
        for name, found in (("loads", loads), ("audited", audited)):
            for (keyspace, result), count in slot.counted(name).items():
                found[keyspace][result] += count
    since = time.time() - DAY_SECONDS
    late = {name: [f for f in every if f.began >= since] for name, every in flushes().items()}
    return Day({name: dict(counts) for name, counts in loads.items()}, dict(audited), late)


def _unless_away(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except CacheUnavailable:
        return None


def server() -> Server:
    """What INFO says. Raises `CacheUnavailable`."""
    info, keys = store().pipeline([("INFO",), ("DBSIZE",)], idempotent=True)
    dragonfly = str(info.get("dragonfly_version", ""))
    return Server(
        software="Dragonfly" if dragonfly else "Redis",
        version=dragonfly.removeprefix("df-").removeprefix("v") or str(info["redis_version"]),
        uptime_seconds=int(info.get("uptime_in_seconds", 0)),
        memory_used=int(info.get("used_memory", 0)),
        memory_peak=int(info.get("used_memory_peak", 0)),
        memory_limit=int(info.get("maxmemory", 0)),
        clients=int(info.get("connected_clients", 0)),
        role=str(info.get("role", "")),
        keys=int(keys),
        hits=int(info.get("keyspace_hits", 0)),
        misses=int(info.get("keyspace_misses", 0)),
    )


def flushes() -> dict[str, list[FlushRecord]]:
    """Those on record of each write-behind keyspace, the newest first. Raises
    `CacheUnavailable`."""
    return {
        each.keyspace.name: flush.flushes(each.buffer)
        for each in resources.resources()
        if isinstance(each, BufferResource)
    }


def unsaved() -> dict[str, Unsaved]:
    """Per write-behind keyspace. Raises `CacheUnavailable`."""
    found = {}
    for each in resources.resources():
        if isinstance(each, BufferResource):
            exposure = each.buffer.index.exposure()
            found[each.keyspace.name] = Unsaved(
                documents=exposure.unsaved,
                oldest_seconds=exposure.oldest_seconds(),
                refused=exposure.refused,
                last_flush=flush.last_flush(each.buffer),
            )
    return found


def gauges() -> dict[str, float]:
    """How it is now, for the history: bytes, clients, documents, entries, seconds. What PostgreSQL
    would have to say is left out while it is away. Raises `CacheUnavailable`."""
    now, buffers = server(), unsaved().values()
    found: dict[str, float] = {
        "memory": now.memory_used,
        "memory_limit": now.memory_limit,
        "clients": now.clients,
        "keys": now.keys,
        "unsaved": sum(each.documents for each in buffers),
        "oldest_unsaved_seconds": max((each.oldest_seconds or 0 for each in buffers), default=0),
        "refused": sum(each.refused for each in buffers),
    }
    with contextlib.suppress(DatabaseError, psycopg.Error):
        waiting = outbox.backlog()
        found |= {
            "outbox": waiting.entries,
            "outbox_oldest_seconds": waiting.oldest_seconds,
        }
    return found


def _count_entries() -> dict[str, int]:
    return {
        name: sum(space.user_id(key) is not None for key in store().scan(f"{name}:*"))
        for name, space in REGISTRY.items()
    }


def loads() -> dict[str, dict[str, int]]:
    """Loads through the cache layer by keyspace and result: of all processes that share
    PROMETHEUS_MULTIPROC_DIR, else of this one."""
    counted: dict[str, dict[str, int]] = defaultdict(dict)
    for sample in _load_samples():
        if sample.name == "aevon_cache_loads_total" and sample.value:
            counted[sample.labels["keyspace"]][sample.labels["result"]] = int(sample.value)
    return dict(counted)


def _load_samples() -> list[Any]:
    together = shared_metrics.folder() is not None
    found = shared_metrics.collected() if together else LOADS.collect()
    return [sample for metric in found for sample in metric.samples]


def hit_rate(results: dict[str, int]) -> float | None:
    """The share of loads that were hits (0 … 1), of those that the cache answered."""
    answered = sum(count for result, count in results.items() if result != AWAY)
    return results.get(HIT, 0) / answered if answered else None


def _outbox_depth() -> int | None:
    try:
        return outbox.depth()
    except DatabaseError:
        return None
