"""The connection manager (protocol 4.2): pools, credentials, TLS, time-outs, breaker.

With `backend.py`, which Django's cache API needs, all of the layer that imports redis: every driver
error comes out of it as one of the exceptions of `errors.py`.
"""

from aevon.cache.connection.errors import CacheError, CacheUnavailable, Unanswered, WrongType
from aevon.cache.connection.manager import (
    Exchange,
    Life,
    Store,
    around_round_trips,
    before_trusting,
    reset,
    store,
)
from aevon.cache.connection.scripts import Command, Script, ScriptCall
from aevon.cache.connection.server import Statement, statement
from aevon.cache.connection.tracking import ASIDE, Answer, Tracking

__all__ = [
    "ASIDE",
    "Answer",
    "CacheError",
    "CacheUnavailable",
    "Command",
    "Exchange",
    "Life",
    "Script",
    "ScriptCall",
    "Statement",
    "Store",
    "Tracking",
    "Unanswered",
    "WrongType",
    "around_round_trips",
    "before_trusting",
    "reset",
    "statement",
    "store",
]
