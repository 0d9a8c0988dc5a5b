"""A program whose children write and are killed: `doomed.py`, told on its standard input what to
do, one line each: `play 7`, `save 7`, `say 7`, `forget 7` or `look 7`.

Every line is done by a child of its own, which sends itself SIGKILL when its write has been
committed and its entry has not been told; who looks, when PostgreSQL has been read and the list has
not been filled. The answer is a line: the signal that ended the child.
"""

import os
import signal
import sys
from typing import Any

import django
from django.conf import settings


def die(*_: Any) -> None:
    """As if somebody had pulled the plug."""
    os.kill(os.getpid(), signal.SIGKILL)


def play(user_id: int) -> None:
    """An interaction: one statement, which commits itself."""
    write_through.fences.install = die
    services.play(user_id, "sisyphus-ascent", 1)


def save(user_id: int) -> None:
    """An edit, as the admin makes it."""
    with transaction.atomic():
        transaction.on_commit(die)
        PsycheState.objects.get(pk=user_id).save()


def say(user_id: int) -> None:
    """A command to BEEP, whose turn has been recorded."""
    bounded_list.push = die
    beep.command(user_id, "help")


def forget(user_id: int) -> None:
    """All turns, in PostgreSQL."""
    bounded_list.forget = die
    beep.forget(user_id)


def look(user_id: int) -> None:
    """At a list that is missing."""
    bounded_list._fill = die
    beep.history(user_id)


WHAT = {"play": play, "save": save, "say": say, "forget": forget, "look": look}

if __name__ == "__main__":
    django.setup()
    del settings.DATABASES["default"]["OPTIONS"]["pool"]  # one connection is enough to die with

    from django.db import transaction

    from aevon.cache import bounded_list, write_through
    from beep import services as beep
    from klepsydra import services
    from klepsydra.models import PsycheState

    for line in sys.stdin:
        what, user_id = line.split()
        child = os.fork()
        if not child:
            WHAT[what](int(user_id))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.WTERMSIG(status) if os.WIFSIGNALED(status) else "alive", flush=True)
