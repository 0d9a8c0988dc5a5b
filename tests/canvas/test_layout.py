"""Merge patch and what a valid layout is."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canvas.layout import merge_patch, problems, touched, unknown
from tests.canvas.helpers import window

# RFC 7396, appendix A: original, patch, result.
APPENDIX_A = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]

scalars = st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2)
full = st.recursive(scalars, lambda inner: st.dictionaries(st.sampled_from("abc"), inner))
values = st.recursive(
    st.none() | scalars, lambda inner: st.dictionaries(st.sampled_from("abc"), inner)
)


def layout(**apps: Any) -> dict[str, Any]:
    return {"microApps": apps}


def found(value: Any, *ids: str) -> list[tuple[str, str]]:
    return [(each.field, each.code) for each in problems(value, ids or None)]


@pytest.mark.parametrize(("target", "patch", "result"), APPENDIX_A)
def test_merge_patch_does_what_the_rfc_says(target: Any, patch: Any, result: Any) -> None:
    """Every example of RFC 7396, appendix A."""
    assert merge_patch(target, patch) == result


def by_the_letter(target: Any, patch: Any) -> Any:
    """RFC 7396, 2, line by line."""
    if not isinstance(patch, dict):
        return patch
    target = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = by_the_letter(target.get(name), value)
    return target


@given(values, values)
def test_merge_patch_does_what_the_rfcs_own_program_does(target: Any, patch: Any) -> None:
    """Whatever is merged into whatever."""
    assert merge_patch(target, patch) == by_the_letter(target, patch)


@given(values, values)
def test_merge_patch_leaves_its_arguments_alone(target: Any, patch: Any) -> None:
    """A change that is refused afterwards has not touched the live layout."""
    before = copy.deepcopy((target, patch))
    merge_patch(target, patch)
    assert (target, patch) == before


@given(values, values)
def test_merge_patch_twice_is_merge_patch_once(target: Any, patch: Any) -> None:
    """A retry, or a replay, changes nothing."""
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once


@given(full, full, full)
def test_merge_patches_of_different_members_commute(target: Any, left: Any, right: Any) -> None:
    """Two users' windows never disturb each other."""
    target = {"left": target, "right": target}
    one_way = merge_patch(merge_patch(target, {"left": left}), {"right": right})
    other_way = merge_patch(merge_patch(target, {"right": right}), {"left": left})
    assert one_way == other_way


@given(values, st.dictionaries(st.sampled_from("abc"), full))
def test_merging_into_nothing_gives_the_patch(target: Any, patch: Any) -> None:
    """A patch without nulls describes the whole of what it makes."""
    assert merge_patch(None, patch) == patch


def test_a_complete_layout_has_no_problem() -> None:
    """At the bounds, too."""
    edge = window(
        type="t" * 64,
        title="",
        position={"x": -1_000_000, "y": 1_000_000.0},
        size={"width": 1, "height": 100_000},
        zIndex=-(2**31),
    )
    assert found(layout(**{"a" * 64: edge, "A-z_0.9": window(title="Ξ" * 200)})) == []


BAD_MICRO_APPS: list[tuple[dict[str, Any], str, str]] = [
    ({"type": ""}, "type", "invalid_text"),
    ({"type": "t" * 65}, "type", "invalid_text"),
    ({"type": 5}, "type", "invalid_text"),
    ({"title": "t" * 201}, "title", "invalid_text"),
    ({"title": None}, "title", "invalid_text"),
    ({"title": "a\0"}, "title", "invalid_text"),
    ({"title": "\ud800"}, "title", "invalid_text"),
    ({"position": 5}, "position", "not_an_object"),
    ({"position": {"x": 1}}, "position.y", "required"),
    ({"position": {"x": 1, "y": 1, "z": 1}}, "position.z", "unknown_member"),
    ({"position": {"x": "1", "y": 1}}, "position.x", "not_a_number"),
    ({"position": {"x": True, "y": 1}}, "position.x", "not_a_number"),
    ({"position": {"x": float("nan"), "y": 1}}, "position.x", "not_a_number"),
    ({"position": {"x": float("inf"), "y": 1}}, "position.x", "not_a_number"),
    ({"position": {"x": 1_000_000.1, "y": 1}}, "position.x", "out_of_range"),
    ({"position": {"x": 1, "y": -1_000_001}}, "position.y", "out_of_range"),
    ({"size": {"width": 0.9, "height": 1}}, "size.width", "out_of_range"),
    ({"size": {"width": 1, "height": 100_001}}, "size.height", "out_of_range"),
    ({"zIndex": 1.0}, "zIndex", "not_an_integer"),
    ({"zIndex": True}, "zIndex", "not_an_integer"),
    ({"zIndex": 2**31 + 1}, "zIndex", "out_of_range"),
    ({"zIndex": 10**400}, "zIndex", "out_of_range"),
    ({"colour": "red"}, "colour", "unknown_member"),
    ({"": "red"}, "", "unknown_member"),
]


@pytest.mark.parametrize(("members", "field", "code"), BAD_MICRO_APPS)
def test_a_bad_member_is_named(members: dict[str, Any], field: str, code: str) -> None:
    """By its path, and nothing else is complained about."""
    assert found(layout(a=window(**members))) == [(f"microApps.a.{field}", code)]


@pytest.mark.parametrize("member", ["type", "title", "position", "size", "zIndex"])
def test_a_missing_member_is_named(member: str) -> None:
    """There are no defaults: a new micro-app must be complete."""
    app = window()
    del app[member]
    assert found(layout(a=app)) == [(f"microApps.a.{member}", "required")]


@pytest.mark.parametrize("app_id", ["", "a" * 65, "a b", "a/b", "a\n", "ä", "*", "{x}"])
def test_a_bad_id_is_refused(app_id: str) -> None:
    """Ids are plain: they stand in paths and in commands."""
    assert found(layout(**{app_id: window()})) == [(f"microApps.{app_id}", "invalid_id")]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([], ("", "not_an_object")),
        ({}, ("microApps", "required")),
        ({"microApps": []}, ("microApps", "not_an_object")),
        ({"microApps": {"a": 1}}, ("microApps.a", "not_an_object")),
        ({"microApps": {}, "userId": 1}, ("userId", "unknown_member")),
    ],
)
def test_a_layout_of_another_shape_is_refused(value: Any, expected: tuple[str, str]) -> None:
    """Whatever JSON it is."""
    assert found(value) == [expected]


def test_more_than_five_hundred_micro_apps_are_one_problem() -> None:
    """500 fit; of 501 not every single one is complained about."""
    apps: dict[str, Any] = {f"a{n}": window() for n in range(500)}
    assert found(layout(**apps)) == []
    assert found(layout(**apps, one_more=1)) == [("microApps", "too_many")]


def test_only_the_ids_given_are_looked_at() -> None:
    """What was there before and is not touched does not stand in a change's way."""
    value = layout(a=window(zIndex=0.5), b=window(title=1))
    assert found(value, "b", "gone") == [("microApps.b.title", "invalid_text")]


@given(st.dictionaries(st.text(max_size=3), values) | values)
def test_problems_never_raises(value: Any) -> None:
    """Whatever JSON comes, the answer is a list."""
    assert isinstance(problems(layout(a=value)), list)
    assert isinstance(problems(value), list)


def test_a_change_touches_what_its_patch_names() -> None:
    """And a replacement may touch everything."""
    assert set(touched({"patch": {"microApps": {"a": None, "b": {}}}}) or ()) == {"a", "b"}
    assert touched({"patch": {}}) is None
    assert touched({"replace": layout()}) is None


@pytest.mark.parametrize(
    ("patch", "fields"),
    [
        ({"isStaff": None}, ["isStaff"]),
        ({"": None, "microApps": {}}, [""]),
        ({"microApps": {"a": {"colour": None, "title": "x"}}}, ["microApps.a.colour"]),
        ({"microApps": {"a": {"position": {"z": None}}}}, ["microApps.a.position.z"]),
        ({"microApps": {"a": {"": None}}}, ["microApps.a."]),
        ({"microApps": {"a": None, "b": {"title": None, "size": None}}}, []),
        ({"microApps": None}, []),
        ({"microApps": {"a": {"title": {"x": None}}}}, []),
    ],
)
def test_to_remove_what_no_layout_has_is_refused(patch: Any, fields: list[str]) -> None:
    """It is named; what a layout has may be removed, or is for `problems` to refuse."""
    assert [each.field for each in unknown({"patch": patch})] == fields
