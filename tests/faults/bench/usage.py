"""What the site's processes use of the machine: memory, file descriptors, connections."""

import contextlib
import re
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import psutil
import psycopg
import redis
from django.conf import settings

from aevon.embedded import CacheServer
from tests.servers import database_url

from .production import Production

EVERY_SECONDS: Final = 1.0
Process = tuple[str, int]  # of which part of the site, and its pid
Files = Counter[str]  # by path or kind
RESET: Final = "socket that its server has reset"
K = TypeVar("K")
T = TypeVar("T")
Memory = dict[str, int]  # bytes by process
Held = dict[str, tuple[int, int]]  # connections to PostgreSQL and to the cache, by process


class Usage:
    """`with Usage(site, server) as usage:` measured every second, from a thread.

    `memory` and `held` rise in time; `held` counts what the two servers say they have.
    """

    def __init__(self, site: Production, server: CacheServer) -> None:
        self._server = server
        self.processes = processes(site)
        self.memory: list[Memory] = []
        self.held: list[Held] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._measure)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _measure(self) -> None:
        with psycopg.connect(database_url(), autocommit=True) as ledger:
            while not self._over.wait(EVERY_SECONDS):
                self.memory.append(of_the_living(self._all(), _rss))
                self.held.append(held(self.processes, ledger, self._server))

    def _all(self) -> dict[str, psutil.Process]:
        pid = self._server.pid
        return self.processes | ({"cache": psutil.Process(pid)} if pid else {})

    def most_held(self) -> Held:
        """The most that each process ever held, of either."""
        found: Held = {}
        for name in self.processes:
            of_ledger, of_cache = zip(*(h[name] for h in self.held if name in h), strict=True)
            found[name] = max(of_ledger), max(of_cache)
        return found


def processes(site: Production) -> dict[str, psutil.Process]:
    """Each process of the site that runs its code, by name and number."""
    found = {}
    for name, popen in site.processes.items():
        parent = psutil.Process(popen.pid)
        found[name] = parent
        for number, child in enumerate(parent.children(recursive=True), 1):
            found[f"{name} {number}"] = child
    return found


def of_the_living(
    processes: Mapping[K, psutil.Process], measure: Callable[[psutil.Process], T]
) -> dict[K, T]:
    """Without those that are gone: Celery replaces children whose task cannot be acknowledged any
    more."""
    found = {}
    for name, process in processes.items():
        with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            found[name] = measure(process)
    return found


def _rss(process: psutil.Process) -> int:
    return int(process.memory_info().rss)


def growth(memory: Sequence[Memory]) -> dict[str, float]:
    """By how much the median of the last fifth is above that of the first, as a share of it, of
    those who are there to the end."""
    part = max(1, len(memory) // 5)
    return {
        name: _median(memory[-part:], name) / _median(memory[:part], name) - 1
        for name in memory[0]
        if name in memory[-1]
    }


def _median(memory: Sequence[Memory], name: str) -> float:
    return statistics.median(each[name] for each in memory if name in each)


def held(
    of: dict[str, psutil.Process], ledger: "psycopg.Connection[Any]", server: CacheServer
) -> Held:
    """The connections that each process holds now."""
    of_ledger, of_cache = _ports_of_the_ledger(ledger), _ports_of_the_cache(server)
    own = of_the_living(of, _local_ports)
    return {n: (len(ports & of_ledger), len(ports & of_cache)) for n, ports in own.items()}


def _local_ports(process: psutil.Process) -> set[int]:
    return {each.laddr.port for each in process.net_connections("tcp4") if each.raddr}


def _ports_of_the_ledger(ledger: "psycopg.Connection[Any]") -> set[int]:
    rows = ledger.execute("SELECT client_port FROM pg_stat_activity WHERE client_port > 0")
    return {port for (port,) in rows}


def _ports_of_the_cache(server: CacheServer) -> set[int]:
    try:
        with redis.Redis.from_url(server.url, protocol=2, socket_timeout=2) as client:
            return {int(each["addr"].rpartition(":")[2]) for each in client.client_list()}
    except redis.RedisError:  # it is killed on purpose
        return set()


def descriptors(site: Production, server: CacheServer) -> dict[Process, Files]:
    """What each process has open, but for its connections to the two servers, and for the files of
    its metrics: of these it opens one of each kind, whenever it first counts something."""
    servers = {int(settings.DATABASES["default"]["PORT"]), server.port}
    found = {(name.split()[0], each.pid): each for name, each in processes(site).items()}
    return of_the_living(found, lambda process: _descriptors(process, servers))


def _descriptors(process: psutil.Process, servers: set[int]) -> Files:
    found: Files = Counter()
    ports = _remote_ports(process)
    for each in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # it is closed by now
            kind, *inode = re.split(r"\[(\d+)\]$", str(each.readlink()))
            port = ports.get(inode[0]) if kind == "socket:" else None
            if port not in servers and "/metrics/" not in kind:
                found[RESET if kind == "socket:" and port is None else kind] += 1
    return found


def _remote_ports(process: psutil.Process) -> dict[str, int]:
    """Of the sockets that the kernel lists, by inode; 0 of one without. A connection that the other
    side has reset is not among them."""
    found = {}
    for name, inode, remote in (("tcp", 9, 2), ("tcp6", 9, 2), ("udp", 9, 2), ("unix", 6, 0)):
        with contextlib.suppress(FileNotFoundError):  # without IPv6
            _, *lines = Path(f"/proc/{process.pid}/net/{name}").read_text().splitlines()
            for fields in map(str.split, lines):
                port = fields[remote].rpartition(":")[2] if name != "unix" else "0"
                found[fields[inode]] = int(port, 16)
    return found


def settled(site: Production, server: CacheServer) -> dict[Process, Files]:
    """`descriptors`, once they change no more for a while."""
    before = descriptors(site, server)
    for _ in range(40):
        time.sleep(3)
        now = descriptors(site, server)
        if now == before:
            return now
        before = now
    raise AssertionError(f"They change for two minutes: {before}")
