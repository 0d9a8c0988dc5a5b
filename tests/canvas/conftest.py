"""Fixtures of the canvas."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from django.test import override_settings

from tests.cache.conftest import trips  # noqa: F401  a fixture
from tests.canvas.helpers import away


@pytest.fixture
def cache_away() -> Callable[[], AbstractContextManager[None]]:
    """`with cache_away():` nothing reaches the cache."""
    return lambda: override_settings(AEVON_CACHE=away())
