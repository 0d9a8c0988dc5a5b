"""The one place where "the cache is away" is caught: the caller says what it goes on with."""

from collections.abc import Callable
from typing import TypeVar

from aevon.cache.connection import CacheUnavailable

T = TypeVar("T")
A = TypeVar("A")


def attempt(call: Callable[[], T], *, away: A) -> T | A:
    """`call()`, or `away` when the cache cannot serve. Anything else goes through."""
    try:
        return call()
    except CacheUnavailable:
        return away
