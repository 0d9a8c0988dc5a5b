"""What people are shown of a value."""

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aevon.cache.shown import DEPTH_MAX, MASKED, masked, pretty, visible

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)
SECRET = "c0ffee" * 8


@pytest.mark.parametrize(
    "value",
    [
        {"_lease": SECRET},
        {"_fence": {SECRET: 1_764_000_000_000}, "_floor": 7},
        {"refreshToken": SECRET},
        {"nested": [{"password": SECRET}]},
        {"jti": SECRET},
        {"refresh_digest": SECRET},
        {"text": f"Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIyIn0.{SECRET}"},
        {"text": f"argon2$argon2id$v=19$m=19456,t=2,p=1${SECRET}"},
        {"text": f"pbkdf2_sha256$1000000${SECRET}"},
        {f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIyIn0.{SECRET}": 1},
        [SECRET],
    ],
)
def test_no_token_and_no_hash_is_shown(value: Any) -> None:
    """Neither those of leases and fences nor what somebody else has put there."""
    assert "c0ffee" not in pretty(value)
    assert MASKED in pretty(value)


def test_what_is_no_secret_stays() -> None:
    """Session ids name, and open nothing; deadlines, floors and stamps explain."""
    sid = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
    value = {"sessions": {sid: 1_764_000_000}, "_incarnation": "5f1c00aa22bb", "refresh": True}
    assert masked(value) == value
    fence = masked({"_fence": {"a": 1, "b": 2}, "_floor": 7})
    assert (list(fence["_fence"].values()), fence["_floor"]) == ([1, 2], 7)


def test_what_cannot_be_seen_is_written_out() -> None:
    """A name that reads backwards, half a letter, a line's end."""
    assert visible("a\u202eb\x00\ud800\n") == "a\\u202eb\\u0000\\ud800\\u000a"
    assert visible("Λ · ok 🙂") == "Λ · ok 🙂"
    assert visible("\U000e0001") == "\\U000e0001"


@settings(max_examples=50)
@given(JSON)
def test_whatever_it_is_it_can_be_sent_and_hides_nothing(value: Any) -> None:
    """As UTF-8, without an unseen letter but the lines' ends."""
    shown = pretty(value)
    shown.encode()
    assert all(unicodedata.category(letter)[0] != "C" for letter in shown if letter != "\n")


def test_what_is_nested_without_end_is_cut() -> None:
    """However deep the server's reply, nothing overflows."""
    deep: Any = "bottom"
    for _ in range(900):
        deep = [deep]
    assert json.dumps(masked(deep)).count("[") == DEPTH_MAX
    assert "bottom" not in pretty(deep)
