"""The README's examples run as they stand there; the tests that docs/security.md names exist."""

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


SECURITY = (ROOT / "docs" / "security.md").read_text()
# Requirements of each section of OWASP ASVS 5.0.0, chapters 7 to 9.
SECTIONS = {
    "7.1": 3, "7.2": 4, "7.3": 2, "7.4": 5, "7.5": 3, "7.6": 2,
    "8.1": 4, "8.2": 4, "8.3": 3, "8.4": 2, "9.1": 3, "9.2": 4,
}  # fmt: skip


def test_every_requirement_of_the_standard_is_answered() -> None:
    """Each once, in order, with its level and with what is here."""
    rows = re.findall(r"^\| (\d\.\d\.\d) \| ([123]) \| [^|]+ \| [^|]+ \| [^|]*\|$", SECURITY, re.M)
    wanted = [f"{name}.{number + 1}" for name, last in SECTIONS.items() for number in range(last)]
    assert [number for number, _ in rows] == wanted


def test_every_test_that_is_named_exists() -> None:
    """As a function of that file. `TEST?` is written before one that is yet to come."""
    named = set(re.findall(r"(TEST\? )?`([\w/]+\.py)::(test_\w+)`", SECURITY))
    assert len(named) > 40
    for awaited, path, name in sorted(named):
        file = ROOT / "tests" / path
        exists = file.is_file() and f"\ndef {name}(" in file.read_text()
        assert exists or awaited, f"{path}::{name}"
