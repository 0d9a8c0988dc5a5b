"""BEEP on the page: what was said, what it was taken to mean, what it did."""

import pytest
from playwright.sync_api import expect

from .people import window
from .test_phone import PHONE
from .visits import stored_rect


@pytest.fixture
def desk(person):
    """Two windows; Notes is not open."""
    person.place(
        clock=window("clock", 800, 80, level=1),
        psyche=window("psyche", 400, 480, level=2),
    )
    return person


@pytest.fixture
def there(visitor, desk):
    """Somebody with that desk in front of them."""
    visit = visitor(desk).come_back()
    visit.window("Clock").wait_for()
    return visit


def newest(visit, part):
    """A part of the last turn that is shown."""
    return visit.page.locator(".turns li").last.locator(f".{part}")


def test_five_commands_that_each_lean_on_the_one_before(there, desk):
    """Opened, moved, made bigger; then the wrong window is closed, and the right one instead."""
    there.tell("open notes")
    expect(there.window("Notes")).to_be_visible()
    opened = there.rect("Notes")
    there.tell("move it to the right")
    expect(newest(there, "understood")).to_contain_text("it = Notes")
    expect(newest(there, "understood")).to_contain_text('move "Notes" by 100, 0')
    expect(newest(there, "answer")).not_to_contain_text("Understood")
    there.tell("make that bigger")
    expect(newest(there, "understood")).to_contain_text("that = Notes")
    expect(there.page.locator("#announcer")).to_have_text(newest(there, "answer").inner_text())
    bigger = {"width": opened["width"] * 1.25, "height": opened["height"] * 1.25}
    (notes,) = [each for each in desk.windows.values() if each["title"] == "Notes"]
    assert stored_rect(notes) == opened | {"x": opened["x"] + 100} | bigger
    before = desk.windows["clock"]
    there.tell("close the clock")
    expect(there.window("Clock")).to_have_count(0)
    there.tell("no, the other one")
    expect(there.window("Notes")).to_have_count(0)
    expect(there.window("Clock")).to_be_visible()
    assert desk.windows["clock"] == before
    assert set(desk.windows) == {"clock", "psyche"}


def test_the_arrows_recall_what_was_said_and_keep_what_is_being_written(there):
    """As a shell does, over the last turns of before a reload, too."""
    for text in ("what is open", "status", "status"):
        there.tell(text)
    line = there.line
    line.fill("open No")
    for key, shown in [
        ("ArrowUp", "status"),
        ("ArrowUp", "what is open"),
        ("ArrowUp", "what is open"),
        ("ArrowDown", "status"),
        ("ArrowDown", "open No"),
        ("ArrowDown", "open No"),
    ]:
        line.press(key)
        expect(line).to_have_value(shown)
    line.press("ArrowUp")
    line.press("End")
    line.press("!")
    line.press("ArrowUp")
    line.press("ArrowDown")
    expect(line).to_have_value("status!")
    there.page.reload()
    there.window("Clock").wait_for()
    line.click()
    expect(there.page.locator(".turns .said")).to_have_text(["what is open", "status", "status"])
    line.press("ArrowUp")
    expect(line).to_have_value("status")


def test_a_question_is_answered_by_a_click(there, desk):
    """Its candidates are buttons, of the newest turn alone; the line keeps what is in it."""
    there.tell("what is open")
    there.tell("close it")
    choices = there.page.locator(".turns .choice button")
    expect(choices).to_have_text(["Psyche", "Clock"])
    there.line.fill("open No")
    choices.last.click()
    expect(there.window("Clock")).to_have_count(0)
    expect(newest(there, "understood")).to_contain_text('close "Clock"')
    expect(choices).to_have_count(0)
    expect(there.line).to_have_value("open No")
    expect(there.line).to_be_focused()
    assert set(desk.windows) == {"psyche"}


def test_a_question_is_still_a_question_after_a_reload(there):
    """What was understood, and among what one has to choose, is read from the turns."""
    there.tell("move Psyche left")
    there.tell("move it up")
    there.tell("what is open")
    there.tell("close it")
    there.page.reload()
    there.window("Clock").wait_for()
    there.line.click()
    quiet = there.page.locator(".turns .understood")
    expect(quiet).to_have_text(['move "Psyche" by 0, -100'])
    expect(there.page.locator(".turns .choice button")).to_have_text(["Psyche", "Clock"])


WATCH = """() => { window.told = []; new MutationObserver((all) => { for (const { target } of all)
    if (target.classList.contains("told")) window.told.push(target.dataset.id); })
    .observe(document.querySelector("#canvas"),
    {subtree: true, attributes: true, attributeFilter: ["class"]}); }"""


def test_what_beep_moves_glides_in_a_ring_for_a_moment(there):
    """And what a hand moves meanwhile does neither."""
    clock, psyche = there.window("Clock"), there.window("Psyche")
    there.page.evaluate(WATCH)
    there.tell("move the clock left")
    expect(clock).to_have_css("translate", "700px 80px")
    there.drag(there.grip("Psyche"), 160, 40)
    there.settled()
    assert set(there.page.evaluate("() => window.told")) == {"clock"}
    expect(there.page.locator(".told")).to_have_count(0)
    for each in (clock, psyche):
        each.evaluate("element => element.classList.add('told')")
    expect(clock).to_have_css("transition", "translate 0.15s ease-out")
    there.drag(there.grip("Psyche"), -80, 0, drop=False)
    expect(psyche).to_have_css("transition-property", "none")
    there.page.mouse.up()


def test_text_is_text_everywhere(there, desk):
    """In a command, a title, an answer, a button: nothing of it becomes markup."""
    evil = "<img src=x onerror=alert(1)>"
    place = window("notes", 40, 40, level=3, title=evil)
    desk.place(a=place, b=place | {"zIndex": 4}, psyche=window("psyche", 400, 480))
    there.tell(f'close "{evil}"')
    expect(there.page.locator(".turns .choice button").first).to_be_visible()
    there.tell(evil)
    expect(there.page.locator(".turns .said").last).to_have_text(evil)
    assert there.page.locator(".turns img, #announcer img, .window img").count() == 0


def test_beep_on_a_phone(visitor, desk):
    """The turns fit the screen, and a finger finds the answers to a question."""
    phone = visitor(desk, reduced_motion="reduce", **PHONE).come_back()
    phone.window("Clock").wait_for()
    phone.tell("what is open")
    phone.tell("close it")
    choice = phone.page.locator(".turns .choice button").last
    assert choice.bounding_box()["height"] >= 40
    choice.tap()
    expect(newest(phone, "answer")).to_contain_text("Closed Clock")
    assert phone.page.evaluate("() => document.documentElement.scrollWidth") == 375
    assert set(desk.windows) == {"psyche"}
