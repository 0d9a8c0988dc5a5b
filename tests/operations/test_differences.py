"""The cache beside PostgreSQL, member by member."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from aevon.operations.differences import MEMBERS_MAX, TEXT_MAX, Member, compare, shortened

NAMES = st.text('ab_.["', min_size=1, max_size=3)
LEAVES = st.none() | st.booleans() | st.integers(-2, 2) | st.just(1.0) | st.text("a1", max_size=2)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=10,
)
KINDS = {"cache only": "postgresql only", "postgresql only": "cache only"}


def differing(members: list[Member]) -> dict[str, tuple[str, str | None, str | None]]:
    """What is not the same, by path."""
    return {m.path: (m.kind, m.cached, m.ledger) for m in members if m.kind != "same"}


def test_members_are_aligned_by_path() -> None:
    """Whatever their order; what only one side has stands alone."""
    cached = {"b": {"x": 1, "y": [1, 2]}, "a": "s", "new": None}
    ledger = {"a": "s", "b": {"y": [1, 3], "x": 1}, "old": {}}
    assert differing(compare(cached, ledger)) == {
        "b.y[1]": ("changed", "2", "3"),
        "new": ("cache only", "null", None),
        "old": ("postgresql only", None, "{}"),
    }


def test_turns_are_aligned_by_their_number() -> None:
    """One more in front does not make all of them differ."""
    older = [{"seq": n, "command": f"c{n}"} for n in (3, 2, 1)]
    newer = [{"seq": 4, "command": "c4"}, *older]
    assert set(differing(compare(newer, older))) == {"[seq 4].seq", "[seq 4].command"}


def test_notes_of_the_cache_layer_are_no_difference() -> None:
    """PostgreSQL has none of them."""
    [member] = compare({"_incarnation": "5f1c", "a": 1}, {"a": 1})[:1]
    assert (member.kind, member.differs) == ("own", False)
    [_, member] = compare({"a": 1}, {"a": 1, "_incarnation": "5f1c"})
    assert (member.kind, member.differs, member.cached) == ("own", False, None)


def test_numbers_texts_and_truths_are_told_apart() -> None:
    """JSON has four kinds of one."""
    for other in (1.0, True, "1"):
        assert [m.kind for m in compare({"a": 1}, {"a": other})] == ["changed"]


def test_a_name_cannot_be_taken_for_a_path() -> None:
    """It is quoted."""
    paths = [m.path for m in compare({"a.b": 1, "a": {"b": 2}, "c[0]": 3}, None)]
    assert paths == ['"a.b"', "a.b", '"c[0]"']


def test_a_long_text_is_cut_with_its_length() -> None:
    """So that nobody takes the part for all of it."""
    [member] = compare({"a": "x" * 5_000}, None)
    assert member.cached is not None
    assert member.cached.endswith("… (5,002 characters in all)")
    assert len(member.cached) < TEXT_MAX + 50


def test_what_differs_is_shown_before_what_fits() -> None:
    """Of a great many members."""
    ours = {f"m{n}": n for n in range(2_000)}
    shown, left_out = shortened(compare(ours, {**ours, "m1999": 0}))
    assert (len(shown), left_out) == (MEMBERS_MAX, 2_000 - MEMBERS_MAX)
    assert (shown[0].path, shown[0].differs, shown[1].differs) == ("m1999", True, False)


@settings(max_examples=50)
@given(JSON, JSON)
def test_a_comparison_says_the_same_from_either_side(one: Any, other: Any) -> None:
    """Each path once; the same paths, with the sides exchanged; nothing differs from itself."""
    there, back = compare(one, other), compare(other, one)
    assert len({m.path for m in there}) == len(there)
    sides = {m.path: (KINDS.get(m.kind, m.kind), m.ledger, m.cached) for m in back}
    assert {m.path: (m.kind, m.cached, m.ledger) for m in there} == sides
    assert not differing([m for m in compare(one, one) if m.kind != "own"])
    same = one == other and json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    if not same:
        assert any(m.kind != "same" for m in there)
