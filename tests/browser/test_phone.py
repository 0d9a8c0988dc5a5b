"""375 pixels wide: sheets side by side, usable, and the stored layout untouched."""

import pytest
from playwright.sync_api import expect

from .people import window

PHONE = {"viewport": {"width": 375, "height": 812}, "has_touch": True, "is_mobile": True}


@pytest.fixture
def phone(visitor, person):
    """Three windows as a desk has them, on a phone."""
    person.place(
        notes=window("notes", 80, 80),
        psyche=window("psyche", 640, 80, level=3),
        clock=window("clock", 80, 500, level=2),
    )
    visit = visitor(person, **PHONE).come_back()
    visit.window("Notes").wait_for()
    return visit


def test_sheets_are_full_width_in_reading_order_and_nothing_overflows(phone):
    """One at a time, the next beside it; the page itself never scrolls sideways."""
    assert phone.rect("Notes")["width"] == 359
    assert [each.inner_text() for each in phone.page.locator(".sheet-tabs button").all()] == [
        "Notes", "Psyche", "Clock",
    ]  # fmt: skip
    assert phone.page.evaluate("() => document.documentElement.scrollWidth") == 375
    smallest = phone.page.locator("button:visible, input:visible").evaluate_all(
        "all => Math.min(...all.map(each => each.getBoundingClientRect().height))"
    )
    assert smallest >= 28


def test_sheet_is_reached_by_its_tab_and_by_swiping(phone):
    """Both arrive, and the tab tells where one is."""
    phone.page.get_by_role("button", name="Psyche", exact=True).last.click()
    expect(phone.window("Psyche")).to_be_in_viewport(ratio=0.95)
    expect(phone.page.locator(".sheet-tabs [aria-current]")).to_have_text("Psyche")
    phone.page.locator("#canvas").evaluate("element => element.scrollBy({left: 375})")
    expect(phone.window("Clock")).to_be_in_viewport(ratio=0.95)
    expect(phone.page.locator(".sheet-tabs [aria-current]")).to_have_text("Clock")


def test_nothing_that_a_phone_does_moves_a_window(phone, person):
    """Touched, swiped, written in: places, sizes and levels are those of the desk."""
    before = person.windows
    phone.grip("Notes").tap()
    phone.page.get_by_label("Text of Notes").fill("from a train")
    phone.drag(phone.grip("Notes"), -120, 60)
    phone.page.get_by_role("button", name="Clock", exact=True).last.click()
    expect(phone.window("Notes")).to_contain_text("Saved")
    assert person.windows == before


def test_beep_and_the_launcher_work_on_a_phone(phone, person):
    """A new sheet is swiped to; a closed one is gone everywhere."""
    phone.tell("close Clock")
    expect(phone.window("Clock")).to_have_count(0)
    phone.page.locator("#canvas").click(position={"x": 180, "y": 300})
    phone.launch("SpinForge")
    expect(phone.window("SpinForge")).to_be_in_viewport(ratio=0.95)
    phone.settled()
    assert set(person.windows) == {"notes", "psyche", "spinforge"}


def current(visit):
    """The tab of the sheet that one sees."""
    return visit.page.locator(".sheet-tabs [aria-current]")


def test_frontmost_sheet_is_the_first_one_seen(phone):
    """After a sign-in and after a reload, wherever it stands in reading order."""
    expect(phone.window("Psyche")).to_be_in_viewport(ratio=0.95)
    phone.page.locator(".sheet-tabs").get_by_text("Clock").click()
    expect(current(phone)).to_have_text("Clock")
    phone.page.reload()
    expect(phone.window("Psyche")).to_be_in_viewport(ratio=0.95)
    expect(current(phone)).to_have_text("Psyche")


def test_sheet_that_beep_opens_or_raises_is_gone_to(phone):
    """What BEEP says has happened is what one sees."""
    phone.tell("open Oracle of Delphi")
    expect(phone.window("Oracle of Delphi")).to_be_in_viewport(ratio=0.95)
    phone.tell("bring Notes to the front")
    expect(phone.window("Notes")).to_be_in_viewport(ratio=0.95)
    phone.page.locator(".sheet-tabs").get_by_text("Clock").click()
    expect(current(phone)).to_have_text("Clock")
    phone.tell("open Notes")  # in front already, only not on this screen
    expect(phone.window("Notes")).to_be_in_viewport(ratio=0.95)


def test_sheet_raised_elsewhere_leaves_this_screen_alone(phone, person):
    """Who reads is not carried off by another device."""
    person.call("PATCH", "/canvas/", {"microApps": {"clock": {"zIndex": 9}}})
    expect(phone.window("Clock")).to_contain_class("front")
    phone.page.wait_for_timeout(500)  # as long as a swipe takes
    expect(current(phone)).to_have_text("Psyche")


def test_greeting_covers_nothing_and_goes_at_the_first_deed(visitor, person):
    """It speaks of what a phone can do, and every control of the sheet is there to be touched."""
    visit = visitor(person, **PHONE).come_back()
    saying = visit.page.locator("#saying")
    expect(saying).to_contain_text("Swipe from one to the next")
    said, sheet = saying.bounding_box(), visit.window("Psyche").bounding_box()
    assert said["y"] + said["height"] <= sheet["y"]
    visit.page.get_by_role("button", name="Psyche: menu").tap()
    expect(visit.page.get_by_role("menu")).to_be_visible()
    expect(saying).to_be_hidden()
