"""The site as it runs in production, in processes of its own: web, worker, beat and listener."""

import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import psutil
from django.conf import settings
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from aevon.ports import free_port
from aevon.process import watchdog
from aevon.run import allow_open_files, commands
from tests import servers
from tests.servers import ROOT
from tests.waiting import eventually

from .line import Lines

START_SECONDS: Final = 90.0
# As from the proxy in front, which has ended TLS.
FORWARDED: Final = {"X-Forwarded-Proto": "https"}
APPLICATION: Final = "aevon.wsgi:application"


@dataclass
class Production:
    """`with Production(folder, database_url, cache_url) as site:` a site that is ready.

    `variables` are settings of its environment; `application` is what web serves, with `threads` to
    a worker (0: as in production). `ready_as`: what it tells once it is ready, of a site that lacks
    something else than a process. Every process is killed at the end.
    """

    folder: Path
    database_url: str
    cache_url: str
    variables: dict[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ("web", "worker", "beat", "listener")
    ready_as: str = "ok"
    application: str = APPLICATION
    threads: int = 0
    port: int = field(default_factory=free_port)
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def lines(self) -> Lines:
        """To its web, for a loop."""
        return Lines("127.0.0.1", self.port)

    @property
    def log(self) -> Path:
        """What all processes said."""
        return self.folder / "processes.log"

    def __enter__(self) -> "Production":
        allow_open_files()
        self.folder.mkdir(exist_ok=True)
        (self.folder / "metrics").mkdir()
        try:
            for name in self.names:
                self.start(name)
            assert eventually(self._is_ready, START_SECONDS), self.told()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in [*self.processes]:
            self.kill(name)

    def start(self, name: str) -> None:
        """One of its processes; it is not waited for."""
        with self.log.open("ab") as log, patch.dict(os.environ, self.environment(), clear=True):
            self.processes[name] = watchdog.launch(
                self._command(name), last_signal=signal.SIGKILL, user="", log=log
            )

    def _command(self, name: str) -> list[str]:
        command = [*commands(self.port)[name]]
        if name == "web":
            command[command.index(APPLICATION)] = self.application
            if self.threads:
                command[command.index("--blocking-threads") + 1] = str(self.threads)
        return command

    def kill(self, name: str) -> None:
        """By SIGKILL, with all that it forked."""
        process = self.processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        watchdog.forget(process.pid)

    def environment(self) -> dict[str, str]:
        """Of each process; keys and secrets are this one's, so that its tokens are good there."""
        kept = servers.environment(self.cache_url)
        for name in servers.PATIENCE:
            del kept[name]
        return {
            **kept,
            "DATABASE_URL": self.database_url,
            "AEVON_ENV": "production",
            "AEVON_DATA_DIR": str(self.folder),
            "AEVON_TRUSTED_PROXIES": "1",
            "AEVON_ACCESS_LOG": "off",
            "DJANGO_SECRET_KEY": settings.SECRET_KEY,
            "JWT_SIGNING_KEY": settings.JWT_SIGNING_KEY,
            "PROMETHEUS_MULTIPROC_DIR": str(self.folder / "metrics"),
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
            **self.variables,
        }

    def told(self) -> str:
        """The end of what the processes said, for a test's failure."""
        return self.log.read_text(errors="replace")[-6000:]

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of a plain request."""
        request = urllib.request.Request(f"{self.url}{path}", headers=FORWARDED)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def recovers(self, seconds: float = 60) -> int:
        """Wait until every dependency is there and every worker trusts the cache; that moment, in
        nanoseconds by CLOCK_MONOTONIC."""
        assert eventually(self._is_ready, seconds), (self.ready(), self.told())
        assert eventually(self._is_trusting, seconds), self.told()
        return time.monotonic_ns()

    def ready(self) -> dict[str, Any]:
        """What `/health/ready` tells; empty while nobody answers."""
        with contextlib.suppress(OSError):
            body: dict[str, Any] = json.loads(self.get("/health/ready")[1])
            return body
        return {}

    def _is_ready(self) -> bool:
        for name, process in self.processes.items():
            assert process.poll() is None, f"{name} has ended.\n{self.told()}"
        ready = self.ready()
        if self.ready_as != "ok":
            return ready.get("status") == self.ready_as
        absent = {"worker", "beat"} - {*self.names}
        dependencies = ready.get("dependencies", {}).items()
        wrong = [name for name, each in dependencies if each["status"] != "ok"]
        return "status" in ready and {*wrong} <= absent

    def _is_trusting(self) -> bool:
        states = ("open", "half-open")
        with contextlib.suppress(OSError):  # too busy to answer
            return not sum(self.metric("aevon_cache_breaker_state", state=each) for each in states)
        return False

    def metric(self, name: str, **labels: str) -> float:
        """The sum over all samples of that name that have these labels, of all processes."""
        text = self.get("/metrics")[1].decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def counted_by(self, pid: int, name: str, **labels: str) -> float:
        """As `metric`, by one process, and whether or not anybody answers."""
        files = [str(file) for file in (self.folder / "metrics").glob(f"*-{pid}.db")]
        return sum(
            sample.value
            for family in MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def web_workers(self) -> list[psutil.Process]:
        """The processes that answer requests."""
        parent = psutil.Process(self.processes["web"].pid)
        return [each for each in parent.children() if each.is_running()]

    @contextlib.contextmanager
    def without(self, name: str) -> Iterator[None]:
        """Without that process for a while."""
        self.kill(name)
        yield
        self.start(name)
