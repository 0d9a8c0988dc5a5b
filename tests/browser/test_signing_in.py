"""Coming and going: the sign-in, the session behind it, and where its tokens are not."""

import pytest
from playwright.sync_api import Route, expect

from tests.waiting import eventually

from .people import window


def test_wrong_password_is_said_and_the_right_one_opens_the_canvas(visitor, person):
    """A refusal is one sentence in place; the next attempt works."""
    visit = visitor(person).open().sign_in("not-the-Password-9")
    expect(visit.page.get_by_role("alert")).to_have_text(
        "No active user has this name and password."
    )
    visit.sign_in()
    expect(visit.page.get_by_role("button", name=person.username)).to_be_visible()
    expect(visit.page.locator("#sign-in")).to_be_hidden()


def test_who_is_signed_in_too_often_is_offered_to_end_the_others(visitor, person):
    """One tick, and the others are signed out."""
    other = visitor(person).open().sign_in()
    other.window("Notes").wait_for()
    refusals = [{"type": "/problems/too-many-sessions", "status": 429, "detail": "Too many."}]

    def answer(route: Route) -> None:
        if refusals and route.request.method == "POST":
            route.fulfill(status=429, headers={"Retry-After": "604800"}, json=refusals.pop())
        else:
            route.continue_()

    visit = visitor(person).open()
    visit.page.route("**/auth/browser/", answer)
    choice = visit.page.get_by_label("Sign me out everywhere else")
    expect(choice).to_be_hidden()
    visit.sign_in()
    expect(visit.page.get_by_role("alert")).to_have_text("You are signed in in too many places.")
    choice.check()
    visit.sign_in()
    expect(visit.window("Notes")).to_be_visible()
    expect(other.page.locator("#sign-in")).to_be_visible()
    expect(visit.page.locator("#sign-in")).to_be_hidden()


def test_first_visit_opens_three_windows_and_beep_says_what_to_try(visit, person):
    """Nobody begins before an empty table, and the three are stored."""
    assert visit.page.locator(".window").count() == 3
    expect(visit.page.locator("#saying")).to_contain_text("Drag these where you like")
    assert set(person.windows) == {"notes", "psyche", "clock"}
    visit.page.get_by_role("button", name="open SpinForge").click()
    expect(visit.line).to_have_value("open SpinForge")


def test_tokens_are_out_of_reach_of_any_script(visit):
    """Neither storage nor cookie shows a script one; the cookie that there is, is HttpOnly."""
    seen = visit.page.evaluate(
        "() => [{...localStorage}, {...sessionStorage}, document.cookie, Object.keys(window)]"
    )
    assert "eyJ" not in str(seen)
    assert seen[:3] == [{}, {}, ""]
    cookies = visit.context.cookies(f"{visit.person.url}/api/v1/auth/browser/")
    assert [(each["httpOnly"], each["sameSite"]) for each in cookies] == [(True, "Strict")]


def test_reload_twice_fast_keeps_the_session(visit):
    """A second F5 while the first asks for a token does no harm."""
    with visit.page.expect_request("**/auth/browser/access/"):
        visit.page.reload(wait_until="commit")
    visit.page.reload()
    expect(visit.window("Notes")).to_be_visible()
    expect(visit.page.locator("#sign-in")).to_be_hidden()


def test_signing_out_ends_the_session_and_leaves_nothing_on_the_page(visit, person):
    """What waits is sent first; after it nothing of the person is left, and no way back."""
    visit.drag(visit.grip("Clock"), -160, 40)
    visit.page.get_by_role("button", name=person.username).click()
    visit.page.get_by_role("menuitem", name="Sign out").click()
    expect(visit.page.get_by_label("Password")).to_be_visible()
    assert visit.page.locator(".window").count() == 0
    assert person.username not in visit.page.content()
    visit.page.reload()
    expect(visit.page.get_by_label("Password")).to_be_visible()


def test_refused_sign_out_is_not_taken_for_one(visit, person):
    """Whoever believes to be signed out, and is not, leaves the door open."""
    forbidden = {"status": 403, "json": {"detail": "Only this site's own page may ask for this."}}
    visit.page.route("**/api/v1/auth/browser/", lambda route: route.fulfill(**forbidden))
    visit.page.get_by_role("button", name=person.username).click()
    visit.page.get_by_role("menuitem", name="Sign out").click()
    expect(visit.page.locator("#saying")).to_contain_text(
        "You are still signed in. Only this site's own page may ask for this."
    )
    expect(visit.window("Notes")).to_be_visible()


def test_session_ended_elsewhere_asks_in_place_and_then_sends_what_was_kept(visit, person):
    """Nothing done meanwhile is lost, once the same person is back."""
    person.place(notes=window("notes", 80, 80))
    expect(visit.page.locator(".window")).to_have_count(1)
    before = visit.rect("Notes")
    visit.drag(visit.grip("Notes"), 40, 40, drop=False)
    visit.context.set_offline(True)  # or a poll tells before there is something to keep
    for each in person.call("GET", "/auth/sessions/")["sessions"]:
        if not each["current"]:
            person.call("DELETE", f"/auth/sessions/{each['sid']}/")
    visit.page.mouse.move(before["x"] + 600, before["y"] + 400, steps=3)
    visit.context.set_offline(False)
    expect(visit.page.locator("#sign-in-note")).to_contain_text("1 change kept here")
    visit.page.mouse.up()
    visit.page.get_by_label("Password").fill(person.password)
    visit.page.get_by_role("button", name="Sign in").click()
    expect(visit.window("Notes")).to_be_visible()
    visit.settled()
    after = visit.rect("Notes")
    assert after["x"] > before["x"] + 100
    assert person.windows["notes"]["position"] == {"x": after["x"], "y": after["y"]}


def test_what_the_last_person_left_unsent_never_reaches_the_next(visitor, person, accounts):
    """The session ends with a change kept here; whoever signs in then is somebody else."""
    visit = visitor(person).come_back()
    visit.window("Clock").wait_for()
    visit.settled()
    other = next(accounts)
    other.place(clock=window("clock", 40, 40, title="Theirs"))
    visit.page.route("**/api/v1/canvas/", lambda route: route.abort("connectionreset"))
    visit.drag(visit.grip("Clock"), 64, 64)
    visit.context.clear_cookies()
    for each in person.call("GET", "/auth/sessions/")["sessions"]:
        if not each["current"]:
            person.call("DELETE", f"/auth/sessions/{each['sid']}/")
    visit.page.unroute("**/api/v1/canvas/")
    visit.page.get_by_label("Name").fill(other.username)
    visit.page.get_by_label("Password").fill(other.password)
    visit.page.get_by_role("button", name="Sign in").click()
    expect(visit.window("Theirs")).to_be_visible()
    assert visit.page.locator(".window").count() == 1
    assert other.windows["clock"]["position"] == {"x": 40, "y": 40}


def test_request_that_is_refused_late_does_not_touch_what_is_typed(visit, person):
    """Two were on their way when the session ended; the second refusal is no news."""
    held: list[Route] = []
    refusal = {"status": 401, "json": {"detail": "Your session has ended."}}
    visit.page.route("**/api/v1/auth/browser/access/", lambda route: route.fulfill(**refusal))
    visit.page.route("**/api/v1/canvas/", lambda route: (
        held.append(route) if route.request.method == "GET" else route.fulfill(**refusal)
    ))  # fmt: skip
    assert eventually(lambda: visit.page.wait_for_timeout(50) or held)
    visit.drag(visit.grip("Clock"), 64, 64)
    name = visit.page.get_by_label("Name")
    expect(name).to_have_value(person.username)
    name.fill("somebody else")
    for each in held:
        each.fulfill(**refusal)
    visit.page.wait_for_timeout(300)
    expect(name).to_have_value("somebody else")


def test_somebody_else_in_another_tab_never_gets_the_first_ones_windows(visitor, person, accounts):
    """Two people, one browser: the first one's tab turns to the second, and sends nothing."""
    first = visitor(person).open().sign_in()
    first.window("Notes").wait_for()
    first.settled()
    other = next(accounts)
    other.place(theirs=window("clock", 40, 40, title="Theirs"))
    second = visitor(other, beside=first).open()
    expect(second.window("Notes")).to_be_visible()  # still the first one's session
    second.page.get_by_role("button", name=person.username).click()
    second.page.get_by_role("menuitem", name="Sign out").click()
    second.page.get_by_label("Password").wait_for()
    second.sign_in()
    expect(second.window("Theirs")).to_be_visible()
    first.look()
    expect(first.window("Theirs")).to_be_visible()
    assert first.page.locator(".window").count() == 1
    assert set(other.windows) == {"theirs"}


def test_what_the_first_ones_timers_still_hold_never_goes_to_the_second(visitor, person, accounts):
    """Until the page that is loaded anew has gone: a note and a command that are tried again."""
    first = visitor(person).come_back()
    first.window("Notes").wait_for()
    first.settled()
    other = next(accounts)
    other.place(theirs=window("clock", 40, 40, title="Theirs"))
    first.page.route("**/api/v1/**", lambda route: route.abort("connectionreset"))
    first.page.get_by_label("Text of Notes").fill("a secret of the first")
    second = visitor(other, beside=first).open()
    second.page.get_by_role("button", name=person.username).click()
    second.page.get_by_role("menuitem", name="Sign out").click()
    second.page.get_by_label("Password").wait_for()
    second.sign_in()
    expect(second.window("Theirs")).to_be_visible()
    loading: list[Route] = []

    def hold(route):
        loading.append(route)

    first.page.route(f"{person.url}/", hold)
    first.line.fill("help")
    first.line.press("Enter")
    first.page.unroute("**/api/v1/**")
    first.look()
    first.page.wait_for_timeout(3000)
    assert other.call("GET", "/canvas/notes/notes/")["text"] == ""
    assert other.call("GET", "/beep/history/")["turns"] == []
    loading[0].continue_()
    expect(first.window("Theirs")).to_be_visible()


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_the_page_follows_the_systems_colours(visitor, person, scheme):
    """Night and day have grounds of their own."""
    visit = visitor(person, color_scheme=scheme).open()
    colour = visit.page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert colour == {"dark": "rgb(12, 33, 41)", "light": "rgb(236, 231, 219)"}[scheme]
