"""Windows under the hand: dragged, resized, raised, closed, and found again where they were."""

import pytest
from playwright.sync_api import expect

from .people import window
from .visits import stored_rect

TWO = {
    "notes": window("notes", 80, 80, level=1),
    "clock": window("clock", 800, 400, level=2),
}
LARGE = {"size": {"width": 440, "height": 340}}
FAR = window("psyche", 900, 400, level=3)
EDGES = {  # by 48 px to the right and 32 px down: what becomes of 80, 80, 320, 240
    "n": (80, 112, 320, 208),
    "e": (80, 80, 368, 240),
    "s": (80, 80, 320, 272),
    "w": (128, 80, 272, 240),
    "ne": (80, 112, 368, 208),
    "se": (80, 80, 368, 272),
    "sw": (128, 80, 272, 272),
    "nw": (128, 112, 272, 208),
}


@pytest.fixture
def two(visitor, person):
    """Notes and Clock, away from each other."""
    person.place(**TWO)
    visit = visitor(person).come_back()
    visit.window("Clock").wait_for()
    return visit


def test_dragged_window_is_exactly_there_after_a_reload_and_on_another_device(two, visitor, person):
    """Screen, server, reload and a second browser agree to the pixel."""
    two.drag(two.grip("Notes"), 203, 101)
    two.settled()
    there = two.rect("Notes")
    assert there == {"x": 280, "y": 184, "width": 320, "height": 240}
    assert stored_rect(person.windows["notes"]) == there
    two.page.reload()
    assert two.rect("Notes") == there
    elsewhere = visitor(person).open().sign_in()
    assert elsewhere.rect("Notes") == there


def test_each_handle_pulls_its_own_edges(two, person):
    """Eight handles; the opposite edges stay where they are."""
    for edges, values in EDGES.items():
        person.place(**TWO)
        two.look()
        expect(two.window("Notes")).to_have_css("translate", "80px 80px")
        expect(two.window("Notes")).to_have_css("width", "320px")
        expect(two.window("Notes")).to_have_css("height", "240px")
        two.drag(two.window("Notes").locator(f"[data-edges={edges}]"), 48, 32, steps=3)
        two.settled()
        expected = dict(zip(("x", "y", "width", "height"), values, strict=True))
        assert two.rect("Notes") == expected
        assert stored_rect(person.windows["notes"]) == expected


def test_window_never_gets_smaller_than_its_title(two):
    """Pulled across itself a window stops, and its far edge stays."""
    two.drag(two.window("Notes").locator("[data-edges=nw]"), 900, 500)
    assert two.rect("Notes") == {"x": 176, "y": 200, "width": 224, "height": 120}


def test_click_raises_and_the_order_survives_a_reload(two, person):
    """The window that was clicked covers the other, here and after a reload."""
    two.window("Notes").locator(".window-body").click()
    two.settled()
    assert person.windows["notes"]["zIndex"] == 3
    two.window("Notes").locator(".window-body").click()
    two.settled()
    assert person.windows["notes"]["zIndex"] == 3  # it was on top already
    two.page.reload()
    expect(two.window("Notes")).to_have_class("window glass front")


def test_raising_at_the_end_of_the_range_renumbers_everybody(visitor, person):
    """zIndex has an end; the order of the windows has none."""
    person.place(
        a=window("clock", 0, 0, level=2**31, title="A"),
        b=window("clock", 400, 0, level=2**31 - 1, title="B"),
    )
    visit = visitor(person).come_back()
    visit.window("B").locator(".window-body").click()
    visit.settled()
    assert {name: app["zIndex"] for name, app in person.windows.items()} == {"a": 1, "b": 2}


def test_window_is_drawn_to_anothers_edge_unless_alt_is_held(two):
    """Near an edge it snaps; with Alt it goes exactly where the hand goes."""
    two.drag(two.grip("Notes"), 397, 150)  # its right edge comes to 797, the clock's left is 800
    assert two.rect("Notes")["x"] == 480
    two.page.keyboard.down("Alt")
    two.drag(two.grip("Notes"), -3, 1)
    two.page.keyboard.up("Alt")
    assert two.rect("Notes")["x"] == 477


def test_escape_cancels_a_drag(two, person):
    """As if nothing had been done, on the server, too."""
    two.drag(two.grip("Notes"), 300, 200, drop=False)
    two.page.keyboard.press("Escape")
    two.page.mouse.up()
    two.settled()
    assert two.rect("Notes") == stored_rect(TWO["notes"])
    assert stored_rect(person.windows["notes"]) == stored_rect(TWO["notes"])


def test_another_finger_does_not_end_a_drag(two):
    """Whoever holds the window lets go of it; a second touch that ends is not theirs."""
    two.drag(two.grip("Notes"), 200, 100, drop=False)
    for name in ("pointerup", "pointercancel"):
        two.page.evaluate("name => dispatchEvent(new PointerEvent(name, {pointerId: 99}))", name)
    expect(two.window("Notes")).to_contain_class("held")
    x, y = two.page.evaluate("() => [innerWidth / 2, innerHeight / 2]")
    two.page.mouse.move(x, y)
    there = two.rect("Notes")
    two.page.mouse.move(x + 80, y)
    assert two.rect("Notes")["x"] == there["x"] + 80
    two.page.mouse.up()
    expect(two.window("Notes")).not_to_contain_class("held")


def test_double_click_fills_the_screen_and_goes_back_and_neither_is_stored(two, person):
    """A size that fills this screen would be wrong on the next one."""
    two.grip("Notes").dblclick()
    assert two.rect("Notes") == {"x": 0, "y": 0, "width": 1440, "height": 843}
    assert stored_rect(person.windows["notes"]) == stored_rect(TWO["notes"])
    two.grip("Notes").dblclick()
    assert two.rect("Notes") == stored_rect(TWO["notes"])


def test_closed_window_is_gone_and_the_launcher_brings_it_back(two, person):
    """Closed here, closed on the server; opened again it has the same id, and room of its own."""
    two.page.get_by_role("button", name="Close Notes").click()
    expect(two.window("Notes")).to_have_count(0)
    two.settled()
    assert set(person.windows) == {"clock"}
    two.launch("Notes")
    expect(two.grip("Notes")).to_be_focused()
    two.settled()
    assert person.windows["notes"]["position"] == {"x": 24, "y": 24}
    two.launch("Clock")  # one is enough: it comes to the front
    two.settled()
    assert set(person.windows) == {"clock", "notes"}
    assert person.windows["clock"]["zIndex"] == 4


def test_window_outside_this_screen_can_be_reached_and_stays_stored_as_it_was(visitor, person):
    """It was put there on a larger screen, and is there again when that screen is back."""
    far = window("notes", 5000, 4000)
    person.place(notes=far, clock=window("clock", -4000, -300))
    visit = visitor(person).come_back()
    assert visit.rect("Notes") == {"x": 1344, "y": 807, "width": 320, "height": 240}
    assert visit.rect("Clock") == {"x": -224, "y": 0, "width": 320, "height": 240}
    visit.window("Clock").locator(".window-body").click(position={"x": 300, "y": 60})
    visit.settled()
    assert person.windows["notes"] == far
    visit.page.mouse.move(1380, 882)
    visit.page.mouse.down()
    visit.page.mouse.move(980, 482, steps=4)
    visit.page.mouse.up()
    visit.settled()
    assert person.windows["notes"]["position"] == {"x": 944, "y": 408}


def test_unknown_app_says_so_and_keeps_its_place(visitor, person):
    """A window made elsewhere is not thrown away; its names are text, never markup."""
    evil = "<img src=x onerror=alert(1)>"
    theirs = window("ledger", 200, 120, title=evil)
    person.place(theirs=theirs)
    visit = visitor(person).come_back()
    expect(visit.window(evil)).to_contain_text("There is no app called “ledger” here.")
    assert visit.page.locator("#canvas img").count() == 0
    assert person.windows["theirs"] == theirs


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_nothing_shows_through_a_window_that_is_not_in_front(visitor, person, scheme):
    """The same picture, to the last pixel, with a clock below it and without."""
    below = window("clock", 120, 120, level=1)
    person.place(clock=below, notes=window("notes", 80, 80, level=2, **LARGE), psyche=FAR)
    visit = visitor(person, color_scheme=scheme).come_back()
    expect(visit.window("Notes")).to_contain_text("Saved")
    visit.still("Notes")
    box = visit.window("Notes").bounding_box()
    assert box
    inside = {
        key: box[key] + by for key, by in {"x": 8, "y": 8, "width": -16, "height": -16}.items()
    }
    covering = visit.page.screenshot(clip=inside)
    person.call("PATCH", "/canvas/", {"microApps": {"clock": None}})
    expect(visit.window("Clock")).to_have_count(0)
    assert visit.page.screenshot(clip=inside) == covering
