"""Between page and server: nothing is lost, little is sent, and the words are true."""

import contextlib
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from playwright.sync_api import expect

from tests.waiting import eventually

from .people import request, window
from .visits import stored_rect


def test_offline_for_five_seconds_while_dragging_loses_nothing(visit, person):
    """It shows at once, is kept here, said so, and sent when the network is back."""
    visit.context.set_offline(True)
    started = time.monotonic()
    visit.drag(visit.grip("Clock"), 120, -40, steps=20)
    expect(visit.status).to_have_text("offline, 1 change kept here")
    visit.drag(visit.grip("Notes"), -40, 64, steps=20, drop=False)
    expect(visit.status).to_have_text("offline, 2 changes kept here")
    while time.monotonic() - started < 5:
        visit.page.mouse.move(400 + 20 * (time.monotonic() - started), 300)
        visit.page.wait_for_timeout(100)
    visit.page.mouse.up()
    shown = {title: visit.rect(title) for title in ("Clock", "Notes")}
    visit.context.set_offline(False)
    visit.settled()
    assert {title: visit.rect(title) for title in shown} == shown
    stored = person.windows
    for title, rect in shown.items():
        assert stored[title.lower()]["position"] == {"x": rect["x"], "y": rect["y"]}
    expect(visit.status).not_to_contain_text("offline")


def test_at_most_one_patch_in_fifty_milliseconds_and_the_last_is_always_sent(visit, person):
    """A long drag becomes few requests, one at a time, none sooner than 50 ms after another."""
    visit.drag(visit.grip("Clock"), 24, 8)
    visit.settled()
    visit.requests.clear()
    visit.page.evaluate(
        """() => { window.began = []; const real = fetch; window.fetch = (url, options) => {
        if (options.method === "PATCH") window.began.push(performance.now());
        return real(url, options); }; }"""
    )
    visit.drag(visit.grip("Clock"), 240, -120, steps=120)
    visit.settled()
    began = visit.page.evaluate("() => window.began")
    gaps = [later - earlier for earlier, later in pairwise(began)]
    assert len(gaps) >= 3
    assert min(gaps) >= 50
    rect = visit.rect("Clock")
    assert person.windows["clock"]["position"] == {"x": rect["x"], "y": rect["y"]}


def test_tab_closed_right_after_a_drag_has_sent_it(visit, visitor, person):
    """The last patch, with whatever was still on its way, outlives the page."""
    visit.hold_back()
    visit.drag(visit.grip("Notes"), 0, 40)  # in flight when the page goes
    visit.drag(visit.grip("Clock"), 88, 48, drop=False)
    notes, rect = visit.rect("Notes"), visit.rect("Clock")
    visit.page.mouse.up()
    visit.page.close(run_before_unload=True)
    # On the grid since the hand let go.
    assert eventually(lambda: abs(person.windows["clock"]["position"]["x"] - rect["x"]) <= 4, 5)
    assert stored_rect(person.windows["notes"]) == notes
    again = visitor(person, beside=visit).open()
    assert again.rect("Clock") == stored_rect(person.windows["clock"])


LEAVING = {
    "hidden": """() => { const hidden = {configurable: true, value: true};
        Object.defineProperty(document, "hidden", hidden);
        document.dispatchEvent(new Event("visibilitychange")); }""",
    "gone": "() => { window.dispatchEvent(new PageTransitionEvent('pagehide')); }",
}


@pytest.mark.parametrize("leave", LEAVING.values(), ids=LEAVING.keys())
def test_older_patch_that_is_slow_does_not_undo_what_leaves_with_the_tab(visit, person, leave):
    """The first is on its way for longer than the last, and never arrives behind it."""
    visit.page.evaluate(
        """() => { const real = fetch; let patches = 0; window.fetch = async (url, options) => {
        const isFirst = options.method === "PATCH" && patches++ === 0;
        if (isFirst) await new Promise((resolve) => setTimeout(resolve, 1500));
        return real(url, options); }; }"""
    )
    visit.grip("Clock").focus()
    visit.page.keyboard.press("ArrowRight")
    visit.page.wait_for_timeout(200)
    visit.page.keyboard.press("ArrowRight")
    shown = visit.rect("Clock")
    visit.page.evaluate(leave)
    visit.page.wait_for_timeout(3000)
    assert stored_rect(person.windows["clock"]) == shown


def test_ledger_count_rises_with_a_change_and_falls_with_the_flush(visit):
    """What PostgreSQL does not have yet is counted; when it has everything, since when."""
    said = visit.status.evaluate_handle(
        """words => { const said = [];
        new MutationObserver(() => said.push(words.textContent)).observe(words,
        {childList: true, characterData: true, subtree: true}); return said; }"""
    )
    visit.drag(visit.grip("Clock"), 64, 0)
    visit.settled()
    assert eventually(lambda: "saved just now" in said.evaluate("said => said.at(-1) ?? ''"))
    assert any("not yet in the ledger" in each for each in said.json_value())
    expect(visit.status).to_have_text("live · saved just now")


@contextlib.contextmanager
def frozen_cache(site):
    """Dragonfly neither answers nor refuses; it goes on where it was, for each web process.

    Each of them believes it away until it is next asked something: the next test's patch
    would go to PostgreSQL, and its look at the canvas to Dragonfly.
    """
    os.kill(site["pids"]["cache"], signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(site["pids"]["cache"], signal.SIGCONT)
        assert eventually(lambda: all_web_processes_have_the_cache(site["url"]))


def all_web_processes_have_the_cache(url):
    """Asked so often, and so many at once, that each of the two will have answered."""
    with ThreadPoolExecutor(8) as threads:
        found = [threads.submit(request, "GET", f"{url}/health/ready", None, {}) for _ in range(32)]
    return all(each.result()["dependencies"]["dragonfly"]["status"] == "ok" for each in found)


def test_cache_away_is_said_and_everything_goes_on(visit, site, person):
    """A drag still reaches the server, by way of PostgreSQL, and stays when the cache is back."""
    with frozen_cache(site):
        visit.drag(visit.grip("Clock"), 64, 64)
        expect(visit.status).to_have_text("cache away, everything is kept")
        visit.settled()
        rect = visit.rect("Clock")
        assert person.windows["clock"]["position"] == {"x": rect["x"], "y": rect["y"]}
    expect(visit.status).to_contain_text("live")
    assert visit.rect("Clock") == rect


def test_cache_away_before_the_first_flush_moves_nothing_back(visitor, person, site):
    """PostgreSQL knows no window yet: what is shown stays, and both halves are one in the end."""
    visit = visitor(person).come_back()
    visit.window("Notes").wait_for()
    with frozen_cache(site):
        visit.drag(visit.grip("Clock"), 64, 64)
        expect(visit.status).to_have_text("cache away, everything is kept")
        visit.settled()
        shown = {title: visit.rect(title) for title in ("Notes", "Psyche", "Clock")}
        visit.page.wait_for_timeout(2500)
        assert {title: visit.rect(title) for title in shown} == shown
    expect(visit.status).to_contain_text("live")
    assert eventually(lambda: set(person.windows) == {"notes", "psyche", "clock"}, 10)
    clock = {"x": shown["Clock"]["x"], "y": shown["Clock"]["y"]}
    assert eventually(lambda: person.windows["clock"]["position"] == clock, 10)
    assert {title: visit.rect(title) for title in shown} == shown


@pytest.mark.parametrize("status", [503, 429])
def test_server_in_trouble_is_asked_again_no_sooner_than_it_says(visit, person, status):
    """Retry-After is kept to, though meanwhile one poll is answered and another is not; the change
    is not given up."""
    times: list[float] = []
    polls: list[str] = []

    def meddle(route):
        if route.request.method == "PATCH":
            times.append(time.monotonic())
            if len(times) == 1:
                return route.fulfill(status=status, headers={"Retry-After": "5"})
        elif len(times) == 1:
            polls.append(route.request.method)
            if len(polls) == 1:
                return route.abort("connectionreset")
        return route.continue_()

    visit.page.route("**/api/v1/canvas/", meddle)
    visit.drag(visit.grip("Clock"), 64, 64, steps=1)
    visit.settled()
    rect = visit.rect("Clock")
    assert len(polls) >= 2
    assert times[1] - times[0] >= 4.9
    assert person.windows["clock"]["position"] == {"x": rect["x"], "y": rect["y"]}


NOT_OURS = {
    "portal": {"content_type": "text/html", "body": "<h1>Welcome to our hotel</h1>"},
    "null": {"content_type": "application/json", "body": "null"},
    "stranger": {"json": {"ok": True}},
}


@pytest.mark.parametrize("answer", NOT_OURS.values(), ids=NOT_OURS.keys())
@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_success_that_is_not_the_servers_is_no_success(visit, person, method, answer):
    """A proxy's page says 200 for a while: the change is kept, and the page goes on asking."""
    answered: list[str] = []

    def intervene(route):
        if route.request.method != method or len(answered) == 2:
            route.continue_()
        else:
            answered.append(method)
            route.fulfill(status=200, **answer)

    before = visit.rect("Clock")
    visit.page.route("**/api/v1/canvas/", intervene)
    visit.drag(visit.grip("Clock"), 64, 64, steps=1)
    assert eventually(lambda: visit.page.wait_for_timeout(50) or len(answered) == 2, 8)
    visit.settled()
    assert stored_rect(person.windows["clock"]) == visit.rect("Clock") != before
    person.place(notes=window("notes", 80, 80))  # and is heard by a page that still asks
    expect(visit.window("Clock")).to_have_count(0)


def test_windows_dot_waits_until_dragonfly_has_the_change(visit):
    """Amber while it is on its way, verdigris when it is acknowledged; nothing pretends."""
    visit.context.set_offline(True)
    visit.drag(visit.grip("Clock"), 64, 0)
    expect(visit.window("Clock")).to_contain_class("waiting")
    expect(visit.window("Notes")).not_to_contain_class("waiting")
    visit.context.set_offline(False)
    expect(visit.window("Clock")).not_to_contain_class("waiting")


def test_status_waits_with_the_change_and_with_the_cache(visit, site):
    """Amber while a change is on its way or Dragonfly is away; verdigris again after it."""
    state = visit.page.locator("#status")
    expect(state).to_have_attribute("data-tone", "live")
    visit.drag(visit.grip("Clock"), 64, 0)
    with frozen_cache(site):
        visit.drag(visit.grip("Clock"), 64, 0, steps=1)
        expect(visit.status).to_have_text("1 change on the way")
        expect(state).to_have_attribute("data-tone", "waits")
        expect(visit.status).to_have_text("cache away, everything is kept")
        expect(state).to_have_attribute("data-tone", "waits")
    expect(state).to_have_attribute("data-tone", "live")


def test_cache_that_lost_its_memory_is_believed_the_second_time(visit, person):
    """A lower revision once may be an old answer; twice it is the truth."""
    old = person.call("GET", "/canvas/")
    old["revision"] -= 1
    old["layout"]["microApps"]["clock"]["position"] = {"x": 8, "y": 8}
    before = visit.rect("Clock")
    answers: list[int] = []

    def answer(route):
        answers.append(1)
        route.fulfill(json=old, headers={"ETag": f'"{old["revision"]}"'})
        if len(answers) == 1:
            assert visit.rect("Clock") == before

    visit.page.route("**/api/v1/canvas/", answer)
    expect(visit.window("Clock")).to_have_css("translate", "8px 8px")
    assert len(answers) >= 2


def test_far_window_keeps_its_place(visitor, person):
    """Looking at a canvas changes nothing of it: no patch is sent."""
    person.place(notes=window("notes", 3000, 80))
    visit = visitor(person).come_back()
    visit.window("Notes").wait_for()
    visit.page.wait_for_timeout(500)
    assert visit.sent("PATCH", "/canvas/") == []
