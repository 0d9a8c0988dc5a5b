"""The Reflex Arc: one cache layer for every service. The only import path they use."""

from aevon.cache import (
    bounded_list,
    cache_aside,
    flush,
    rate_limit,
    triggers,
    write_behind,
    write_through,
)
from aevon.cache.bounded_list import BoundedList, Recent
from aevon.cache.cached import Cached, CachedManager, CachedQuerySet, owners
from aevon.cache.codec import VERSION_MAX, CorruptValue, Document, Version, rfc3339
from aevon.cache.connection import CacheError, CacheUnavailable, Unanswered, WrongType
from aevon.cache.failsafe import after_commit, skipped_while_away
from aevon.cache.keyspace import (
    CANVAS,
    CANVAS_INDEX,
    CONVO_HISTORY,
    LOGIN_ATTEMPTS_BY_ADDRESS,
    LOGIN_ATTEMPTS_BY_NAME,
    PSYCHE,
    SESSION,
    InternalKeyspace,
    InvalidKey,
    Keyspace,
    UnknownKeyspace,
    canonical_user_id,
    declare,
)
from aevon.cache.outbox import add as add_to_outbox
from aevon.cache.prepared import of_one_type, prepared_cursor
from aevon.cache.projection import Gone, Projection
from aevon.cache.resources import (
    BufferResource,
    EntryResource,
    ListResource,
    forget_users,
    register,
)
from aevon.cache.together import Read, together
from aevon.cache.write_behind import Contended, LockedRow, WriteBehind

__all__ = [
    "CANVAS",
    "CANVAS_INDEX",
    "CONVO_HISTORY",
    "LOGIN_ATTEMPTS_BY_ADDRESS",
    "LOGIN_ATTEMPTS_BY_NAME",
    "PSYCHE",
    "SESSION",
    "VERSION_MAX",
    "BoundedList",
    "BufferResource",
    "CacheError",
    "CacheUnavailable",
    "Cached",
    "CachedManager",
    "CachedQuerySet",
    "Contended",
    "CorruptValue",
    "Document",
    "EntryResource",
    "Gone",
    "InternalKeyspace",
    "InvalidKey",
    "Keyspace",
    "ListResource",
    "LockedRow",
    "Projection",
    "Read",
    "Recent",
    "Unanswered",
    "UnknownKeyspace",
    "Version",
    "WriteBehind",
    "WrongType",
    "add_to_outbox",
    "after_commit",
    "bounded_list",
    "cache_aside",
    "canonical_user_id",
    "declare",
    "flush",
    "forget_users",
    "of_one_type",
    "owners",
    "prepared_cursor",
    "rate_limit",
    "register",
    "rfc3339",
    "skipped_while_away",
    "together",
    "triggers",
    "write_behind",
    "write_through",
]
