"""`--users 1,2,5-9`."""

import itertools
import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aevon.cache.keyspace import USER_ID_MAX, InvalidKey
from aevon.cache.user_ranges import parse_users

REFUSED = [
    "*",
    "1 2",
    "1\n",
    "\n1",
    "{x}",
    "../",
    "",
    ",",
    "1,",
    "1,,2",
    "0",
    "0-3",
    "01",
    "-1",
    "+1",
    "1-",
    "1-2-3",
    "9-5",
    "1.5",
    "1e3",
    "0x10",
    "١",  # an Arabic digit
    "1, 2",
    "psyche:1",
    str(USER_ID_MAX + 1),
    f"1-{USER_ID_MAX + 1}",
    "9" * 10_240,
    "1," * 5_000 + "1",
]
ranges = st.tuples(st.integers(1, 300), st.integers(0, 40)).map(lambda p: (p[0], p[0] + p[1]))


@pytest.mark.parametrize("text", REFUSED)
def test_anything_but_ids_and_ranges_is_refused_in_a_short_sentence(text: str) -> None:
    """The message names what is wrong without repeating ten kilobytes of it."""
    with pytest.raises(InvalidKey) as refusal:
        parse_users(text)
    assert 10 < len(str(refusal.value)) < 200


@given(st.lists(ranges, min_size=1, max_size=12))
def test_ranges_of_any_order_and_overlap_give_each_user_once(named: list[tuple[int, int]]) -> None:
    """Iteration, length and membership agree with the plain set."""
    expected = set(itertools.chain.from_iterable(range(a, b + 1) for a, b in named))
    users = parse_users(",".join(f"{a}-{b}" if a != b else str(a) for a, b in named))
    assert list(users) == sorted(expected)
    assert len(users) == len(expected)
    assert {u for u in range(350) if u in users} == expected


@given(st.text(max_size=30))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """Nothing but `InvalidKey` comes out, and what is parsed is canonical."""
    try:
        users = parse_users(text)
    except InvalidKey:
        return
    assert set(text) <= set("0123456789,-")
    assert len(users) >= 1


def test_a_million_users_cost_no_memory() -> None:
    """A range stays a range."""
    tracemalloc.start()
    users = parse_users("1-1000000")
    total = sum(1 for _ in users)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == len(users) == 1_000_000
    assert peak < 100_000


def test_ranges_that_touch_become_one() -> None:
    """A list of a thousand neighbours is one range."""
    assert parse_users("3,1-2,4").ranges == (range(1, 5),)


def test_the_largest_range_has_a_length() -> None:
    """Every user that a key can name."""
    users = parse_users(f"1-{USER_ID_MAX}")
    assert len(users) == sys.maxsize
    assert USER_ID_MAX in users
    assert "7" not in users
