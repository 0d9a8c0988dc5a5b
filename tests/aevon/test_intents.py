"""How BEEP reaches the other services."""

import pytest

from aevon import intents


def test_a_registered_intent_is_performed_with_its_arguments() -> None:
    """The handler gets the user and the arguments; its answer comes back."""
    intents.register("test.echo", lambda user_id, arguments: f"{user_id} {arguments['x']}")
    assert intents.perform("test.echo", 7, {"x": "y"}) == "7 y"


def test_an_unknown_intent_is_refused_by_name() -> None:
    """Nobody registered it."""
    with pytest.raises(intents.IntentRefused, match=r"test\.unknown"):
        intents.perform("test.unknown", 7, {})
