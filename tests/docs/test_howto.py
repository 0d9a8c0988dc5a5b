"""docs/howto/, as a reader follows it who has done the tutorial."""

from collections.abc import Iterator

import pytest

from tests.docs.pages import DOCS, blocks
from tests.docs.projects import Project, own_cache, project

TUTORIAL = blocks(DOCS / "tutorial.md")
MADE_BY = ("startproject", "makemigrations")
PAGES = ("several-tables", "bounded-list", "guarded-write", "testing", "other-languages")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, django_db_setup: None) -> Iterator[Project]:
    """What the tutorial leaves behind: its folder, its files, its tables."""
    with own_cache():
        made = project(tmp_path_factory.mktemp("shop"), "shop.settings")
        for block in TUTORIAL:
            if block.title or any(words in block.text for words in MADE_BY):
                made.follow(block)
        yield made


@pytest.mark.parametrize("page", PAGES)
def test_the_recipes(shop: Project, page: str) -> None:
    """Every file, command and prompt of each, in its order."""
    before = len(shop.done)
    for block in blocks(DOCS / "howto" / f"{page}.md"):
        shop.follow(block)
    assert len(shop.done) > before or page == "guarded-write"


def test_every_recipe_is_followed() -> None:
    """None is left out."""
    assert {path.stem for path in (DOCS / "howto").glob("*.md")} == {*PAGES, "index"}
