"""Which of two changes of the same came later."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canvas import recency
from canvas.layout import MICRO_APPS_MAX, Change, Layout, apply, empty_layout, problems
from tests.canvas.helpers import window

IDS = st.sampled_from("ab")
SMALL = st.integers(0, 3)
PARTS = st.one_of(
    st.none(),
    st.builds(lambda z: window(zIndex=z), SMALL),
    st.fixed_dictionaries({}, optional={"zIndex": SMALL, "title": st.sampled_from("xy")}),
    st.builds(lambda x: {"position": {"x": x}}, SMALL),
    st.builds(lambda y: {"position": {"y": y}, "unknown": None}, SMALL),
)
WINDOWS = st.builds(lambda z: window(zIndex=z), SMALL)
CHANGES = st.one_of(
    st.builds(lambda apps: {"patch": {"microApps": apps}}, st.dictionaries(IDS, PARTS, max_size=2)),
    st.builds(
        lambda apps: {"replace": {"microApps": apps}}, st.dictionaries(IDS, WINDOWS, max_size=2)
    ),
)


@given(st.lists(st.tuples(st.booleans(), CHANGES), max_size=12))
def test_changes_on_both_sides_end_as_if_made_one_after_the_other(
    changes: list[tuple[bool, Any]],
) -> None:
    """In the order of their times, those past the cache among those of the live layout."""
    one_by_one = live = row = empty_layout()
    times: recency.Times = {}
    edits: list[tuple[int, Change]] = []
    for at, (past, change) in enumerate(changes, start=1):
        after = apply(row if past else live, change)
        if problems(after) or problems(apply(one_by_one, change)):
            continue
        one_by_one = apply(one_by_one, change)
        if past:
            row = after
            edits.append((at, change))
        else:
            live, times = after, recency.noted(times, change, after, at)
    assert _replayed(live, times, edits) == one_by_one


def _replayed(live: Layout, times: recency.Times, edits: list[tuple[int, Change]]) -> Layout:
    layout = live
    for at, change in edits:
        layout = recency.newer_kept(apply(layout, change), live, times, at)
    return layout


def test_a_window_moved_after_it_was_closed_elsewhere_stays() -> None:
    """Whoever moved it saw it, and was told that it is there."""
    live: Layout = {"microApps": {"a": window(zIndex=2)}}
    kept = recency.newer_kept(empty_layout(), live, {"a": {"zIndex": 2}}, 1)
    assert kept == live


@pytest.mark.parametrize(
    ("part", "noted"),
    [
        (None, {"a": 5}),
        (window(), {"a": 5}),
        ({"zIndex": 1}, {"a": {"": 1, "zIndex": 5}}),
        ({"position": {"x": 10}, "unknown": None}, {"a": {"": 1, "position": {"x": 5}}}),
    ],
)
def test_what_is_noted_of_a_change(part: Any, noted: Any) -> None:
    """One time for a whole window; of members that are none, nothing."""
    patch = {"microApps": {"a": part}}
    after = apply({"microApps": {"a": window()}}, {"patch": patch})
    assert recency.noted({"a": 1}, {"patch": patch}, after, 5) == noted


def test_what_is_noted_does_not_grow_without_end() -> None:
    """Of more closed windows than a canvas holds the first are forgotten; no id is made up."""
    times: recency.Times = {}
    for at in range(MICRO_APPS_MAX + 10):
        change: Change = {"patch": {"microApps": {f"a{at}": None, "": None, "no id": None}}}
        times = recency.noted(times, change, empty_layout(), at)
    assert list(times) == [f"a{at}" for at in range(10, MICRO_APPS_MAX + 10)]


def test_microseconds_are_exact() -> None:
    """As PostgreSQL keeps them."""
    moment = datetime(2026, 11, 24, 10, 0, 0, 123_457, tzinfo=UTC)
    assert recency.microseconds(moment) == 1_795_514_400_123_457
