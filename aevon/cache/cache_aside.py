"""Cache-aside reads (protocol 4.3): from Dragonfly, else from PostgreSQL, which fills Dragonfly."""

from collections.abc import Sequence
from typing import TypeVar, cast

from aevon.cache import entries
from aevon.cache.entries import Found, Projection

D = TypeVar("D")


def load(projection: Projection[D], user_id: int) -> D | None:
    """The user's document; None when PostgreSQL has none.

    Key `name:{userId}`. A hit is one round trip and no SQL; a miss adds two round trips and one
    query. Fresh up to the last publish that this cache saw; with the cache away it comes from
    PostgreSQL. A value that does not decode is replaced. Raises `InvalidKey`, and whatever
    PostgreSQL raises. Source: protocol 4.3, with the leases of Nishtala et al., NSDI'13.
    """
    held = entries.get(projection, user_id)
    if held is None:
        return projection.read_one(user_id)
    if isinstance(held, Found):
        return entries.fill(projection, {user_id: held}).get(user_id)
    return held


def load_many(projection: Projection[D], user_ids: Sequence[int]) -> dict[int, D]:
    """The documents of several users; those without one are left out.

    One round trip for all hits; two more and one query for all misses together.
    """
    held = entries.get_many(projection, user_ids)
    if held is None:
        return projection.read(user_ids)
    missing = {user_id: value for user_id, value in held.items() if isinstance(value, Found)}
    documents = {
        user_id: cast("D", value) for user_id, value in held.items() if user_id not in missing
    }
    return documents | entries.fill(projection, missing) if missing else documents
