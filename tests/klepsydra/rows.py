"""What KLEPSYDRA's tests read from both sides, and how they play."""

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
from django.conf import settings as django_settings
from django.db import connection, connections

from aevon.cache import PSYCHE
from aevon.cache.connection import store
from klepsydra import services
from klepsydra.projection import PSYCHES

SLUG = "sisyphus-ascent"
AWAY = "redis://127.0.0.1:1/0"  # nothing listens there


def play(user_id: int, stake: int = 1, **options: Any) -> services.Played:
    """One play of Sisyphus's Ascent."""
    return services.play(user_id, SLUG, stake, **options)


def held(user_id: int) -> dict[str, Any] | None:
    """What Dragonfly holds under the user's key."""
    raw = store().command("GET", PSYCHE.key(user_id))
    return None if raw is None else dict(json.loads(raw))


def row(user_id: int) -> dict[str, Any] | None:
    """What PostgreSQL holds, as the cache should."""
    document = PSYCHES.read_one(user_id)
    return None if document is None else dict(msgspec.to_builtins(document))


def edit(user_id: int, **members: Any) -> None:
    """Overwrite members of the cached value by hand."""
    value = {**(held(user_id) or {}), **members}
    store().command("SET", PSYCHE.key(user_id), json.dumps(value), "PX", 60_000)


def sql(statement: str, *parameters: Any) -> None:
    """SQL from elsewhere: no signal is sent."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


def in_threads(calls: Iterable[Callable[[], Any]], *, workers: int) -> list[Any]:
    """What the calls return when so many threads make them."""

    def run(call: Callable[[], Any]) -> Any:
        try:
            return call()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(run, calls))


def away() -> dict[str, Any]:
    """`AEVON_CACHE` with the cache out of reach."""
    return {**django_settings.AEVON_CACHE, "URL": AWAY}
