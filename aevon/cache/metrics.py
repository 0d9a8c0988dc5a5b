"""What the cache layer counts, for `/metrics` (docs/reference/metrics.md).

Labels are of few values: keyspaces, results, kinds; never a user.
"""

from functools import cache
from typing import Any, Final

from aevon.cache import shared_metrics

# Before any metric is made: it decides how they are kept.
assert shared_metrics.identity()  # noqa: S101  imported for that

from prometheus_client import Counter, Gauge, Histogram  # noqa: E402

LOADS = Counter(
    "aevon_cache_loads_total",
    "Loads through the cache layer by keyspace and result "
    "(hit; near: a hit for which the cache was not asked; miss, corrupt, away: served from "
    "PostgreSQL because the cache was not reachable).",
    ["keyspace", "result"],
)
NEAR_EVENTS = Counter(
    "aevon_cache_near_total",
    "Entries that processes keep for themselves, by keyspace and event (kept; evicted: there were "
    "too many; invalidated: the cache told of a change; emptied: it, or the connection, was lost).",
    ["keyspace", "event"],
)
PUBLISHES = Counter(
    "aevon_cache_publishes_total",
    "Publishes after a commit by keyspace and result "
    "(stored, current, newer, waiting: another writer is in flight, empty, removed, full, dropped, "
    "away; of a list: stored, rebuilt, away).",
    ["keyspace", "result"],
)
REFUSED_FILLS = Counter(
    "aevon_cache_refused_fills_total",
    "Fills that the cache refused, by keyspace and reason (lease-gone: a writer, a flush or an "
    "eviction has removed the reader's lease, or it ran out; fenced: a writer is in flight; full).",
    ["keyspace", "reason"],
)
FENCES = Counter(
    "aevon_cache_fences_total",
    "Writers' fences by keyspace and event (taken; joined: another writer's was there; full: no "
    "memory for it; away; expired: a mark found past its deadline; abandoned: left to run out by a "
    "writer of whom nobody knows whether it committed).",
    ["keyspace", "event"],
)
CONFLICTS = Counter(
    "aevon_cache_conflicts_total",
    "Writes that had to be computed again, by keyspace and kind (compare-and-set: somebody else "
    "changed the live document; guard: the row was not what the cache held).",
    ["keyspace", "kind"],
)
FAILURES = Counter(
    "aevon_cache_failures_total",
    "Calls that the cache server did not answer usefully, by kind.",
    ["kind"],
)
ROUND_TRIPS = Histogram(
    "aevon_cache_round_trip_seconds",
    "Round trips to the cache server, the failed ones too, by kind (command, script, pipeline, "
    "near).",
    ["kind"],
    buckets=(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.3, 1),
)
QUERIES = Histogram(
    "aevon_postgresql_query_seconds",
    "Statements to PostgreSQL, the failed ones too, by operation "
    "(select, insert, update, delete, other).",
    ["operation"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1, 5),
)
FLUSHED = Counter(
    "aevon_cache_flushed_total",
    "Write-behind documents that a flush looked at, by keyspace and result "
    "(persisted, unchanged, lost, refused, postponed: refused before; left: no time, or held up).",
    ["keyspace", "result"],
)
FLUSHES = Counter(
    "aevon_cache_flushes_total",
    "Write-behind flushes, or parts of one, by keyspace and result "
    "(done, failed: PostgreSQL or the cache went away).",
    ["keyspace", "result"],
)
FLUSH_SECONDS = Histogram(
    "aevon_cache_flush_seconds",
    "How long write-behind flushes, or parts of one, took, by keyspace.",
    ["keyspace"],
    buckets=(0.01, 0.1, 0.5, 1, 5, 15, 60, 150, 300),
)
FLUSH_ROWS = Histogram(
    "aevon_cache_flush_rows",
    "How many documents a write-behind flush, or a part of one, persisted, by keyspace.",
    ["keyspace"],
    buckets=(0, 10, 100, 1_000, 10_000, 100_000),
)
AUDITED = Counter(
    "aevon_cache_audited_total",
    "Users whose entry the continuous audit compared with PostgreSQL, by keyspace and verdict "
    "(in sync, unsaved, missing, absent; stale, corrupt: wrong).",
    ["keyspace", "verdict"],
)
CONSISTENCY = Gauge(
    "aevon_cache_consistency_ratio",
    "The share of the cached entries in the last sample that were not wrong, by keyspace.",
    ["keyspace"],
    multiprocess_mode="mostrecent",
)
BREAKER_STATE = Gauge(
    "aevon_cache_breaker_state",
    "1 for the state that a process' circuit breaker is in (closed, half-open, open); `pid` tells "
    "which process, where several count together.",
    ["state"],
    multiprocess_mode="liveall",
)
BREAKER_TRANSITIONS = Counter(
    "aevon_cache_breaker_transitions_total",
    "How often circuit breakers came into a state (closed, half-open, open).",
    ["state"],
)
BREAKER_STATES: Final = ("closed", "half-open", "open")


def breaker_is(state: str) -> None:
    """Tell of this process' breaker."""
    for each in BREAKER_STATES:
        BREAKER_STATE.labels(each).set(int(each == state))


def breaker_became(state: str) -> None:
    """Tell and count it."""
    BREAKER_TRANSITIONS.labels(state).inc()
    breaker_is(state)


def begin(keyspace: str, *, buffered: bool) -> None:
    """Show what alerts wait for as 0: a series that begins with its first event has not risen."""
    LOADS.labels(keyspace, "corrupt")
    for verdict in ("stale", "corrupt"):
        AUDITED.labels(keyspace, verdict)
    for result in ("lost", "refused") if buffered else ():
        FLUSHED.labels(keyspace, result)


# `labels()` looks names over each time, which a hit would feel.


@cache
def load_of(keyspace: str, result: str) -> Any:
    """The counter of such loads."""
    return LOADS.labels(keyspace, result)


@cache
def publishes_of(keyspace: str, result: str) -> Any:
    """The counter of such publishes."""
    return PUBLISHES.labels(keyspace, result)


@cache
def fences_of(keyspace: str, event: str) -> Any:
    """The counter of such events of fences."""
    return FENCES.labels(keyspace, event)


@cache
def round_trips_of(kind: str) -> Any:
    """The histogram of such round trips."""
    return ROUND_TRIPS.labels(kind)


@cache
def queries_of(operation: str) -> Any:
    """The histogram of such statements."""
    return QUERIES.labels(operation)
