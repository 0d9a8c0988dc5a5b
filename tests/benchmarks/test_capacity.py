"""docs/capacity.md says what its script makes of the committed figures, and its model is sound."""

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import capacity, report
from benchmarks.capacity import (
    COMMITS,
    DISK,
    FLUSH,
    LOG,
    MEMORY,
    NETWORK,
    TRIPS,
    Assumed,
    Measured,
    Needs,
    changed_share,
    needs,
    whole,
)
from tests.servers import ROOT

MEASURED = Measured.of(report.read(ROOT / "docs"))
USERS = st.integers(1, 10**10)
NAMES = [each.name for each in fields(Assumed)]


def of(users: int, **assumed: Any) -> Needs:
    """What so many need, some of it assumed otherwise."""
    return needs(users, MEASURED, replace(Assumed(), **assumed))


def test_the_page_says_what_the_script_makes() -> None:
    """`python -m benchmarks.capacity` makes it anew."""
    page = (ROOT / "docs" / capacity.PAGE).read_text()
    assert page == capacity.page(report.read(ROOT / "docs"))


def test_every_assumption_has_its_reason_and_is_on_the_page() -> None:
    """And its unit."""
    page = (ROOT / "docs" / capacity.PAGE).read_text()
    for each in fields(Assumed):
        assert each.metadata["unit"]
        assert f"| `{each.name}` | " in page
        assert f" | {each.metadata['why']} |" in page


@given(USERS, USERS)
def test_more_users_never_need_less(few: int, more: int) -> None:
    """Of anything."""
    less, much = of(min(few, more)), of(max(few, more))
    assert less.nodes <= much.nodes
    assert less.primaries <= much.primaries
    assert all(units <= much.units[name] for name, units in less.units.items())


@given(USERS, st.integers(2, 1_000))
def test_needs_grow_as_the_users_do(users: int, times: int) -> None:
    """The model knows nothing that is not linear in them."""
    one, many = of(users), of(users * times)
    for name, units in one.units.items():
        assert many.units[name] == pytest.approx(units * times)


@pytest.mark.parametrize(
    ("assumed", "halved"),
    [
        ("node_gb", {MEMORY}),
        ("node_memory_share", {MEMORY}),
        ("node_trips", {TRIPS}),
        ("node_gbit", {NETWORK}),
        ("node_load", {TRIPS, NETWORK}),
        ("primary_commits", {COMMITS}),
        ("primary_log_mb", {LOG}),
        ("primary_gb", {DISK}),
        ("worker_share", {FLUSH}),
    ],
)
@given(users=USERS)
def test_of_what_can_twice_as_much_half_is_needed(
    users: int, assumed: str, halved: set[str]
) -> None:
    """And nothing else changes."""
    before = of(users)
    after = of(users, **{assumed: 2 * getattr(Assumed(), assumed)})
    for name, units in before.units.items():
        expected = units / 2 if name in halved else units
        assert after.units[name] == pytest.approx(expected)


@given(USERS, st.integers(1, 100), st.floats(0.01, 100))
def test_a_node_is_whatever_is_short_first(users: int, memory: int, load: float) -> None:
    """A whole number, one at least, that each of its needs is within."""
    each = of(users, node_gb=memory, validates=load)
    for name in capacity.NODE:
        assert each.units[name] <= each.nodes + 1e-6
    assert any(each.nodes - 1 < max(1, each.units[name]) for name in capacity.NODE)


@given(USERS, st.floats(0.001, 1_000), st.floats(1, 86_400))
def test_the_cache_never_makes_more_writes_than_there_are_changes(
    users: int, patches: float, seconds: float
) -> None:
    """Nor more than there are users to change something within a period."""
    each = of(users, patches=patches, flush_seconds=seconds)
    changes = users * Assumed().online_share * Assumed().peak * patches / 60
    assert each.flush_rows <= changes * (1 + 1e-9)
    assert each.flush_rows <= users * Assumed().online_share / seconds * (1 + 1e-9)
    assert each.commits <= each.commits_without * (1 + 1e-9)


@given(st.floats(0, 1_000), st.floats(1, 86_400), st.floats(1, 86_400))
def test_a_longer_period_saves_more_changes_at_once(rate: float, one: float, other: float) -> None:
    """Of a share between none and all."""
    short, long = sorted((one, other))
    assert 0 <= changed_share(rate, short) <= changed_share(rate, long) <= 1


@pytest.mark.parametrize("name", NAMES)
def test_every_assumption_counts(name: str) -> None:
    """None is there for nothing: the page would be another one."""
    before = Assumed()
    doubled = replace(before, **{name: 2 * getattr(before, name)})
    sizes = [needs(10**8, MEASURED, each) for each in (before, doubled)]
    shown = [
        "".join(capacity._needs([each], assumed))
        for each, assumed in zip(sizes, (before, doubled), strict=True)
    ]
    assert shown[0] != shown[1] or sizes[0].units != sizes[1].units


@pytest.mark.parametrize(
    ("units", "number"), [(0.0, 1), (0.2, 1), (1.0, 1), (1 + 1e-12, 1), (1.1, 2), (41.0, 41)]
)
def test_a_whole_number_of_them(units: float, number: int) -> None:
    """One at least."""
    assert whole(units) == number
