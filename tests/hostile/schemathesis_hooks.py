"""How schemathesis stays logged in, although it tries what ends a session."""

import functools
import itertools
import os
from pathlib import Path
from typing import Any

import requests
import schemathesis

FORWARDED = {"X-Forwarded-Proto": "https"}
ENDS = ("/logout/", "/sessions/{sid}/", "/password/")
_kept: dict[str, str] = {}
_users = itertools.cycle(os.environ["HOSTILE_USERS"].split(","))


@functools.cache
def _succeeded(label: str) -> None:
    with Path(os.environ["HOSTILE_SUCCEEDED"]).open("a") as file:
        file.write(f"{label}\n")


def log_in() -> str:
    """An access token of a session that lives; of the next user, because wrong passwords that were
    tried for the last one keep that one out for a while."""
    login = {"username": next(_users), "password": os.environ["HOSTILE_PASSWORD"]}
    url = f"{os.environ['HOSTILE_URL']}/api/v1/auth/token/"
    answer = requests.post(url, json={**login, "endOthers": True}, headers=FORWARDED, timeout=30)
    answer.raise_for_status()
    return str(answer.json()["access"])


@schemathesis.auth(refresh_interval=None)
class Bearer:
    """The token that was last good."""

    def get(self, case: Any, context: Any) -> str:
        if "access" not in _kept:
            _kept["access"] = log_in()
        return _kept["access"]

    def set(self, case: Any, data: str, context: Any) -> None:
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """After what may have ended the session, another one. What succeeded is told."""
    if 200 <= response.status_code < 300:
        _succeeded(case.operation.label)
    if response.status_code == 204 and case.operation.path.endswith(ENDS):
        _kept.clear()
