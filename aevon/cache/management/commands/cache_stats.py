"""`manage.py cache_stats`."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser

from aevon.cache.flush import FlushRecord
from aevon.cache.management.base import MaintenanceCommand, Report
from aevon.cache.processes import Process
from aevon.cache.shown import duration, size
from aevon.cache.stats import Day, Server, Stats, Unsaved, gather, hit_rate

AWAY = "not reachable"


class Command(MaintenanceCommand):
    help = (
        "Show how the cache is doing: the server, its version, memory and clients, hit rates, how "
        "many canvases are unsaved and since when, how many entries wait in the outbox, the "
        "processes of the site with their circuit breakers, and what flushes and the continuous "
        "audit did in the last 24 hours. Exit code 1 when the cache or PostgreSQL is away."
    )
    examples = """\
  manage.py cache_stats
  manage.py cache_stats --keys     also count the entries by service (goes through all keys)
  manage.py cache_stats --json     for a monitoring system
"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--keys", action="store_true", help="count the entries by service")

    def run(self, **options: Any) -> Report:
        stats = gather(count_entries=options["keys"])
        return Report(data=_data(stats), lines=list(_lines(stats)), trouble=_trouble(stats))


def _trouble(stats: Stats) -> str:
    away = [
        f"{name} cannot be reached."
        for name, part in (("The cache", stats.server), ("PostgreSQL", stats.outbox))
        if part is None
    ]
    return " ".join(away)


def _data(stats: Stats) -> dict[str, Any]:
    return {
        "server": stats.server and {_camel(k): v for k, v in asdict(stats.server).items()},
        "hitRate": stats.server and _server_hit_rate(stats.server),
        "loads": stats.loads
        and {name: {**counts, "hitRate": hit_rate(counts)} for name, counts in stats.loads.items()},
        "unsaved": stats.unsaved
        and {
            name: {
                "documents": each.documents,
                "oldestSeconds": each.oldest_seconds,
                "refused": each.refused,
                "lastFlush": each.last_flush and _flush_data(each.last_flush),
            }
            for name, each in stats.unsaved.items()
        },
        "entries": stats.entries,
        "outbox": stats.outbox,
        "breaker": stats.breaker,
        "processes": stats.processes and [_process_data(each) for each in stats.processes],
        "day": stats.day and _day_data(stats.day),
    }


def _process_data(process: Process) -> dict[str, Any]:
    return {_camel(name): getattr(process, name) for name in process.__struct_fields__}


def _day_data(day: Day) -> dict[str, Any]:
    return {
        "loads": {n: {**counts, "hitRate": hit_rate(counts)} for n, counts in day.loads.items()},
        "consistency": {name: day.consistency(name) for name in day.audited},
        "flushes": {name: len(records) for name, records in day.flushes.items()},
        "flushesSince": {name: day.flushes_since(name) for name in day.flushes},
        "flushesFailed": {n: sum(f.failed > 0 for f in found) for n, found in day.flushes.items()},
    }


def _flush_data(last: FlushRecord) -> dict[str, Any]:
    seconds = {"beganAt": last.began, "seconds": last.ended - last.began}
    return {**seconds, **last.counts, "failed": last.failed}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(part.title() for part in others)


def _server_hit_rate(server: Server) -> float | None:
    return hit_rate({"hit": server.hits, "miss": server.misses})


def _lines(stats: Stats) -> Iterator[str]:
    yield from _server_lines(stats.server)
    for name, counts in (stats.loads or {}).items():
        shown = ", ".join(f"{count:,} {result}" for result, count in sorted(counts.items()))
        yield f"loads       {name}: {_percent(hit_rate(counts))} hits ({shown})"
    if stats.loads is None:
        yield "loads       counted by the web processes: see /metrics"
    for name, each in (stats.unsaved or {}).items():
        yield f"unsaved     {name}: {_unsaved(each)}"
        yield f"last flush  {name}: {_last_flush(each.last_flush)}"
    for name, count in (stats.entries or {}).items():
        yield f"entries     {name}: {count:,}"
    yield f"outbox      {AWAY if stats.outbox is None else f'{stats.outbox:,} entries to repair'}"
    yield f"breaker     {stats.breaker} (this process)"
    if stats.day is not None:
        yield from _day_lines(stats.day)
    for process in stats.processes or []:
        yield f"process     {_process(process)}"


def _day_lines(day: Day) -> Iterator[str]:
    """The last 24 hours, of all processes together."""
    for name, counts in sorted(day.loads.items()):
        rate = _percent(hit_rate(counts))
        yield f"last day    {name}: {sum(counts.values()):,} loads, {rate} hits"
    for name, records in sorted(day.flushes.items()):
        failed = sum(each.failed > 0 for each in records)
        persisted = sum(each.counts["persisted"] for each in records)
        done = f"{persisted:,} persisted, {failed:,} failed"
        since = day.flushes_since(name)
        told = "" if since is None else f" in {duration(max(0, time.time() - since))}, as recorded"
        yield f"last day    {name}: {len(records):,} flushes{told}, {done}"
    for name in sorted(day.audited):
        if (share := day.consistency(name)) is not None:
            yield f"last day    {name}: {_floor(share)} of the audited entries in sync"


def _process(process: Process) -> str:
    now = time.time()
    ago, up = (duration(max(0.0, now - at)) for at in (process.seen_at, process.started_at))
    trouble = f", {process.failures:,} calls failed" if process.failures else ""
    return f"{process.name}: breaker {process.breaker}{trouble}, up {up}, heard of {ago} ago"


def _floor(share: float) -> str:
    """Rounded down: 100 % means that nothing was wrong."""
    return f"{int(share * 1_000_000) / 10_000:.4f}%"


def _server_lines(server: Server | None) -> Iterator[str]:
    if server is None:
        yield f"server      {AWAY}"
        return
    limit = size(server.memory_limit) if server.memory_limit else "no limit"
    yield f"server      {server.software} {server.version}, up {duration(server.uptime_seconds)}"
    yield (
        f"memory      {size(server.memory_used)} of {limit}, "
        f"at most {size(server.memory_peak)} so far"
    )
    yield f"clients     {server.clients:,} connections"
    yield f"keys        {server.keys:,}, Celery's and Django's included"
    yield (
        f"hit rate    {_percent(_server_hit_rate(server))} of the whole server "
        f"({server.hits:,} hits, {server.misses:,} misses)"
    )


def _unsaved(each: Unsaved) -> str:
    parts = [f"{each.documents:,}"]
    if each.oldest_seconds is not None:
        parts.append(f"the oldest for {duration(each.oldest_seconds)}")
    if each.refused:
        parts.append(f"{each.refused:,} refused by PostgreSQL")
    return ", ".join(parts)


def _last_flush(last: FlushRecord | None) -> str:
    if last is None:
        return "none yet"
    ago, took = duration(max(0.0, time.time() - last.began)), last.ended - last.began
    counts = [f"{count:,} {result}" for result, count in last.counts.items() if count]
    failed = ["ended by an outage"] if last.failed else []
    return f"{ago} ago, {', '.join(failed + counts) or 'nothing to do'} in {took:.2f} s"


def _percent(share: float | None) -> str:
    return "no" if share is None else f"{share:.1%}"
