"""Several things read in one round trip, of whatever patterns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

from aevon.cache.connection import (
    CacheError,
    CacheUnavailable,
    Command,
    Life,
    WrongType,
    store,
)

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Read(Generic[T]):
    """One thing to be read, as its pattern reads it.

    `answered(reply, life)` makes it of the reply to `command`, or of the `WrongType` that came in
    its place, and goes on from there with what was missing; `life` is that of the server which
    answered. `away()` gives it with the cache away.
    """

    command: Command
    answered: Callable[[Any, Life], T]
    away: Callable[[], T]

    def then(self, make: Callable[[T], A]) -> "Read[A]":
        """The read of what `make` makes of it."""
        answered, away = self.answered, self.away
        return Read(self.command, lambda r, life: make(answered(r, life)), lambda: make(away()))


@overload
def together(first: Read[A], /) -> tuple[A]: ...
@overload
def together(first: Read[A], second: Read[B], /) -> tuple[A, B]: ...
@overload
def together(first: Read[A], second: Read[B], third: Read[C], /) -> tuple[A, B, C]: ...
def together(*reads: Read[Any]) -> tuple[Any, ...]:
    """What each of them reads: one round trip for all, and what each that is missing costs.

    What is wrong with one is nothing to the others. Cache away: each as its pattern says.
    """
    try:
        replies, life = store().answers([each.command for each in reads], idempotent=True)
    except CacheUnavailable:
        return tuple(each.away() for each in reads)
    return tuple(_made(each, reply, life) for each, reply in zip(reads, replies, strict=True))


def _made(read: Read[T], reply: Any, life: Life) -> T:
    if isinstance(reply, CacheUnavailable):
        return read.away()
    if isinstance(reply, CacheError) and not isinstance(reply, WrongType):
        raise reply
    return read.answered(reply, life)
