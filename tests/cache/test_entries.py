"""One cached entry: leases, fills, publishes, drops, in every order that may hurt."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from aevon.cache import PSYCHE, SESSION, Keyspace, Projection, UnknownKeyspace, entries
from aevon.cache.connection import store
from aevon.cache.entries import EMPTY, Found, fill, peek_many, publish
from aevon.cache.metrics import LOADS, PUBLISHES
from aevon.cache.models import Outbox
from tests.cache.conftest import counted
from tests.cache.entry_states import between, got, note, put, write
from tests.cache.ledgers import NOTES, Note, add_notes, query

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("tables")]
KEY = "psyche:7"


def load(projection: Projection[Note] = NOTES) -> Note | None:
    """User 7's document: read, else leased and filled."""
    held: Any = entries.get(projection, 7)
    return fill(projection, {7: held}).get(7) if isinstance(held, Found) else held


# --- reading -----------------------------------------------------------------------------------

UNREADABLE: dict[str, bytes] = {
    "no JSON": b"{",
    "pickle": b"\x80\x04\x95",
    "bytes": b"\xff\x00",
    "empty": b"",
    "empty object": b"{}",
    "array": b"[]",
    "number": b"5",
    "deep": b"[" * 5000,
    "older format": b'{"userId":7,"version":9}',
    "another's": json.dumps(note(8, "secret", 99)).encode(),
    "text as version": b'{"userId":7,"text":"a","version":"9"}',
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_value_that_cannot_be_read(what: str) -> None:
    """It is served from PostgreSQL, replaced, and counted."""
    put(KEY, UNREADABLE[what])
    write(7, "true", 3)
    with counted(LOADS, "psyche", "corrupt") as more:
        assert load() == Note(user_id=7, text="true", version=3)
    assert (more(), got(KEY)) == (1, note(7, "true", 3))


@pytest.mark.parametrize("command", ["LPUSH", "SADD", "PFADD"])
def test_key_of_another_type(command: str) -> None:
    """It is served from PostgreSQL, replaced, and counted."""
    store().command(command, KEY, "x")
    write(7, "true", 3)
    with counted(LOADS, "psyche", "corrupt") as more:
        assert load() == Note(user_id=7, text="true", version=3)
    assert (more(), got(KEY)) == (1, note(7, "true", 3))


def test_unreadable_value_of_a_user_without_a_row() -> None:
    """It is removed."""
    put(KEY, b"rubbish")
    assert load() is None
    assert store().command("EXISTS", KEY) == 0


def test_unreadable_value_that_was_mended_meanwhile() -> None:
    """Only the very bytes found corrupt are replaced."""
    held = Found(corrupt=b"rubbish")
    put(KEY, note(7, "newer", 9))
    write(7, "true", 3)
    assert fill(NOTES, {7: held})[7].version == 3
    assert got(KEY) == note(7, "newer", 9)


def test_key_of_another_type_that_was_mended_meanwhile() -> None:
    """A state that came in between stays."""
    put(KEY, note(7, "newer", 9))
    write(7, "true", 3)
    fill(NOTES, {7: Found(foreign_type=True)})
    assert got(KEY) == note(7, "newer", 9)


def test_peek_is_not_counted() -> None:
    """Who looks after the cache does not change its hit rate."""
    put(KEY, note(7))
    put("psyche:8", b"rubbish")
    with counted(LOADS, "psyche", "hit") as hits, counted(LOADS, "psyche", "corrupt") as corrupt:
        held = peek_many(NOTES, [7, 8, 9])
    assert held == {7: Note(user_id=7, text="a", version=1), 8: Found(corrupt=b"rubbish"), 9: EMPTY}
    assert (hits(), corrupt(), peek_many(NOTES, [])) == (0, 0, {})


def test_projection_outside_the_registry() -> None:
    """A pattern refuses a keyspace that nobody registered."""
    with pytest.raises(UnknownKeyspace):
        replace(NOTES, keyspace=Keyspace("notes", "x", "string", PSYCHE.ttl_ms))


# --- leases and fills --------------------------------------------------------------------------


def test_lease_of_another_reader() -> None:
    """Who meets it reads PostgreSQL and caches nothing."""
    write(7, "true", 3)
    put(KEY, {"_lease": "another's"}, "PX", 5000)
    assert load() == Note(user_id=7, text="true", version=3)
    assert got(KEY) == {"_lease": "another's"}


def test_lease_ends_by_itself(settings: Any) -> None:
    """A reader who died holds nobody up for longer."""
    settings.AEVON_CACHE = {**settings.AEVON_CACHE, "LEASE_SECONDS": 0.05}
    write(7, "true", 3)
    entries._lease(NOTES, {7: EMPTY})
    assert 0 < store().command("PTTL", KEY) <= 50
    time.sleep(0.06)
    load()
    assert got(KEY) == note(7, "true", 3)


def test_lease_is_left_before_the_rows_are_read() -> None:
    """Otherwise a writer between the two would go unseen."""
    write(7, "true", 3)
    seen: list[Any] = []
    load(between(NOTES, lambda: seen.append(got(KEY))))
    assert list(seen[0]) == ["_lease"]
    assert len(seen[0]["_lease"]) == 16


def test_user_without_a_row() -> None:
    """No key stays behind."""
    assert load() is None
    assert store().command("EXISTS", KEY) == 0


OVERTAKES: dict[str, Callable[[], object]] = {
    "publish": lambda: publish(NOTES, write(7, "new", 2)),
    "drop": lambda: (query("DELETE FROM test_note"), entries.drop(NOTES, [7])),
    "two publishes": lambda: [publish(NOTES, write(7, "new", v)) for v in (2, 3)],
    "publish and eviction": lambda: (
        publish(NOTES, write(7, "new", 2)),
        store().command("DEL", KEY),
    ),
    "eviction": lambda: store().command("DEL", KEY),
    "flush": lambda: store().command("FLUSHDB"),
    "another's lease": lambda: (
        store().command("DEL", KEY),
        put(KEY, {"_lease": "another's"}),
    ),
    "publish, eviction, another's fill": lambda: (
        publish(NOTES, write(7, "new", 2)),
        store().command("DEL", KEY),
        load(),
    ),
}


@pytest.mark.parametrize("what", OVERTAKES)
def test_fill_that_was_overtaken_after_its_select(what: str) -> None:
    """The old row that the reader still holds never gets into the cache."""
    write(7, "old", 1)
    load(between(NOTES, OVERTAKES[what]))
    assert (got(KEY) or {}).get("text") != "old"


def test_fill_keeps_the_keyspaces_lifetime(settings: Any) -> None:
    """Filled and published states end by themselves."""
    settings.AEVON_CACHE = {**settings.AEVON_CACHE, "PSYCHE_TTL_SECONDS": 60}
    write(7, "true", 3)
    load()
    assert 59_000 < store().command("PTTL", KEY) <= 60_000


def test_fill_in_two_round_trips(trips: Any, django_assert_num_queries: Any) -> None:
    """However many users: one for leases, one for states, and one query."""
    add_notes(*range(1, 51))
    with trips() as t, django_assert_num_queries(1):
        fill(NOTES, dict.fromkeys(range(1, 51), EMPTY))
    assert t.count == 2


def test_reader_that_cannot_read_postgresql() -> None:
    """The error goes through; the lease ends by itself."""

    def broken(_: Any) -> Any:
        raise RuntimeError("PostgreSQL is away")

    with pytest.raises(RuntimeError):
        load(replace(NOTES, read=broken))
    assert 0 < store().command("PTTL", KEY) <= 5000


# --- publish -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("held", "stored"), [(1, "stored"), (2, "stored"), (3, "newer")])
def test_publish_over_a_state(held: int, stored: str) -> None:
    """The same or a lower version is replaced, a higher one stays."""
    write(7, "held", held)
    put(KEY, note(7, "held", held))
    assert publish(NOTES, Note(user_id=7, text="new", version=2)) == stored
    assert got(KEY)["text"] == ("held" if stored == "newer" else "new")


@pytest.mark.parametrize("rows", [0, 1])
def test_publish_over_a_state_newer_than_postgresql(rows: int) -> None:
    """Nobody committed it: it goes, or it would outlast every publish."""
    put(KEY, note(7, "forged", 1000))
    if rows:
        write(7, "new", 2)
    with counted(LOADS, "psyche", "hit") as loads:
        assert publish(NOTES, Note(user_id=7, text="new", version=2)) == "dropped"
    assert (got(KEY), loads()) == (None, 0)
    assert (load() is not None) == bool(rows)


def test_publish_renews_the_lifetime() -> None:
    """Every write refreshes it."""
    put(KEY, note(7), "PX", 1000)
    publish(NOTES, Note(user_id=7, text="new", version=2))
    assert store().command("PTTL", KEY) > 80_000_000


def test_publish_into_an_empty_key() -> None:
    """It is filled from PostgreSQL, which may know better than the publisher."""
    write(7, "newest", 5)
    with counted(PUBLISHES, "psyche", "filled") as more:
        assert publish(NOTES, Note(user_id=7, text="late", version=2)) == "filled"
    assert (got(KEY), more()) == (note(7, "newest", 5), 1)


def test_publish_of_a_deleted_row_into_an_empty_key() -> None:
    """What is no longer in PostgreSQL does not come back."""
    publish(NOTES, Note(user_id=7, text="late", version=2))
    assert store().command("EXISTS", KEY) == 0


@pytest.mark.parametrize("what", UNREADABLE)
def test_publish_over_a_value_that_cannot_be_read(what: str) -> None:
    """It is replaced; a state of another user that says it is newer is found at the next load."""
    put(KEY, UNREADABLE[what])
    publish(NOTES, write(7, "new", 2))
    assert load() == Note(user_id=7, text="new", version=2)
    assert got(KEY) == note(7, "new", 2)


def test_publish_over_a_key_of_another_type() -> None:
    """It is replaced."""
    store().command("SADD", KEY, "x")
    publish(NOTES, write(7, "new", 2))
    assert got(KEY) == note(7, "new", 2)


def test_publish_over_a_lease() -> None:
    """The reader who holds it may have read before the commit: it loses the lease."""
    put(KEY, {"_lease": "a reader's"})
    assert publish(NOTES, write(7, "new", 2)) == "filled"
    assert got(KEY) == note(7, "new", 2)


def test_publish_is_one_round_trip(trips: Any, django_assert_num_queries: Any) -> None:
    """Over a state, and no SQL."""
    put(KEY, note(7))
    publish(NOTES, Note(user_id=7, text="b", version=2))
    with trips() as t, django_assert_num_queries(0):
        publish(NOTES, Note(user_id=7, text="c", version=3))
    assert t.count == 1


def test_publish_while_the_cache_is_away(away: None) -> None:
    """It is noted, once per entry."""
    for version in (2, 3):
        assert publish(NOTES, Note(user_id=7, text="new", version=version)) == "away"
    assert list(Outbox.objects.values_list("keyspace", "user_id")) == [("psyche", 7)]


def test_publish_while_the_cache_is_full(full: None) -> None:
    """The old state is removed at once: what cannot be stored may not stay."""
    store().command("CONFIG", "SET", "maxmemory", "0")
    put(KEY, note(7, "old", 1))
    store().command("CONFIG", "SET", "maxmemory", "1")
    assert publish(NOTES, write(7, "new", 2)) == "full"
    assert store().command("EXISTS", KEY) == 0
    assert load() == Note(user_id=7, text="new", version=2)


# --- documents that say when they end ----------------------------------------------------------


class Pass(Note):
    """A document with an end of its own."""

    expires_at: float


def passes(expires_at: float) -> Projection[Pass]:
    """User 7 has one that ends then."""
    document = Pass(user_id=7, text="p", version=1, expires_at=expires_at)
    return Projection(
        keyspace=SESSION,
        document=Pass,
        read=lambda user_ids: {7: document} if 7 in user_ids else {},
        user_ids=lambda: iter([7]),
        version=lambda held: held.version,
        expires_at=lambda held: held.expires_at,
    )


def test_document_that_says_when_it_ends() -> None:
    """The key ends at the same instant."""
    ends = time.time() + 30
    projection = passes(ends)
    fill(projection, {7: EMPTY})
    filled = store().command("PTTL", "session:7")
    publish(projection, projection.read([7])[7])
    for left in (filled, store().command("PTTL", "session:7")):
        assert abs(time.time() + left / 1000 - ends) < 0.5


def test_document_that_has_ended() -> None:
    """It is neither filled nor published: a held one is removed."""
    projection = passes(time.time() - 1)
    fill(projection, {7: EMPTY})
    assert store().command("EXISTS", "session:7") == 0
    put("session:7", {"userId": 7, "text": "p", "version": 1, "expiresAt": 1})
    assert publish(projection, projection.read([7])[7]) == "dropped"
    assert store().command("EXISTS", "session:7") == 0


# --- drop --------------------------------------------------------------------------------------


def test_drop_of_several(trips: Any) -> None:
    """States and leases go in one round trip; none of nobody's."""
    put(KEY, note(7))
    put("psyche:8", {"_lease": "x"})
    with trips() as t:
        assert [entries.drop(NOTES, [7, 8, 9]), entries.drop(NOTES, [])] == ["dropped"] * 2
    assert (t.count, store().command("DBSIZE")) == (1, 0)


def test_drop_while_the_cache_is_away(away: None) -> None:
    """Each entry is noted."""
    assert entries.drop(NOTES, [7, 8]) == "away"
    assert Outbox.objects.count() == 2
