"""How cost grows with a document: canvases of one, two and four kilobytes."""

from collections.abc import Iterator
from functools import partial
from itertools import count
from statistics import median
from typing import Any, Final

from benchmarks.layouts import layout
from benchmarks.measure import Curve, Options, Result, in_turns, seconds
from benchmarks.site import site

# Windows of a canvas of so many KB.
WINDOWS: Final = {1: 7, 2: 15, 4: 30}
CANVASES: Final = 2_000

Points = list[tuple[float, float]]


def figures(options: Options) -> Iterator[Result]:
    """The curves by size."""
    with site():
        patches, flushes, memory = _measured(options)
    label = "KB of a canvas"
    yield Curve(
        "by-size", "A change of a canvas, by its size", label, "s", {"canvas patch": patches}
    )
    yield Curve("by-size-flush", "A flush, by the size", label, "rows/s", {"our flush": flushes})
    yield Curve(
        "by-size-memory", "Memory, by the size", label, "bytes a user", {"a canvas": memory}
    )


def _measured(options: Options) -> tuple[Points, Points, Points]:
    from benchmarks import bare, saves
    from benchmarks.growth import used_memory

    amount = options.scaled(CANVASES, short=20)
    crowds = {
        size: saves.Crowd(saves.new_users(amount), windows=windows)
        for size, windows in WINDOWS.items()
    }
    client, memory = bare.client(), []
    for size, crowd in crowds.items():
        client.flushdb()
        before = used_memory(client)
        crowd.leave_unsaved()
        memory.append((float(size), (used_memory(client) - before) / amount))
    client.flushdb()
    changes = {size: _change(crowd) for size, crowd in crowds.items()}
    times = options.scaled(100, short=5)
    patched = in_turns(
        {str(size): partial(seconds, change, times=times) for size, change in changes.items()},
        rounds=options.many,
    )
    client.flushdb()
    flushed = in_turns(
        {str(size): partial(_flush_rate, crowd) for size, crowd in crowds.items()},
        rounds=options.rounds,
    )
    return _points(patched), _points(flushed), memory


def _change(crowd: Any) -> Any:
    """A change of one window of so many."""
    from canvas import services

    user_id = crowd.user_ids[0]
    services.change(user_id, {"patch": layout(user_id, crowd.windows)})
    numbers = count()

    def change() -> None:
        place = {"position": {"x": next(numbers) % 1_000, "y": 0}}
        services.change(user_id, {"patch": {"microApps": {"app-0": place}}})

    return change


def _flush_rate(crowd: Any) -> float:
    return float(crowd.count / crowd.flush())


def _points(taken: dict[str, list[float]]) -> Points:
    return [(float(size), median(values)) for size, values in taken.items()]
