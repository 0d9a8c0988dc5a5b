"""A program whose children flush the canvases until they are killed: `flusher.py`, told on its
standard input how many seconds after the beginning of which step, one line for each child.

The answer is a line: what the child was doing when SIGKILL came.
"""

import mmap
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import django
from django.conf import settings

# What the child does at the moment, in memory that it shares with its parent; and a pipe that wakes
# the parent when the step begins that it waits for.
doing = mmap.mmap(-1, 10)
begun, begin = os.pipe()
awaited = ""
NOTHING = "nothing"


def say(what: str) -> None:
    """For the parent, who is asked for it when the child is dead."""
    doing[:] = what.encode().ljust(len(doing))
    if what == awaited:
        os.write(begin, b".")


def told(what: str, step: Callable[..., Any]) -> Callable[..., Any]:
    """The step, which says when it begins and when it has ended."""

    def run(*args: Any, **kwargs: Any) -> Any:
        before = said()
        say(what)
        result = step(*args, **kwargs)
        say("between" if before == NOTHING else before)
        return result

    return run


def said() -> str:
    """What the child was doing last."""
    return doing[:].decode().strip()


def flush_for_ever() -> None:
    """One flush after the other, once there are connections."""
    connection.ensure_connection()
    store().command("PING")
    for what, room, name in (
        ("persists", flush, "persist"),
        ("reads", batch, "_read"),
        ("saves", batch, "_save"),
        ("settles", flush, "settle"),
        ("clears", DirtyIndex, "clear"),
    ):
        setattr(room, name, told(what, getattr(room, name)))
    while True:
        services.persist_now()


if __name__ == "__main__":
    django.setup()
    del settings.DATABASES["default"]["OPTIONS"]["pool"]  # one connection is enough to die with

    from django.db import connection

    from aevon.cache import batch, flush
    from aevon.cache.connection import store
    from aevon.cache.dirty_index import DirtyIndex
    from canvas import services

    for line in sys.stdin:
        awaited, seconds = line.split()
        say(NOTHING)
        child = os.fork()
        if not child:
            flush_for_ever()
        has_begun, _, _ = select.select([begun], [], [], 30)
        time.sleep(float(seconds))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert has_begun, f"No {awaited} in 30 s."
        os.read(begun, 1 << 16)  # it may have begun the step more than once
        print(said(), flush=True)
