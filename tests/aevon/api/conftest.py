import pytest
from django.test import Client


@pytest.fixture
def api() -> Client:
    """A client that sees the 500 that a user would see."""
    return Client(raise_request_exception=False)
