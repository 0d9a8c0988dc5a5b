"""How the cache as a whole is doing: its server, what is unsaved, what was counted."""

import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import psycopg
from django.db import DatabaseError

from aevon.cache import flush, history, maintenance, outbox, processes, resources, shared_metrics
from aevon.cache.connection import CacheUnavailable, store
from aevon.cache.flush import FlushRecord
from aevon.cache.keyspace import REGISTRY
from aevon.cache.metrics import LOADS
from aevon.cache.processes import Process
from aevon.cache.resources import BufferResource

T = TypeVar("T")

HITS: Final = ("hit", "near")
AWAY: Final = "away"
DAY_SECONDS: Final = 86_400


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


def gather(*, count_entries: bool = False) -> Stats:
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
    return sum(results.get(hit, 0) for hit in HITS) / answered if answered else None


def _outbox_depth() -> int | None:
    try:
        return outbox.depth()
    except DatabaseError:
        return None
