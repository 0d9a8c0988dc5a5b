"""docs/tutorial.md, as a reader follows it: the layer is lifted into a bare Django project."""

from pathlib import Path

import pytest
import redis

from tests.docs.pages import DOCS, blocks
from tests.docs.projects import cache_url, project

TUTORIAL = blocks(DOCS / "tutorial.md")


@pytest.mark.django_db(transaction=True)
def test_the_tutorial_from_top_to_bottom(tmp_path: Path) -> None:
    """Every file, command and prompt in its order; what is shown is what comes."""
    with redis.Redis.from_url(cache_url()) as cache:
        cache.flushdb()
    shop = project(tmp_path, "shop.settings")
    for block in TUTORIAL:
        shop.follow(block)
    assert len(shop.done) > 15
