"""What stands under a user's key, in words: a state, or what the cache layer put in its place."""

import time
from dataclasses import dataclass
from typing import Any, Final, Literal

from aevon.cache import codec
from aevon.cache.connection import store
from aevon.cache.fences import UNKNOWN_VERSION
from aevon.cache.keyspace import REGISTRY
from aevon.cache.resources import Held

# state: what readers get. outlived: a state of an earlier life of the server, or one that somebody
# wrote by hand, which nobody believes. tombstone: PostgreSQL has no row. lease: a reader is about
# to fill the key. fence: writers are in flight, and readers go to PostgreSQL.
Kind = Literal["nothing", "state", "outlived", "tombstone", "lease", "fence", "unreadable"]

FAR_SECONDS: Final = 3600
_WORDS: Final = {
    "nothing": "nothing",
    "state": "a state",
    "outlived": "a state that nobody believes: this life of the server did not stamp it",
    "tombstone": "a tombstone: PostgreSQL had no row",
    "lease": "a lease: a reader is about to fill it",
    "unreadable": "nothing that the cache layer can read",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """What a key holds. `writers`: those of a fence that are in flight; `until`, in Unix seconds:
    when the last of them counts as dead. `version`: a fence's floor, a tombstone's version."""

    kind: Kind
    writers: int = 0
    until: float | None = None
    version: int | None = None

    def __str__(self) -> str:
        if self.kind == "tombstone":
            return f"{_WORDS[self.kind]}, as of version {_number(self.version)}"
        if self.kind != "fence":
            return _WORDS[self.kind]
        if not self.writers:
            return "a fence whose writers are dead: it ends by itself"
        who = "1 writer is" if self.writers == 1 else f"{self.writers} writers are"
        left = max(0.0, (self.until or 0.0) - time.time())
        return (
            f"a fence: {who} in flight, for {left:.1f} s more at most; readers go to PostgreSQL,"
            f" and nothing below version {_number(self.version)} comes in"
        )


def standing(held: Held) -> Standing:
    """What the key holds."""
    keyspace = REGISTRY[held.key.partition(":")[0]]
    if held.type == "none":
        return Standing("nothing")
    if held.type != keyspace.type:
        return Standing("unreadable")
    if held.type == "list":
        return Standing("lease" if _is_lease(held.value) else "state")
    return _document(held)


def _document(held: Held) -> Standing:
    value = held.value
    if not isinstance(value, dict):
        return Standing("unreadable")
    if "_fence" in value:
        return _fence(value["_fence"], _whole(value.get("_floor")))
    if "_lease" in value:
        return Standing("lease")
    if not codec.is_stamped(held.raw, store().life.incarnation):
        return Standing("outlived")
    if "_gone" in value:
        return Standing("tombstone", version=_whole(value["_gone"]))
    return Standing("state")


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 <= value <= UNKNOWN_VERSION else None


def _number(version: int | None) -> str:
    return "(not known)" if version in (None, UNKNOWN_VERSION) else f"{version}"


def _is_lease(value: Any) -> bool:
    return bool(len(value) == 1 and isinstance(value[0], dict) and "_lease" in value[0])


def _fence(marks: Any, floor: int | None) -> Standing:
    """As the scripts read it (`lua/marks.lua`): no writer sets a deadline that is hours ahead."""
    if not isinstance(marks, dict):
        return Standing("unreadable")
    now = time.time()
    deadlines = [each / 1000 for each in marks.values() if isinstance(each, int | float)]
    live = [each for each in deadlines if now < each <= now + FAR_SECONDS]
    return Standing("fence", len(live), max(live, default=None), floor)
