"""What tests of logins share."""

from collections.abc import Callable
from typing import Any

import pytest

from auth_sessions.hashers import LeanArgon2Hasher
from auth_sessions.models import User


@pytest.fixture
def quick_hashes(settings: Any) -> None:
    """Hashing is Django's; most tests are about sessions."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def ada(make_user: Callable[..., User], quick_hashes: None) -> User:
    """A user with a password."""
    return make_user(username="ada", password="lovelace")


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every computation of Argon2id from now on."""
    seen: list[str] = []

    def spied(name: str) -> Callable[..., Any]:
        real = getattr(LeanArgon2Hasher, name)

        def spy(*args: Any) -> Any:
            seen.append(name)
            return real(*args)

        return spy

    for name in ("encode", "verify"):
        monkeypatch.setattr(LeanArgon2Hasher, name, spied(name))
    return seen
