"""The readings as text for the dashboard."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from aevon.cache.flush import FlushRecord
from aevon.cache.processes import SILENT_SECONDS
from aevon.cache.shown import duration, size, visible
from aevon.cache.stats import Server
from aevon.operations import figures, readings, troubles
from aevon.operations.readings import Readings

FLUSHES_SHOWN: Final = 12


def state() -> dict[str, Any]:
    """What the dashboard's templates show."""
    found = readings.take()
    return {
        "found": found,
        "taken_at": f"{datetime.fromtimestamp(found.at, UTC):%Y-%m-%d %H:%M:%S} UTC",
        "troubles": troubles.troubles(found),
        "runbook": troubles.RUNBOOK,
        "server": found.server and _server_facts(found.server),
        "unsaved": _unsaved_facts(found),
        "right": _right(found),
        "outbox": _outbox_fact(found),
        "processes": _processes(found),
        "charts": figures.charts(found.slots, found.flushes or []) if found.slots else [],
        "flushes": [_flush_row(found, each) for each in (found.flushes or [])[:FLUSHES_SHOWN]],
    }


def _server_facts(server: Server) -> list[tuple[str, str]]:
    limit = size(server.memory_limit) if server.memory_limit else "no limit"
    return [
        ("Server", f"{server.software} {visible(server.version)}"),
        ("Dragonfly", "yes" if server.software == "Dragonfly" else "no: a stand-in for it"),
        ("Role", visible(server.role)),
        ("Up for", duration(server.uptime_seconds)),
        ("Memory used", f"{size(server.memory_used)} of {limit}"),
        ("Memory at most", size(server.memory_peak)),
        ("Clients connected", f"{server.clients:,}"),
        ("Keys", f"{server.keys:,}"),
    ]


def _unsaved_facts(found: Readings) -> list[tuple[str, str]]:
    facts = []
    for name, each in (found.unsaved or {}).items():
        age = (
            ""
            if each.oldest_seconds is None
            else f", the oldest for {duration(each.oldest_seconds)}"
        )
        refused = f"; PostgreSQL refuses {each.refused:,}" if each.refused else ""
        facts.append((f"Unsaved {name}", f"{each.documents:,}{age}{refused}"))
    return facts


def _right(found: Readings) -> list[tuple[str, str]]:
    """What the audit of the last hour says of each keyspace."""
    late = figures.audited_of_late(found.slots or [])
    return [
        (name, f"{each.consistency:.2%} right of {each.cached:,}") for name, each in late.items()
    ]


def _outbox_fact(found: Readings) -> str:
    if found.outbox is None:
        return "PostgreSQL does not answer in time"
    age = duration(found.outbox.oldest_seconds)
    return f"{found.outbox.entries:,}, the first for {age}" if found.outbox.entries else "empty"


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """A process, for people."""

    name: str
    up: str
    heard: str
    worked: str
    breaker: str
    failures: str
    silent: bool


def _processes(found: Readings) -> list[ProcessRow]:
    return [
        ProcessRow(
            name=visible(each.name),
            up=duration(max(0, found.at - each.started_at)),
            heard=f"{duration(max(0, found.at - each.seen_at))} ago",
            worked=_ago(found.at, each.worked_at),
            breaker=visible(each.breaker),
            failures=f"{each.failures:,}",
            silent=found.at - each.seen_at > SILENT_SECONDS,
        )
        for each in found.processes or []
    ]


def _ago(now: float, at: float | None) -> str:
    return "—" if at is None else f"{duration(max(0, now - at))} ago"


def _flush_row(found: Readings, flush: FlushRecord) -> dict[str, Any]:
    return {
        "began": _ago(found.at, flush.began),
        "seconds": f"{max(0.0, flush.ended - flush.began):.2f}",
        "counts": flush.counts,
        "failed": flush.failed,
        "wrong": figures.went_wrong(flush) > 0,
    }
