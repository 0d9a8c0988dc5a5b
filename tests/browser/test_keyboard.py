"""Everything without a mouse, and what a screen reader hears of it."""

import pytest
from playwright.sync_api import expect

from .people import window
from .visits import stored_rect


@pytest.fixture
def alone(visitor, person):
    """One window, one person, no hand on the mouse."""
    person.place(notes=window("notes", 80, 80), clock=window("clock", 800, 80, level=2))
    return visitor(person).open()


def tab_to(visit, target, limit=40):
    """Press Tab until the target has the focus, as somebody would who sees where it is."""
    for _ in range(limit):
        visit.page.keyboard.press("Tab")
        if target.evaluate("element => element === document.activeElement"):
            return
    pytest.fail("Tab never reached it")


def choose(visit, label):
    """Walk down an open menu to an entry, and take it."""
    entry = visit.page.get_by_role("menuitem", name=label)
    expect(visit.page.get_by_role("menuitem").first).to_be_focused()
    while not entry.evaluate("element => element === document.activeElement"):
        visit.page.keyboard.press("ArrowDown")
    visit.page.keyboard.press("Enter")


def test_the_whole_journey_by_keyboard(alone, person):
    """Signed in, moved, resized, closed, told BEEP, signed out: no pointer was used."""
    keyboard = alone.page.keyboard
    expect(alone.page.get_by_label("Name")).to_be_focused()
    keyboard.type(person.username)
    keyboard.press("Tab")
    keyboard.type(person.password)
    keyboard.press("Enter")
    alone.window("Clock").wait_for()
    heard = alone.page.locator("#announcer")

    tab_to(alone, alone.grip("Notes"))
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "Shift+ArrowLeft"):
        keyboard.press(key)
    expect(heard).to_have_text("Notes moved to 95, 88")

    keyboard.press("Enter")
    choose(alone, "Resize")
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "Enter"):
        keyboard.press(key)
    expect(heard).to_have_text("Notes is 328 by 256")
    alone.settled()
    assert stored_rect(person.windows["notes"]) == {"x": 95, "y": 88, "width": 328, "height": 256}

    keyboard.press("Enter")
    choose(alone, "Bring to front")
    alone.settled()
    assert person.windows["notes"]["zIndex"] > person.windows["clock"]["zIndex"]

    keyboard.press("Enter")
    choose(alone, "Close")
    expect(heard).to_have_text("Notes is closed")
    expect(alone.grip("Clock")).to_be_focused()

    keyboard.press("/")
    expect(alone.line).to_be_focused()
    keyboard.type("open Psyche")
    keyboard.press("Enter")
    expect(alone.window("Psyche")).to_be_visible()
    expect(heard).to_have_text("Opened Psyche.")

    tab_to(alone, alone.page.get_by_role("button", name=person.username))
    keyboard.press("Enter")
    choose(alone, "Sign out")
    expect(alone.page.get_by_label("Password")).to_be_visible()
    assert set(person.windows) == {"clock", "psyche"}


def test_escape_undoes_a_resize(alone, person):
    """Back to the size it had when the arrows took over."""
    alone.come_back()
    alone.grip("Notes").focus()
    alone.page.keyboard.press("Enter")
    choose(alone, "Resize")
    for key in ("ArrowRight", "ArrowDown", "Escape"):
        alone.page.keyboard.press(key)
    alone.settled()
    assert person.windows["notes"]["size"] == {"width": 320, "height": 240}
    alone.page.keyboard.press("ArrowRight")  # moves again
    assert alone.rect("Notes")["x"] == 88


def test_control_k_reaches_beep_from_inside_a_text(alone):
    """Where a slash is a slash."""
    alone.come_back()
    paper = alone.page.get_by_label("Text of Notes")
    paper.click()
    alone.page.keyboard.type("and/or")
    expect(paper).to_have_value("and/or")
    alone.page.keyboard.press("Control+k")
    expect(alone.line).to_be_focused()


def test_menus_close_by_escape_and_give_the_focus_back(alone):
    """Nobody is left standing nowhere."""
    alone.come_back()
    launcher = alone.page.get_by_role("button", name="Apps")
    launcher.focus()
    alone.page.keyboard.press("ArrowDown")
    expect(alone.page.get_by_role("menuitem", name="Notes")).to_be_focused()
    alone.page.keyboard.press("Escape")
    expect(launcher).to_be_focused()
    expect(alone.page.get_by_role("menu")).to_have_count(0)


def test_menu_of_a_window_that_is_closed_elsewhere_goes_with_it(alone, person):
    """There is nothing left that it could be about."""
    alone.come_back()
    alone.grip("Notes").focus()
    alone.page.keyboard.press("Enter")
    expect(alone.page.get_by_role("menuitem", name="Resize")).to_be_visible()
    person.place(clock=window("clock", 800, 80))
    expect(alone.window("Notes")).to_have_count(0)
    expect(alone.page.get_by_role("menu")).to_have_count(0)


def test_resizing_a_window_that_is_gone_already_does_nothing(alone, person):
    """It was closed in the very moment in which somebody chose to resize it."""
    alone.come_back()
    alone.grip("Notes").focus()
    alone.page.keyboard.press("Enter")
    expect(alone.page.get_by_role("menuitem", name="Resize")).to_be_visible()
    alone.page.evaluate(
        """() => { document.querySelector("[data-id=notes] [aria-label='Close Notes']").click();
        for (const each of document.querySelectorAll("[role=menuitem]"))
        if (each.textContent.startsWith("Resize")) each.click(); }"""
    )
    expect(alone.window("Notes")).to_have_count(0)
    alone.settled()
    assert set(person.windows) == {"clock"}
