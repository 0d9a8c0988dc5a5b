"""Django's cache API on the Reflex Arc's server: as any other backend, and never a pickle."""

from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum
from typing import Any

import pytest
from django.core.cache import cache
from django.utils.safestring import mark_safe
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aevon.cache.connection import store
from aevon.cache.metrics import LOADS
from tests.cache.conftest import counted

pytestmark = pytest.mark.django_db


class Colour(IntEnum):
    """An enum is an int, and yet would come back as something else."""

    RED = 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(key=st.text(min_size=1, max_size=30), value=JSON)
def test_any_json_value_round_trips(key: str, value: Any) -> None:
    """Under any key; integers of any size."""
    cache.set(key, value)
    assert cache.get(key, "absent") == value
    cache.delete(key)
    assert cache.get(key, "absent") == "absent"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ({1, 2}, "set"),
        (b"x", "bytes"),
        (datetime(2026, 1, 1, tzinfo=UTC), "datetime"),
        (Decimal("1.1"), "Decimal"),
        (lambda: 1, "function"),
        (Colour.RED, "Colour"),
        ([{"a": object()}], "object"),
        ({1: "x"}, "int key"),
        (float("nan"), "nan"),
        ([float("inf")], "inf"),
        ("\ud800", "surrogate"),
        ({"\ud800": 1}, "surrogate"),
    ],
)
def test_what_json_cannot_carry_is_refused_by_its_type(value: Any, name: str) -> None:
    """And nothing is stored."""
    with pytest.raises(TypeError, match=name):
        cache.set("k", value)
    assert cache.get("k") is None


def test_a_circle_is_refused() -> None:
    """Rather than a RecursionError from somewhere inside."""
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(TypeError, match="nested too deeply"):
        cache.set("k", circle)


def test_a_template_fragment_can_be_cached() -> None:
    """Django's own `cache` tag stores a SafeString."""
    cache.set("fragment", mark_safe("<b>x</b>"))
    assert cache.get("fragment") == "<b>x</b>"


def test_a_key_has_three_parts_whatever_it_holds() -> None:
    """Colons and percent signs are encoded, and decoded again."""
    cache.set("a:b%c", 1)
    assert store().command("KEYS", "django:*") == [b"django:1:a%3Ab%25c"]
    assert list(cache.iter_keys("*")) == ["a:b%c"]


def test_clear_leaves_everybody_elses_keys() -> None:
    """Sessions, queues and canvases live on the same server."""
    store().command("SET", "canvas:1", "unsaved")
    cache.set_many({f"k{n}": n for n in range(1200)})
    cache.clear()
    assert store().command("DBSIZE") == 1
    assert store().command("GET", "canvas:1") == b"unsaved"


@pytest.mark.parametrize("held", [b"\x80\x05}.", b"{", b"[" * 100_000, b"NaN,"])
def test_what_cannot_be_read_is_not_there(held: bytes) -> None:
    """It is counted and removed, and the others come."""
    cache.set("good", 1)
    store().command("SET", "django:1:bad", held)
    with counted(LOADS, "django", "corrupt") as more:
        assert cache.get_many(["good", "bad"]) == {"good": 1}
        assert more() == 1
    store().command("SET", "django:1:bad", held)
    assert cache.get("bad", "absent") == "absent"
    assert cache.get_or_set("bad", 2) == 2
    assert cache.get("bad") == 2


def test_the_rest_of_the_api_works() -> None:
    """Counters, many at once, versions, lifetimes, locks."""
    cache.set_many({"a": 1, "b": 2}, timeout=60)
    assert cache.get_many(["a", "b", "c"]) == {"a": 1, "b": 2}
    assert cache.incr("a") == 2
    assert cache.add("a", 9) is False
    assert 0 < cache.ttl("b") <= 60
    assert cache.touch("b", 600)
    assert cache.ttl("b") > 60
    assert cache.incr_version("b") == 2
    assert (cache.get("b"), cache.get("b", version=2)) == (None, 2)
    cache.delete_many(["a"])
    assert cache.has_key("a") is False
    with cache.lock("door", timeout=1):
        assert store().command("EXISTS", "django:1:door") == 1
    assert cache.delete_pattern("*", version=2) == 1
