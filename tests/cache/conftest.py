"""What the tests of the cache layer share: tables and outages."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test.utils import isolate_apps
from prometheus_client import Counter

from aevon.cache import resources
from aevon.cache.cached import declared
from aevon.cache.connection import reset, store
from aevon.cache.flights import Flights
from tests import servers
from tests.cache import ledgers
from tests.waiting import eventually


@pytest.fixture
def tables(request: pytest.FixtureRequest) -> Iterator[None]:
    """The tests' own rows: in the test's transaction, or committed and dropped at the end."""
    marker = request.node.get_closest_marker("django_db")
    committed = bool(marker and marker.kwargs.get("transaction"))
    request.getfixturevalue("transactional_db" if committed else "db")
    ledgers.create_tables()
    yield
    if committed:
        ledgers.drop_tables()


@pytest.fixture
def declarations() -> Iterator[None]:
    """Models of the test's own may be put behind the cache; those of the services are not."""
    before = (declared[:], dict(resources._registry))
    declared.clear()
    with isolate_apps("tests"):
        yield
    declared[:] = before[0]
    resources._registry.clear()
    resources._registry.update(before[1])


@pytest.fixture
def clean() -> Iterator[None]:
    """An empty cache and a fresh store for a test without a database."""
    reset()
    store().command("FLUSHDB")
    yield
    reset()


@pytest.fixture
def away(settings: Any) -> None:
    """No cache server answers."""
    settings.AEVON_CACHE = servers.without_cache()


@pytest.fixture
def server(settings: Any) -> Iterator[Any]:
    """The embedded cache server, to be stopped or frozen; it runs again afterwards. Calls have
    the time-outs of a site, not those of the test run."""
    if servers.CACHE is None:
        pytest.skip("the cache server is not this test run's own")
    site = {"CONNECT_TIMEOUT_SECONDS": 0.1, "READ_TIMEOUT_SECONDS": 0.3}
    settings.AEVON_CACHE = {**settings.AEVON_CACHE, **site}
    yield servers.CACHE
    servers.CACHE.resume()
    servers.CACHE.start()


@pytest.fixture
def brief(settings: Any) -> None:
    """The breaker stays open for a tenth of a second."""
    settings.AEVON_CACHE = {**settings.AEVON_CACHE, "BREAKER_OPEN_SECONDS": 0.1}


@pytest.fixture
def frozen(server: Any) -> Any:
    """The cache server takes connections and answers nothing."""
    server.pause()
    return server


@pytest.fixture
def full() -> Iterator[None]:
    """The cache server is out of memory."""
    store().command("CONFIG", "SET", "maxmemory", "1")
    yield
    reset()
    store().command("CONFIG", "SET", "maxmemory", "0")


@pytest.fixture
def askers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was asked for by those who read by now, or wait for who reads for them."""
    joined: list[Any] = []
    join = Flights._join

    def noted(self: Flights, key: Any) -> Any:
        place = join(self, key)
        joined.append(key)
        return place

    monkeypatch.setattr(Flights, "_join", noted)
    return joined


def due() -> None:
    """Wait until the breaker may try to close."""
    assert eventually(lambda: store().breaker.state == "half-open")


def back() -> None:
    """Wait until the breaker has closed again: it takes a caller, and then a moment."""
    assert eventually(store().breaker.allows)


@contextlib.contextmanager
def counted(counter: Counter, *labels: str) -> Iterator[Callable[[], float]]:
    """`with counted(LOADS, "psyche", "hit") as more: …; more()`: how much the counter rose."""
    child = counter.labels(*labels)
    before = child._value.get()
    yield lambda: float(child._value.get() - before)
