"""What a moment consists of, where everything that can happen to one key and one row is enumerated.

A world is plain data, so that two ways which lead to the same moment can be seen to do so. What
differs from run to run without meaning anything is made alike: tokens are numbered by process, a
deadline is either yet to come or past.
"""

import functools
import json
import time
from typing import Any, Final, NamedTuple

ENDED: Final = "ended"
# Deadlines of marks, in Unix ms. One that comes in more than an hour would not be believed.
TO_COME: Final = int(time.time() * 1000) + 3_000_000
PAST: Final = 1

Key = bytes | None


class Ledger(NamedTuple):
    """PostgreSQL: the version of the row, or of its absence, and that which waits in the outbox."""

    version: int = 1
    exists: bool = True
    outbox: int = 0  # 0: nothing waits


class Memory:
    """What a process remembers; the enumerator makes one for each content, so that it need not be
    compared."""

    __slots__ = ("of",)

    def __init__(self, of: tuple[Any, ...]) -> None:
        self.of = of


NOTHING: Final = Memory(())


class Process(NamedTuple):
    """One reader, writer or drain: where it is, and what it remembers."""

    kind: str
    step: str = "start"
    memory: Memory = NOTHING
    committed: int = 0  # by a writer
    promised: int = 0  # to a reader: the version acknowledged when it began


class Faults(NamedTuple):
    """How many of each may still happen."""

    evictions: int = 0  # of whatever the key holds, a fence too
    flushes: int = 0
    crashes: int = 0
    lease_expiries: int = 0
    restarts: int = 0  # with the key's content of an earlier moment
    sticky: bool = False  # a fence is not evicted, as on Dragonfly
    drain: bool = False  # the outbox is drained: once at any time, and at the end


class World(NamedTuple):
    """One moment."""

    processes: tuple[Process, ...]
    left: Faults
    key: Key = None
    ledger: Ledger = Ledger()
    life: int = 1  # of the cache server
    lock: int | None = None  # the process that holds the row's lock
    acknowledged: int = 1
    snapshot: Key = None
    drained: bool = False  # the outbox, after all had ended


def token(process: int) -> str:
    """The token of a process: of its lease, or of its mark."""
    return f"{process + 1:016x}"


@functools.cache
def marks(key: Key) -> dict[str, int] | None:
    """The marks of a fence with their deadlines, to be read only; None for anything else."""
    members = json.loads(key) if key else {}
    found = members.get("_fence") if isinstance(members, dict) else None
    return found if isinstance(found, dict) else None


def plain(key: Key, *, now_ms: float) -> Key:
    """The key's bytes with deadlines made alike, and marks in the order of their processes."""
    found = marks(key)
    if key is None or found is None:
        return key
    deadlines = {each: TO_COME if at > now_ms else PAST for each, at in found.items()}
    return _fence(deadlines, json.loads(key)["_floor"])


def without_time(key: Key, process: int) -> Key:
    """The fence in which the mark of this process has run out; no key when it was the last."""
    deadlines = dict(marks(key) or {}) | {token(process): PAST}
    if set(deadlines.values()) == {PAST}:
        return None  # its lifetime was that of the latest deadline
    return _fence(deadlines, json.loads(key or b"")["_floor"])


def _fence(deadlines: dict[str, int], floor: int) -> bytes:
    fence = {"_fence": dict(sorted(deadlines.items())), "_floor": floor}
    return json.dumps(fence, separators=(",", ":")).encode()
