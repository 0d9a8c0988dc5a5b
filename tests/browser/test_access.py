"""For everybody: axe-core's rules, reduced motion."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect

from .test_phone import PHONE

AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
SCREENS = {"desk": {}, "phone": PHONE}


@pytest.fixture(scope="module")
def axe():
    """The rules, as a script."""
    if not AXE.is_file():
        pytest.skip("axe-core is not installed (npm ci --prefix tests/browser)")
    return AXE.read_text()


def serious(visit, axe, within="html"):
    """What axe-core calls serious or critical, and where."""
    visit.page.evaluate(axe)
    found = visit.page.evaluate("within => axe.run(within)", within)
    return [
        (each["id"], [node["target"] for node in each["nodes"]])
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("screen", SCREENS)
def test_no_serious_issue(visitor, person, axe, screen, scheme):
    """From the sign-in to a full canvas with everything open, by night and by day."""
    visit = visitor(person, color_scheme=scheme, reduced_motion="reduce", **SCREENS[screen]).open()
    visit.page.get_by_label("Password").wait_for()
    assert serious(visit, axe) == []
    visit.sign_in()
    visit.window("Notes").wait_for()
    visit.launch("SpinForge")
    visit.launch("Sessions")
    expect(visit.window("Sessions")).to_contain_text("this one")
    assert serious(visit, axe) == []
    visit.line.click()
    assert serious(visit, axe) == []
    visit.page.get_by_role("button", name="Apps").click()
    assert serious(visit, axe) == [], json.dumps(visit.page.url)


def test_reduced_motion_is_respected(visitor, person):
    """Nothing glides, nothing fades."""
    visit = visitor(person, reduced_motion="reduce").come_back()
    visit.window("Notes").wait_for()
    visit.drag(visit.grip("Clock"), 43, 21)
    moving = visit.page.evaluate("() => document.getAnimations().length")
    assert moving == 0
