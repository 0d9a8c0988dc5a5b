"""What KLEPSYDRA's tests read from both sides, and how they play."""

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar, cast

import msgspec
from django.conf import settings as django_settings
from django.db import connection, connections

from aevon.cache import PSYCHE
from aevon.cache.connection import store
from aevon.cache.models import Outbox
from klepsydra import services
from klepsydra.models import PsycheState
from tests.cache.entry_states import put

T = TypeVar("T")
PSYCHES = PsycheState.cached.projection
SLUG = "sisyphus-ascent"
AWAY = "redis://127.0.0.1:1/0"  # nothing listens there


def play(user_id: int, stake: int = 1, **options: Any) -> services.Played:
    """One play of Sisyphus's Ascent."""
    return services.play(user_id, SLUG, stake, **options)


def held(user_id: int) -> dict[str, Any] | None:
    """What Dragonfly holds under the user's key, without the members of the cache layer."""
    raw = store().command("GET", PSYCHE.key(user_id))
    members = json.loads(raw or b"{}")
    return {name: value for name, value in members.items() if name[0] != "_"} or None


def row(user_id: int) -> dict[str, Any] | None:
    """What PostgreSQL holds, as the cache should."""
    document = PSYCHES.read_one(user_id)
    return None if document is None else dict(msgspec.to_builtins(document))


def fenced(user_id: int) -> bool:
    """Whether a writer's mark is on the entry: nobody is served from it."""
    raw = store().command("GET", PSYCHE.key(user_id))
    return "_fence" in json.loads(raw or b"{}")


def fence_runs_out(user_id: int) -> None:
    """What the server does when the last mark of a fence is past its deadline."""
    assert fenced(user_id)
    store().command("DEL", PSYCHE.key(user_id))


def noted(user_id: int) -> int | None:
    """The version that the outbox has yet to tell the entry of."""
    return Outbox.objects.values_list("version", flat=True).get(keyspace="psyche", user_id=user_id)


def edit(user_id: int, **members: Any) -> None:
    """Overwrite members of the cached value by hand."""
    put(PSYCHE.key(user_id), {**(held(user_id) or {}), **members}, "PX", 60_000)


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


def in_another_thread(call: Callable[..., T], *arguments: Any) -> T:
    """What somebody else gets, who is not in our transaction."""
    return cast("T", in_threads([partial(call, *arguments)], workers=1)[0])


def away() -> dict[str, Any]:
    """`AEVON_CACHE` with the cache out of reach."""
    return {**django_settings.AEVON_CACHE, "URL": AWAY}
