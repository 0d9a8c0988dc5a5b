"""Players for KLEPSYDRA's tests."""

import pytest

from auth_sessions.models import User
from klepsydra import services


@pytest.fixture
def player(user: User) -> User:
    """A user whose PsycheState is in PostgreSQL and in the cache."""
    services.psyche(user.pk)
    return user
