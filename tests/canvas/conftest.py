"""Fixtures of the canvas."""

from tests.cache.conftest import trips  # noqa: F401  a fixture
