"""A writer's side of the protocol: the fence before the commit, and the install after it."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from aevon.cache import conf, entries, near_cache
from aevon.cache.connection import (
    CacheError,
    CacheUnavailable,
    Life,
    Script,
    ScriptCall,
    store,
)
from aevon.cache.entries import Found
from aevon.cache.failsafe import attempt
from aevon.cache.metrics import fences_of, publishes_of
from aevon.cache.projection import Gone, Projection

FENCE: Final = Script("fence", uses="marks")
INSTALL: Final = Script("install", uses="marks")
DROP: Final = Script("drop", uses="marks")

UNKNOWN_VERSION: Final = 2**53

D = TypeVar("D", bound=Any)


@dataclass(frozen=True, slots=True)
class Mark:
    """A writer's mark in an entry's fence."""

    token: str
    life: Life


def fence(projection: Projection[D], user_ids: Sequence[int]) -> dict[int, Mark]:
    """Put a mark of one's own on these users' entries, before the commit: one round trip.

    With the cache away, or full, nobody is marked: the outbox row that PostgreSQL writes in the
    same transaction makes the entry follow.
    """
    tokens = {user_id: secrets.token_hex(8) for user_id in user_ids}
    if not tokens:
        return {}
    try:
        replies, life = store().exchange(
            _fence_calls(projection, tokens), idempotent=True, telling=True
        )
    except CacheError:
        _count(projection, "away", len(tokens))
        return {}
    near_cache.forget(projection, tokens)
    _count_fences(projection, replies)
    pairs = zip(tokens.items(), replies, strict=True)
    return {user_id: Mark(token, life) for (user_id, token), (fenced, *_) in pairs if fenced}


def fence_and_get(projection: Projection[Any], user_id: int) -> tuple[Any, Mark | None]:
    """The entry's state (or `Gone`, or None) and a mark in its place, in one round trip: for a
    write that is computed from it, and guarded by its version."""
    token = secrets.token_hex(8)
    try:
        (reply,), life = store().exchange(
            _fence_calls(projection, {user_id: token}), idempotent=True, telling=True
        )
    except CacheError:
        entries.count_load(projection, "away")
        _count(projection, "away")
        return None, None
    near_cache.forget(projection, [user_id])
    _count_fences(projection, [reply])
    fenced, raw, *_ = reply
    held = entries.counted(projection, entries.understand(projection, user_id, raw or None, life))
    return None if isinstance(held, Found) else held, Mark(token, life) if fenced else None


def _fence_calls(projection: Projection[D], tokens: Mapping[int, str]) -> list[ScriptCall]:
    lifetime_ms = int(conf.current().fence_seconds * 1000)
    return [
        FENCE.on(projection.keyspace.key(user_id), token, lifetime_ms, _stick())
        for user_id, token in tokens.items()
    ]


def _stick() -> str:
    return "STICK" if store().sticky else ""


def _count_fences(
    projection: Projection[Any], replies: Sequence[tuple[int, bytes, int, int]]
) -> None:
    """Where there was no memory for a fence, the entry has been removed instead."""
    full = sum(not fenced for fenced, *_ in replies)
    joined = sum(joined for fenced, _, joined, _ in replies if fenced)
    if full:
        publishes_of(projection.keyspace.name, "full").inc(full)
    _count(projection, "full", full)
    _count(projection, "joined", joined)
    _count(projection, "taken", len(replies) - full - joined)
    _count(projection, "expired", sum(expired for *_, expired in replies))


def _count(projection: Projection[Any], event: str, count: int = 1) -> None:
    if count:
        fences_of(projection.keyspace.name, event).inc(count)


def left(projection: Projection[Any]) -> None:
    """Count a mark that nobody takes away: it runs out by itself."""
    _count(projection, "abandoned")


def install(
    projection: Projection[D],
    rows: Mapping[int, D | Gone | None],
    marks: Mapping[int, Mark],
) -> dict[int, str]:
    """Make entries follow what has been committed, and take the marks away: one round trip.

    A user's row is None where it is gone and nobody knows the version of that. Without a mark
    nothing is put in, but what is older is removed. The results are those of `install.lua`, or
    `dropped` where what is there is newer than PostgreSQL, or `away`. Never raises for the cache's
    sake: when it is away, the outbox makes the entries follow.
    """
    replies = _sent(
        lambda: [_install_call(projection, u, row, marks.get(u)) for u, row in rows.items()],
        len(rows),
    )
    results = dict(zip(rows, replies, strict=True))
    newer = [user_id for user_id, result in results.items() if result == "newer"]
    dropped = attempt(lambda: _drop_impossible(projection, newer), away=[])
    results |= dict.fromkeys(dropped, "dropped")
    near_cache.forget(projection, rows)
    for result in results.values():
        publishes_of(projection.keyspace.name, result).inc()
    _count(
        projection,
        "abandoned",
        sum(results[user_id] == "away" for user_id in rows.keys() & marks.keys()),
    )
    return results


def _sent(calls: Callable[[], list[ScriptCall]], count: int) -> list[str]:
    """Their results. An install may be repeated: it compares versions."""
    away = ["away"] * count
    try:
        return _replies(calls())
    except CacheUnavailable:
        if store().breaker.missed():
            return away
    except CacheError:
        return away
    # Nobody else is going to tell the cache before it is trusted, or it is already.
    try:
        return _replies(calls())
    except CacheError:
        store().breaker.failed()
        return away


def _replies(calls: Sequence[ScriptCall]) -> list[str]:
    return [reply.decode() for reply in store().pipeline(calls, idempotent=True, telling=True)]


def _install_call(projection: Projection[D], user_id: int, row: Any, mark: Mark | None) -> Any:
    if row is None:
        version = UNKNOWN_VERSION
    else:
        version = row.version if isinstance(row, Gone) else projection.version(row)
    content: tuple[Any, ...] = (b"", "", 0)
    # A document that says when it ends takes its key along; only who asks again is told of none.
    if mark and not (isinstance(row, Gone) and projection.expires_at):
        content = entries.content(projection, row, mark.life)
    token = mark.token if mark else ""
    return INSTALL.on(projection.keyspace.key(user_id), token, version, *content, _stick())


def _drop_impossible(projection: Projection[D], user_ids: Sequence[int]) -> list[int]:
    """Remove entries that are newer than their rows; whose they were. Nobody committed that, and it
    would outlast every publish. Entries are read first: their rows can only have become newer.
    Raises `CacheUnavailable`."""
    held: Any = entries.peek_many(projection, user_ids)
    states = {u: version for u in held if (version := _version(projection, held[u])) is not None}
    rows: Any = projection.read(list(states)) if states else {}
    impossible = [
        user_id
        for user_id, version in states.items()
        if user_id not in rows or _version(projection, rows[user_id]) < version
    ]
    drop(projection, impossible)
    return impossible


def _version(projection: Projection[D], held: Any) -> Any:
    if isinstance(held, Found):
        return None
    return held.version if isinstance(held, Gone) else projection.version(held)


def abandon(projection: Projection[D], user_id: int, mark: Mark) -> None:
    """Take the mark away again: nothing was written."""
    call = INSTALL.on(projection.keyspace.key(user_id), mark.token, "", b"", "", 0, "")
    attempt(lambda: store().script(call, idempotent=True, telling=True), away=None)


def observe(projection: Projection[D], versions: Mapping[int, int]) -> None:
    """Let entries know of versions that somebody has committed: what is older goes, and nothing
    older can come in; nor does what nobody has committed stay. One round trip, and two and a query
    more where an entry is newer. Raises `CacheUnavailable`."""
    calls = [
        INSTALL.on(projection.keyspace.key(user_id), "", version, b"", "", 0, _stick())
        for user_id, version in versions.items()
    ]
    replies = store().pipeline(calls, idempotent=True)
    pairs = zip(versions, replies, strict=True)
    _drop_impossible(projection, [user_id for user_id, reply in pairs if reply == b"newer"])


def drop(projection: Projection[D], user_ids: Sequence[int]) -> None:
    """Remove entries, and leases, so that no reader under way can fill. A fence stays, and takes
    nothing in any more. Raises `CacheUnavailable`."""
    keys = [projection.keyspace.key(user_id) for user_id in user_ids]
    store().pipeline([DROP.on(key, _stick()) for key in keys], idempotent=True)
    near_cache.forget(projection, user_ids)
