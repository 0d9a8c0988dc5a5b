"""Tiles and rows: nothing overlaps, and everything fits on a canvas."""

import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from canvas.arranging import GRID, MARGIN, reading_order, tidied, tiled
from canvas.catalogue import LEAST
from canvas.layout import COORDINATE_MAX, SIDE_MAX, merge_patch, problems
from tests.canvas.helpers import window
from tests.servers import ROOT

sides = st.integers(1, SIDE_MAX) | st.floats(1, SIDE_MAX) | st.integers(100, 900)
coordinates = st.integers(-COORDINATE_MAX, COORDINATE_MAX) | st.floats(-500, 3000)
boxes = st.lists(st.tuples(coordinates, coordinates, sides, sides), min_size=1, max_size=60)
at = st.integers(-500, 3000) | st.floats(-500, 3000)
lengths = st.integers(1, 2000) | st.floats(1, 2000)
ordinary = st.lists(st.tuples(at, at, lengths, lengths), min_size=1, max_size=60)
arrange = pytest.mark.parametrize("arranged", [tiled, tidied])


def placed(*boxes: tuple[float, float, float, float]) -> dict[str, Any]:
    """Windows `w0`, `w1`, … of x, y, width and height."""
    return {
        f"w{number}": window(position={"x": x, "y": y}, size={"width": w, "height": h})
        for number, (x, y, w, h) in enumerate(boxes)
    }


def overlaps(apps: dict[str, Any]) -> list[tuple[str, str]]:
    """The pairs of windows that have a pixel, or their margin, in common."""
    return [(a, b) for a, b in itertools.combinations(apps, 2) if _touch(apps[a], apps[b])]


def _touch(a: Any, b: Any) -> bool:
    return all(
        a["position"][axis] < b["position"][axis] + b["size"][side] + MARGIN
        and b["position"][axis] < a["position"][axis] + a["size"][side] + MARGIN
        for axis, side in (("x", "width"), ("y", "height"))
    )


def on_grid(apps: dict[str, Any]) -> bool:
    """Whether every corner lies on it, with the margin to the canvas's edges."""
    corners = [app["position"][axis] for app in apps.values() for axis in "xy"]
    return all(type(at) is int and at % GRID == 0 and at >= MARGIN for at in corners)


@arrange
@given(boxes=boxes)
@settings(max_examples=50)
def test_nothing_overlaps_and_all_is_valid(arranged: Callable[..., Any], boxes: Any) -> None:
    """Whatever sizes the windows have and wherever they are."""
    before = placed(*boxes)
    patch = arranged(before)
    after = merge_patch(before, patch)
    assert overlaps(after) == []
    assert on_grid(after)
    assert problems({"microApps": after}) == []
    if arranged is tidied:
        assert [app["size"] for app in after.values()] == [app["size"] for app in before.values()]
    else:
        assert all(app["size"][side] >= LEAST[side] for app in after.values() for side in LEAST)


@arrange
@given(boxes=ordinary)
@example(boxes=[(0, 0, 1208, 900), (0, 0, 10, 10)])  # of which two shapes are as good
@example(boxes=[(0, 0, 1169, 1), *[(0, 0, 1049, 1)] * 2])  # the widest makes the area
@example(boxes=[(-99, 0, 1169, 1), *[(0, 0, 1, 1)] * 5, (0, 0, 1049, 1)])
@settings(max_examples=50)
def test_arranging_again_changes_nothing(arranged: Callable[..., Any], boxes: Any) -> None:
    """So that nothing creeps over the canvas."""
    before = placed(*boxes)
    assert arranged(merge_patch(before, arranged(before))) == {}


@arrange
def test_five_hundred_windows_come_out_valid(arranged: Callable[..., Any]) -> None:
    """As many as a canvas holds."""
    before = placed(*[(40, 40, 360, 240)] * 500)
    after = merge_patch(before, arranged(before))
    assert problems({"microApps": after}) == []
    assert all(app["size"][side] >= LEAST[side] for app in after.values() for side in LEAST)
    assert overlaps(after) == []


def test_what_fits_on_no_canvas_is_not_tidied() -> None:
    """Five hundred of the largest there can be."""
    assert tidied(placed(*[(0, 0, SIDE_MAX, SIDE_MAX)] * 500)) is None


def test_tiles_fill_the_area_from_the_upper_left() -> None:
    """At least 1200 by 720, else as far as the windows reach, within what a screen may have."""
    one = tiled(placed((40, 40, 300, 200)))
    assert one == {"w0": _box(16, 16, 1168, 688)}
    wide = tiled(placed((40, 40, 300, 200), (1500, 40, 404, 200)))
    assert wide == {"w0": _box(16, 16, 936, 688), "w1": _box(968, 16, 936, 688)}
    far = tiled(placed((COORDINATE_MAX, COORDINATE_MAX, 9, 9)))
    assert far == {"w0": _box(16, 16, 2528, 1408)}


def test_a_shorter_row_of_tiles_is_as_wide_as_the_others() -> None:
    """Three windows leave no hole, and stay in the order in which they were read."""
    found = tiled(placed((884, 40, 300, 200), (40, 44, 300, 200), (300, 500, 300, 200)))
    assert found == {
        "w1": _box(16, 16, 576, 336),
        "w0": _box(608, 16, 576, 336),
        "w2": _box(16, 368, 1168, 336),
    }


def _box(x: int, y: int, width: int, height: int) -> dict[str, Any]:
    return {"position": {"x": x, "y": y}, "size": {"width": width, "height": height}}


def test_tidying_keeps_order_and_sizes_in_rows() -> None:
    """A row ends where the next window would leave the area, and is as high as its highest."""
    found = tidied(placed((700, 30, 500, 300), (0, 0, 601, 99), (0, 90, 400, 200)))
    assert found == {
        "w1": {"position": {"x": 16, "y": 16}},
        "w0": {"position": {"x": 640, "y": 16}},
        "w2": {"position": {"x": 16, "y": 336}},
    }


def test_reading_goes_row_by_row() -> None:
    """What begins above the middle of a row's uppermost window is in that row."""
    apps = placed((500, 0, 9, 100), (0, 49, 9, 100), (0, 50, 9, 100), (0, 20, 9, 9))
    assert reading_order(apps) == ["w3", "w1", "w0", "w2"]


def test_the_least_size_is_the_page_s() -> None:
    """Else a tile would lie over its neighbours on the screen."""
    geometry = (ROOT / "aevon/page/static/page/geometry.js").read_text()
    told = re.search(r"SMALLEST = \{ width: (\d+), height: (\d+) \}", geometry)
    assert told is not None
    assert [int(each) for each in told.groups()] == [LEAST["width"], LEAST["height"]]
