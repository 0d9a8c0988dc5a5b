"""What is wrong, in words, the worst first, and where the runbook says what to do."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from aevon.cache.processes import ROLES, SILENT_SECONDS
from aevon.cache.shown import duration, size
from aevon.operations.figures import audited_of_late
from aevon.operations.readings import Readings
from canvas import services as canvas

RUNBOOK: Final = "docs/operations.md"
# Those of the alerts of the same name (deploy/prometheus/alerts.yml).
OUTBOX_SECONDS: Final = 30
MEMORY_SHARE: Final = 0.85
# What each is there for.
WITHOUT: Final = {
    "web": "nobody answers requests",
    "worker": "nothing is persisted, audited or repaired by it",
    "beat": "no task is asked for",
    "listener": "what SQL from elsewhere changes is followed within two seconds, by the worker",
}

# Of the runbook, on what to do without it.
SECTIONS: Final = {
    "web": "TargetDown", "worker": "WorkerAway", "beat": "BeatAway", "listener": "ListenerAway",
}  # fmt: skip

Weight = Literal["bad", "warning"]


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong; `see` is the section of the runbook."""

    weight: Weight
    text: str
    see: str


def troubles(found: Readings) -> list[Trouble]:
    """All that can be told from the readings; none when all is well."""
    kinds = (_away, _server, _unsaved, _flushes, _outbox, _processes, _consistency)
    every = [trouble for kind in kinds for trouble in kind(found)]
    return sorted(every, key=lambda trouble: trouble.weight != "bad")


def _away(found: Readings) -> Iterator[Trouble]:
    if found.cache_is_away:
        text = (
            "The cache cannot be reached. Requests are served from PostgreSQL, slower; changes"
            " of canvases go into their rows."
        )
        yield Trouble("bad", text, "CacheAway")
    if found.outbox is None:
        text = "PostgreSQL did not answer in time: what only it knows is missing below."
        yield Trouble("bad", text, "PostgresqlAway")


def _server(found: Readings) -> Iterator[Trouble]:
    server = found.server
    if server is None:
        return
    if server.memory_limit and server.memory_used > MEMORY_SHARE * server.memory_limit:
        used, limit = size(server.memory_used), size(server.memory_limit)
        text = f"The cache's memory is nearly full: {used} of {limit}. Full, it takes no writes."
        yield Trouble("bad", text, "CacheMemoryHigh")
    if server.role not in ("master", ""):
        yield Trouble("bad", f"The server is a {server.role}: it takes no writes.", "Recipes")


def _unsaved(found: Readings) -> Iterator[Trouble]:
    for name, each in (found.unsaved or {}).items():
        if canvas.is_late(each.oldest_seconds):
            text = (
                f"{each.documents:,} documents of {name} are unsaved, the oldest for"
                f" {duration(each.oldest_seconds or 0)}: the flush does not run, or not keep up."
            )
            yield Trouble("bad", text, "CanvasesNotPersisted")
        if each.refused:
            text = f"PostgreSQL refuses {each.refused:,} documents of {name}: the log names users."
            yield Trouble("warning", text, "CanvasesRefused")


def _flushes(found: Readings) -> Iterator[Trouble]:
    last = next(iter(found.flushes or []), None)
    if last is None:
        return
    if last.failed:
        yield Trouble("warning", "The last flush was ended by an outage.", "CanvasesNotPersisted")
    if last.counts["lost"]:
        text = (
            f"The last flush found {last.counts['lost']:,} unsaved documents gone from the cache."
        )
        yield Trouble("bad", text, "CanvasesLost")


def _outbox(found: Readings) -> Iterator[Trouble]:
    waiting = found.outbox
    if waiting and waiting.oldest_seconds > OUTBOX_SECONDS:
        text = (
            f"{waiting.entries:,} entries wait in the outbox, the first for"
            f" {duration(waiting.oldest_seconds)}: readers may be shown what is older."
        )
        yield Trouble("bad", text, "OutboxNotDrained")


def _processes(found: Readings) -> Iterator[Trouble]:
    if found.processes is None:
        return
    live = [each for each in found.processes if found.at - each.seen_at <= SILENT_SECONDS]
    for role in ROLES:
        if not any(each.role == role for each in live):
            weight: Weight = "warning" if role in ("web", "listener") else "bad"
            text = f"No {role} has been heard of: {WITHOUT[role]}."
            yield Trouble(weight, text, SECTIONS[role])
    for each in live:
        if each.breaker != "closed":
            text = f"{each.name} does not trust the cache: its breaker is {each.breaker}."
            yield Trouble("warning", text, "CacheDistrusted")


def _consistency(found: Readings) -> Iterator[Trouble]:
    for keyspace, (cached, wrong) in audited_of_late(found.slots or []).items():
        if wrong:
            text = (
                f"The audit found {wrong:,} wrong entries of {keyspace} in the last hour, of"
                f" {cached:,} that it looked at."
            )
            yield Trouble("bad", text, "EntriesStale")
