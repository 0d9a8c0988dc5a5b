"""A reader's side of the protocol: a lease, and filling by right of it (Nishtala et al., NSDI'13,
3.2.1)."""

import random
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, Literal, NamedTuple, TypeVar

from aevon.cache import codec, conf, entries
from aevon.cache.connection import CacheError, CacheUnavailable, Life, Script, ScriptCall, store
from aevon.cache.entries import Found
from aevon.cache.failsafe import attempt, in_transaction
from aevon.cache.flights import Flights
from aevon.cache.metrics import REFUSED_FILLS
from aevon.cache.projection import Gone, Projection

LEASE: Final = Script("lease")
FILL: Final = Script("fill")
_REFUSED: Final = {0: "lease-gone", -1: "full", -2: "fenced"}

_flights: Final = Flights()

# What a reader sleeps between two looks at another's lease.
PAUSES_SECONDS: Final = (0.002, 0.004, 0.008, 0.016, 0.032)

# What a warm-up makes of an entry. there: it was cached already. loaded: it is now. busy: somebody
# else is about to write or to fill it. failed: the server has no memory for it.
Warmth = Literal["there", "loaded", "busy", "failed"]

D = TypeVar("D", bound=Any)


class Lease(NamedTuple):
    """The right to fill an entry, until somebody commits."""

    key: str
    text: bytes
    life: Life


def resolve(projection: Projection[D], user_id: int, found: Found) -> D | Gone | None:
    """What belongs where `found` is: leased and filled, waited for where another reader is about
    to fill it, else from PostgreSQL alone; once for all who ask in this process at a time."""
    if in_transaction():
        return projection.read([user_id]).get(user_id)
    return _flights.share((projection, user_id), lambda: _resolved(projection, user_id, found))


def _resolved(projection: Projection[D], user_id: int, found: Found) -> D | Gone | None:
    held: Any = found
    patience = time.monotonic() + conf.current().lease_wait_seconds
    tried = 0
    while held.kind != "fence" and time.monotonic() < patience:
        if held.kind == "lease" and tried:
            time.sleep(PAUSES_SECONDS[min(tried, len(PAUSES_SECONDS)) - 1] * random.uniform(0.5, 1))  # noqa: S311  not a secret
            held = entries.peek(projection, user_id)
        else:
            held = lease(projection, {user_id: held}).get(user_id)
        tried += 1
        if isinstance(held, Lease):
            return _filled(projection, {user_id: held}).get(user_id)
        if not isinstance(held, Found):
            break
    if held is None or isinstance(held, Found):
        return projection.read([user_id]).get(user_id)
    return held  # type: ignore[no-any-return]


def resolve_many(
    projection: Projection[D],
    found: Mapping[int, Found],
    *,
    in_transaction_too: bool = False,
    strict: bool = False,
) -> dict[int, D | Gone]:
    """What belongs where `found` is; two round trips and one query for all, and no waiting.

    An entry that somebody else is filling or writing is left alone; so is every entry inside a
    transaction, which may read what is rolled back later (`in_transaction_too` for rows that no
    transaction writes first). With the cache away or full it fills nothing, or, if `strict`,
    raises `CacheUnavailable`.
    """
    if in_transaction() and not in_transaction_too:
        return dict(projection.read(list(found)))
    held = lease(projection, found, strict=strict)
    there = {u: value for u, value in held.items() if not isinstance(value, Found | Lease)}
    leases = {u: value for u, value in held.items() if isinstance(value, Lease)}
    alone = [user_id for user_id in found if user_id not in there and user_id not in leases]
    return there | _filled(projection, leases, alone, strict=strict)


def lease(
    projection: Projection[D], found: Mapping[int, Found], *, strict: bool = False
) -> dict[int, Any]:
    """Leave leases where `found` still is: a `Lease`, or what is there by now. A user whose entry
    cannot be leased is left out."""
    try:
        held, replies = _leased(projection, found, new_lease_texts(found))
    except CacheUnavailable:
        if strict:
            raise
        return {}
    if strict:
        _require_memory(list(replies.values()))
    return held


def new_lease_text() -> bytes:
    """Of a lease that nobody has left yet."""
    return codec.encode({"_lease": secrets.token_hex(8)})


def new_lease_texts(user_ids: Iterable[int]) -> dict[int, bytes]:
    """One for each."""
    return {user_id: new_lease_text() for user_id in user_ids}


def _leased(
    projection: Projection[D], found: Mapping[int, Found], texts: Mapping[int, bytes]
) -> tuple[dict[int, Any], dict[int, Any]]:
    """As `lease`, and what the script says of each."""
    if not found:
        return {}, {}
    lifetime_ms = int(conf.current().lease_seconds * 1000)
    calls = [
        LEASE.on(projection.keyspace.key(user_id), texts[user_id], lifetime_ms, each.raw, each.kind)
        for user_id, each in found.items()
    ]
    replies, life = store().exchange(calls, idempotent=True)
    held: dict[int, Any] = {}
    for user_id, reply in zip(found, replies, strict=True):
        if reply in (1, texts[user_id]):  # sent twice, it finds itself
            held[user_id] = Lease(projection.keyspace.key(user_id), texts[user_id], life)
        elif isinstance(reply, bytes):
            there = entries.understand(projection, user_id, reply, life)
            # A stray one that ends, after all, is left to its end.
            stays = isinstance(there, Found) and there.kind == "stray fence"
            held[user_id] = Found("fence") if stays else there
    return held, dict(zip(found, replies, strict=True))


def _leased_plainly(projection: Projection[D], texts: Mapping[int, bytes]) -> dict[int, Lease]:
    """Leases where there is nothing, by a plain command: it costs a server half of what the script
    does. Who is left out, the script may tell why: somebody came, or there is no memory."""
    key, lifetime_ms = projection.keyspace.key, int(conf.current().lease_seconds * 1000)
    calls = [("SET", key(u), text, "NX", "PX", lifetime_ms) for u, text in texts.items()]
    if not calls:
        return {}
    replies, life = store().tries(calls)
    done = zip(texts, calls, replies, strict=True)
    return {user_id: Lease(call[1], call[2], life) for user_id, call, reply in done if reply}


def warm(projection: Projection[D], found: Mapping[int, Found]) -> dict[int, Warmth]:
    """Fill what is missing, and say what became of each; users without a document are left out.

    Two round trips and one query for all. Inside a transaction, which may read what is rolled back
    later, nothing is filled. Raises `CacheUnavailable`.
    """
    if in_transaction():
        return dict.fromkeys(projection.living(projection.read(list(found))), "busy")
    # One text for all: a lease is compared with what its own key holds.
    text, nothing = new_lease_text(), (b"", "", 0)
    key = projection.keyspace.key
    with given_back_if_stopped(FILL.on(key(user_id), text, *nothing) for user_id in found):
        return _warmed(projection, found, dict.fromkeys(found, text))


def _warmed(
    projection: Projection[D], found: Mapping[int, Found], texts: Mapping[int, bytes]
) -> dict[int, Warmth]:
    empty = {u: texts[u] for u, each in found.items() if each.kind == "empty"}
    plain = _leased_plainly(projection, empty)
    others = {u: each for u, each in found.items() if u not in plain}
    held, replies = _leased(projection, others, texts)
    held, replies = plain | held, dict.fromkeys(plain, 1) | replies
    # MGET takes a key of another type for an empty one.
    foreign = {u: entries.FOREIGN_TYPE for u, reply in replies.items() if reply == 0}
    held_foreign, replies_foreign = _leased(projection, foreign, texts)
    held, replies = held | held_foreign, replies | replies_foreign
    leases = {u: each for u, each in held.items() if isinstance(each, Lease)}
    there = {u: each for u, each in held.items() if not isinstance(each, Found | Lease)}
    rows = projection.read([user_id for user_id in found if user_id not in there])
    stored = dict(zip(leases, _fill(projection, leases, rows), strict=True))
    warmed = {u: warmth(replies[u], stored.get(u)) for u in projection.living(rows)}
    return warmed | {u: "there" for u, each in there.items() if not isinstance(each, Gone)}


@contextmanager
def given_back_if_stopped(calls: Iterable[ScriptCall]) -> Iterator[None]:
    """Whatever ends the block, Ctrl-C or PostgreSQL, `calls` give the leases of it back: who goes
    on from there at once would find them, and leave those users out as busy. A cache that cannot be
    told forgets them by itself (`LEASE_SECONDS`)."""
    try:
        yield
    except BaseException:
        with suppress(CacheError):
            store().pipeline(list(calls), idempotent=True)
        raise


def warmth(leased: Any, stored: int | None) -> Warmth:
    """What became of an entry, by what the scripts said of the lease and of filling it."""
    if -1 in (leased, stored):
        return "failed"
    return "loaded" if stored == 1 else "busy"


def _filled(
    projection: Projection[D],
    leases: Mapping[int, Lease],
    alone: Sequence[int] = (),
    *,
    strict: bool = False,
) -> dict[int, D | Gone]:
    """Rows of the leased users, put into their entries, and of those that are read `alone`."""
    rows = dict(projection.read([*leases, *alone]))
    fill(projection, leases, rows, strict=strict)
    return rows


def fill(
    projection: Projection[D],
    leases: Mapping[int, Lease],
    rows: Mapping[int, D | Gone],
    *,
    strict: bool = False,
) -> None:
    """Turn leases into what was read of the rows since they were left."""
    if strict:
        _require_memory(_fill(projection, leases, rows))
    else:
        attempt(lambda: _fill(projection, leases, rows), away=[])


def _fill(
    projection: Projection[D], leases: Mapping[int, Lease], rows: Mapping[int, D | Gone]
) -> list[int]:
    """What the script says of each."""
    contents = [entries.content(projection, rows.get(u), held.life) for u, held in leases.items()]
    calls = [
        FILL.on(held.key, held.text, *content)
        for held, content in zip(leases.values(), contents, strict=True)
    ]
    replies = store().pipeline(calls, idempotent=True)
    for reply, (text, *_) in zip(replies, contents, strict=True):
        if reply in _REFUSED and text:  # without a text the lease has been given back
            REFUSED_FILLS.labels(projection.keyspace.name, _REFUSED[reply]).inc()
    return replies


def _require_memory(replies: Sequence[Any]) -> None:
    if -1 in replies:
        raise CacheUnavailable("The cache is full.")
