"""A program whose children write and are killed: `doomed.py`, told on its standard input what to
do, one line each: `play 7` or `save 7`.

Every line is done by a child of its own, which sends itself SIGKILL when its write has been
committed and its entry has not been told. The answer is a line: the signal that ended the child.
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


if __name__ == "__main__":
    django.setup()
    del settings.DATABASES["default"]["OPTIONS"]["pool"]  # one connection is enough to die with

    from django.db import transaction

    from aevon.cache import write_through
    from klepsydra import services
    from klepsydra.models import PsycheState

    for line in sys.stdin:
        what, user_id = line.split()
        child = os.fork()
        if not child:
            {"play": play, "save": save}[what](int(user_id))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.WTERMSIG(status) if os.WIFSIGNALED(status) else "alive", flush=True)
