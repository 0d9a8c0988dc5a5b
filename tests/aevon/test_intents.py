"""How BEEP reaches the other services."""

from collections.abc import Iterator

import pytest

from aevon import intents
from aevon.intents import Deed, Done
from beep.phrases import read_enumeration


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """What was registered before is so afterwards."""
    handlers, names = dict(intents._handlers), dict(intents._names)
    yield
    for now, before in ((intents._handlers, handlers), (intents._names, names)):
        now.clear()
        now.update(before)


def test_a_registered_intent_is_performed_with_its_arguments() -> None:
    """The handler gets the user and the arguments; its answer and its undoing come back."""
    undo = Deed("test.silence", {"x": "y"})
    intents.register("test.echo", lambda user_id, given: Done(f"{user_id} {given['x']}", undo))
    assert intents.perform("test.echo", 7, {"x": "y"}) == Done("7 y", undo)


def test_an_unknown_intent_is_refused_by_name() -> None:
    """Nobody registered it."""
    with pytest.raises(intents.IntentRefused, match=r"test\.unknown"):
        intents.perform("test.unknown", 7, {})


def test_what_is_offered_can_be_asked_for() -> None:
    """By its kind, in its order, the last offer; nothing of what nobody has."""
    intents.offer("tests", ["one"])
    intents.offer("tests", (name for name in ("two", "three")))
    assert intents.offered("tests") == ("two", "three")
    assert intents.offered("unheard of") == ()


def test_a_list_with_remarks_is_read_back() -> None:
    """Whatever is in names and remarks; without a remark there are no brackets."""
    items = [("Firefox", "since (about) noon, idle"), ("a, (b)", ""), ("curl", "now")]
    told = intents.remarked(items)
    assert told == '1. Firefox (since about noon, idle), 2. "a, (b)", 3. curl (now)'
    assert read_enumeration(told) == ("Firefox", "a, (b)", "curl")
    assert intents.enumerated(["Notes", "a.b"]) == '1. Notes, 2. "a.b"'
