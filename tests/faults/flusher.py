"""A program whose children flush the canvases until they are killed: `flusher.py`, told on its
standard input for how many seconds, one line for each child.

The answer is a line: what the child was doing when SIGKILL came.
"""

import mmap
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import django
from django.conf import settings

# What the child does at the moment, in memory that it shares with its parent.
doing = mmap.mmap(-1, 10)
NOTHING = "nothing"


def say(what: str) -> None:
    """For the parent, who is asked for it when the child is dead."""
    doing[:] = what.encode().ljust(len(doing))


def told(what: str, step: Callable[..., Any]) -> Callable[..., Any]:
    """The step, which says when it begins and when it has ended. What is in no step reads and
    clears the index."""

    def run(*args: Any, **kwargs: Any) -> Any:
        before = said()
        say(what)
        result = step(*args, **kwargs)
        say("marks" if before == NOTHING else before)
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
    from canvas import services
    from tests.waiting import eventually

    for line in sys.stdin:
        say(NOTHING)
        child = os.fork()
        if not child:
            flush_for_ever()
        assert eventually(lambda: said() != NOTHING)
        time.sleep(float(line))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL
        print(said(), flush=True)
