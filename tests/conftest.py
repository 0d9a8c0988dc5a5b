"""Factories and fixtures that every test may ask for."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import redis
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test import TransactionTestCase, override_settings
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from rest_framework.test import APIClient

from aevon.cache.connection import reset, store
from aevon.cache.fences import DROP, FENCE, INSTALL
from aevon.cache.leases import FILL, LEASE
from auth_sessions import services
from auth_sessions.models import User
from tests.servers import without_cache

_numbers = itertools.count(1)
SCRIPTS = (DROP, FENCE, FILL, INSTALL, LEASE)

# What is in these folders is asked for by its marker: by `make test-faults`, by `make browser`.
HERE = Path(__file__).parent
ASKED_FOR = {
    HERE / "faults/bench": "faults",
    HERE / "hostile": "faults",
    HERE / "browser": "browser",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Markers by folder. Tests of a whole site commit what it is to see."""
    for item in items:
        for folder, marker in ASKED_FOR.items():
            if item.path.is_relative_to(folder):
                item.add_marker(marker)
                if marker == "faults":
                    item.add_marker(pytest.mark.django_db(transaction=True))


# An example that takes long says something about the machine.
hypothesis_settings.register_profile(
    "aevon", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("aevon")

# What `migrate` puts in, and every test begins with.
KEPT = ("django_migrations", "django_content_type", "auth_permission")
_flush = TransactionTestCase._fixture_teardown


@functools.cache
def _emptying() -> str:
    """All other tables emptied. DELETE costs little where there is little; triggers would refuse
    some of it, and note the rest."""
    tables = set(connection.introspection.django_table_names(only_existing=True)) - {*KEPT}
    deletes = "; ".join(f"DELETE FROM {connection.ops.quote_name(name)}" for name in sorted(tables))
    return f"BEGIN; SET LOCAL session_replication_role = replica; {deletes}; COMMIT"


def _kept_rows() -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT p.id, p.codename, p.name, t.id, t.app_label, t.model"
            " FROM auth_permission p FULL JOIN django_content_type t ON p.content_type_id = t.id"
            " ORDER BY 4, 1"
        )
        return cursor.fetchall()


_kept: list[Any] = []


def _empty_tables(test_case: TransactionTestCase) -> None:
    """After a test that commits. Django's own way truncates every table and makes content types
    and permissions anew, which takes longer than most tests do."""
    ContentType.objects.clear_cache()
    if _kept and _kept_rows() == _kept:
        with connection.cursor() as cursor:
            cursor.execute(_emptying())
    else:
        _flush(test_case)
        _kept[:] = _kept_rows()


TransactionTestCase._fixture_teardown = _empty_tables  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def cache_keys_cleared(request: pytest.FixtureRequest) -> None:
    """Each test that touches the database starts with an empty test cache and a fresh store."""
    if any(request.node.iter_markers("django_db")):
        reset()
        store().command("FLUSHDB")


@pytest.fixture
def make_user(db: None) -> Callable[..., User]:
    """`make_user(**fields)`: a saved user whose password is not usable."""

    def make(**fields: Any) -> User:
        number = next(_numbers)
        values = {"username": f"user{number}", "email": f"user{number}@example.org", **fields}
        return User.objects.create_user(**values)

    return make


@pytest.fixture
def user(make_user: Callable[..., User]) -> User:
    """A saved user."""
    return make_user()


@pytest.fixture
def cache_away() -> Callable[[], AbstractContextManager[None]]:
    """`with cache_away():` nothing reaches the cache."""
    return lambda: override_settings(AEVON_CACHE=without_cache())


@pytest.fixture
def client_for() -> Callable[[User], APIClient]:
    """`client_for(user)`: an API client with a session of its own."""

    def make(user: User) -> APIClient:
        _, pair = services.open_session(user)
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {pair.access}")
        return client

    return make


@pytest.fixture
def client(user: User, client_for: Callable[[User], APIClient]) -> APIClient:
    """`user`'s API client."""
    return client_for(user)


class Trips:
    """Requests sent to the cache server; a pipeline is one."""

    def __init__(self) -> None:
        self.count = 0


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """`with trips() as t: …; t.count`: each packet that leaves for the server is one."""
    seen = Trips()
    send = redis.connection.AbstractConnection.send_packed_command

    def counted(self: Any, command: Any, check_health: bool = True) -> Any:
        seen.count += 1
        return send(self, command, check_health)

    monkeypatch.setattr(redis.connection.AbstractConnection, "send_packed_command", counted)

    @contextlib.contextmanager
    def counting() -> Iterator[Trips]:
        # Connect first, and let the server know the scripts of an entry.
        store().pipeline([("SCRIPT", "LOAD", script.source) for script in SCRIPTS])
        seen.count = 0
        yield seen

    return counting
