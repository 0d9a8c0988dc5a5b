"""Several tabs, several devices, and BEEP: everybody sees the same canvas."""

import re

from playwright.sync_api import expect

from .people import window


def test_another_tab_follows_within_five_seconds(visit, visitor, person):
    """What is moved, opened and closed here happens there."""
    other = visitor(person, beside=visit).open()
    other.window("Clock").wait_for()
    visit.page.bring_to_front()  # a tab in the background draws once a second
    visit.drag(visit.grip("Psyche"), 160, -40)
    visit.page.get_by_role("button", name="Close Clock").click()
    visit.settled()
    expect(other.window("Clock")).to_have_count(0, timeout=5000)
    assert other.rect("Psyche") == visit.rect("Psyche")


def test_unchanged_canvas_is_answered_without_a_body(visit):
    """Polls ask for what is new, and get a 304 when nothing is."""
    with visit.page.expect_response(
        lambda answer: answer.url.endswith("/canvas/") and answer.status == 304
    ) as answered:
        pass
    headers = answered.value.request.all_headers()
    assert headers["if-none-match"] == answered.value.headers["etag"]


def test_beep_opens_moves_and_closes_at_once(visit, person):
    """The canvas is looked at right after a command; the turns are shown, and can be recalled."""
    visit.tell("open SpinForge")
    expect(visit.window("SpinForge")).to_be_visible()
    visit.tell("move it to 640, 96")
    expect(visit.page.locator(".turns .answer").last).to_contain_text("640, 96")
    visit.line.press("ArrowUp")
    expect(visit.line).to_have_value("move it to 640, 96")
    expect(visit.window("SpinForge")).to_have_css("translate", re.compile("^640px"))
    visit.tell("close it")
    expect(visit.window("SpinForge")).to_have_count(0)
    assert "spinforge" not in person.windows


def test_window_under_the_pointer_is_not_moved_by_others(visit, person):
    """Who holds it decides, and has the last word."""
    visit.drag(visit.grip("Clock"), 40, 40, drop=False)
    held = visit.rect("Clock")
    person.call("PATCH", "/canvas/", {"microApps": {"clock": {"position": {"x": 8, "y": 8}}}})
    visit.page.wait_for_timeout(2500)
    assert visit.rect("Clock") == held
    visit.page.mouse.up()
    expect(visit.window("Clock")).not_to_have_class("held")


def test_window_closed_elsewhere_while_it_is_dragged_lets_go(visit, person):
    """No half window appears, on neither side; the other change of the same moment is kept."""
    visit.drag(visit.grip("Clock"), 40, 40, drop=False)
    person.call("PATCH", "/canvas/", {"microApps": {"clock": None}})
    expect(visit.window("Clock")).to_have_count(0)
    visit.page.mouse.up()
    visit.drag(visit.grip("Notes"), 0, 80)
    visit.settled()
    expect(visit.page.locator("#saying")).not_to_contain_text("not taken")
    assert set(person.windows) == {"notes", "psyche"}
    assert person.windows["notes"]["position"]["y"] == visit.rect("Notes")["y"]


def test_change_that_the_server_refuses_is_said_and_undone(visit, person):
    """501 windows do not fit: the page shows what is stored, and says why."""
    many = {f"w{n}": window("ledger", n, n, title=f"W{n}") for n in range(497)}
    person.call("PATCH", "/canvas/", {"microApps": many})
    expect(visit.page.locator(".window")).to_have_count(500)
    visit.launch("SpinForge")
    expect(visit.page.locator("#saying")).to_contain_text("At most 500 micro-apps")
    expect(visit.page.locator(".window")).to_have_count(500)
    assert len(person.windows) == 500
