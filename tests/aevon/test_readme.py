"""The README's examples run as they stand there."""

import re
from typing import Any

import pytest

from beep import services as beep
from klepsydra import services as klepsydra
from klepsydra.models import PsycheState
from tests.servers import ROOT

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0])
def test_the_python_of_the_readme(block: str, make_user: Any) -> None:
    """Each block by itself, for the demo user, whose id it names."""
    demo = make_user(pk=2, username="demo")
    klepsydra.psyche(demo.pk)
    beep.command(demo.pk, "open Notes")
    names: dict[str, Any] = {}
    exec(block, names)
    shown = {"state", "write", "live", "turns"} & names.keys()
    assert len(shown) == 1
    assert all(names[name] for name in shown)
    assert PsycheState.cached.get(demo.pk) == PsycheState.cached.projection.read_one(demo.pk)


def test_there_is_an_example_for_each_pattern() -> None:
    """In code."""
    signs = (".cached.get", "import write_through", "write_behind.update", "import bounded_list")
    assert [next(sign for sign in signs if sign in block) for block in BLOCKS] == [*signs]
