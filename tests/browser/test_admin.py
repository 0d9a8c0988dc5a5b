"""The Reflex Arc in the admin, as the person on call sees it: the dashboard, a user's X-ray."""

import re

import psycopg
import pytest
import redis
from playwright.sync_api import expect

from .a_day import put_in
from .people import Person
from .test_access import axe, serious
from .test_phone import PHONE

__all__ = ["axe"]

SCREENS = {"desk": {}, "phone": PHONE}


@pytest.fixture(scope="module")
def cache(site):
    """The site's cache, past the site; with a day of history in it."""
    put_in(site["dragonflyUrl"])
    with redis.Redis.from_url(site["dragonflyUrl"]) as client:
        yield client


@pytest.fixture(scope="module")
def chief(site):
    """Who may do everything."""
    return Person(site["url"], site["admin"]["username"], site["admin"]["password"])


@pytest.fixture(scope="module")
def logged_in(browser, chief, cache):
    """The cookies of a log-in, for all visits."""
    with browser.new_context() as context:
        log_in(context.new_page(), chief)
        yield context.storage_state()


def log_in(page, person):
    """Fill in the admin's form."""
    page.goto(f"{person.url}/admin/")
    page.get_by_label("Username").fill(person.username)
    page.get_by_label("Password").fill(person.password)
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#main")).to_be_visible()


@pytest.fixture
def arc(visitor, chief, logged_in):
    """`arc("users/2/")` opens that page; `arc()` the dashboard."""

    def open_page(path="", **options):
        visit = visitor(chief, storage_state=logged_in, **options)
        visit.page.goto(f"{chief.url}/admin/reflex-arc/{path}")
        return visit

    return open_page


def user_id(person):
    """Of somebody with a canvas."""
    return person.call("GET", "/canvas/")["userId"]


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("screen", SCREENS)
def test_both_pages_can_be_used_by_everybody(arc, axe, person, screen, scheme):
    """axe-core's rules, by night and by day; on a phone nothing is cut off; the question too."""
    visit = arc(color_scheme=scheme, **SCREENS[screen])
    expect(visit.page.locator("#arc-words")).to_be_visible()
    visit.page.locator("summary").first.click()
    paths = ["", f"users/{user_id(person)}/", f"users/{user_id(person)}/all/flush/"]
    for path in paths:
        if path:
            visit.page.goto(f"{person.url}/admin/reflex-arc/{path}")
        assert visit.page.evaluate("() => document.documentElement.classList.contains('dark')") is (
            scheme == "dark"
        )
        assert serious(visit, axe, ".arc") == []
        width = visit.page.evaluate("() => document.documentElement.scrollWidth")
        assert width <= visit.page.viewport_size["width"]


def test_the_dashboard_is_reached_and_refreshes_itself(arc, cache, chief):
    """From the sidebar. What is open stays open, what is scrolled stays there."""
    visit = arc()
    visit.page.goto(f"{chief.url}/admin/")
    visit.page.get_by_role("link", name="Dashboard").click()
    numbers = visit.page.locator("#arc-numbers-unsaved")
    numbers.locator("summary").click()
    numbers.locator(".arc-scroll").evaluate("element => element.scrollTo(0, 120)")
    numbers.locator("summary").focus()
    before = visit.page.locator("#arc-head .arc-taken").text_content()
    cache.hset("cache:processes:seen", "worker 1@elsewhere", report("elsewhere", "open"))
    expect(visit.page.locator("#arc-head .arc-taken")).not_to_have_text(before, timeout=30_000)
    expect(visit.page.locator(".arc")).to_contain_text("worker 1@elsewhere")
    expect(numbers).to_have_attribute("open", "")
    assert numbers.locator(".arc-scroll").evaluate("element => element.scrollTop") == 120
    assert numbers.locator("summary").evaluate("element => element === document.activeElement")
    cache.hdel("cache:processes:seen", "worker 1@elsewhere")


def report(host, breaker):
    """Of a process that is not there."""
    times = '"startedAt":1,"seenAt":32503680000,"workedAt":null'
    return f'{{"role":"worker","host":"{host}","pid":1,{times},"breaker":"{breaker}","failures":1}}'


def test_a_dashboard_that_cannot_be_had_anew_says_so(arc):
    """And no longer once it can."""
    visit = arc()
    stale = visit.page.locator("#arc-stale")
    visit.context.set_offline(True)
    visit.look()
    expect(stale).to_contain_text("Not refreshed since")
    visit.context.set_offline(False)
    visit.look()
    expect(stale).to_have_text("")


def test_it_works_without_scripts(arc, person):
    """Both pages are there, and the dashboard has itself loaded anew."""
    visit = arc(java_script_enabled=False)
    expect(visit.page.locator("#arc-words")).to_be_visible()
    visit.page.get_by_label("X-ray of a user").fill(person.username)
    visit.page.get_by_label("X-ray of a user").press("Enter")
    expect(visit.page.get_by_role("heading", name="canvas:")).to_be_visible()
    expect(visit.page.locator(".arc-key").first).to_contain_text("Lifetime")


def test_a_stale_key_is_found_repaired_and_noted(arc, cache, person):
    """From the name to the difference, through the question, to the note."""
    person.call("GET", "/klepsydra/psyche/")
    key = f"psyche:{user_id(person)}"
    held = cache.get(key)
    cache.set(key, re.sub(rb'"lossStreak":\d+', b'"lossStreak":77', held), ex=3_600)
    page = arc().page
    page.get_by_label("X-ray of a user").fill(person.username)
    page.get_by_label("X-ray of a user").press("Enter")
    psyche = page.get_by_role("region", name=key).first
    expect(psyche).to_contain_text("stale")
    expect(psyche.locator("tr.differs")).to_have_count(1)
    expect(psyche.locator("tr.differs")).to_contain_text(
        re.compile(r"lossStreak\s+77\s+\d+\s+≠ differs")
    )
    psyche.get_by_role("link", name=f"Repair {key}").click()
    page.get_by_role("button", name="Yes, repair").click()
    expect(page.get_by_text(f"Repair {key}: Was stale, is missing now.")).to_be_visible()
    notes = page.get_by_role("region", name="What was done to these keys").first
    expect(notes).to_contain_text("Was stale, is missing now.")
    page.get_by_role("link", name=f"Warm {key}").click()
    page.get_by_role("link", name="No, go back").click()
    expect(page.get_by_role("region", name=key).first).to_contain_text("missing")
    page.get_by_role("link", name="Reflex Arc", exact=True).click()
    operations = page.get_by_role("region", name="The last operations").first
    expect(operations).to_contain_text(f"Repair {key}")


def test_a_lifetime_counts_down(arc, cache, person):
    """By itself, until it is over."""
    person.call("GET", "/klepsydra/psyche/")
    cache.pexpire(f"psyche:{user_id(person)}", 3_000_000)
    visit = arc(f"users/{user_id(person)}/")
    left = visit.page.locator(".arc-ttl").filter(has_text="min")
    first = left.first.text_content()
    assert first.startswith("49 min")
    expect(left.first).not_to_have_text(first)


def test_ending_all_sessions_puts_the_user_out(arc, person):
    """At once."""
    wanted = user_id(person)
    page = arc(f"users/{wanted}/").page
    expect(
        page.get_by_role("region", name="Live sessions").first.locator("tbody tr")
    ).to_have_count(1)
    page.get_by_role("link", name="End all sessions").click()
    page.get_by_role("button", name="Yes, end all sessions").click()
    expect(page.get_by_text("Sessions ended: 1.").first).to_be_visible()
    with pytest.raises(OSError, match="401"):
        person.call("GET", "/canvas/")


def test_staff_without_the_permission_sees_neither(visitor, site, accounts):
    """No link, and no page."""
    person = next(accounts)
    with psycopg.connect(site["databaseUrl"]) as database:
        database.execute(
            "UPDATE auth_sessions_user SET is_staff = true WHERE username = %s", [person.username]
        )
    page = visitor(person).page
    log_in(page, person)
    expect(page.get_by_role("link", name="Dashboard")).to_have_count(0)
    for path in ("", "state/", "users/2/", "users/2/all/warm/"):
        assert page.context.request.get(f"{person.url}/admin/reflex-arc/{path}").status == 403
