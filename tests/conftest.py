"""Factories and fixtures that every test may ask for."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from rest_framework.test import APIClient

from aevon.cache.connection import reset, store
from auth_sessions import services
from auth_sessions.models import User

_numbers = itertools.count(1)


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
