"""What BEEP can do with the canvas."""

from typing import Any

import pytest

from aevon.cache import write_behind
from aevon.intents import IntentRefused
from auth_sessions.models import User
from beep.phrases import asks_which, read_enumeration
from canvas import services
from canvas.plans import plan_open
from tests.canvas.helpers import done, in_row, live, patch, window

pytestmark = pytest.mark.django_db


def do(user: User, intent: str, *names: str, **arguments: Any) -> str:
    return done(user.pk, intent, *names, **arguments).answer


def app(user: User, app_id: str) -> Any:
    return services.live(user.pk).layout["microApps"][app_id]


def position(user: User, app_id: str) -> tuple[Any, Any]:
    return app(user, app_id)["position"]["x"], app(user, app_id)["position"]["y"]


def test_open_places_a_window(user: User) -> None:
    """On top, 360 by 240, its id made of its name, which begins with a capital."""
    assert do(user, "open", "my Notes!") == 'Opened "My Notes!".'
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
        "Notes is open already and in front now. Opened Clock."
    )
    assert live(user.pk) == {"notes", "ledger", "clock"}
    assert app(user, "notes")["zIndex"] == 3


@pytest.mark.parametrize(("name", "app_id"), [("Ξ", "app"), ("X" * 200, "x" * 60), ("A/b", "a-b")])
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
        do(user, "open", "One more")


def test_an_endless_name_is_refused(user: User) -> None:
    """A title has at most 200 characters."""
    with pytest.raises(IntentRefused, match="200"):
        do(user, "open", "x" * 201)


def test_close_removes_windows(user: User) -> None:
    """By title or id, several at once, each called by its name."""
    do(user, "open", "Notes", "Ledger", "Clock")
    assert do(user, "close", "notes", "Ledger", "ledger") == "Closed Notes and Ledger."
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


def test_move_to_an_edge(user: User) -> None:
    """One coordinate is told, the other stays."""
    do(user, "open", "Notes")
    assert do(user, "move", "Notes", y=16) == "Moved Notes to 40, 16."
    assert do(user, "move", "Notes", x=8) == "Moved Notes to 8, 16."
    assert do(user, "move", "Notes", dx=100) == "Moved Notes to 108, 16."


def test_resize_to_pixels_and_by_per_cent(user: User) -> None:
    """Both sides or one, in whole pixels; the corner stays."""
    patch(user.pk, notes=window(size={"width": 320.5, "height": 200}), clock=window(title="Clock"))
    assert do(user, "resize", "Notes", width=400, height=301) == "Resized Notes to 400 by 301."
    assert do(user, "resize", "Notes", widthPercent=125, heightPercent=125) == (
        "Resized Notes to 500 by 376."
    )
    assert do(user, "resize", "Notes", heightPercent=50) == "Resized Notes to 500 by 188."
    assert do(user, "resize", "Notes", "Clock", width=300) == "Resized Notes and Clock."
    assert app(user, "notes")["size"] == {"width": 300, "height": 188}
    assert app(user, "clock")["size"] == {"width": 300, "height": 200}
    assert position(user, "notes") == (10, 20)


def test_a_window_gets_no_smaller_than_the_page_shows_it(user: User) -> None:
    """224 by 120; one that is smaller grows from there."""
    patch(user.pk, notes=window(), dot=window(title="Dot", size={"width": 1, "height": 1}))
    least = "Resized Notes to 224 by 120. No window is smaller than that."
    assert do(user, "resize", "Notes", widthPercent=1, height=-5) == least
    with pytest.raises(IntentRefused, match=r"Notes cannot be any smaller\."):
        do(user, "resize", "Notes", widthPercent=80, heightPercent=80)
    assert do(user, "resize", "Dot", widthPercent=125, heightPercent=125) == (
        "Resized Dot to 280 by 150."
    )


@pytest.mark.parametrize("arguments", [{"width": 100_001}, {"heightPercent": 10**9}])
def test_an_endless_window_is_refused(user: User, arguments: Any) -> None:
    """With the limit; nothing changes."""
    patch(user.pk, notes=window())
    with pytest.raises(IntentRefused, match="at most 100,000 pixels"):
        do(user, "resize", "Notes", **arguments)
    assert app(user, "notes") == window()


def test_a_move_off_the_canvas_is_refused(user: User) -> None:
    """Nothing moves."""
    do(user, "open", "Notes")
    with pytest.raises(IntentRefused, match="does not fit"):
        do(user, "move", "Notes", x=10**7, y=0)
    assert position(user, "notes") == (40, 40)


def test_front_raises_windows_above_all_others(user: User) -> None:
    """The one named last is uppermost."""
    do(user, "open", "a", "b", "c")
    assert do(user, "front", "b", "a") == "Brought B and A to the front."
    assert do(user, "list") == "Open: 1. A, 2. B, 3. C."


def test_the_front_has_an_end(user: User) -> None:
    """At the highest zIndex a window comes beside the uppermost, not above."""
    patch(user.pk, a=window(title="a", zIndex=2**31), b=window(title="b"))
    do(user, "front", "b")
    assert app(user, "b")["zIndex"] == 2**31


def test_back_puts_windows_below_all_others(user: User) -> None:
    """The one named last is lowest; also below zero, as far as the range goes."""
    do(user, "open", "a", "b", "c")
    assert do(user, "back", "c", "b") == "Sent C and B to the back."
    assert do(user, "list") == "Open: 1. A, 2. C, 3. B."
    patch(user.pk, a={"zIndex": -(2**31)})
    do(user, "back", "b")
    assert app(user, "b")["zIndex"] == -(2**31)


@pytest.mark.parametrize("intent", ["tile", "tidy"])
def test_arranging_is_told(user: User, intent: str) -> None:
    """How many; of nothing, and of what lies well already, in a sentence, without a change."""
    with pytest.raises(IntentRefused, match=r"Nothing is open\."):
        do(user, intent)
    do(user, "open", "Notes")
    assert do(user, intent) in {"Tiled 1 window.", "Tidied 1 window."}
    do(user, "open", "Ledger")
    assert do(user, intent) in {"Tiled 2 windows.", "Tidied 2 windows."}
    revision = services.live(user.pk).revision
    with pytest.raises(IntentRefused, match="in its place already"):
        do(user, intent)
    assert services.live(user.pk).revision == revision


def test_unsaved_changes_are_counted(user: User, settings: Any, cache_away: Any) -> None:
    """In the page's words; what nobody can know without the cache is not claimed."""
    assert do(user, "unsaved") == "Everything is in the ledger."
    do(user, "open", "Notes")
    expected = "1 change is not yet in the ledger; the next flush is within 5 minutes."
    assert do(user, "unsaved") == expected
    do(user, "move", "Notes", dx=1)
    settings.CANVAS_PERSIST_SECONDS = 90
    assert do(user, "unsaved").startswith("2 changes are not yet in the ledger; ")
    assert do(user, "unsaved").endswith("within 90 seconds.")
    services.persist_now([user.pk])
    assert do(user, "unsaved") == "Everything is in the ledger."
    with cache_away():
        assert do(user, "unsaved").startswith("The cache is away.")


def test_what_looks_only_has_nothing_to_take_back(user: User) -> None:
    """The others have, see test_undo.py."""
    assert [done(user.pk, each).undo for each in ("list", "unsaved")] == [None, None]


def test_list_can_be_read_back(user: User) -> None:
    """Whatever the titles are, BEEP finds "the second one" in it."""
    names = ["Notes", 'A "quoted", one.', "1. first", "Ξ ledger"]
    do(user, "open", *names)
    said = do(user, "list")
    assert list(read_enumeration(said)) == names[::-1]


def test_list_of_an_empty_canvas(user: User) -> None:
    """A sentence, no list."""
    assert do(user, "list") == "Nothing is open."


def test_windows_without_a_title_of_their_own_are_listed_by_id(user: User) -> None:
    """So that each name in a list means one window."""
    patch(user.pk, a=window(zIndex=3), b=window(zIndex=2), c=window(title="", zIndex=1))
    assert do(user, "list") == "Open: 1. a, 2. b, 3. c."


@pytest.mark.parametrize("intent", ["close", "move", "resize", "front", "back"])
def test_an_unknown_window_is_asked_back(user: User, intent: str) -> None:
    """With those that are open, as BEEP can read it."""
    do(user, "open", "Notes", "Ledger")
    with pytest.raises(IntentRefused) as refused:
        do(user, intent, "Clock", dx=1, dy=1)
    answer = str(refused.value)
    assert answer == "There is no Clock. Which one do you mean: 1. Ledger, 2. Notes?"
    assert asks_which(answer)


def test_without_a_name_it_is_asked_for(user: User) -> None:
    """With what there is: nothing, or a list."""
    with pytest.raises(IntentRefused, match=r"open: 1\. Notes, 2\. Psyche, .*\?$"):
        do(user, "open")
    with pytest.raises(IntentRefused, match=r"^Nothing is open\.$"):
        do(user, "close")
    do(user, "open", "Notes", "Ledger")
    with pytest.raises(IntentRefused, match=r"^Which one do you mean: 1\. Ledger, 2\. Notes\?$"):
        do(user, "close")


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
        assert do(user, "list") == "Open: 1. Notes."
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
