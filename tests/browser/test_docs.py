"""The documentation's site in the browser: it asks nobody else, and can be searched."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.servers import ROOT

PAGES = ("index", "tutorial", "design", "reference/settings", "reference/api", "adr/index")


class Quiet(SimpleHTTPRequestHandler):
    """Tells nothing of requests."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base's signature
        pass


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the site is served."""
    folder = tmp_path_factory.mktemp("docs")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir"]
    subprocess.run([*build, str(folder)], cwd=ROOT, check=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_documentation_asks_nobody_else(browser: Browser, docs: str, scheme: Any) -> None:
    """By day and by night; a diagram is seen, nothing is missing, and a word is found."""
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1440, "height": 900})
    page = context.new_page()
    asked: list[str] = []
    troubles: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("response", lambda answer: answer.status < 400 or troubles.append(answer.url))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    for name in PAGES:
        page.goto(f"{docs}/{name}.html")
        page.wait_for_load_state("networkidle")
    page.goto(f"{docs}/design.html")
    expect(page.locator(".sequence svg").first).to_be_visible()
    page.goto(f"{docs}/index.html?q=tombstone")  # typed, it might come before the index has
    expect(page.locator(".md-search-result__item").first).to_be_visible()
    context.close()
    assert len(asked) > len(PAGES)
    assert [url for url in asked if not url.startswith((docs, "data:", "blob:"))] == []
    assert troubles == []


def test_the_documentation_on_a_phone(browser: Browser, docs: str) -> None:
    """No page is wider than the screen: tables and code scroll by themselves."""
    context = browser.new_context(viewport={"width": 375, "height": 800})
    page = context.new_page()
    for name in PAGES:
        page.goto(f"{docs}/{name}.html")
        assert page.evaluate("document.documentElement.scrollWidth") <= 375, name
    context.close()
