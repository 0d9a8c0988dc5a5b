"""What KLEPSYDRA's tests read from both sides, and how they play."""

import json
from typing import Any

import msgspec
from django.db import connection

from aevon.cache import PSYCHE
from aevon.cache.connection import store
from aevon.cache.models import Outbox
from klepsydra import services
from klepsydra.models import PsycheState
from tests.cache.entry_states import put

PSYCHES = PsycheState.cached.projection
SLUG = "sisyphus-ascent"


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
