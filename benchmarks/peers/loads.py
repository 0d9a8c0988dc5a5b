"""Ways to load a PsycheState, or a session, that is cached: each is seen to do what it says."""

from collections.abc import Callable
from typing import Any

from django.contrib.sessions.backends.cached_db import SessionStore
from django.core.cache import caches
from django.db import connection
from django.forms.models import model_to_dict
from django.test.utils import CaptureQueriesContext

from benchmarks.apart import Calls
from benchmarks.peers.models import PsycheState

CACHED = {
    "Django's RedisCache, pickle": "default",
    "django-redis, pickle": "django-redis",
    "django-redis, JSON": "django-redis JSON",
}


def plain(user_id: str) -> Calls:
    """Without the cache, and with what Django and django-redis offer."""
    calls: Calls = {"ORM get(pk)": lambda: PsycheState.objects.get(pk=user_id)}
    _does(calls["ORM get(pk)"], statements=1)
    values = model_to_dict(PsycheState.objects.get(pk=user_id))
    for name, alias in CACHED.items():
        cache, key = caches[alias], f"psyche:{user_id}"
        cache.set(key, values, 3600)
        calls[name] = lambda cache=cache, key=key: cache.get(key)
        assert _does(calls[name], statements=0)["user"] == int(user_id)
    session = SessionStore()
    session["_auth_user_id"] = user_id
    session.save()
    held = session.session_key
    calls["Django's cached_db session"] = lambda: SessionStore(held).load()
    assert _does(calls["Django's cached_db session"], statements=0)["_auth_user_id"] == user_id
    return calls


def cacheops(user_id: str) -> Calls:
    """django-cacheops, which invalidates by itself."""
    return {"django-cacheops, hit": _hit(user_id)}


def cachalot(user_id: str) -> Calls:
    """django-cachalot, likewise."""
    return {"django-cachalot, hit": _hit(user_id)}


def _hit(user_id: str) -> Callable[[], Any]:
    def call() -> PsycheState:
        return PsycheState.objects.get(pk=user_id)

    state = _does(call, statements=1)
    _does(call, statements=0)
    # Its invalidation is on.
    state.save(update_fields=["phase"])
    _does(call, statements=1)
    _does(call, statements=0)
    return call


def _does(call: Callable[[], Any], *, statements: int) -> Any:
    with CaptureQueriesContext(connection) as seen:
        value = call()
    assert len(seen) == statements, (call, seen.captured_queries)
    return value
