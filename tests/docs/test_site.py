"""The documentation as a site: it builds without a warning, and loads nothing from elsewhere."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.pages import DOCS, blocks, pages
from tests.servers import ROOT

# Whose prompts and commands a test follows.
FOLLOWED = {"tutorial.md", "migrating.md", *(f"howto/{p.name}" for p in (DOCS / "howto").glob("*"))}
# Shows what commands print on a server that has been in use for a while.
SHOWN = {"reference/commands.md"}
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


class Page(HTMLParser):
    """Where a page leads, what it loads, and the places in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.links, self.loads = path, set[str](), set[str]()
        self.places, self.classes = set[str](), set[str]()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.places |= {values[name] for name in ("id", "name") if name in values}
        self.classes |= set(values.get("class", "").split())
        if tag == "a" and "href" in values:
            self.links.add(values["href"])
        elif values.get(LOADED.get(tag, "")):
            self.loads.add(values[LOADED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    """Every page of the built site."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return {path: Page(path) for path in sorted(folder.rglob("*.html"))}


def test_every_page_is_in_the_site(site: dict[Path, Page]) -> None:
    """And is reached from the navigation, or the build would have warned."""
    made = {path.stem for path in site}
    assert {path.stem for path in pages()} <= made
    assert len(site) > 30


def test_every_link_leads_somewhere(site: dict[Path, Page]) -> None:
    """To a file of the site, and to a place in it."""
    dead = [
        f"{page.path.name}: {link}"
        for page in site.values()
        if page.path.name != "404.html"  # speaks of absolute paths
        for link in sorted(page.links | page.loads)
        if not urlsplit(link).scheme and not _leads(site, page, link)
    ]
    assert dead == []


def _leads(site: dict[Path, Page], page: Page, link: str) -> bool:
    url = urlsplit(link)
    target = (page.path.parent / unquote(url.path)).resolve() if url.path else page.path
    if target.is_dir():
        target /= "index.html"
    if not url.fragment or url.fragment.startswith("__"):
        return target.is_file()
    return target in site and unquote(url.fragment) in site[target].places


def test_nothing_is_loaded_from_elsewhere(site: dict[Path, Page]) -> None:
    """No script, sheet, picture or letter; nor would the theme fetch a script to draw with."""
    outside = re.compile(r"^(https?:)?//")
    for page in site.values():
        assert [url for url in page.loads if outside.match(url)] == []
        assert "mermaid" not in page.classes
    folder = next(iter(site)).parent
    for sheet in folder.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", sheet.read_text()), sheet


def test_diagrams_are_drawn(site: dict[Path, Page]) -> None:
    """Each that the pages have, with what it says for those who do not see it."""
    wanted = [block for page in pages() for block in blocks(page) if block.language == "mermaid"]
    drawn = re.findall(r'<svg role="img" aria-label="([^"]+)"', _text(site, "design.html"))
    assert len(drawn) == len(wanted) >= 4
    assert drawn[0].startswith("Reader to Dragonfly: GET psyche:2.")


def _text(site: dict[Path, Page], name: str) -> str:
    return next(path for path in site if path.name == name).read_text()


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(DOCS)))
def test_the_code_of_a_page(page: Path) -> None:
    """Python compiles; what is shown with a prompt is followed by a test."""
    for block in blocks(page):
        if block.language == "python":
            compile(block.text, str(block), "exec")
        followed = str(page.relative_to(DOCS)) in FOLLOWED | SHOWN
        assert followed or block.language not in ("console", "pycon"), str(block)


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md"])
def test_links_from_outside_the_site(name: str) -> None:
    """Files that are there."""
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / name).read_text())
    local: list[Any] = [link for link in links if not urlsplit(link).scheme]
    assert [link for link in local if not (ROOT / link).exists()] == []
