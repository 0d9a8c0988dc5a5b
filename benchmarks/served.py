"""Programs of a site, and of others, as `make run` starts them."""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from aevon import run
from aevon.ports import HOST, free_port

OURS = "aevon.wsgi:application"
# What that proxy adds to a request.
FORWARDED = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.7"}


class NotServedError(Exception):
    """A site does not answer; the message is what it said."""


@contextmanager
def served(application: str, *, workers: int, **environment: str) -> Iterator[str]:
    """The address of a WSGI application under granian, with the options of `make run`."""
    port = free_port()
    command = [*run.commands(port)["web"][:-1], application]
    command[command.index("--workers") + 1] = str(workers)
    with program(command, **environment) as said:
        if not run.wait_until_live(f"http://{HOST}:{port}/health/live"):
            said.seek(0)
            raise NotServedError(said.read().decode())
        yield f"http://{HOST}:{port}"


@contextmanager
def our_site(**environment: str) -> Iterator[str]:
    """The address of our site with all of its programs, but the one that only keeps time."""
    programs = run.commands(port=0)
    with ExitStack() as stack:
        for name in ("worker", "listener"):
            stack.enter_context(program(programs[name], **environment))
        yield stack.enter_context(served(OURS, workers=2, **environment))


@contextmanager
def program(command: Sequence[str], **environment: str) -> Iterator[IO[bytes]]:
    """A process, until the block's end; the file that holds what it says."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, env=os.environ | environment, stdout=said, stderr=subprocess.STDOUT
        )
        try:
            yield said
        finally:
            process.terminate()
            process.wait()


def environment(folder: Path) -> dict[str, str]:
    """Of the programs of one site: as in production, behind a proxy that speaks TLS. Through
    `folder`, which is theirs alone, they count together, as those of `make run` do."""
    return {
        "AEVON_ENV": "production",
        "AEVON_ACCESS_LOG": "off",
        "AEVON_LOG_LEVEL": "ERROR",
        "AEVON_STATIC_ROOT": str(folder),
        "AEVON_TRUSTED_PROXIES": "1",
        "PROMETHEUS_MULTIPROC_DIR": run.shared_counters(folder),
    }
