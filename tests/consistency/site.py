"""Leads a history run: the cache server and its faults, the workers, and what they have logged."""

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import redis
from django.conf import settings
from django.db import connection
from django.test import override_settings

from aevon.cache import resources
from aevon.embedded import CacheServer
from aevon.process import watchdog
from auth_sessions.models import SovereigntyClass, User
from klepsydra.models import PsycheState
from tests.consistency import history
from tests.consistency import plan as plans
from tests.consistency.history import Key, Read, Verdict, Write
from tests.consistency.plan import Plan
from tests.servers import ROOT, database_url

START_SECONDS: Final = 60.0

# What every version of the rows was, and whose: written in the transaction that made it.
_WATCH: Final = """
CREATE TABLE history_version
    (key text, version bigint, content bigint, operation bigint, at timestamptz);
CREATE FUNCTION history_of_psyche() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO history_version VALUES ('p:' || NEW.user_id, NEW.version, NEW.loss_streak,
        coalesce(nullif(current_setting('history.operation', true), ''), '0')::bigint, now());
    RETURN NULL;
END $$;
CREATE FUNCTION history_of_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO history_version SELECT 's:' || NEW.user_id, NEW.version,
        array_position(ARRAY[{classes}], u.sovereignty_class::text) - 1,
        coalesce(nullif(current_setting('history.operation', true), ''), '0')::bigint, now()
        FROM auth_sessions_user u WHERE u.id = NEW.user_id;
    RETURN NULL;
END $$;
CREATE TRIGGER history_is_written AFTER UPDATE ON klepsydra_psychestate
FOR EACH ROW EXECUTE FUNCTION history_of_psyche();
CREATE TRIGGER history_is_written AFTER UPDATE ON auth_sessions_sessionanchor
FOR EACH ROW EXECUTE FUNCTION history_of_session();
"""
_UNWATCH: Final = """
DROP TRIGGER history_is_written ON klepsydra_psychestate;
DROP TRIGGER history_is_written ON auth_sessions_sessionanchor;
DROP FUNCTION history_of_psyche();
DROP FUNCTION history_of_session();
DROP TABLE history_version;
"""


@dataclass
class Figures:
    """What a run did and found."""

    verdict: Verdict
    seconds: float
    hits: int = 0
    misses: int = 0
    operations: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    inconsistent: list[str] = field(default_factory=list)  # entries, in the end

    @property
    def violations(self) -> int:
        """Of what is promised, during the run and after it."""
        return self.verdict.violations + len(self.inconsistent)


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """PostgreSQL keeps every version that there was."""
    classes = ", ".join(f"'{each}'" for each in SovereigntyClass.values)
    _sql(_WATCH.format(classes=classes))
    try:
        yield
    finally:
        _sql(_UNWATCH)


@contextlib.contextmanager
def without_outbox() -> Iterator[None]:
    """The outbox is told of nothing."""
    _sql("ALTER TABLE klepsydra_psychestate DISABLE TRIGGER cache_is_told")
    try:
        yield
    finally:
        _sql("ALTER TABLE klepsydra_psychestate ENABLE TRIGGER cache_is_told")


def _sql(statement: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


class Faults:
    """What happens to the cache server; each returns when it is over."""

    def __init__(self, server: CacheServer) -> None:
        self.server = server
        self.counts: Counter[str] = Counter()
        self._snapshot = server.folder / "dump.rdb"
        self._older = server.folder / "older.rdb"

    def freeze(self) -> None:
        """Nothing answers for a second."""
        self.server.pause()
        time.sleep(1.0)
        self.server.resume()
        self.counts["frozen for a second"] += 1

    def restart(self) -> None:
        """Killed, and started with nothing."""
        self.server.kill()
        self._snapshot.unlink(missing_ok=True)
        self.server.start()
        self.counts["killed and restarted"] += 1

    def remember(self) -> None:
        """Take the snapshot to be found again later."""
        with redis.Redis.from_url(self.server.url, protocol=2, socket_timeout=5) as client:
            client.save()
        shutil.copy(self._snapshot, self._older)

    def go_back(self) -> None:
        """Killed, and started from the snapshot of some time ago."""
        if not self._older.exists():
            return
        self.server.kill()
        shutil.copy(self._older, self._snapshot)
        self.server.start()
        self.counts["restarted from an older snapshot"] += 1


Fault = Callable[[Faults], None]
ALL_FAULTS: Final[tuple[Fault, ...]] = (
    Faults.remember,
    Faults.freeze,
    Faults.go_back,
    Faults.restart,
)


@dataclass
class Site:
    """One run in a folder: `with` its servers and workers, which end with it."""

    plan: Plan
    faults: Sequence[Fault] = ()
    fault_every: float = 3.0
    listener: bool = True
    # How long to wait before the end's comparison where nobody listens.
    rest_seconds: float = field(default_factory=lambda: float(settings.AEVON_FENCE_SECONDS))
    without: str = ""
    log: Path = field(init=False)

    def run(self) -> Figures:
        """Lead the run to its end, and check what was logged."""
        folder = Path(self.plan.folder)
        self.log = folder / "processes.log"
        server = CacheServer(folder, durable=False)
        first = first_versions(self.plan)
        self.plan.save()
        with watched(), contextlib.ExitStack() as stack:
            if self.without == "outbox":
                stack.enter_context(without_outbox())
            stack.callback(server.kill)
            server.start()
            if self.listener:
                self._launch(stack, server, [str(ROOT / "manage.py"), "cache_listen"])
                wait_for_listener()
            crowd = self._launch(stack, server, ["-m", "tests.consistency.worker", str(folder)])
            faults = Faults(server)
            seconds = self._lead(crowd, faults)
            if crowd.returncode:
                raise AssertionError(f"The workers failed:\n{self.log.read_text()[-5000:]}")
            inconsistent = self._at_rest(server)
            return self._figures(first, faults, seconds, inconsistent)

    def _launch(
        self, stack: contextlib.ExitStack, server: CacheServer, arguments: list[str]
    ) -> "subprocess.Popen[bytes]":
        environment = dict(os.environ)
        names = [name for name in environment if name.startswith("AEVON_CACHE_")]
        for name in [*names, "HISTORY_WITHOUT"]:
            environment.pop(name, None)
        environment |= {
            "DATABASE_URL": database_url(),
            "DRAGONFLY_URL": server.url,
            "AEVON_LOG_LEVEL": "ERROR",
            "PYTHONPATH": str(ROOT),
        }
        if self.without and self.without != "outbox":
            environment["HISTORY_WITHOUT"] = self.without
        command = [sys.executable, *arguments]
        with self.log.open("ab") as log, patch.dict(os.environ, environment, clear=True):
            process = watchdog.launch(command, last_signal=signal.SIGKILL, user="", log=log)
        stack.callback(_end, process)
        return process

    def _lead(self, crowd: "subprocess.Popen[bytes]", faults: Faults) -> float:
        """Inject faults until the workers' time is over."""
        started = Path(self.plan.folder) / plans.STARTED_FILE
        deadline = time.monotonic() + START_SECONDS
        while not started.exists():
            assert crowd.poll() is None, self.log.read_text()[-5000:]
            assert time.monotonic() < deadline, "The workers did not start."
            time.sleep(0.02)
        begun = time.monotonic()
        for fault in itertools.cycle(self.faults or [lambda _: None]):
            with contextlib.suppress(subprocess.TimeoutExpired):
                crowd.wait(self.fault_every * random.uniform(0.8, 1.2))
                break
            fault(faults)
        return time.monotonic() - begun

    def _at_rest(self, server: CacheServer) -> list[str]:
        """The entries that are wrong when the outbox has been drained, or all fences have ended."""
        if self.listener:
            wait_for_listener()
        else:
            time.sleep(self.rest_seconds)
        with _store_of(server):
            return [
                f"{name}:{user} is {verdict}"
                for name, users in (("psyche", self.plan.users), ("session", self.plan.sessions))
                for user, verdict in resources.resource(name).verdicts(users).items()
                if verdict in ("stale", "corrupt")
            ]

    def _figures(
        self,
        first: dict[Key, Write],
        faults: Faults,
        seconds: float,
        inconsistent: list[str],
    ) -> Figures:
        folder = Path(self.plan.folder)
        versions = {
            operation: (key, version, content)
            for key, version, content, operation in _sql(
                "SELECT key, version, content, operation FROM history_version"
            )
        }
        writes, operations = logged_writes(folder, versions)
        last = {key: write.version or 0 for key, write in first_versions(self.plan).items()}
        readers = [logged_reads(path) for path in folder.glob("reader-*.log")]
        verdict = history.check(history.merged(*readers), writes, first=first, last=last)
        figures = Figures(verdict, seconds, operations=operations, inconsistent=inconsistent)
        figures.hits, figures.misses = _totals(folder)
        figures.faults = faults.counts + _crowd_faults(folder)
        return figures


def wait_for_listener() -> None:
    """Until nothing waits in the outbox any more."""
    deadline = time.monotonic() + START_SECONDS
    while _sql("SELECT 1 FROM cache_outbox WHERE keyspace IN ('psyche', 'session')"):
        assert time.monotonic() < deadline, "The listener does not drain the outbox."
        time.sleep(0.05)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """The process, and all that it forked."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    watchdog.forget(process.pid)


@contextlib.contextmanager
def _store_of(server: CacheServer) -> Iterator[None]:
    """This process speaks to that server for a while."""
    with override_settings(AEVON_CACHE={**settings.AEVON_CACHE, "URL": server.url}):
        yield


def first_versions(plan: Plan) -> dict[Key, Write]:
    """What every key's row is now, as a write of long ago."""
    rows = PsycheState.objects.filter(pk__in=plan.users)
    found = [(f"p:{row.pk}", row.version, row.loss_streak) for row in rows]
    classes = list(SovereigntyClass.values)
    users = User.objects.filter(pk__in=plan.sessions).select_related("session_anchor")
    found += [
        (f"s:{u.pk}", u.session_anchor.version, classes.index(u.sovereignty_class)) for u in users
    ]
    return {key: Write(key, 0, 0, version, content) for key, version, content in found}


def logged_reads(path: Path) -> Iterator[Read]:
    """What one reader read, in the order of its beginning."""
    with path.open() as lines:
        for line in lines:
            if line[0] == "#":
                continue
            start, end, *states = line.split()
            for key, version, content in zip(states[::3], states[1::3], states[2::3], strict=True):
                yield Read(key, int(start), int(end), int(version), int(content))


def logged_writes(
    folder: Path, versions: dict[int, tuple[Key, int, int]]
) -> tuple[list[Write], Counter[str]]:
    """What the writers wrote, with the versions that PostgreSQL gave; and how often in each way."""
    writes, ways = dict[int, Write](), Counter[str]()
    for path in folder.glob("writer-*.log"):
        for line in path.read_text().splitlines():
            sign, number, *rest = line.split(maxsplit=4)
            operation = int(number)
            if sign == "B":
                key, start, way = rest
                version, content = versions.get(operation, (key, None, 0))[1:]
                writes[operation] = Write(key, int(start), None, version, content)
                ways[way] += 1
            elif sign == "E":
                writes[operation] = writes[operation]._replace(end=int(rest[0]), told=rest[1])  # type: ignore[arg-type]
            elif sign == "R":
                del writes[operation]  # if PostgreSQL has it after all, the versions do not add up
            else:
                ways["failed"] += 1
    return list(writes.values()), ways


def _totals(folder: Path) -> tuple[int, int]:
    hits = misses = 0
    for path in folder.glob("reader-*.log"):
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 100))
            last = file.read().splitlines()[-1].split()
        hits, misses = hits + int(last[1]), misses + int(last[2])
    return hits, misses


def _crowd_faults(folder: Path) -> Counter[str]:
    counts = json.loads((folder / plans.CROWD_FILE).read_text())
    evicted = sum(int(path.read_text()) for path in folder.glob("evictor-*.log"))
    return Counter(
        {
            "writers killed": counts["killed"],
            "writers dead between commit and install": counts["died"],
            "entries evicted": evicted,
        }
    )
