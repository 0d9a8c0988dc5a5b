"""Handlers for BEEP's tests, so that they need no other service."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aevon import intents
from auth_sessions.models import User
from tests.canvas.helpers import patch, window

Performed = list[tuple[str, int, dict[str, Any]]]
OPEN_WINDOWS = "1. Notes, 2. Ledger"


@pytest.fixture
def desk(user: User) -> None:
    """Two windows on the user's live canvas."""
    patch(user.pk, notes=window(title="Notes"), ledger=window(title="Ledger"))


@pytest.fixture
def performed() -> Iterator[Performed]:
    """Every intent that was carried out; handlers of the test's own answer them."""
    before = dict(intents._handlers)
    done: Performed = []

    def handler(intent: str, answer: Callable[[list[str]], str]) -> None:
        def perform(user_id: int, arguments: Any) -> intents.Done:
            done.append((intent, user_id, dict(arguments)))
            return intents.Done(answer(arguments.get("microApps", [])))

        intents.register(intent, perform)

    handler("canvas.open", lambda names: f"Opened {', '.join(names)}.")
    handler("canvas.close", lambda names: f"Closed {', '.join(names)}.")
    handler("canvas.list", lambda _: f"Open: {OPEN_WINDOWS}.")
    yield done
    intents._handlers.clear()
    intents._handlers.update(before)
