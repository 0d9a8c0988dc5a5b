"""Django's cache API beside the patterns: one pool, one breaker, and what it does in an outage."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from django.core.cache import cache, caches

from aevon.cache.backend import key_function, reverse_key_function
from aevon.cache.connection import reset, store
from tests.cache.conftest import due
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("clean")


@pytest.mark.parametrize("key", ["a", "a:b", "a%3Ab", "%", "a b", "ключ", "{x}", "*", "", "a\nb"])
@pytest.mark.filterwarnings("ignore::django.core.cache.backends.base.CacheKeyWarning")
def test_any_key(key: str) -> None:
    """It is stored in three parts and comes back as it was."""
    cache.set(key, 1)
    (stored,) = store().scan("*")
    assert stored.count(":") == 2
    assert (cache.get(key), reverse_key_function(stored)) == (1, key)


def test_keys_that_could_be_taken_for_one_another() -> None:
    """Each has a name of its own."""
    keys = [key_function(key, "django", 1) for key in ("a:b", "a%3Ab", "a%253Ab", "a")]
    assert len(set(keys)) == 4


def test_cached_none_and_empty_values() -> None:
    """They are values, not misses."""
    for value in (None, {}, [], 0, False, "", 0.0):
        cache.set("k", value)
        found = cache.get("k", "missing")
        assert (found, type(found)) == (value, type(value))


def test_pattern_that_is_deleted() -> None:
    """A glob of the caller's own keys, in this version, and nobody else's."""
    store().command("SET", "psyche:1", "x")
    cache.set_many({"a1": 1, "a2": 2, "b:1": 3})
    cache.set("a1", 1, version=2)
    assert (cache.delete_pattern("a*"), cache.delete_pattern("b:*")) == (2, 1)
    assert sorted(store().scan("*")) == ["django:2:a1", "psyche:1"]


def test_lifetimes() -> None:
    """In seconds; None never ends, 0 ends at once."""
    cache.set("short", 1, timeout=0.05)
    cache.set("never", 1, timeout=None)
    cache.set("gone", 1, timeout=0)
    time.sleep(0.06)
    assert (cache.get("short"), cache.ttl("never"), cache.get("gone")) == (None, None, None)
    assert cache.touch("never", 60)
    assert 59 <= cache.ttl("never") <= 60


def test_sixteen_threads_that_count() -> None:
    """Every increment counts."""
    cache.set("n", 0)
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda _: cache.incr("n"), range(320)))
    assert cache.get("n") == 320


def test_counter_that_is_not_there() -> None:
    """A `ValueError`, as of any backend."""
    with pytest.raises(ValueError, match="not found"):
        cache.incr("nobody")


def test_lock() -> None:
    """Whoever holds it keeps the others out."""
    with cache.lock("door", timeout=5):
        assert cache.lock("door", timeout=5, blocking=False).acquire() is False
    assert cache.lock("door", timeout=5, blocking=False).acquire() is True


def test_empty_cache_cleared() -> None:
    """Nothing to do, and nobody's key touched."""
    store().command("SET", "psyche:1", "x")
    cache.clear()
    assert store().command("DBSIZE") == 1


def test_connections_are_the_patterns_own(settings: Any) -> None:
    """Also of an alias of its own, and of whoever asks the client for a connection."""
    cache.set("k", 1)
    for client in (cache.client.get_client(), cache.client.connect()):
        assert client.connection_pool is store().pool
    cache.close()
    assert caches["default"].get("k") == 1


CALLS: dict[str, Callable[[], Any]] = {
    "get": lambda: cache.get("k"),
    "set": lambda: cache.set("k", 1),
    "add": lambda: cache.add("k", 1),
    "incr": lambda: cache.incr("k"),
    "delete": lambda: cache.delete("k"),
    "get_many": lambda: cache.get_many(["k"]),
    "set_many": lambda: cache.set_many({"k": 1}),
    "delete_many": lambda: cache.delete_many(["k"]),
    "has_key": lambda: cache.has_key("k"),
    "touch": lambda: cache.touch("k", 1),
}


@pytest.mark.parametrize("call", CALLS)
def test_outage(away: None, call: str) -> None:
    """It is raised, never hidden: a caller that was told "stored" may believe it."""
    with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
        CALLS[call]()


def refused() -> None:
    """A call fails without asking the server."""
    with pytest.raises(redis.ConnectionError, match="circuit breaker is open"):
        cache.get("k")


def timed_out() -> None:
    """A call has waited."""
    with pytest.raises(redis.TimeoutError):
        cache.get("k")


def test_frozen_server(frozen: Any) -> None:
    """Django's cache opens the breaker for the patterns, too, and then waits for nothing."""
    timed_out()
    assert store().breaker.state == "open"
    refused()


@pytest.mark.django_db
def test_server_that_comes_back(server: Any, brief: None) -> None:
    """A process that uses nothing but Django's cache has the cache repaired, too; it waits for
    nothing meanwhile."""
    cache.set("k", 1)
    server.pause()
    timed_out()
    server.resume()
    due()
    refused()
    assert eventually(lambda: store().breaker.state == "closed")
    assert cache.get("k") == 1


def test_replica(server: Any, settings: Any) -> None:
    """It is refused here, too."""
    with redis.Redis.from_url(settings.AEVON_CACHE["URL"], protocol=2) as other:
        other.replicaof("127.0.0.1", 1)
        try:
            with pytest.raises(redis.ReadOnlyError):
                cache.get("k")
            assert store().breaker.state == "open"
        finally:
            other.replicaof("NO", "ONE")


def test_fork() -> None:
    """The backend object of before follows to the child's own connections."""
    before = cache.client.get_client()
    reset()
    assert cache.client.get_client() is not before
