"""Warm-up, flush and audit: what the commands and the admin do to whole keyspaces.

Everything works in batches; memory grows only with entries that have no rows. Every batch leaves
cache and PostgreSQL consistent, so stopping at any moment is harmless. Keys are found by SCAN,
never KEYS, and a key that is not exactly `name:{userId}` is never touched. All raise
`CacheUnavailable`, and what PostgreSQL raises when it is away.
"""

from aevon.cache.maintenance.auditing import (
    NOT_CACHED,
    WRONG,
    Audited,
    Tally,
    audit,
    consistency,
    judge,
    tally,
)
from aevon.cache.maintenance.emptying import Emptied, flush, remove
from aevon.cache.maintenance.walking import BATCH, Progress, Unwatched, batches, chosen
from aevon.cache.maintenance.warming import Place, Restarted, Warmed, place, warm_up

__all__ = [
    "BATCH",
    "NOT_CACHED",
    "WRONG",
    "Audited",
    "Emptied",
    "Place",
    "Progress",
    "Restarted",
    "Tally",
    "Unwatched",
    "Warmed",
    "audit",
    "batches",
    "chosen",
    "consistency",
    "flush",
    "judge",
    "place",
    "remove",
    "tally",
    "warm_up",
]
