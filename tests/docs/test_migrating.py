"""docs/migrating.md, as a reader follows it who has put the layer in."""

from pathlib import Path

import pytest

from tests.docs.pages import DOCS, blocks
from tests.docs.projects import own_cache, project

# Steps 1 and 2: the folder, the application, the settings.
LIFTED = blocks(DOCS / "tutorial.md")[:3]
MIGRATING = blocks(DOCS / "migrating.md")


@pytest.mark.django_db(transaction=True)
def test_the_migration_from_django_redis(tmp_path: Path) -> None:
    """The stale read is seen before, and not after."""
    with own_cache():
        shop = project(tmp_path, "shop.settings")
        for block in [*LIFTED, *MIGRATING]:
            shop.follow(block)
    assert len(shop.done) > 8
