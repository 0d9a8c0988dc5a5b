"""How several processes count together: through a folder, PROMETHEUS_MULTIPROC_DIR.

prometheus_client keeps a file per process there and reads all of them at a scrape. Three things
are added. A process is known by its host's name as well, because two containers that share the
folder both have a process 7. It holds a lock for as long as it lives, which the kernel takes away
however it ends: so the gauges of the dead, a worker's that was killed for example, are found and
removed. And a file that another process is just making does not fail a scrape.

What the dead have counted stays, or the sums would fall; where they are many it is put together.
"""

import fcntl
import os
import re
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from prometheus_client import REGISTRY, CollectorRegistry, disable_created_metrics, values
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
# What a file that is just being written may make of reading it.
_TORN: Final = (struct.error, RuntimeError, UnicodeDecodeError, ValueError, FileNotFoundError)
TRIES: Final = 3
# So many files of the dead are left as they are, to be looked at.
UNBURIED: Final = 20
PATIENCE_SECONDS: Final = 0.5
GONE: Final = "gone"

_identity = ""
_alive = -1


def folder() -> Path | None:
    """Where the processes meet; None where each counts for itself."""
    name = os.environ.get(VARIABLE)
    return Path(name) if name else None


def host() -> str:
    """This host's name, as processes tell it: nothing in it separates anything, where the names of
    files have _ between their parts."""
    return re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:64]


def identity() -> str:
    """This process, in the names of its files and as the label `pid`."""
    return _identity


def collected() -> Iterable[Metric]:
    """All that has been counted: of every process that shares the folder, else of this one."""
    place = folder()
    if place is None:
        return list(REGISTRY.collect())
    collector = MultiProcessCollector(CollectorRegistry(), str(place))  # type: ignore[no-untyped-call]  # it has no types
    with _reading(place):
        for left in reversed(range(TRIES)):
            try:
                files = [str(file) for file in _made(place, "*.db")]
                return list(collector.merge(files, accumulate=True))  # type: ignore[no-untyped-call]
            except _TORN:
                if not left:
                    raise
    raise AssertionError  # pragma: no cover  the last try returns or raises


def _made(place: Path, pattern: str) -> list[Path]:
    """Files that have something in them by now."""
    return [file for file in place.glob(pattern) if file.stat().st_size]


@contextmanager
def _reading(place: Path) -> Iterator[None]:
    """The dead are buried by one reader at a time, while no other reads. Who has waited in vain
    reads what is there: a scrape must not hang where another does."""
    _bury_alone(place)
    with _locked(place / "reading", fcntl.LOCK_SH, patience=PATIENCE_SECONDS):
        yield


def _bury_alone(place: Path) -> None:
    with _locked(place / "reading", fcntl.LOCK_EX) as alone:
        if alone:
            bury_the_dead(place)


@contextmanager
def _locked(lock: Path, kind: int, *, patience: float = 0) -> Iterator[bool]:
    """Hold a lock, if it can be had in time; whether it is held."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield _taken(descriptor, kind, time.monotonic() + patience)
    finally:
        os.close(descriptor)


def _taken(descriptor: int, kind: int, until: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.005)
        else:
            return True


def bury_the_dead(place: Path) -> None:
    """Remove the gauges of processes that have ended, and put together what they counted: a folder
    must not grow with every process that there has ever been."""
    dead = []
    for lock in place.glob("*.alive"):
        with _locked(lock, fcntl.LOCK_EX) as ended:
            if ended:
                dead.append(lock)
                for file in place.glob(f"gauge_live*_{lock.stem}.db"):
                    file.unlink()
    for lock in dead if len(dead) > UNBURIED else ():
        with _locked(lock, fcntl.LOCK_EX) as ended:
            if ended:  # still: a new process may have its number
                for file in _made(place, f"*_{lock.stem}.db"):
                    _put_to(file, file.with_name(f"{file.stem.rpartition('_')[0]}_{GONE}.db"))
                lock.unlink()


def _put_to(file: Path, others: Path) -> None:
    """Add a file's numbers to those of others that have ended."""
    kept = MmapedDict(str(others))  # type: ignore[no-untyped-call]
    newest = file.stem.startswith("gauge_mostrecent")
    for key, value, at, _ in MmapedDict.read_all_values_from_file(str(file)):  # type: ignore[no-untyped-call]
        there, since = kept.read_value(key)  # type: ignore[no-untyped-call]
        if not newest:
            kept.write_value(key, there + value, 0.0)  # type: ignore[no-untyped-call]
        elif at > since:
            kept.write_value(key, value, at)  # type: ignore[no-untyped-call]
    kept.close()  # type: ignore[no-untyped-call]
    file.unlink()


def _begin() -> None:
    """In a new process, and in a forked child: a name and a lock of its own."""
    global _identity, _alive  # noqa: PLW0603  one per process is the point
    _identity = f"{host()}-{os.getpid()}"
    if _alive >= 0:
        os.close(_alive)  # the parent's, which keeps it
        _alive = -1
    place = folder()
    while place is not None and _alive < 0:
        _alive = _owned(place / f"{_identity}.alive")


def _owned(lock: Path) -> int:
    """A lock of one's own, -1 where somebody has just removed its file: of one who is dead and had
    this number."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    if os.fstat(descriptor).st_nlink:
        return descriptor
    os.close(descriptor)
    return -1


def _shared() -> Any:
    """prometheus_client's own, with this file's names; asked for with every count, so it is a
    look at a variable."""
    return values.MultiProcessValue(identity)  # type: ignore[no-untyped-call]


disable_created_metrics()  # type: ignore[no-untyped-call]  # as many series again, and none where processes count together
_begin()
os.register_at_fork(after_in_child=_begin)
if (_place := folder()) is None:
    # Where the variable is set and empty, prometheus_client would count in the current folder.
    os.environ.pop(VARIABLE, None)
    values.ValueClass = values.MutexValue
else:
    values.ValueClass = _shared()
    # Not at a scrape alone: where nobody scrapes, commands would fill the folder.
    with suppress(*_TORN):
        _bury_alone(_place)
