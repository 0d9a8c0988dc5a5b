"""Entries in the memory of this process, in front of the cache server: no round trip, some
milliseconds late.

Off, unless `AEVON_CACHE["NEAR_CACHE"]` names the keyspace. What is kept is what a GET of a state or
of a tombstone gave; the server tells of every change, by whatever hand (`connection/tracking.py`).
Late is what somebody else has written: what this process writes it sees at once.
"""

import functools
import time
from collections.abc import Collection, Sequence
from typing import Any, TypeVar

from aevon.cache import conf, entries
from aevon.cache.connection import ASIDE, Answer, Life, Tracking, store
from aevon.cache.entries import Found
from aevon.cache.projection import Gone, Projection

D = TypeVar("D", bound=Any)


def get(projection: Projection[D], user_id: int) -> D | Gone | Found | None:
    """As `entries.get`; without a round trip where the entry is near."""
    tracking, name = _tracking(projection), projection.keyspace.name
    if tracking is None:
        return entries.get(projection, user_id)
    held = tracking.held(name, user_id)
    if held is not None:
        entries.count_load(projection, "near")
        return held  # type: ignore[no-any-return]
    read = functools.partial(_answer, projection, user_id)
    found = tracking.ask(name, user_id, projection.keyspace.key(user_id), read)
    if found is not ASIDE:
        return entries.counted(projection, found)  # type: ignore[no-any-return]
    found = entries.get(projection, user_id)
    # What comes past it may be newer than what came near meanwhile: nobody is to go back.
    tracking.forget(name, [user_id])
    return found


def get_many(
    projection: Projection[D], user_ids: Sequence[int]
) -> dict[int, D | Gone | Found] | None:
    """As `entries.get_many`, of which only those are asked for that are not near. Brings none
    near."""
    tracking, name = _tracking(projection), projection.keyspace.name
    if tracking is None:
        return entries.get_many(projection, user_ids)
    near = {user_id: tracking.held(name, user_id) for user_id in user_ids}
    near = {user_id: held for user_id, held in near.items() if held is not None}
    entries.count_load(projection, "near", len(near))
    others = [user_id for user_id in user_ids if user_id not in near]
    found = entries.get_many(projection, others)
    tracking.forget(name, others)
    if found is None:
        return None
    # In the order in which they were asked for.
    return {user_id: near[user_id] if user_id in near else found[user_id] for user_id in user_ids}


def holds(projection: Projection[Any]) -> bool:
    """Whether the keyspace is switched on."""
    return _tracking(projection) is not None


def forget(projection: Projection[Any], user_ids: Collection[int]) -> None:
    """These entries are others by now: for whoever has told the server so, before anybody hears of
    it."""
    tracking = _tracking(projection)
    if tracking is not None:
        tracking.forget(projection.keyspace.name, user_ids)


def _tracking(projection: Projection[Any]) -> Tracking | None:
    """Where the keyspace's entries are kept; None where it is not switched on."""
    tracking = store().tracking
    if tracking is None or projection.keyspace.name not in tracking.limits:
        return None
    return tracking


def _answer(projection: Projection[D], user_id: int, raw: bytes | None, life: Life) -> Answer:
    value = entries.understand(projection, user_id, raw, life)
    if isinstance(value, Found):
        return Answer(value, None)
    return Answer(value, time.monotonic() + _lifetime_seconds(projection, value))


def _lifetime_seconds(projection: Projection[D], value: D | Gone) -> float:
    """The server tells of a key's end late, or, of one that nobody asks for, very late."""
    if isinstance(value, Gone):
        return conf.current().gone_ttl_seconds
    if projection.expires_at is not None:
        return projection.expires_at(value) - time.time()
    assert projection.keyspace.ttl_ms is not None  # noqa: S101  every other keyspace has one
    return projection.keyspace.ttl_ms() / 1000
