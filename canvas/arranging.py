"""Where windows go that are to lie beside each other. Pure.

The server does not know the screen. It takes it to reach from the canvas's upper left corner as far
as the windows do, within what screens are like; the page draws in what lies beyond the real one.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from canvas.catalogue import LEAST
from canvas.layout import COORDINATE_MAX, MicroApp

MARGIN: Final = 16
GRID: Final = 8
WIDTH: Final = (1200, 2560)  # of a screen, the least and the most
HEIGHT: Final = (720, 1440)
SHAPE: Final = 4 / 3  # width to height of a window that is good to work in

Apps = Mapping[str, MicroApp]
Patch = dict[str, Any]


def tiled(apps: Apps) -> Patch:
    """What lays the windows over the area in rows that fill it; without those that lie so already.

    None is made smaller than the page shows it: what does not fit goes on beyond the area.
    """
    as_now = _shared(len(apps), len(_rows_read(apps)))
    # Tiles end on the grid: measured by their edges, another shape might seem a little better.
    return _laid(apps, as_now) and _laid(apps, _best_rows(len(apps), *_area(apps)))


def _laid(apps: Apps, rows: list[int]) -> Patch:
    """The windows in rows of so many."""
    width, height = _grown(apps, rows)
    patch: Patch = {}
    ids = iter(reading_order(apps))
    for y, tall, columns in zip(*_cells(height, len(rows)), rows, strict=True):
        for x, wide in zip(*_cells(width, columns), strict=True):
            place = {"position": {"x": x, "y": y}, "size": {"width": wide, "height": tall}}
            patch[next(ids)] = place
    return _news(apps, patch)


def tidied(apps: Apps) -> Patch | None:
    """What puts the windows in rows, as large as they are; without those that lie so already.

    None if they are too large for a canvas.
    """
    for width in _widths(apps):
        places = dict(_shelved(apps, width))
        if max(y for _, y in places.values()) <= COORDINATE_MAX:
            return _news(apps, {i: {"position": {"x": x, "y": y}} for i, (x, y) in places.items()})
    return None


def reading_order(apps: Apps) -> list[str]:
    """The ids from the upper left to the lower right, row by row."""
    return [app_id for row in _rows_read(apps) for app_id in row]


def _rows_read(apps: Apps) -> list[list[str]]:
    """The ids in rows: a row is what begins above the middle of its uppermost window."""
    rows: list[list[str]] = []
    middle = -math.inf
    for each in sorted(apps, key=lambda i: (apps[i]["position"]["y"], i)):
        top = apps[each]["position"]["y"]
        if top >= middle:
            rows.append([])
            middle = top + apps[each]["size"]["height"] / 2
        rows[-1].append(each)
    # Sorting keeps what is equal in its order, from top to bottom.
    return [sorted(row, key=lambda i: apps[i]["position"]["x"]) for row in rows]


def _area(apps: Apps) -> tuple[int, int]:
    """Width and height of what the windows lie in, their margins included."""
    boxes = [(app["position"], app["size"]) for app in apps.values()]
    right = max(max(at["x"], MARGIN) + size["width"] for at, size in boxes)
    bottom = max(max(at["y"], MARGIN) + size["height"] for at, size in boxes)
    return _within(right + MARGIN, *WIDTH), _within(bottom + MARGIN, *HEIGHT)


def _within(value: float, least: int, most: int) -> int:
    return math.ceil(min(max(value, least), most))


def _best_rows(count: int, width: int, height: int) -> list[int]:
    """How many windows in each row: what overflows the area least, in the best shape."""
    return min((_shared(count, rows) for rows in range(1, count + 1)), key=_badness(width, height))


def _shared(count: int, rows: int) -> list[int]:
    """So many windows in so many rows, the longer rows first."""
    each, more = divmod(count, rows)
    return [each + 1] * more + [each] * (rows - more)


def _badness(width: int, height: int) -> Any:
    def of(rows: list[int]) -> tuple[float, float]:
        wide, tall = _needed(rows)
        overflow = max(1.0, wide / width, tall / height)
        shape = (max(width, wide) / rows[0]) / (max(height, tall) / len(rows))
        return overflow, abs(math.log(shape / SHAPE))

    return of


def _needed(rows: list[int]) -> tuple[int, int]:
    """The width and height below which windows would be smaller than the least."""
    wide = rows[0] * (int(LEAST["width"]) + MARGIN) + MARGIN
    return wide, len(rows) * (int(LEAST["height"]) + MARGIN) + MARGIN


def _grown(apps: Apps, rows: list[int]) -> tuple[int, int]:
    (width, height), (wide, tall) = _area(apps), _needed(rows)
    return max(width, wide), max(height, tall)


def _cells(length: int, count: int) -> tuple[list[int], list[int]]:
    """Where each of so many cells begins along a length, and how long it is."""
    side = (length - MARGIN) // count - MARGIN
    side -= side % GRID
    return [MARGIN + number * (side + MARGIN) for number in range(count)], [side] * count


def _widths(apps: Apps) -> Iterator[int]:
    """Of rows: the area's, and more where the windows would go too far down."""
    width, _ = _area(apps)
    while width < COORDINATE_MAX:
        yield width
        width *= 2
    yield COORDINATE_MAX


def _shelved(apps: Apps, width: int) -> Iterator[tuple[str, tuple[int, int]]]:
    """The upper left corner of each window in rows of this width."""
    x, y, below = MARGIN, MARGIN, 0
    for each in reading_order(apps):
        size = apps[each]["size"]
        if x > MARGIN and x + size["width"] + MARGIN > width:
            x, y, below = MARGIN, below, 0
        yield each, (x, y)
        x = _on_grid(x + size["width"] + MARGIN)
        below = max(below, _on_grid(y + size["height"] + MARGIN))


def _on_grid(value: float) -> int:
    """The next line of the grid."""
    return math.ceil(value / GRID) * GRID


def _news(apps: Apps, patch: Patch) -> Patch:
    return {i: part for i, part in patch.items() if apps[i] != {**apps[i], **part}}
