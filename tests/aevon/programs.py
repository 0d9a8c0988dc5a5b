"""Programs that tests start, watch and end."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.servers import ROOT
from tests.waiting import eventually


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without the servers of the tests."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DATABASE_", "DRAGONFLY_"))}
    return {**kept, **changes}


@contextlib.contextmanager
def program(*arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Run Python with `arguments`, its output on one pipe; killed at the end if need be."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def make_run(
    folder: Path, **variables: str
) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A supervisor with its data in `folder`, waiting until it has told where it is."""
    variables = {"AEVON_DATA_DIR": str(folder), "AEVON_PORT": "0", **variables}
    stale = told_by(folder)
    with program("-m", "aevon.run", **variables) as process:
        eventually(lambda: told_by(folder) not in ({}, stale) or process.poll() is not None, 60)
        if process.poll() is not None or told_by(folder) in ({}, stale):
            process.kill()
            pytest.fail(process.stdout.read() if process.stdout else "")
        yield process, told_by(folder)


def told_by(folder: Path) -> dict[str, Any]:
    """The content of run.json; empty when there is none."""
    with contextlib.suppress(FileNotFoundError):
        told: dict[str, Any] = json.loads((folder / "run.json").read_text())
        return told
    return {}


def running_in(folder: Path) -> list[int]:
    """Processes that stand in `folder` or belong to a `make run` of it."""
    return [
        process.pid
        for process in psutil.process_iter(["cwd", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and (str(process.info["cwd"]).startswith(f"{folder}/") or _is_run_of(process, folder))
    ]


def _is_run_of(process: psutil.Process, folder: Path) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.environ().get("AEVON_DATA_DIR") == str(folder)
    return False
