"""Cache-aside reads (protocol 4.3): from Dragonfly, else from PostgreSQL, which fills Dragonfly."""

from collections.abc import Sequence
from typing import Any, TypeVar

from aevon.cache import leases, near_cache
from aevon.cache.connection import store
from aevon.cache.entries import EMPTY, Found
from aevon.cache.keyspace import canonical_user_id
from aevon.cache.projection import Gone, Projection

D = TypeVar("D")


def load(projection: Projection[D], user_id: int) -> D | None:
    """The user's document; None when PostgreSQL has none.

    Key `name:{userId}`. A hit is one round trip and no SQL; a miss adds two round trips and one
    query, for all who ask in this process at a time, and who meets another process' lease waits for
    what that one fills, for half a second at most (`LEASE_WAIT_SECONDS`). Never older than the last
    write acknowledged before the call (guarantee G1; docs/design.md numbers the exceptions); only
    where the keyspace is near (`near_cache`) a hit is no round trip, and what another process wrote
    is seen some milliseconds later. With the cache away it comes from PostgreSQL. A value that does
    not decode is replaced. Raises `InvalidKey`, and whatever PostgreSQL raises. Source: protocol
    4.3, with the leases of Nishtala et al., NSDI'13.
    """
    user_id = canonical_user_id(user_id)
    held: Any = near_cache.get(projection, user_id)
    if held is None and store().breaker.state == "closed":
        held = EMPTY  # no connection was free: others are asking, perhaps for the same
    if held is None:
        return projection.read_one(user_id)
    if isinstance(held, Found):
        held = leases.resolve(projection, user_id, held)
    return None if isinstance(held, Gone) else held


def past_near(projection: Projection[D], user_id: int, document: D | None) -> D | None:
    """For who is about to refuse somebody by `document`: as `load`, past the near cache, which may
    not have heard yet. The same where the keyspace is not near, at no cost. Raises as `load`."""
    if not near_cache.holds(projection):
        return document
    near_cache.forget(projection, [canonical_user_id(user_id)])
    return load(projection, user_id)


def load_many(projection: Projection[D], user_ids: Sequence[int]) -> dict[int, D]:
    """The documents of several users; those without one are left out.

    One round trip for all hits; two more and one query for all misses together.
    """
    user_ids = list(map(canonical_user_id, user_ids))
    held: Any = near_cache.get_many(projection, user_ids)
    if held is None:
        return projection.documents(user_ids)
    missing = {user_id: value for user_id, value in held.items() if isinstance(value, Found)}
    if missing:
        held |= dict.fromkeys(missing) | leases.resolve_many(projection, missing)
    return {u: value for u, value in held.items() if value is not None and type(value) is not Gone}
