"""What the cache layer counts, for `/metrics` (Prometheus)."""

from prometheus_client import Counter, Gauge

LOADS = Counter(
    "aevon_cache_loads_total",
    "Loads through the cache layer by keyspace and result "
    "(hit, miss, corrupt, away: served from PostgreSQL because the cache was not reachable).",
    ["keyspace", "result"],
)
PUBLISHES = Counter(
    "aevon_cache_publishes_total",
    "Publishes after a commit by keyspace and result "
    "(stored, current, newer, waiting: another writer is in flight, empty, removed, full, dropped, "
    "away; of a list: stored, rebuilt, away).",
    ["keyspace", "result"],
)
FAILURES = Counter(
    "aevon_cache_failures_total",
    "Calls that the cache server did not answer usefully, by kind.",
    ["kind"],
)
FLUSHED = Counter(
    "aevon_cache_flushed_total",
    "Write-behind documents that a flush looked at, by keyspace and result "
    "(persisted, unchanged, lost, refused, postponed: refused before; left: no time).",
    ["keyspace", "result"],
)
FLUSHES = Counter(
    "aevon_cache_flushes_total",
    "Write-behind flushes, or parts of one, by keyspace and result "
    "(done, failed: PostgreSQL or the cache went away).",
    ["keyspace", "result"],
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
