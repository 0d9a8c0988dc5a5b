"""What the site's processes use of the machine: memory, file descriptors, connections."""

import contextlib
import re
import statistics
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import psutil
import psycopg
import redis
from django.conf import settings

from aevon.embedded import CacheServer
from tests.servers import database_url

from .production import Production

EVERY_SECONDS: Final = 1.0
Process = tuple[str, int]  # name and pid
Files = Counter[str]  # by path or kind
CLOSED: Final = "socket that its server has closed"
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
                self.memory.append({name: _rss(each) for name, each in self._all().items()})
                self.held.append(held(self.processes, ledger, self._server))

    def _all(self) -> dict[str, psutil.Process]:
        pid = self._server.pid
        return self.processes | ({"cache": psutil.Process(pid)} if pid else {})

    def most_held(self) -> Held:
        """The most that each process ever held, of either."""
        return {
            name: (max(held[name][0] for held in self.held), max(h[name][1] for h in self.held))
            for name in self.processes
        }


def processes(site: Production) -> dict[str, psutil.Process]:
    """Each process of the site that runs its code, by name and number."""
    found = {}
    for name, popen in site.processes.items():
        parent = psutil.Process(popen.pid)
        found[name] = parent
        for number, child in enumerate(parent.children(recursive=True), 1):
            found[f"{name} {number}"] = child
    return found


def _rss(process: psutil.Process) -> int:
    return int(process.memory_info().rss)


def growth(memory: Sequence[Memory]) -> dict[str, float]:
    """By how much the median of the last fifth is above that of the first, as a share of it."""
    part = max(1, len(memory) // 5)
    return {
        name: _median(memory[-part:], name) / _median(memory[:part], name) - 1 for name in memory[0]
    }


def _median(memory: Sequence[Memory], name: str) -> float:
    return statistics.median(each[name] for each in memory if name in each)


def held(
    of: dict[str, psutil.Process], ledger: "psycopg.Connection[Any]", server: CacheServer
) -> Held:
    """The connections that each process holds now."""
    of_ledger, of_cache = _ports_of_the_ledger(ledger), _ports_of_the_cache(server)
    found = {}
    for name, process in of.items():
        own = _local_ports(process)
        found[name] = len(own & of_ledger), len(own & of_cache)
    return found


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
    """What each process, by name and pid, has open, but for its connections to the two servers, and
    for the files of its metrics: of these it opens one of each kind, whenever it first counts
    something."""
    servers = {int(settings.DATABASES["default"]["PORT"]), server.port}
    found = processes(site).items()
    return {(name, each.pid): _descriptors(each, servers) for name, each in found}


def _descriptors(process: psutil.Process, servers: set[int]) -> Files:
    found: Files = Counter()
    listed = _inodes_of_sockets(process)
    for each in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # it is closed by now
            kind, *inode = re.split(r"\[(\d+)\]$", str(each.readlink()))
            found[CLOSED if kind == "socket:" and inode[0] not in listed else kind] += 1
    found["socket:"] -= sum(
        bool(each.raddr) and each.raddr.port in servers for each in process.net_connections("tcp4")
    )
    return Counter({name: n for name, n in found.items() if "/metrics/" not in name})


def _inodes_of_sockets(process: psutil.Process) -> set[str]:
    """Of those that the kernel lists. A connection that its server has reset is not among them."""
    columns = {"tcp": 9, "tcp6": 9, "udp": 9, "udp6": 9, "unix": 6}
    return {
        line.split()[column]
        for name, column in columns.items()
        for line in Path(f"/proc/{process.pid}/net/{name}").read_text().splitlines()[1:]
    }


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
