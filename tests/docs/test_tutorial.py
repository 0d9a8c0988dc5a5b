"""docs/tutorial.md, as a reader follows it: the layer is lifted into a bare Django project."""

import ast
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, Block, blocks
from tests.docs.projects import own_cache, project
from tests.servers import ROOT

TUTORIAL = blocks(DOCS / "tutorial.md")
# What came along with the folder, and is only told of.
TAKEN_ALONG = """
>>> from django.contrib.auth.models import User
>>> from django.test import Client
>>> chief = Client(SERVER_NAME="localhost")
>>> chief.force_login(User.objects.create_superuser("chief"))
>>> chief.get("/admin/cache/outbox/").status_code
200
>>> from aevon.cache import tasks
>>> tasks.drain_outbox(), tasks.audit()
(None, None)
"""


@pytest.mark.django_db(transaction=True)
def test_the_tutorial_from_top_to_bottom(tmp_path: Path) -> None:
    """Every file, command and prompt in its order; what is shown is what comes."""
    with own_cache():
        shop = project(tmp_path, "shop.settings")
        for block in TUTORIAL:
            shop.follow(block)
        shop.follow(Block("what came along", 1, "pycon", "", TAKEN_ALONG))
    assert len(shop.done) > 15


def imports() -> Iterator[str]:
    """What the layer's modules import, anywhere in them."""
    for path in (ROOT / "aevon" / "cache").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (name.name for name in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module == "aevon":
                yield from (f"aevon.{name.name}" for name in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.module or ""


def test_the_layer_can_be_lifted() -> None:
    """It imports nothing else of this project, and no package that the tutorial does not name."""
    found = set(imports())
    ours = {name for name in found if name.split(".")[0] == "aevon"}
    assert [name for name in sorted(ours) if not name.startswith("aevon.cache")] == []
    tops = {name.split(".")[0] for name in found - ours} - sys.stdlib_module_names
    packages = {packages_distributions()[top][0] for top in tops}
    assert len(packages) > 7
    assert [name for name in sorted(packages) if name not in TUTORIAL[0].text] == []
