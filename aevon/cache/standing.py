"""What stands under a user's key, in words: a state, or what the cache layer has put in its place.

The tokens of leases and marks are their holders' right to write here: they are never shown.
"""

import time
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from aevon.cache.connection import store
from aevon.cache.keyspace import REGISTRY
from aevon.cache.resources import Held

# state: what readers get. outlived: a state of an earlier life of the server, which nobody
# believes. tombstone: PostgreSQL has no row. lease: a reader is about to fill the key. fence:
# writers are in flight, and readers go to PostgreSQL.
Kind = Literal["nothing", "state", "outlived", "tombstone", "lease", "fence", "unreadable"]

_WORDS: Final = {
    "nothing": "nothing",
    "state": "a state",
    "outlived": "a state of an earlier life of the server, which nobody believes",
    "tombstone": "a tombstone: PostgreSQL had no row",
    "lease": "a lease: a reader is about to fill it",
    "unreadable": "nothing that the cache layer can read",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """What a key holds. `writers`: those of a fence that are in flight; `until`, in Unix seconds:
    when the last of them counts as dead."""

    kind: Kind
    writers: int = 0
    until: float | None = None

    def __str__(self) -> str:
        if self.kind != "fence":
            return _WORDS[self.kind]
        if not self.writers:
            return "a fence whose writers are dead: it ends by itself"
        who = "1 writer is" if self.writers == 1 else f"{self.writers} writers are"
        left = max(0.0, (self.until or 0.0) - time.time())
        return f"a fence: {who} in flight, for {left:.1f} s more at most"


def standing(held: Held) -> Standing:
    """What the key holds."""
    keyspace = REGISTRY[held.key.partition(":")[0]]
    if held.type == "none":
        return Standing("nothing")
    if held.type != keyspace.type:
        return Standing("unreadable")
    if held.type == "list":
        return Standing("lease" if _is_lease(held.value) else "state")
    return _document(held.value)


def _document(value: Any) -> Standing:
    if not isinstance(value, dict):
        return Standing("unreadable")
    if isinstance(value.get("_fence"), dict):
        return _fence(value["_fence"])
    if "_lease" in value:
        return Standing("lease")
    if value.get("_incarnation") != _life():
        return Standing("outlived")
    return Standing("tombstone" if "_gone" in value else "state")


def without_tokens(held: Held) -> Held:
    """The same without the value of a lease or a fence."""
    kind = standing(held).kind
    return replace(held, value=None) if kind in ("lease", "fence") else held


def _is_lease(value: Any) -> bool:
    return bool(len(value) == 1 and isinstance(value[0], dict) and "_lease" in value[0])


def _fence(marks: dict[str, Any]) -> Standing:
    now = time.time()
    deadlines = [each / 1000 for each in marks.values() if isinstance(each, int | float)]
    live = [each for each in deadlines if each > now]
    return Standing("fence", len(live), max(live, default=None))


def _life() -> str:
    return store().exchange([("PING",)], idempotent=True).life.incarnation
