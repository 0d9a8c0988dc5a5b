"""The Micro-Apps: notes, instrument and psyche, sessions, clock."""

import pytest
from playwright.sync_api import expect

from tests.waiting import eventually

from .people import Person, window


def test_note_survives_a_reload_and_closing_its_window(visit, person):
    """Typed, saved by itself, there again."""
    paper = visit.page.get_by_label("Text of Notes")
    paper.fill("Vitrum diatretum\n<b>not markup</b> & ΛΞVON")
    expect(visit.window("Notes")).to_contain_text("Saved")
    visit.page.reload()
    expect(paper).to_have_value("Vitrum diatretum\n<b>not markup</b> & ΛΞVON")
    visit.page.get_by_role("button", name="Close Notes").click()
    visit.settled()
    visit.launch("Notes")
    expect(paper).to_have_value("Vitrum diatretum\n<b>not markup</b> & ΛΞVON")


def test_note_typed_right_before_the_tab_closes_is_kept(visit, person):
    """The last letters leave with the page."""
    expect(visit.page.get_by_label("Text of Notes")).to_be_enabled()
    visit.hold_back()
    paper = visit.page.get_by_label("Text of Notes")
    paper.press_sequentially("the last word")
    visit.page.close(run_before_unload=True)
    visit.context.new_page().goto(f"{person.url}/")
    again = visit.context.pages[-1].get_by_label("Text of Notes")
    expect(again).to_have_value("the last word")


def test_note_typed_offline_is_kept_here_and_stored_later(visit, person):
    """It says so, and does so."""
    paper = visit.page.get_by_label("Text of Notes")
    expect(paper).to_be_enabled()
    visit.context.set_offline(True)
    paper.fill("written in a tunnel")
    expect(visit.window("Notes")).to_contain_text("kept here")
    expect(visit.status).to_have_text("offline, 1 change kept here")
    visit.context.set_offline(False)
    expect(visit.window("Notes").locator(".note-state")).to_have_text("Saved")
    assert person.call("GET", "/canvas/notes/notes/")["text"] == "written in a tunnel"


def test_note_changed_in_two_places_keeps_both(visit, person):
    """Nobody's words are dropped; whoever only reads follows."""
    paper = visit.page.get_by_label("Text of Notes")
    person.call("PUT", "/canvas/notes/notes/", {"text": "theirs"})
    expect(paper).to_have_value("theirs")
    visit.context.set_offline(True)
    paper.fill("mine")
    expect(visit.window("Notes")).to_contain_text("kept here")
    person.call("PUT", "/canvas/notes/notes/", {"text": "theirs, second thoughts"})
    visit.context.set_offline(False)
    expect(visit.window("Notes").locator(".note-state")).to_have_text("Saved")
    text = person.call("GET", "/canvas/notes/notes/")["text"]
    assert "mine" in text
    assert "theirs, second thoughts" in text
    expect(paper).to_have_value(text)


@pytest.fixture
def refused(visit, person):
    """A note that grew beyond what the server takes, because both texts were kept."""
    paper = visit.page.get_by_label("Text of Notes")
    expect(paper).to_be_enabled()
    visit.context.set_offline(True)
    paper.fill("b" * 12_000)
    expect(visit.window("Notes")).to_contain_text("kept here")
    person.call("PUT", "/canvas/notes/notes/", {"text": "a" * 12_000})
    visit.context.set_offline(False)
    expect(visit.window("Notes").locator(".note-state")).to_contain_text("20000 characters")
    return visit


def test_refused_note_says_why_and_is_sent_again_only_when_it_changed(refused, person):
    """The same text would be refused again, however often; a shorter one is taken."""
    attempts = len(refused.sent("PUT", "/canvas/notes/notes/"))
    refused.page.wait_for_timeout(3500)
    assert len(refused.sent("PUT", "/canvas/notes/notes/")) == attempts
    refused.page.get_by_label("Text of Notes").fill("short")
    expect(refused.window("Notes").locator(".note-state")).to_have_text("Saved")
    assert person.call("GET", "/canvas/notes/notes/")["text"] == "short"


def test_refused_note_whose_window_is_closed_is_there_when_it_is_opened_again(refused):
    """It exists nowhere else; and nothing of it is sent meanwhile."""
    paper = refused.page.get_by_label("Text of Notes")
    text = paper.input_value()
    attempts = len(refused.sent("PUT", "/canvas/notes/notes/"))
    refused.page.get_by_role("button", name="Close Notes").click()
    refused.page.wait_for_timeout(3500)
    refused.launch("Notes")
    expect(paper).to_have_value(text)
    expect(refused.window("Notes").locator(".note-state")).to_contain_text("20000 characters")
    assert len(refused.sent("PUT", "/canvas/notes/notes/")) == attempts


def test_refused_note_keeps_nobody_signed_in(refused, person):
    """What would be lost is said, with the true reason; whoever wants to leaves all the same."""
    refused.page.get_by_role("button", name=person.username).click()
    refused.page.get_by_role("menuitem", name="Sign out").click()
    saying = refused.page.locator("#saying")
    expect(saying).to_contain_text("A note is not saved, and lost when you sign out.")
    expect(saying).not_to_contain_text("cannot be reached")
    refused.page.get_by_role("button", name="Sign out all the same").click()
    expect(refused.page.get_by_label("Password")).to_be_visible()
    refused.page.reload()
    expect(refused.page.get_by_label("Password")).to_be_visible()


def test_note_beyond_the_five_hundredth_is_refused_in_place(visit, person):
    """The limit is said in the window, and nothing is tried again."""
    for number in range(500):
        person.call("PUT", f"/canvas/notes/old-{number}/", {"text": "old"})
    visit.page.get_by_label("Text of Notes").fill("one too many")
    state = visit.window("Notes").locator(".note-state")
    expect(state).to_have_text("Not saved, kept here only: appId: A user has at most 500 notes.")


def test_instrument_shows_its_odds_plays_and_moves_the_psyche(visit, person):
    """The chances are those of the API, a play is one play, and the Psyche knows at once."""
    visit.launch("SpinForge")
    spinforge = visit.window("SpinForge")
    told = person.call("GET", "/klepsydra/instruments/")["instruments"]
    multipliers = [
        f"× {tier['multiplier']:g}" if tier["multiplier"] else "—"
        for each in told if each["slug"] == "spinforge"
        for tier in each["odds"]["now"]["tiers"]
    ]  # fmt: skip
    expect(spinforge.locator("tbody td:last-child")).to_have_text(multipliers)
    before = person.call("GET", "/klepsydra/psyche/")["version"]
    spinforge.get_by_label("Stake Ξ").fill("7")
    spinforge.get_by_role("button", name="Play").click()
    expect(spinforge.locator(".outcome")).to_contain_text("7 Ξ")
    psyche = person.call("GET", "/klepsydra/psyche/")
    assert psyche["version"] == before + 1
    expect(visit.window("Psyche").locator(".bead.lost")).to_have_count(psyche["lossStreak"])


def test_play_whose_answer_is_lost_is_played_once(visit, person):
    """Sent again with the same key, it is the same play."""
    visit.launch("SpinForge")
    spinforge = visit.window("SpinForge")
    play = spinforge.get_by_role("button", name="Play")
    expect(play).to_be_enabled()
    before = person.call("GET", "/klepsydra/psyche/")["version"]
    lost: list[str] = []

    def lose(route):
        route.fetch()
        lost.append(route.request.headers["idempotency-key"])
        route.abort("connectionreset")

    visit.page.route("**/interactions/", lose, times=1)
    play.click()
    expect(spinforge.locator(".outcome")).not_to_be_empty()
    keys = {
        each.headers["idempotency-key"] for each in visit.sent("POST", "/klepsydra/interactions/")
    }
    assert keys == set(lost)
    assert person.call("GET", "/klepsydra/psyche/")["version"] == before + 1


def test_every_instrument_is_known_by_the_name_that_beep_gives_it(visitor, person):
    """BEEP makes "sisyphus-s-ascent" of a name whose slug is another: it plays all the same."""
    person.place()
    names = ["SpinForge", "Oracle of Delphi", "Sisyphus's Ascent"]
    visit = visitor(person).come_back()
    for name in names:
        visit.tell(f'open "{name}"')
    for name in names:
        expect(visit.window(name).get_by_role("button", name="Play")).to_be_enabled()


def test_psyche_draws_the_wave_where_the_server_has_it(visit, person):
    """The point is as far up as the API's wave says."""
    wave = person.call("GET", "/klepsydra/instruments/")["wave"]
    figure = visit.window("Psyche").locator(".figure")
    expect(figure).not_to_have_text("…")
    assert abs(float(figure.inner_text().replace("−", "-")) - wave) < 0.02
    drawing = visit.window("Psyche").get_by_role("img")
    height = drawing.evaluate("element => element.clientHeight")
    point = float(drawing.locator(".wave-now").get_attribute("cy") or "nan")
    assert abs(point - height * (0.5 - 0.38 * wave)) < 2


def test_psyche_without_frustration_says_none(visit):
    """Nothing cannot halve."""
    frustration = visit.window("Psyche").locator(".facts > div", has_text="Frustration")
    expect(frustration.locator("dd.quiet")).to_have_text("none")


def test_another_session_is_ended_from_the_list(visit, visitor, person):
    """The other browser asks for a sign-in; this one stays."""
    other = visitor(person, user_agent="Mozilla/5.0 (Windows NT 10.0) Firefox/130.0").come_back()
    other.window("Notes").wait_for()
    visit.launch("Sessions")
    listed = visit.window("Sessions")
    expect(listed).to_contain_text("this one")
    expect(listed.get_by_text("from 127.0.0.x")).to_have_count(2)
    listed.get_by_role("button", name="End this session: Firefox on Windows").click()
    expect(listed.get_by_text("Firefox on Windows")).to_have_count(0)
    expect(other.page.locator("#sign-in-note")).to_contain_text("Your session has ended.")
    expect(visit.page.locator("#sign-in")).to_be_hidden()


def test_clock_tells_the_time_of_this_screen(visitor, person: Person):
    """In the browser's own zone, not the server's."""
    person.place(clock=window("clock", 80, 80))
    visit = visitor(person, timezone_id="Asia/Kolkata", locale="en-GB").come_back()
    shown = visit.window("Clock").locator(".clock-time")
    now = "() => new Date().toLocaleTimeString('en-GB', {hour: '2-digit', minute: '2-digit'})"
    assert eventually(lambda: shown.inner_text() == visit.page.evaluate(now), 5)
