"""What a container's health check is told of a worker, beat or listener."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from aevon import alive
from aevon.cache import codec, processes, shared_metrics
from aevon.cache.connection import store
from aevon.cache.keyspace import PROCESSES
from tests.servers import ROOT

pytestmark = pytest.mark.django_db


def reported(role: Any, *, host: str = "", ago: float = 0, worked: float | None = None) -> None:
    """A process has said that it is there, so many seconds ago."""
    now = time.time()
    process = processes.Process(
        role=role,
        host=host or shared_metrics.host(),
        pid=1,
        started_at=now - 3600,
        seen_at=now - ago,
        worked_at=None if worked is None else now - worked,
        breaker="closed",
        failures=0,
    )
    store().command("HSET", PROCESSES.key("seen"), process.name, codec.encode(process))


@pytest.mark.parametrize(
    ("role", "report", "expected"),
    [
        ("worker", {}, 0),
        ("worker", {"worked": 3000}, 0),  # nobody asked it for anything
        ("worker", {"ago": 90}, 1),
        ("worker", {"host": "elsewhere"}, 1),
        ("beat", {"worked": 5}, 0),
        ("beat", {"worked": 90}, 1),  # its thread reports, but it ticks no more
        ("beat", {}, 1),  # it never did
        ("listener", {"worked": 5}, 0),
        ("listener", {"worked": 90}, 1),
    ],
)
def test_a_process_that_reports(role: str, report: Any, expected: int) -> None:
    """By what it has done, where it always has something to do."""
    reported(role, **report)
    assert alive.main(role) == expected


def test_a_host_with_an_odd_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written as the process writes it."""
    monkeypatch.setattr("socket.gethostname", lambda: "box_1 of " + 60 * "x")
    processes.Reporter("worker").report()
    assert alive.main("worker") == 0


def test_nobody() -> None:
    """Another role's process is none."""
    reported("beat", worked=1)
    assert alive.main("worker") == 1


def test_a_cache_that_is_away(cache_away: Any, capsys: Any) -> None:
    """It says nothing of the process: whoever restarts it helps nobody."""
    with cache_away():
        assert alive.main("worker") == 0
    assert "does not tell" in capsys.readouterr().out


def test_the_program_leaves_nothing_behind(tmp_path: Path) -> None:
    """It runs once a minute beside the worker, and counts nothing in the folder of its counters."""
    reported("worker")
    shared = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "aevon.alive", "worker"]
    run = subprocess.run(command, cwd=ROOT, env=shared, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("worker: ")
    assert list(tmp_path.iterdir()) == []
