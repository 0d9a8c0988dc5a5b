"""What BEEP can do with the canvas."""

from typing import Any

import pytest

from aevon import intents
from aevon.cache import write_behind
from aevon.intents import IntentRefused
from auth_sessions.models import User
from beep.phrases import asks_which, read_enumeration
from canvas import services
from canvas.intents import plan_open
from tests.canvas.helpers import in_row, live, patch, window

pytestmark = pytest.mark.django_db


def do(user: User, intent: str, *names: str, **arguments: Any) -> str:
    return intents.perform(f"canvas.{intent}", user.pk, {"microApps": list(names), **arguments})


def app(user: User, app_id: str) -> Any:
    return services.live(user.pk).layout["microApps"][app_id]


def position(user: User, app_id: str) -> tuple[Any, Any]:
    return app(user, app_id)["position"]["x"], app(user, app_id)["position"]["y"]


def test_open_places_a_window(user: User) -> None:
    """On top, 360 by 240, its id made of its name."""
    assert do(user, "open", "My Notes!") == 'Opened "My Notes!".'
    assert app(user, "my-notes") == {
        "type": "my-notes",
        "title": "My Notes!",
        "position": {"x": 40, "y": 40},
        "size": {"width": 360, "height": 240},
        "zIndex": 1,
    }


def test_windows_cascade_and_start_again(user: User) -> None:
    """Ten steps, so that none is ever far out."""
    do(user, "open", *(f"w{number}" for number in range(11)))
    assert position(user, "w1") == (70, 70)
    assert position(user, "w10") == (40, 40)
    assert [app(user, f"w{n}")["zIndex"] for n in range(11)] == list(range(1, 12))


def test_opening_what_is_open_brings_it_to_the_front(user: User) -> None:
    """By title or id, blind to case; and it stays one window."""
    do(user, "open", "Notes", "Ledger")
    assert do(user, "open", "NOTES", "Clock") == (
        "NOTES is open already and in front now. Opened Clock."
    )
    assert live(user.pk) == {"notes", "ledger", "clock"}
    assert app(user, "notes")["zIndex"] == 3


@pytest.mark.parametrize(("name", "app_id"), [("Ξ", "app"), ("x" * 200, "x" * 60), ("a/b", "a-b")])
def test_any_name_makes_an_id(user: User, name: str, app_id: str) -> None:
    """Of the characters that an id may have."""
    do(user, "open", name)
    assert (live(user.pk), app(user, app_id)["title"]) == ({app_id}, name)


def test_names_that_make_the_same_id_are_numbered(user: User) -> None:
    """Both are open afterwards."""
    do(user, "open", "a/b", "a.b", "a+b")
    assert live(user.pk) == {"a-b", "a-b-2", "a-b-3"}


def test_a_full_canvas_takes_no_more_windows(user: User) -> None:
    """And says so."""
    patch(user.pk, **{f"a{number}": window() for number in range(500)})
    with pytest.raises(IntentRefused, match="500 windows are open"):
        do(user, "open", "one more")


def test_an_endless_name_is_refused(user: User) -> None:
    """A title has at most 200 characters."""
    with pytest.raises(IntentRefused, match="200"):
        do(user, "open", "x" * 201)


def test_close_removes_windows(user: User) -> None:
    """By title or id, several at once."""
    do(user, "open", "Notes", "Ledger", "Clock")
    assert do(user, "close", "notes", "Ledger", "ledger") == "Closed notes, Ledger and ledger."
    assert live(user.pk) == {"clock"}


def test_move_by_a_distance(user: User) -> None:
    """From where each is."""
    do(user, "open", "Notes", "Ledger")
    assert do(user, "move", "Notes", dx=-50, dy=5) == "Moved Notes to -10, 45."
    assert do(user, "move", "Notes", "Ledger", dx=1, dy=0) == "Moved Notes and Ledger."
    assert (position(user, "notes"), position(user, "ledger")) == ((-9, 45), (71, 70))


def test_move_to_a_place(user: User) -> None:
    """Wherever it is."""
    do(user, "open", "Notes")
    assert do(user, "move", "Notes", x=5, y=6) == "Moved Notes to 5, 6."
    assert position(user, "notes") == (5, 6)


def test_a_move_off_the_canvas_is_refused(user: User) -> None:
    """Nothing moves."""
    do(user, "open", "Notes")
    with pytest.raises(IntentRefused, match="does not fit"):
        do(user, "move", "Notes", x=10**7, y=0)
    assert position(user, "notes") == (40, 40)


def test_front_raises_windows_above_all_others(user: User) -> None:
    """The one named last is uppermost."""
    do(user, "open", "a", "b", "c")
    assert do(user, "front", "b", "a") == "Brought b and a to the front."
    assert intents.perform("canvas.list", user.pk, {}) == "Open: 1. a, 2. b, 3. c."


def test_the_front_has_an_end(user: User) -> None:
    """At the highest zIndex a window comes beside the uppermost, not above."""
    patch(user.pk, a=window(title="a", zIndex=2**31), b=window(title="b"))
    do(user, "front", "b")
    assert app(user, "b")["zIndex"] == 2**31


def test_list_can_be_read_back(user: User) -> None:
    """Whatever the titles are, BEEP finds "the second one" in it."""
    names = ["Notes", 'A "quoted", one.', "1. first", "Ξ ledger"]
    do(user, "open", *names)
    said = intents.perform("canvas.list", user.pk, {})
    assert list(read_enumeration(said)) == names[::-1]


def test_list_of_an_empty_canvas(user: User) -> None:
    """A sentence, no list."""
    assert intents.perform("canvas.list", user.pk, {}) == "Nothing is open."


def test_windows_without_a_title_of_their_own_are_listed_by_id(user: User) -> None:
    """So that each name in a list means one window."""
    patch(user.pk, a=window(zIndex=3), b=window(zIndex=2), c=window(title="", zIndex=1))
    assert intents.perform("canvas.list", user.pk, {}) == "Open: 1. a, 2. b, 3. c."


@pytest.mark.parametrize("intent", ["close", "move", "front"])
def test_an_unknown_window_is_asked_back(user: User, intent: str) -> None:
    """With those that are open, as BEEP can read it."""
    do(user, "open", "Notes", "Ledger")
    with pytest.raises(IntentRefused) as refused:
        do(user, intent, "Clock", dx=1, dy=1)
    answer = str(refused.value)
    assert answer == "There is no Clock. Which one do you mean: 1. Ledger, 2. Notes?"
    assert asks_which(answer)


def test_an_unknown_window_on_an_empty_canvas(user: User) -> None:
    """There is nothing to ask back."""
    with pytest.raises(IntentRefused, match=r"There is no Clock\. Nothing is open\."):
        do(user, "close", "Clock")


@pytest.mark.parametrize("intent", ["open", "close"])
def test_an_ambiguous_title_is_asked_back_by_id(user: User, intent: str) -> None:
    """Titles do not tell them apart; an id then does."""
    patch(user.pk, n1=window(title="Notes"), n2=window(title="notes"))
    with pytest.raises(IntentRefused) as refused:
        do(user, intent, "Notes")
    assert read_enumeration(str(refused.value)) == ("n1", "n2")
    do(user, "close", "n2")
    assert live(user.pk) == {"n1"}


def test_intents_work_with_the_cache_away(user: User, cache_away: Any) -> None:
    """The row takes them."""
    with cache_away():
        do(user, "open", "Notes")
        do(user, "move", "Notes", dx=1, dy=1)
        assert intents.perform("canvas.list", user.pk, {}) == "Open: 1. Notes."
    assert in_row(user.pk) == {"notes"}


def test_contention_is_told_in_a_sentence(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """BEEP answers it like any other refusal."""
    monkeypatch.setattr(write_behind, "ATTEMPTS", 0)
    with pytest.raises(IntentRefused, match="changing too fast"):
        do(user, "open", "Notes")


def test_opening_what_is_open_changes_only_its_place_in_the_stack(user: User) -> None:
    """So that with the cache away a drag of the same window is not undone by the replay."""
    do(user, "open", "Notes", "Ledger")
    notes = services.live(user.pk).layout["microApps"]
    patch_of, _ = plan_open(notes, {"microApps": ["Notes", "notes"]})
    assert patch_of == {"notes": {"zIndex": 4}}
