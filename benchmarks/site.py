"""A site of ours on servers of its own, in this process, and what its calls cost in round trips."""

import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from aevon.embedded import embedded_servers


@contextmanager
def site() -> Iterator[Path]:
    """Django with an empty database and an empty cache, on embedded servers, and their folder."""
    with tempfile.TemporaryDirectory() as folder, embedded_servers(Path(folder)) as servers:
        os.environ.update(
            DATABASE_URL=str(servers.database_url),
            DRAGONFLY_URL=str(servers.dragonfly_url),
            AEVON_DATA_DIR=folder,
            DJANGO_SETTINGS_MODULE="aevon.settings",
            DJANGO_SECRET_KEY=secrets.token_urlsafe(48),
            JWT_SIGNING_KEY=secrets.token_urlsafe(48),
        )
        import django

        django.setup()
        from django.core.management import call_command
        from django.db import connection

        call_command("migrate", verbosity=0)
        try:
            yield Path(folder)
        finally:
            connection.close()
            connection.close_pool()


class Counted(NamedTuple):
    """What a call asked the servers."""

    round_trips: int
    statements: int


def counted(call: Callable[[], Any]) -> Counted:
    """What one call asks, by what the cache layer counts."""
    before = _counted()
    call()
    return Counted(*(now - then for now, then in zip(_counted(), before, strict=True)))


def _counted() -> tuple[int, int]:
    from aevon.cache.metrics import QUERIES, ROUND_TRIPS

    return _observations(ROUND_TRIPS), _observations(QUERIES)


def _observations(histogram: Any) -> int:
    samples = (sample for metric in histogram.collect() for sample in metric.samples)
    return sum(int(each.value) for each in samples if each.name.endswith("_count"))
