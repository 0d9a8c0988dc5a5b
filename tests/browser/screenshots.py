"""`make screenshots`: the real pages, as README and docs/admin.md show them (docs/screenshots/)."""

import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import redis
from playwright.sync_api import Browser, sync_playwright

from tests.aevon.programs import make_run
from tests.servers import ROOT

from .a_day import put_in
from .chromium import ARGUMENTS
from .people import Person, window
from .visits import Visit

FOLDER: Final = ROOT / "docs" / "screenshots"
SCREENS: Final[dict[str, dict[str, Any]]] = {
    "1440": {"viewport": {"width": 1440, "height": 900}},
    "375": {"viewport": {"width": 375, "height": 812}, "has_touch": True, "is_mobile": True},
}
SCHEMES: Final = ("dark", "light")


def size(width: int, height: int) -> dict[str, dict[str, int]]:
    """As a member of a window."""
    return {"size": {"width": width, "height": height}}


DESK: Final = {
    "notes": window("notes", 40, 64, level=1, **size(384, 424)),
    "clock": window("clock", 40, 512, level=2, **size(384, 176)),
    "psyche": window("psyche", 448, 64, level=5, **size(480, 336)),
    "sessions": window("sessions", 448, 424, level=3, **size(480, 264)),
    "spinforge": window("spinforge", 952, 64, level=4, title="SpinForge", **size(448, 424)),
    "monday": window("notes", 952, 512, level=3, title="Monday", **size(448, 176)),
}
MONDAY: Final = (
    "Ask Lucilla about the new furnace\nSea-glass for the window, 40 panes\nBread, olives"
)


def main() -> int:
    """Take all of them; returns the exit code."""
    chromium = shutil.which("chromium")
    if not chromium:
        print("chromium is not installed (on Debian: apt install chromium).", file=sys.stderr)
        return 1
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="aevon-screenshots-") as folder:
        Path(folder).chmod(0o755)
        with make_run(Path(folder)) as (_, told), sync_playwright() as playwright:
            person = Person(told["url"], **told["demo"])
            person.place(**DESK)
            person.call("PUT", "/canvas/notes/monday/", {"text": MONDAY})
            browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
            for screen in SCREENS:
                for scheme in SCHEMES:
                    take(browser, person, screen, scheme)
            a_busy_day(person, told["dragonflyUrl"])
            chief = Person(told["url"], **told["admin"])
            for scheme in SCHEMES:
                take_admin(browser, chief, person, scheme)
            browser.close()
    return 0


def take(browser: Browser, person: Person, screen: str, scheme: Any) -> None:
    """The sign-in, the canvas, and what the top bar holds."""
    context = browser.new_context(color_scheme=scheme, **SCREENS[screen])
    visit = Visit(context, context.new_page(), person).open()
    visit.page.get_by_label("Password").wait_for()
    shoot(visit, f"sign-in-{screen}-{scheme}")
    visit.sign_in()
    visit.window("Psyche").locator(".wave-past[d]").wait_for(state="attached")
    visit.window("SpinForge").locator("tbody tr").first.wait_for(state="attached")
    if screen == "375":
        visit.page.locator(".sheet-tabs").get_by_text("Psyche").click()
        visit.page.wait_for_timeout(800)  # the sheet is on its way
    shoot(visit, f"canvas-{screen}-{scheme}")
    person.call("DELETE", "/beep/history/")
    for command in ("what can i play", "play the third one with stake 5", "status"):
        visit.tell(command)
    shoot(visit, f"beep-{screen}-{scheme}")
    context.close()


def a_busy_day(person: Person, cache_url: str) -> None:
    """A day behind the site, and something to see in the keys of this person: a canvas that waits
    for the flush, a state that somebody has edited."""
    put_in(cache_url)
    person.place(**DESK | {"clock": window("clock", 64, 520, level=6, **size(384, 176))})
    person.call("GET", "/klepsydra/psyche/")
    with redis.Redis.from_url(cache_url) as cache:
        [key] = [each for each in cache.scan_iter("psyche:*") if b'"userId":2,' in cache.get(each)]
        edited = re.sub(rb'"lossStreak":\d+', b'"lossStreak":77', cache.get(key))
        cache.set(key, edited, keepttl=True)


def take_admin(browser: Browser, chief: Person, person: Person, scheme: Any) -> None:
    """The dashboard, and somebody's X-ray."""
    context = browser.new_context(color_scheme=scheme, **SCREENS["1440"])
    visit = Visit(context, context.new_page(), chief)
    visit.page.goto(f"{chief.url}/admin/reflex-arc/")
    visit.page.get_by_label("Username").fill(chief.username)
    visit.page.get_by_label("Password").fill(chief.password)
    visit.page.get_by_role("button", name="Log in").click()
    visit.page.locator("#arc-words").wait_for()
    shoot(visit, f"reflex-arc-{scheme}", full_page=True)
    visit.page.get_by_label("X-ray of a user").fill(person.username)
    visit.page.get_by_label("X-ray of a user").press("Enter")
    visit.page.locator(".arc-key").first.wait_for()
    shoot(visit, f"x-ray-{scheme}", full_page=True)
    context.close()


def shoot(visit: Visit, name: str, *, full_page: bool = False) -> None:
    """One picture, once everything is where it belongs."""
    visit.page.wait_for_timeout(600)
    path = FOLDER / f"{name}.png"
    visit.page.screenshot(path=path, full_page=full_page)
    print(f"{path.relative_to(ROOT)}  {path.stat().st_size // 1000} kB", flush=True)


if __name__ == "__main__":
    sys.exit(main())
