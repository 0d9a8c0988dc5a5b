"""Fixtures of the sessions."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from django.test import override_settings

from tests.auth_sessions.rows import away


@pytest.fixture
def cache_away() -> Callable[[], AbstractContextManager[None]]:
    """`with cache_away():` nothing reaches the cache."""
    return lambda: override_settings(AEVON_CACHE=away())
