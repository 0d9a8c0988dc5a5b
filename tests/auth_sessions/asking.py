"""How tests log in over HTTP, and ask as whom they are let in."""

from typing import Any

from rest_framework.test import APIClient

TOKEN = "/api/v1/auth/token/"
SESSIONS = "/api/v1/auth/sessions/"
VALIDATE = "/api/v1/auth/validate/"


def log_in(username: str = "ada", password: str = "lovelace") -> Any:
    """The response to a login."""
    return APIClient().post(TOKEN, {"username": username, "password": password})


def bearer(token: str) -> APIClient:
    """A client that carries this token."""
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


def validated(token: str) -> int:
    """What a gateway hears about this token."""
    return bearer(token).get(VALIDATE).status_code
