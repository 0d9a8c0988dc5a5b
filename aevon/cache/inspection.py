"""What the cache holds on one user, and how the cache as a whole is doing."""

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import psycopg
from django.db import DatabaseError
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from aevon.cache import flush, maintenance, outbox, resources
from aevon.cache.connection import CacheUnavailable, store
from aevon.cache.flush import FlushRecord
from aevon.cache.keyspace import REGISTRY, canonical_user_id
from aevon.cache.metrics import LOADS
from aevon.cache.models import Outbox
from aevon.cache.resources import BufferResource, Held, Resource, Verdict

T = TypeVar("T")

HIT: Final = "hit"
AWAY: Final = "away"


@dataclass(frozen=True, slots=True)
class Inspected:
    """One keyspace's entry of one user beside what PostgreSQL holds. `waiting`: the outbox says
    that the entry may be older than its rows."""

    held: Held
    verdict: Verdict
    ledger: Any
    waiting: bool


def inspect(user_id: object) -> list[Inspected]:
    """Every keyspace's entry of a user, who need not exist.

    Raises `InvalidKey`, `CacheUnavailable`, and what PostgreSQL raises when it is away.
    """
    wanted = canonical_user_id(user_id)
    return [inspect_one(each, wanted) for each in resources.resources()]


def inspect_one(resource: Resource, user_id: int) -> Inspected:
    """One keyspace's entry of a user; raises as `inspect`."""
    verdict = maintenance.judge(resource, [user_id])[user_id]
    noted = Outbox.objects.filter(keyspace=resource.keyspace.name, user_id=user_id)
    if verdict == "in sync":
        # Every change is noted, and most have been followed by the time they are looked at.
        noted = noted.filter(version=None)
    return Inspected(
        held=resources.held(resource.keyspace, user_id),
        verdict=verdict,
        ledger=resource.ledger(user_id),
        waiting=noted.exists(),
    )


def lifetime(held: Held) -> str:
    """`1 h 5 min left`, `without end`, `no key`."""
    if held.ttl_seconds is not None:
        return f"{duration(held.ttl_seconds)} left"
    return "no key" if held.type == "none" else "without end"


def duration(seconds: float) -> str:
    """The two largest units: `3 d 4 h`, `5 min 6 s`."""
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (left, "s")]
    first = next((i for i, (count, _) in enumerate(parts) if count), 3)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2])


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
    (`server`, `unsaved`, `entries`), PostgreSQL is (`outbox`), or this process serves nobody and
    shares no counters with those that do (`loads`). The breaker is this process's own."""

    server: Server | None
    unsaved: dict[str, Unsaved] | None
    entries: dict[str, int] | None
    loads: dict[str, dict[str, int]] | None
    outbox: int | None
    breaker: str


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
    )


def _unless_away(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except CacheUnavailable:
        return None


def server() -> Server:
    """What INFO says. Raises `CacheUnavailable`."""
    info = store().info()
    dragonfly = str(info.get("dragonfly_version", ""))
    return Server(
        software="Dragonfly" if dragonfly else "Redis",
        version=dragonfly.removeprefix("df-").removeprefix("v") or str(info["redis_version"]),
        uptime_seconds=int(info.get("uptime_in_seconds", 0)),
        memory_used=int(info.get("used_memory", 0)),
        memory_peak=int(info.get("used_memory_peak", 0)),
        memory_limit=int(info.get("maxmemory", 0)),
        clients=int(info.get("connected_clients", 0)),
        keys=int(store().command("DBSIZE")),
        hits=int(info.get("keyspace_hits", 0)),
        misses=int(info.get("keyspace_misses", 0)),
    )


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
        found |= {
            "outbox": outbox.depth(),
            "outbox_oldest_seconds": outbox.oldest_seconds(),
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
        if sample.name == "aevon_cache_loads_total":
            counted[sample.labels["keyspace"]][sample.labels["result"]] = int(sample.value)
    return dict(counted)


def _load_samples() -> list[Any]:
    source: Any = LOADS
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        source = CollectorRegistry()
        MultiProcessCollector(source)  # type: ignore[no-untyped-call]  # it has no types
    return [sample for metric in source.collect() for sample in metric.samples]


def hit_rate(results: dict[str, int]) -> float | None:
    """The share of loads that were hits (0 … 1), of those that the cache answered."""
    answered = sum(count for result, count in results.items() if result != AWAY)
    return results.get(HIT, 0) / answered if answered else None


def _outbox_depth() -> int | None:
    try:
        return outbox.depth()
    except DatabaseError:
        return None
