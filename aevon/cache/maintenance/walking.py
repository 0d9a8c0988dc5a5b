"""Going through the users of a keyspace, batch by batch, and telling how far it is."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, Protocol

from aevon.cache import resources
from aevon.cache.connection import store
from aevon.cache.keyspace import Keyspace
from aevon.cache.resources import Resource
from aevon.cache.user_ranges import UserRanges

BATCH: Final = 1_000
# Named one by one up to here; a larger selection is met by going through all there are.
FEW_USERS: Final = 10_000


class Progress(Protocol):
    """Who wants to know how far it is."""

    def start(self, service: str, count: Callable[[], int] | None) -> None:
        """The next keyspace begins; `count()` gives the number of users, where it is known."""

    def advance(self, users: int) -> None:
        """So many more are done."""


class Unwatched:
    """Nobody wants to know."""

    def start(self, service: str, count: Callable[[], int] | None) -> None:
        """Nothing."""

    def advance(self, users: int) -> None:
        """Nothing."""


def chosen(service: str) -> list[Resource]:
    """The resource of one keyspace, or `all` of them; raises `LookupError`."""
    return resources.resources() if service == "all" else [resources.resource(service)]


def in_rows(resource: Resource, users: UserRanges | None, *, after: int = 0) -> Iterator[int]:
    """These users, or all, as far as they may have rows; in rising order, those above `after`."""
    named = users is not None and len(users) <= FEW_USERS
    user_ids = iter(users) if users is not None and named else resource.user_ids()
    return (u for u in user_ids if u > after and (users is None or u in users))


def count(user_ids: Iterable[int]) -> int:
    """How many there are, in constant memory."""
    return sum(1 for _ in user_ids)


def in_cache(keyspace: Keyspace, users: UserRanges | None) -> Iterator[int]:
    """These users, or all, as far as they may have an entry. SCAN may name one twice."""
    if users is not None and len(users) <= FEW_USERS:
        return iter(users)
    found = map(keyspace.user_id, store().scan(f"{keyspace.name}:*"))
    return (u for u in found if u is not None and (users is None or u in users))


def batches(user_ids: Iterable[int], size: int) -> Iterator[list[int]]:
    """The ids in lists of `size`."""
    items = iter(user_ids)
    while batch := list(islice(items, size)):
        yield batch
