"""Players for KLEPSYDRA's tests."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from django.test import override_settings

from auth_sessions.models import User
from klepsydra import services
from tests.cache.conftest import trips  # noqa: F401  a fixture
from tests.klepsydra.rows import away


@pytest.fixture
def player(user: User) -> User:
    """A user whose PsycheState is in PostgreSQL and in the cache."""
    services.psyche(user.pk)
    return user


@pytest.fixture
def cache_away() -> Callable[[], AbstractContextManager[None]]:
    """`with cache_away():` nothing reaches the cache."""
    return lambda: override_settings(AEVON_CACHE=away())
