"""How several processes count together: through a folder, PROMETHEUS_MULTIPROC_DIR.

prometheus_client keeps a file per process there and reads all of them at a scrape. Three things
are added. A process is known by its host's name as well, because two containers that share the
folder both have a process 7. It holds a lock for as long as it lives, which the kernel takes away
however it ends: so the gauges of the dead, a worker's that was killed for example, are found and
removed. And a file that another process is just making does not fail a scrape.

What the dead have counted stays, or the sums would fall.
"""

import fcntl
import os
import re
import socket
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from prometheus_client import REGISTRY, CollectorRegistry, disable_created_metrics, values
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
# What a file that is just being written may make of reading it.
_TORN: Final = (struct.error, RuntimeError, UnicodeDecodeError, ValueError, FileNotFoundError)
TRIES: Final = 3

_identity = ""
_alive = -1


def folder() -> Path | None:
    """Where the processes meet; None where each counts for itself."""
    name = os.environ.get(VARIABLE)
    return Path(name) if name else None


def identity() -> str:
    """This process, in the names of its files and as the label `pid`."""
    return _identity


def collected() -> Iterable[Metric]:
    """All that has been counted: of every process that shares the folder, else of this one."""
    place = folder()
    if place is None:
        return list(REGISTRY.collect())
    forget_the_dead(place)
    collector = MultiProcessCollector(CollectorRegistry(), str(place))  # type: ignore[no-untyped-call]  # it has no types
    for left in reversed(range(TRIES)):
        try:
            made = [str(file) for file in place.glob("*.db") if file.stat().st_size]
            return list(collector.merge(made, accumulate=True))  # type: ignore[no-untyped-call]
        except _TORN:
            if not left:
                raise
    raise AssertionError  # pragma: no cover  the last try returns or raises


def forget_the_dead(place: Path) -> None:
    """Remove the gauges of processes that have ended."""
    for file in place.glob("gauge_live*_*.db"):
        if not _lives(place / f"{file.stem.rpartition('_')[2]}.alive"):
            file.unlink(missing_ok=True)


def _lives(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _begin() -> None:
    """In a new process, and in a forked child: a name and a lock of its own."""
    global _identity, _alive  # noqa: PLW0603  one per process is the point
    # The names of files have _ between their parts.
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())
    _identity = f"{host}-{os.getpid()}"
    if _alive >= 0:
        os.close(_alive)  # the parent's, which keeps it
        _alive = -1
    place = folder()
    if place is not None:
        _alive = os.open(place / f"{_identity}.alive", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(_alive, fcntl.LOCK_EX)


def _shared() -> Any:
    """prometheus_client's own, with this file's names; asked for with every count, so it is a
    look at a variable."""
    return values.MultiProcessValue(identity)  # type: ignore[no-untyped-call]


disable_created_metrics()  # as many series again, and none where processes count together
_begin()
os.register_at_fork(after_in_child=_begin)
if folder() is not None:
    values.ValueClass = _shared()
