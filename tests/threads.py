"""Work in other threads, which give their database connections back."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import ParamSpec, TypeVar

from django.db import connections

P = ParamSpec("P")
T = TypeVar("T")


def in_thread(work: Callable[P, T]) -> Callable[P, T]:
    """`work` for another thread, which gives its database connection back."""

    @wraps(work)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return work(*args, **kwargs)
        finally:
            connections.close_all()

    return run


def in_threads(calls: Iterable[Callable[[], T]], *, workers: int = 8) -> list[T]:
    """What the calls return when so many threads make them; what one raises is raised."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda call: in_thread(call)(), calls))


def in_another_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What somebody else gets, who is not in our transaction."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(in_thread(call), *args, **kwargs).result()
