"""The real site, once for all of these tests, and a real browser that visits it.

Both end with this folder: Playwright's event loop in this thread would make Django refuse the
database to the tests that follow.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.aevon.programs import make_run

from .chromium import ARGUMENTS
from .people import Person, people
from .visits import Visit

CHROMIUM = shutil.which("chromium")
PEOPLE = 400
DESKTOP = {"width": 1440, "height": 900}
PATIENCE_MS = 10_000
expect.set_options(timeout=PATIENCE_MS)

Visitor = Callable[..., Visit]
HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before those that are not asked for are left out
@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What run.json tells, and the folder. Canvases are persisted every two seconds."""
    if not CHROMIUM:
        pytest.skip("chromium is not installed (on Debian: apt install chromium)")
    folder = tmp_path_factory.mktemp("site")
    # A browser beside it takes both cores: what is late for that is not away.
    patient = {"AEVON_CACHE_CONNECT_TIMEOUT_SECONDS": "1", "AEVON_CACHE_READ_TIMEOUT_SECONDS": "1"}
    with make_run(folder, CANVAS_PERSIST_SECONDS="2", **patient) as (_, told):
        yield {**told, "folder": folder}


@pytest.fixture(scope="package")
def accounts(site: dict[str, Any]) -> Iterator[Person]:
    """People nobody has been yet."""
    return people(Path(site["folder"]), site["url"], PEOPLE)


@pytest.fixture(scope="package")
def browser(site: dict[str, Any]) -> Iterator[Browser]:
    """Debian's Chromium."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield launched
        launched.close()


@pytest.fixture
def person(accounts: Iterator[Person]) -> Person:
    """Somebody new, whose canvas is empty."""
    return next(accounts)


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Visitor]:
    """Opens browsers of their own, or further tabs; nothing on any page may have gone wrong."""
    visits: list[Visit] = []

    def visit(person: Person, *, beside: Visit | None = None, **options: Any) -> Visit:
        wanted = {"viewport": DESKTOP, **options}
        context = beside.context if beside else browser.new_context(**wanted)
        context.set_default_timeout(PATIENCE_MS)
        visits.append(Visit(context, context.new_page(), person))
        return visits[-1]

    yield visit
    for each in visits:
        each.context.close()
    assert [trouble for each in visits for trouble in each.troubles] == []


@pytest.fixture
def visit(visitor: Visitor, person: Person) -> Visit:
    """Somebody new, signed in, on the canvas of a first visit."""
    there = visitor(person).come_back()
    there.window("Notes").wait_for()
    there.settled()
    return there
