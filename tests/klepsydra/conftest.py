"""Players for KLEPSYDRA's tests."""

import pytest

from auth_sessions.models import User
from klepsydra import services
from tests.cache.conftest import trips  # noqa: F401  a fixture


@pytest.fixture
def player(user: User) -> User:
    """A user whose PsycheState is in PostgreSQL and in the cache."""
    services.psyche(user.pk)
    return user
