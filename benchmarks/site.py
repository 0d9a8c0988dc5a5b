"""What the benchmarks have in common: a site on servers of its own, and sides that take turns."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aevon.embedded import embedded_servers

# A side of a comparison: does its work once and says how many seconds that took, without what it
# had to prepare.
Side = Callable[[], float]


@contextmanager
def site() -> Iterator[None]:
    """Django with an empty database and an empty cache, on embedded servers."""
    with tempfile.TemporaryDirectory() as folder, embedded_servers(Path(folder)) as servers:
        os.environ.update(
            DATABASE_URL=str(servers.database_url),
            DRAGONFLY_URL=str(servers.dragonfly_url),
            AEVON_DATA_DIR=folder,
            DJANGO_SETTINGS_MODULE="aevon.settings",
        )
        import django

        django.setup()
        from django.core.management import call_command
        from django.db import connection

        call_command("migrate", verbosity=0)
        try:
            yield
        finally:
            connection.close()
            connection.close_pool()


def seconds(call: Callable[[], Any], *, times: int = 1) -> float:
    """Of one call, averaged over so many."""
    started = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - started) / times


def medians(sides: Mapping[str, Side], *, rounds: int) -> dict[str, float]:
    """Of each side, over rounds in which they take turns, after one that does not count."""
    for side in sides.values():
        side()
    taken = [{name: side() for name, side in sides.items()} for _ in range(rounds)]
    return {name: statistics.median(each[name] for each in taken) for name in sides}
