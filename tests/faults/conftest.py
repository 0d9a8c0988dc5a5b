"""Servers to be killed, and players who must not notice."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from rest_framework.test import APIClient

from aevon.cache.connection import reset
from aevon.embedded import CacheServer, PostgresServer
from auth_sessions import services as sessions
from auth_sessions.models import User
from klepsydra import services
from tests import servers
from tests.faults.witness import Witness, forget_connections

_folders = itertools.count(1)


@pytest.fixture
def time_outs() -> dict[str, float]:
    """Those of `AEVON_CACHE`; patient ones, where a test is not about them."""
    return {}


@pytest.fixture
def use(settings: Any, time_outs: dict[str, float]) -> Callable[..., None]:
    """`use(server, port)`: this process's cache is that server; `port` where something stands in
    front of it."""

    def change(server: CacheServer, port: int = 0, **options: Any) -> None:
        url = server.url.replace(f":{server.port}/", f":{port or server.port}/")
        settings.AEVON_CACHE = {**settings.AEVON_CACHE, **time_outs, "URL": url, **options}

    return change


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., CacheServer]]:
    """`make_server()`: another cache server, which runs; all have one password."""
    with ExitStack() as stack:
        made: list[CacheServer] = []

        def make(kind: type[CacheServer] = CacheServer) -> CacheServer:
            server = kind(tmp_path / str(next(_folders)))
            server.password = made[0].password if made else server.password
            made.append(server)
            stack.callback(server.kill)
            server.start()
            return server

        yield make
        reset()


@pytest.fixture
def server(make_server: Any, use: Any) -> CacheServer:
    """This process's cache server, which is the test's own."""
    made: CacheServer = make_server()
    use(made)
    return made


@pytest.fixture
def make_players(transactional_db: None) -> Callable[[int], list[int]]:
    """`make_players(n)`: so many users with a PsycheState."""

    def make(count: int) -> list[int]:
        first = User.objects.count() + 1
        names = [f"player{first + i}" for i in range(count)]
        users = [User(username=name, email=f"{name}@example.org") for name in names]
        user_ids = [user.pk for user in User.objects.bulk_create(users)]
        services.begin(user_ids)
        return user_ids

    return make


@pytest.fixture
def witness() -> Witness:
    """Nobody has read or written anything yet."""
    return Witness()


@pytest.fixture
def browser() -> Callable[[int], APIClient]:
    """`browser(user_id)`: an HTTP client that has logged in; an error is an answer to it."""

    def make(user_id: int) -> APIClient:
        _, pair = sessions.open_session(User.objects.get(pk=user_id))
        client = APIClient(raise_request_exception=False)
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {pair.access}")
        return client

    return make


@pytest.fixture
def postgresql(monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresServer]:
    """The test run's PostgreSQL, to be stopped; it runs again afterwards. Who wants a connection
    waits half a second for it, and not the five of a site."""
    if servers.POSTGRES is None:
        pytest.skip("PostgreSQL is not this test run's own")
    patient = connection.settings_dict["OPTIONS"]["pool"]
    monkeypatch.setitem(
        connection.settings_dict["OPTIONS"],
        "pool",
        patient | {"timeout": 0.5},
    )
    forget_connections()
    yield servers.POSTGRES
    servers.POSTGRES.start()
    forget_connections()
