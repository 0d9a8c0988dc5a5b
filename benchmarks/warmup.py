"""What a warm-up of a million users costs: users per second, and memory beside that of a tenth.

It is stopped by Ctrl-C half-way and goes on with the command that it told, while somebody writes.
Prints a table. Starts servers of its own, and takes some minutes: `--users 100000` for a short one.
"""

import argparse
import contextlib
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.site import site

PAGE: Final = 50_000
USERS: Final = """
INSERT INTO auth_sessions_user (username, email, password, first_name, last_name, is_superuser,
    is_staff, is_active, date_joined, sovereignty_class)
SELECT 'crowd' || n, '', '!', '', '', false, false, true, now(), 'INITIATE'
FROM generate_series(%s, %s) n
"""
PSYCHES: Final = """
INSERT INTO klepsydra_psychestate (user_id, sre_wave, loss_streak, frustration_level,
    frustration_at, is_throttled, phase, amplitude, period_seconds)
SELECT id, 0, 0, 0, now(), false, 6 * random(), 1, 3600 FROM auth_sessions_user u
WHERE NOT EXISTS (SELECT FROM klepsydra_psychestate p WHERE p.user_id = u.id)
"""


class Ended(NamedTuple):
    """How a command ended. `peak`: its largest resident memory, in bytes."""

    code: int
    report: dict[str, Any]
    peak: int


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1_000_000)
    count = parser.parse_args().users
    table = Table(f"{count:,} users", "users/s", "seconds", "peak memory")

    def row(name: str, users: int, *ended: Ended) -> None:
        seconds = sum(each.report.get("seconds", 0) for each in ended)
        peak = max(each.peak for each in ended) / 2**20
        rate = f"{users / seconds:,.0f}" if seconds else "–"
        table.add_row(name, rate, f"{seconds:,.1f}", f"{peak:.0f} MiB")

    with site():
        users = make_users(count)
        tenth = f"--users={users[0]}-{users[0] + count // 10 - 1}"
        row("a tenth of them", count // 10, command("cache_warmup", tenth))
        row("flush of these", count // 10, command("cache_flush"))
        row("all", count, command("cache_warmup"))
        row("all again, cached already", count, command("cache_warmup"))
        row("audit", count, command("cache_audit"))
        row("flush", count, command("cache_flush"))
        writer = Writer(range(users[0], users[1] + 1))
        stopped, resumed = interrupted(count, writer)
        row("all, stopped half-way, beside a writer", count, stopped, resumed)
        audited = command("cache_audit")
        Console().print(table)
        Console().print(
            f"Stopped after {stopped.report['users']:,} users (exit code {stopped.code}), gone on "
            f"with `{stopped.report['goOn']}`: {resumed.report['users']:,} more. "
            f"{writer.acknowledged:,} writes meanwhile, {writer.older} of them older in the cache "
            f"afterwards. Consistency: {audited.report['consistency']:.4%}."
        )


def make_users(count: int) -> tuple[int, int]:
    """Users with a PsycheState each, by SQL; the first and the last id."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        for first in range(1, count + 1, PAGE):
            cursor.execute(USERS, [first, min(first + PAGE - 1, count)])
            cursor.execute(PSYCHES)
        # As it would be some minutes later. Nobody drains the outbox here.
        cursor.execute("TRUNCATE cache_outbox")
        cursor.execute("ANALYZE")
        cursor.execute("SELECT min(id), max(id) FROM auth_sessions_user")
        found: tuple[int, int] = cursor.fetchone()
        return found


def start(*arguments: str) -> subprocess.Popen[str]:
    """A command of the project as a process of its own."""
    line = [sys.executable, "manage.py", *arguments, "--json"]
    return subprocess.Popen(line, stdout=subprocess.PIPE, text=True)


def wait(process: subprocess.Popen[str]) -> Ended:
    """Its end, and what the kernel knew of its memory last."""
    started, peak = time.monotonic(), 0
    while process.poll() is None:
        peak = max(peak, _peak(process.pid))
        time.sleep(0.02)
    assert process.stdout is not None
    report = {"seconds": time.monotonic() - started} | json.loads(process.stdout.read())
    return Ended(process.returncode, report, peak)


def _peak(pid: int) -> int:
    """Not `ru_maxrss`, which counts what the parent had when it forked."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        told = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
        return int(told[0]) * 1024 if told else 0
    return 0


def command(*arguments: str) -> Ended:
    """Run a command to its end."""
    return wait(start(*arguments))


def interrupted(count: int, writer: "Writer") -> tuple[Ended, Ended]:
    """A warm-up that Ctrl-C ends half-way, and the one that goes on from there."""
    thread = threading.Thread(target=writer.run)
    thread.start()
    try:
        process = start("cache_warmup")
        _until(lambda: _keys() > count // 2)
        process.send_signal(signal.SIGINT)
        stopped = wait(process)
        _, _, *arguments = stopped.report["goOn"].split()
        resumed = command("cache_warmup", *(each for each in arguments if each != "--json"))
    finally:
        writer.stop.set()
        thread.join()
    return stopped, resumed


def _keys() -> int:
    from aevon.cache.connection import store

    return int(store().command("DBSIZE"))


def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.05)


class Writer:
    """Writes users' states one after another, as the site does, and looks at the cache after each
    acknowledgement and once more at the end."""

    def __init__(self, user_ids: range) -> None:
        self.user_ids = user_ids
        self.stop = threading.Event()
        self.acknowledged = 0
        self.older = 0
        self._versions: dict[int, int] = {}

    def run(self) -> None:
        """Until it is told to stop."""
        from django.db import connections

        from klepsydra.models import PsycheState

        while not self.stop.is_set():
            state = PsycheState.objects.get(pk=random.choice(self.user_ids))
            state.loss_streak += 1
            state.save()
            state.refresh_from_db(fields=["version"])
            self.acknowledged += 1
            self._versions[state.pk] = state.version
            self._look(state.pk)
        for user_id in self._versions:
            self._look(user_id)
        connections.close_all()

    def _look(self, user_id: int) -> None:
        from aevon.cache.connection import store

        held = json.loads(store().command("GET", f"psyche:{user_id}") or b"{}")
        self.older += held.get("version", self._versions[user_id]) < self._versions[user_id]


if __name__ == "__main__":
    main()
