"""One cached entry: leases, fills, fences, installs, drops, in every order that may hurt."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final

import pytest
from django.db import transaction

from aevon.cache import (
    PSYCHE,
    SESSION,
    CacheUnavailable,
    Gone,
    Keyspace,
    Projection,
    UnknownKeyspace,
    cache_aside,
    entries,
    fences,
    leases,
)
from aevon.cache.codec import encode, stamped
from aevon.cache.connection import Life, store
from aevon.cache.entries import EMPTY, FOREIGN_TYPE, Found, peek_many
from aevon.cache.fences import UNKNOWN_VERSION, Mark, fence, fence_and_get, install, observe
from aevon.cache.leases import Lease, fill, lease, resolve_many
from aevon.cache.metrics import LOADS, PUBLISHES
from tests.cache.conftest import counted
from tests.cache.entry_states import between, fence_runs_out, got, life, note, put, write
from tests.cache.ledgers import NOTE_RESOURCE, NOTES, Note, add_notes, query
from tests.servers import without_cache
from tests.threads import in_thread
from tests.waiting import eventually

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("tables")]
KEY = "psyche:7"
OTHER_LIFE = Life("0123456789ab", sticky=False)


def load(projection: Projection[Note] = NOTES) -> Note | None:
    """User 7's document: read, else leased and filled."""
    return cache_aside.load(projection, 7)


def patience(settings: Any, **values: float) -> None:
    """Other time limits than a site's."""
    settings.AEVON_CACHE = {**settings.AEVON_CACHE, **values}


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


@pytest.mark.parametrize("stamped_too", [False, True])
@pytest.mark.parametrize("what", UNREADABLE)
def test_value_that_cannot_be_read(what: str, stamped_too: bool) -> None:
    """It is served from PostgreSQL, replaced, and counted; a stamp makes it no better."""
    raw = UNREADABLE[what]
    put(KEY, stamped(raw, life().incarnation) if stamped_too else raw)
    write(7, "true", 3)
    assert load() == Note(user_id=7, text="true", version=3)
    assert got(KEY) == note(7, "true", 3)


@pytest.mark.parametrize("what", [what for what in UNREADABLE if what != "another's"])
def test_value_that_cannot_be_read_is_counted(what: str) -> None:
    """As corrupt, not as a miss."""
    put(KEY, UNREADABLE[what])
    with counted(LOADS, "psyche", "corrupt") as more:
        load()
    assert more() == 1


@pytest.mark.parametrize("command", ["LPUSH", "SADD", "PFADD"])
def test_key_of_another_type(command: str) -> None:
    """It is served from PostgreSQL, replaced, and counted. (PFADD makes a text.)"""
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


@pytest.mark.parametrize(
    "found", [Found("corrupt", b"rubbish"), Found("outlived", b"older"), EMPTY, FOREIGN_TYPE]
)
def test_state_that_came_in_since_the_look(found: Found) -> None:
    """Only the very bytes found are leased: what is there by now is served, and stays."""
    put(KEY, note(7, "newer", 9))
    write(7, "true", 3)
    newer = Note(user_id=7, text="newer", version=9)
    assert leases.resolve(NOTES, 7, found) == newer
    assert resolve_many(NOTES, {7: found}) == {7: newer}
    assert got(KEY) == note(7, "newer", 9)


def test_key_of_another_type_that_came_in_since_the_look() -> None:
    """It is left to the next load."""
    store().command("SADD", KEY, "x")
    write(7, "true", 3)
    assert leases.resolve(NOTES, 7, EMPTY) == Note(user_id=7, text="true", version=3)
    assert store().command("TYPE", KEY) == b"set"


def test_peek_is_not_counted() -> None:
    """Who looks after the cache does not change its hit rate."""
    put(KEY, note(7))
    put("psyche:8", b"rubbish")
    with counted(LOADS, "psyche", "hit") as hits, counted(LOADS, "psyche", "corrupt") as corrupt:
        held = peek_many(NOTES, [7, 8, 9])
    assert held == {
        7: Note(user_id=7, text="a", version=1),
        8: Found("corrupt", b"rubbish"),
        9: EMPTY,
    }
    assert (hits(), corrupt(), peek_many(NOTES, [])) == (0, 0, {})


def test_projection_outside_the_registry() -> None:
    """A pattern refuses a keyspace that nobody registered."""
    with pytest.raises(UnknownKeyspace):
        replace(NOTES, keyspace=Keyspace("notes", "x", "string", PSYCHE.ttl_ms))


# --- lives of the server -----------------------------------------------------------------------

OUTLIVED: dict[str, bytes] = {
    "of another life": stamped(encode(note(7, "old", 9)), OTHER_LIFE.incarnation),
    "of no life": encode(note(7, "old", 9)),
    "tombstone of another life": stamped(encode({"_gone": 9}), OTHER_LIFE.incarnation),
    "tombstone of no life": encode({"_gone": 9}),
    "tombstone without a number": b'{"_gone":"x"}',
    "members of a later version": b'{"_later":1}',
}


@pytest.mark.parametrize("what", OUTLIVED)
def test_state_of_an_earlier_life(what: str) -> None:
    """It is not believed: checked against PostgreSQL and replaced, and a miss, not corrupt."""
    put(KEY, OUTLIVED[what])
    assert entries.get(NOTES, 7) == Found("outlived", OUTLIVED[what])
    write(7, "true", 3)
    with counted(LOADS, "psyche", "miss") as more:
        assert load() == Note(user_id=7, text="true", version=3)
    assert (more(), got(KEY)) == (1, note(7, "true", 3))


def test_state_of_an_earlier_life_of_a_user_without_a_row() -> None:
    """It goes."""
    put(KEY, OUTLIVED["of another life"])
    assert load() is None
    assert store().command("EXISTS", KEY) == 0


def test_stamp_that_somebody_wrote_anew() -> None:
    """The bytes count, not what they mean: another program's spaces are checked, once."""
    spaced = json.dumps({**note(7), "_incarnation": life().incarnation}).encode()
    put(KEY, spaced)
    assert entries.get(NOTES, 7) == Found("outlived", spaced)


def test_stamp_in_the_midst_of_a_text() -> None:
    """Nobody can write a stamp into a document's own text."""
    text = f'","_incarnation":"{life().incarnation}"}}'
    put(KEY, encode(note(7, text, 9)))
    assert entries.get(NOTES, 7).kind == "outlived"


def test_states_of_several_earlier_lives() -> None:
    """Together: in one query, among hits."""
    put("psyche:1", stamped(encode(note(1, "old", 9)), OTHER_LIFE.incarnation))
    put("psyche:2", note(2, "hit", 5))
    add_notes(1, 2)
    found = cache_aside.load_many(NOTES, [1, 2])
    assert {u: document.text for u, document in found.items()} == {1: "a", 2: "hit"}
    assert got("psyche:1") == note(1)


# --- leases and fills --------------------------------------------------------------------------


def test_lease_ends_by_itself(settings: Any) -> None:
    """A reader who died holds nobody up for longer."""
    patience(settings, LEASE_SECONDS=60)
    write(7, "true", 3)
    lease(NOTES, {7: EMPTY})
    assert 50_000 < store().command("PTTL", KEY) <= 60_000
    store().command("DEL", KEY)
    load()
    assert got(KEY) == note(7, "true", 3)


@pytest.mark.parametrize("lifetime", [(), ("PX", 60_000)], ids=["no end", "a far end"])
@pytest.mark.parametrize(
    "read", [load, lambda: cache_aside.load_many(NOTES, [7])[7]], ids=["one", "many"]
)
def test_lease_that_no_reader_has_left(settings: Any, read: Any, lifetime: tuple[Any, ...]) -> None:
    """It would hold up every reader for as long as it lives: the first one replaces it."""
    written = write(7, "true", 3)
    put(KEY, {"_lease": "somebody's"}, *lifetime)
    patience(settings, LEASE_WAIT_SECONDS=30)
    start = time.monotonic()
    assert read() == written
    assert got(KEY) == note(7, "true", 3)
    assert time.monotonic() - start < 30


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


def publish(text: str, version: int) -> None:
    """A write by the protocol: fence, row, install."""
    marks = fence(NOTES, [7])
    install(NOTES, {7: write(7, text, version)}, marks)


OVERTAKES: dict[str, Callable[[], object]] = {
    "publish": lambda: publish("new", 2),
    "publish without a mark": lambda: install(NOTES, {7: write(7, "new", 2)}, {}),
    "a version observed": lambda: (write(7, "new", 2), observe(NOTES, {7: 2})),
    "a fence": lambda: fence(NOTES, [7]),
    "a fence and its abandonment": lambda: fences.abandon(NOTES, 7, fence(NOTES, [7])[7]),
    "drop": lambda: (query("DELETE FROM test_note"), fences.drop(NOTES, [7])),
    "two publishes": lambda: [publish("new", version) for version in (2, 3)],
    "publish and eviction": lambda: (publish("new", 2), store().command("DEL", KEY)),
    "eviction": lambda: store().command("DEL", KEY),
    "flush": lambda: store().command("FLUSHDB"),
    "another's lease": lambda: (
        store().command("DEL", KEY),
        put(KEY, {"_lease": "another's"}),
    ),
    "publish, eviction, another's fill": lambda: (
        publish("new", 2),
        store().command("DEL", KEY),
        load(),
    ),
}


@pytest.mark.parametrize("what", OVERTAKES)
def test_fill_that_was_overtaken_after_its_select(what: str) -> None:
    """The old row that the reader still holds never gets into the cache."""
    write(7, "old", 1)
    assert load(between(NOTES, OVERTAKES[what])) is not None
    assert (got(KEY) or {}).get("text") != "old"


def test_fill_by_right_of_a_lease_of_an_earlier_life() -> None:
    """An older snapshot may bring the lease back; what goes in is stamped with its life, so that
    nobody believes it."""
    write(7, "old", 1)
    held = lease(NOTES, {7: EMPTY})[7]
    fill(NOTES, {7: held._replace(life=OTHER_LIFE)}, NOTES.read([7]))
    assert entries.get(NOTES, 7).kind == "outlived"


def test_fill_keeps_the_keyspaces_lifetime(settings: Any) -> None:
    """Shortened by up to a tenth, at random: what was filled together does not end together."""
    patience(settings, PSYCHE_TTL_SECONDS=6_000)
    add_notes(*range(1, 51))
    cache_aside.load_many(NOTES, range(1, 51))
    left = [store().command("PTTL", f"psyche:{user_id}") for user_id in range(1, 51)]
    assert min(left) > 5_380_000
    assert max(left) <= 6_000_000
    assert max(left) - min(left) > 100_000


def test_fill_in_two_round_trips(trips: Any, django_assert_num_queries: Any) -> None:
    """However many users: one for leases, one for states, and one query."""
    add_notes(*range(1, 51))
    with trips() as t, django_assert_num_queries(1):
        assert len(resolve_many(NOTES, dict.fromkeys(range(1, 51), EMPTY))) == 50
    assert t.count == 2
    assert store().command("DBSIZE") == 50


def test_reader_that_cannot_read_postgresql() -> None:
    """The error goes through; the lease ends by itself."""

    def broken(_: Any) -> Any:
        raise RuntimeError("PostgreSQL is away")

    with pytest.raises(RuntimeError):
        load(replace(NOTES, read=broken))
    assert 0 < store().command("PTTL", KEY) <= 5000


def test_fill_while_the_cache_goes_away(settings: Any) -> None:
    """The reader has its row all the same; who looks after the cache is told."""
    write(7, "true", 3)

    def go_away() -> None:
        settings.AEVON_CACHE = without_cache()

    assert load(between(NOTES, go_away)) == Note(user_id=7, text="true", version=3)
    with pytest.raises(CacheUnavailable):
        resolve_many(NOTES, {7: EMPTY}, strict=True)
    with pytest.raises(CacheUnavailable):
        fill(NOTES, {7: Lease(KEY, b"x", OTHER_LIFE)}, {}, strict=True)
    assert resolve_many(NOTES, {7: EMPTY}) == NOTES.read([7])


def test_fill_while_the_cache_is_full(full: None) -> None:
    """There is no lease, so nothing is filled; PostgreSQL answers."""
    write(7, "true", 3)
    assert lease(NOTES, {7: EMPTY}) == {}
    assert load() == Note(user_id=7, text="true", version=3)
    with pytest.raises(CacheUnavailable, match="full"):
        resolve_many(NOTES, {7: EMPTY}, strict=True)
    assert store().command("EXISTS", KEY) == 0


def test_fill_for_which_the_memory_has_gone() -> None:
    """The lease goes too, so that the next reader need not wait for it."""
    write(7, "true", 3)
    held = lease(NOTES, {7: EMPTY})
    store().command("CONFIG", "SET", "maxmemory", "1")
    try:
        fill(NOTES, held, NOTES.read([7]))
        assert store().command("EXISTS", KEY) == 0
        store().command("CONFIG", "SET", "maxmemory", "0")
        held = lease(NOTES, {7: EMPTY})
        store().command("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(CacheUnavailable, match="full"):
            fill(NOTES, held, NOTES.read([7]), strict=True)
    finally:
        store().command("CONFIG", "SET", "maxmemory", "0")


def gone_notes(version: int) -> Projection[Note]:
    """Notes of which PostgreSQL knows the version of their absence."""

    def read(user_ids: Sequence[int]) -> Mapping[int, Note | Gone]:
        return dict.fromkeys(user_ids, Gone(version)) | dict(NOTES.read(user_ids))

    return replace(NOTES, read=read)


def test_absence_whose_version_is_known(django_assert_num_queries: Any, trips: Any) -> None:
    """It is cached, for a minute: the second load asks PostgreSQL nothing."""
    with counted(LOADS, "psyche", "miss") as misses:
        assert load(gone_notes(6)) is None
    assert (got(KEY), misses()) == ({"_gone": 6}, 1)
    assert 0 < store().command("PTTL", KEY) <= 60_000
    assert entries.get(NOTES, 7) == Gone(6)
    with trips() as t, django_assert_num_queries(0), counted(LOADS, "psyche", "hit") as hits:
        assert load() is None
        assert cache_aside.load_many(NOTES, [7]) == {}
    assert (t.count, hits()) == (2, 2)


def test_load_inside_a_transaction(django_assert_num_queries: Any) -> None:
    """It may read what is rolled back later: hits are served, and nothing is leased or filled."""
    add_notes(7, 8)
    put("psyche:8", note(8, "hit", 2))
    with transaction.atomic():
        assert load() == Note(user_id=7, text="a", version=1)
        with django_assert_num_queries(1):
            found = cache_aside.load_many(NOTES, [7, 8])
        assert {u: document.text for u, document in found.items()} == {7: "a", 8: "hit"}
        assert store().command("EXISTS", KEY) == 0
        held = resolve_many(NOTES, {7: EMPTY}, in_transaction_too=True)
    assert (list(held), got(KEY)) == ([7], note(7))


# --- another's lease, another's fence ----------------------------------------------------------


def test_fence_met_by_a_reader(trips: Any, django_assert_num_queries: Any) -> None:
    """It reads PostgreSQL, at once, and caches nothing."""
    write(7, "true", 3)
    fence(NOTES, [7])
    before = store().command("GET", KEY)
    with trips() as t, django_assert_num_queries(2), counted(LOADS, "psyche", "miss") as more:
        assert load() == Note(user_id=7, text="true", version=3)
        assert list(cache_aside.load_many(NOTES, [7])) == [7]
    # One for the single load; one and the lease that is refused for the other.
    assert (t.count, more()) == (3, 2)
    assert store().command("GET", KEY) == before


STRAY: Final = [
    {"_fence": 5, "_floor": "x"},
    {"_fence": ["x"], "_floor": 1},
    {"_fence": {}, "_floor": 1},
    {"_fence": {"x": "y"}, "_floor": 1},
    {"_fence": {"x": 10**18}, "_floor": 1},
    {"_fence": {"x": 1}, "_floor": 1},
]


@pytest.mark.parametrize("stray", STRAY)
def test_fence_that_no_writer_has_left(stray: Any) -> None:
    """It is replaced, counted, and reported; it would stay for ever."""
    write(7, "true", 3)
    put(KEY, stray)
    assert NOTE_RESOURCE.verdicts([7]) == {7: "corrupt"}
    with counted(LOADS, "psyche", "corrupt") as more:
        assert load() == Note(user_id=7, text="true", version=3)
    assert (more(), got(KEY)) == (1, note(7, "true", 3))


@pytest.mark.parametrize("stray", STRAY)
def test_fence_that_no_writer_has_left_and_that_ends(stray: Any, trips: Any) -> None:
    """Whatever it is, it goes by itself: it is left alone, after one look at its end."""
    write(7, "true", 3)
    put(KEY, stray, "PX", 5000)
    with trips() as t:
        assert load() == Note(user_id=7, text="true", version=3)
        assert list(cache_aside.load_many(NOTES, [7])) == [7]
    assert (t.count, got(KEY)) == (4, stray)


def test_lease_of_another_reader_who_died(settings: Any) -> None:
    """It is waited for, but not for long; then PostgreSQL answers, and nothing is cached."""
    patience(settings, LEASE_WAIT_SECONDS=0.2)
    write(7, "true", 3)
    put(KEY, {"_lease": "another's"}, "PX", 5000)
    start = time.monotonic()
    assert load() == Note(user_id=7, text="true", version=3)
    assert time.monotonic() - start >= 0.2
    assert got(KEY) == {"_lease": "another's"}


def test_lease_met_by_a_reader_of_many(trips: Any, django_assert_num_queries: Any) -> None:
    """It does not wait."""
    add_notes(7, 8)
    put(KEY, {"_lease": "another's"}, "PX", 5000)
    with trips() as t, django_assert_num_queries(1):
        assert sorted(cache_aside.load_many(NOTES, [7, 8])) == [7, 8]
    assert (t.count, got(KEY), got("psyche:8")) == (3, {"_lease": "another's"}, note(8))


@pytest.fixture
def second_reader(
    settings: Any,
) -> Iterator[Callable[[Projection[Note]], "Future[Note | None]"]]:
    """`second_reader(projection)` loads user 7 in another thread, which meets a lease by now, and
    waits for as long as it takes."""
    patience(settings, LEASE_WAIT_SECONDS=30)
    with ThreadPoolExecutor(2) as threads:

        def begin(projection: Projection[Note]) -> "Future[Note | None]":
            seen = LOADS.labels("psyche", "miss")._value.get()
            result = threads.submit(in_thread(load), projection)
            while LOADS.labels("psyche", "miss")._value.get() == seen:
                time.sleep(0.001)
            return result

        yield begin


def refuse(_: Sequence[int]) -> Any:
    """A reader that may not ask PostgreSQL."""
    raise AssertionError


def test_lease_that_is_filled_while_another_reader_waits(second_reader: Any) -> None:
    """That one gets the state without SQL."""
    write(7, "true", 3)
    held = lease(NOTES, {7: EMPTY})
    waiting = second_reader(replace(NOTES, read=refuse))
    fill(NOTES, held, NOTES.read([7]))
    assert waiting.result(5) == Note(user_id=7, text="true", version=3)


def test_absence_that_is_filled_while_another_reader_waits(second_reader: Any) -> None:
    """That one, too."""
    held = lease(NOTES, {7: EMPTY})
    waiting = second_reader(replace(NOTES, read=refuse))
    fill(NOTES, held, {7: Gone(6)})
    assert waiting.result(5) is None


def test_load_that_waits_is_counted_once(second_reader: Any) -> None:
    """However often it looked: as the miss that it began with."""
    held = lease(NOTES, {7: EMPTY})
    loads = [counted(LOADS, "psyche", result) for result in ("hit", "miss", "away", "corrupt")]
    more = [each.__enter__() for each in loads]
    waiting = second_reader(NOTES)
    time.sleep(0.1)
    fill(NOTES, held, {7: Note(user_id=7, text="a", version=1)})
    waiting.result(5)
    assert [each() for each in more] == [0, 1, 0, 0]
    for each in loads:
        each.__exit__(None, None, None)


def test_lease_that_is_killed_while_another_reader_waits(second_reader: Any) -> None:
    """That one takes the next, and fills."""
    lease(NOTES, {7: EMPTY})
    document = Note(user_id=7, text="new", version=4)
    waiting = second_reader(replace(NOTES, read=lambda _: {7: document}))
    fences.drop(NOTES, [7])
    assert waiting.result(5) == document
    assert got(KEY) == note(7, "new", 4)


def test_lease_that_a_writer_fences_while_another_reader_waits(second_reader: Any) -> None:
    """That one waits no longer: it reads PostgreSQL, and caches nothing."""
    lease(NOTES, {7: EMPTY})
    document = Note(user_id=7, text="new", version=4)
    waiting = second_reader(replace(NOTES, read=lambda _: {7: document}))
    fence(NOTES, [7])
    assert waiting.result(20) == document
    assert list(got(KEY)) == ["_fence", "_floor"]


def test_cache_that_goes_away_while_a_reader_waits(settings: Any, second_reader: Any) -> None:
    """PostgreSQL answers."""
    lease(NOTES, {7: EMPTY})
    document = Note(user_id=7, text="new", version=4)
    waiting = second_reader(replace(NOTES, read=lambda _: {7: document}))
    settings.AEVON_CACHE = without_cache()
    assert waiting.result(5) == document


def test_reader_who_comes_after_a_write_while_another_still_reads(
    second_reader: Any, askers: list[Any]
) -> None:
    """That one shares nothing that was read before it came (G1)."""
    rows = {7: Note(user_id=7, text="old", version=1)}
    has_read, may_go_on = threading.Event(), threading.Event()

    def read(_: Sequence[int]) -> Mapping[int, Note]:
        found = dict(rows)
        if not has_read.is_set():
            has_read.set()
            assert may_go_on.wait(10)
        return found

    slow = replace(NOTES, read=read)
    first = second_reader(slow)
    assert has_read.wait(10)
    marks = fence(NOTES, [7])
    rows[7] = Note(user_id=7, text="new", version=2)
    install(NOTES, rows, marks)
    store().command("DEL", KEY)
    second = second_reader(slow)
    assert eventually(lambda: len(askers) == 2)
    may_go_on.set()
    assert (first.result(5).version, second.result(5).version) == (1, 2)


def test_two_hundred_readers_of_a_cold_key(settings: Any, askers: list[Any]) -> None:
    """One of them asks PostgreSQL, for all; a second one at the most: also when it is slow, and
    with far fewer connections than threads, as shipped."""
    settings.AEVON_CACHE = {"URL": settings.AEVON_CACHE["URL"]}
    asked: list[int] = []

    def read(user_ids: Sequence[int]) -> Mapping[int, Note]:
        asked.extend(user_ids)
        assert eventually(lambda: len(askers) == 200)
        return {7: Note(user_id=7, text="a", version=1)}

    slow = replace(NOTES, read=read)
    barrier = threading.Barrier(200)

    def reader(_: int) -> Note | None:
        barrier.wait()
        return load(slow)

    with ThreadPoolExecutor(200) as threads:
        found = list(threads.map(reader, range(200)))
    assert found == [Note(user_id=7, text="a", version=1)] * 200
    assert 1 <= len(asked) <= 2


# --- what a key may hold -----------------------------------------------------------------------

FAR = int(time.time() * 1000) + 3_000_000  # a deadline that does not come
WRITERS = {"theirs": FAR}


def fence_of(marks: Mapping[str, int], floor: int = 0) -> bytes:
    """A fence's bytes."""
    return encode({"_fence": marks, "_floor": floor})


HELD: dict[str, Callable[[], object]] = {
    "nothing": lambda: None,
    "lower": lambda: put(KEY, note(7, "lower", 1)),
    "equal": lambda: put(KEY, note(7, "equal", 2)),
    "higher": lambda: (write(7, "higher", 3), put(KEY, note(7, "higher", 3))),
    "tombstone, lower": lambda: put(KEY, {"_gone": 1}),
    "tombstone, higher": lambda: put(KEY, {"_gone": 3}),
    "outlived, lower": lambda: put(KEY, OUTLIVED["of another life"].replace(b":9,", b":1,")),
    "lease": lambda: put(KEY, {"_lease": "a reader's"}),
    "their fence": lambda: put(KEY, fence_of(WRITERS, 1)),
    "expired fence": lambda: put(KEY, fence_of({"dead": 1}, 1)),
    "fence without marks": lambda: put(KEY, fence_of({})),
    "their fence, one mark expired": lambda: put(KEY, fence_of({**WRITERS, "dead": 1}, 1)),
    "corrupt": lambda: put(KEY, b"rubbish"),
    "empty text": lambda: put(KEY, b""),
    "array": lambda: put(KEY, b"[1]"),
    "fence without sense": lambda: put(KEY, b'{"_fence":["theirs"],"_floor":"x"}'),
    "foreign type": lambda: store().command("SADD", KEY, "x"),
}
NEW = Note(user_id=7, text="new", version=2)


def marks_and_floor() -> tuple[set[str], int] | None:
    """Of the fence that is there."""
    held = got(KEY)
    return (set(held["_fence"]), held["_floor"]) if "_fence" in (held or {}) else None


# --- golden bytes ------------------------------------------------------------------------------


def test_entries_golden_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What each kind of entry looks like; other programs read them (docs/design.md)."""
    monkeypatch.setattr(fences.secrets, "token_hex", lambda size: "ab" * size)
    stamp = life().incarnation.encode()

    held = lease(NOTES, {7: EMPTY})
    assert store().command("GET", KEY) == b'{"_lease":"abababababababab"}'
    fill(NOTES, held, {7: NEW})
    state = b'{"userId":7,"text":"new","version":2,"_incarnation":"%s"}' % stamp
    assert store().command("GET", KEY) == state

    marks = fence(NOTES, [7])
    fence_text = rb'\{"_fence":\{"abababababababab":[0-9]{13}\},"_floor":2\}'
    assert re.fullmatch(fence_text, store().command("GET", KEY))
    fences.drop(NOTES, [7])
    fence_text = fence_text.replace(b":2", b":9007199254740992")
    assert re.fullmatch(fence_text, store().command("GET", KEY))

    store().command("DEL", KEY)
    marks = fence(NOTES, [7])
    install(NOTES, {7: Gone(3)}, marks)
    assert store().command("GET", KEY) == b'{"_gone":3,"_incarnation":"%s"}' % stamp


# --- fence -------------------------------------------------------------------------------------

FENCED: dict[str, tuple[set[str], int]] = {
    "nothing": (set(), 0),
    "lower": (set(), 1),
    "equal": (set(), 2),
    "higher": (set(), 3),
    "tombstone, lower": (set(), 1),
    "tombstone, higher": (set(), 3),
    "outlived, lower": (set(), 1),
    "lease": (set(), 0),
    "fence without marks": (set(), 0),
    "their fence": ({"theirs"}, 1),
    # Nobody knows whether the writer of a dead mark committed.
    "expired fence": (set(), UNKNOWN_VERSION),
    "their fence, one mark expired": ({"theirs"}, UNKNOWN_VERSION),
    "corrupt": (set(), UNKNOWN_VERSION),
    "empty text": (set(), UNKNOWN_VERSION),
    "array": (set(), UNKNOWN_VERSION),
    "fence without sense": (set(), UNKNOWN_VERSION),
    "foreign type": (set(), 0),
}


@pytest.mark.parametrize("held", HELD)
def test_fence_over(held: str) -> None:
    """Others' marks stay; the floor is the version that was there, or that of their fence."""
    HELD[held]()
    mark = fence(NOTES, [7])[7]
    others, floor = FENCED[held]
    assert marks_and_floor() == (others | {mark.token}, floor)
    assert mark.life == life()


READ: dict[str, object] = {
    "lower": Note(user_id=7, text="lower", version=1),
    "equal": Note(user_id=7, text="equal", version=2),
    "higher": Note(user_id=7, text="higher", version=3),
    "tombstone, lower": Gone(1),
    "tombstone, higher": Gone(3),
}


@pytest.mark.parametrize("held", HELD)
def test_fence_and_get_over(held: str, trips: Any, django_assert_num_queries: Any) -> None:
    """The same, in the round trip that reads the state; nothing else is a state."""
    HELD[held]()
    result = "hit" if held in READ else "miss"
    with trips() as t, django_assert_num_queries(0), counted(LOADS, "psyche", result) as more:
        state, mark = fence_and_get(NOTES, 7)
        assert (t.count, more()) == (1, 1)
    assert mark is not None
    others, floor = FENCED[held]
    assert (state, marks_and_floor()) == (READ.get(held), (others | {mark.token}, floor))


def test_fence_lives_as_long_as_its_last_mark(settings: Any) -> None:
    """Each mark has its own end, by the server's clock; a longer one does not prolong others."""
    patience(settings, FENCE_SECONDS=60)
    short = fence(NOTES, [7])[7]
    patience(settings, FENCE_SECONDS=600)
    long = fence(NOTES, [7])[7]
    now = time.time() * 1000
    marks = got(KEY)["_fence"]
    assert 50_000 < marks[short.token] - now < 61_500
    assert 590_000 < marks[long.token] - now < 601_500
    assert 590_000 < store().command("PTTL", KEY) <= 600_000


def test_fence_in_one_round_trip(trips: Any, django_assert_num_queries: Any) -> None:
    """However many users; each with a mark of its own; none for nobody."""
    with trips() as t, django_assert_num_queries(0):
        marks = fence(NOTES, range(1, 51))
        assert fence(NOTES, []) == {}
    assert (t.count, len({mark.token for mark in marks.values()})) == (1, 50)


def test_fence_while_the_cache_is_away(away: None) -> None:
    """Nobody is marked, and the writer goes on."""
    assert fence(NOTES, [7]) == {}
    with counted(LOADS, "psyche", "away") as more:
        assert fence_and_get(NOTES, 7) == (None, None)
    assert more() == 1


@pytest.mark.parametrize("held", ["nothing", "lower", "lease", "their fence", "corrupt"])
def test_fence_while_the_cache_is_full(held: str) -> None:
    """Nobody is marked; what was there goes, or it would be served after the commit."""
    HELD[held]()
    store().command("CONFIG", "SET", "maxmemory", "1")
    try:
        assert fence_and_get(NOTES, 7) == (READ.get(held), None)
        assert store().command("EXISTS", KEY) == 0
        assert fence(NOTES, [7]) == {}
        assert store().breaker.state == "closed"
    finally:
        store().command("CONFIG", "SET", "maxmemory", "0")


# --- install -----------------------------------------------------------------------------------

# What it answers, and what is there then: a text, "gone", a fence's floor, or nothing.
WITHOUT_A_MARK: dict[str, tuple[str, object]] = {
    "nothing": ("empty", None),
    "lower": ("removed", None),
    "equal": ("current", "equal"),
    "higher": ("newer", "higher"),
    "tombstone, lower": ("removed", None),
    "outlived, lower": ("removed", None),
    "lease": ("empty", None),
    "their fence": ("waiting", 2),
    "expired fence": ("removed", None),
    "fence without marks": ("removed", None),
    "their fence, one mark expired": ("waiting", UNKNOWN_VERSION),
    "corrupt": ("empty", None),
    "empty text": ("empty", None),
    "array": ("empty", None),
    "fence without sense": ("removed", None),
    "foreign type": ("empty", None),
}


def shown() -> object:
    """What is there, in a word."""
    if fenced := marks_and_floor():
        return fenced[1]
    held = got(KEY)
    return held.get("text", "gone") if held else None


@pytest.mark.parametrize("held", WITHOUT_A_MARK)
def test_install_without_a_mark_over(held: str) -> None:
    """Nothing is put in; what is older, or cannot be told, goes; a lease, too; a floor rises."""
    write(7, "new", 2)
    HELD[held]()
    result, left = WITHOUT_A_MARK[held]
    with counted(PUBLISHES, "psyche", result) as more:
        assert install(NOTES, {7: NEW}, {}) == {7: result}
    assert (shown(), more()) == (left, 1)


# By the mark's right: what was there when the mark was left.
WITH_A_MARK: dict[str, tuple[str, object]] = {
    "nothing": ("stored", "new"),
    "lower": ("stored", "new"),
    "equal": ("stored", "new"),
    "higher": ("removed", None),
    "tombstone, lower": ("stored", "new"),
    "tombstone, higher": ("removed", None),
    "outlived, lower": ("stored", "new"),
    "lease": ("stored", "new"),
    "their fence": ("waiting", 2),
    "expired fence": ("removed", None),
    "fence without marks": ("stored", "new"),
    "their fence, one mark expired": ("waiting", UNKNOWN_VERSION),
    "corrupt": ("removed", None),
    "empty text": ("removed", None),
    "array": ("removed", None),
    "fence without sense": ("removed", None),
    "foreign type": ("stored", "new"),
}


@pytest.mark.parametrize("held", WITH_A_MARK)
def test_install_by_right_of_a_mark_left_over(held: str) -> None:
    """It goes in where nothing newer has been, and nobody else is in flight."""
    write(7, "new", 2)
    HELD[held]()
    marks = fence(NOTES, [7])
    result, left = WITH_A_MARK[held]
    with counted(PUBLISHES, "psyche", result) as more:
        assert install(NOTES, {7: NEW}, marks) == {7: result}
    assert (shown(), more()) == (left, 1)
    if marks_and_floor():
        assert marks[7].token not in got(KEY)["_fence"]


# The fence has gone meanwhile (evicted, flushed, expired), and something else has come.
INSTEAD_OF_THE_FENCE: dict[str, tuple[str, object]] = {
    **WITHOUT_A_MARK,
    "lower": ("stored", "new"),
    "equal": ("stored", "new"),
    "tombstone, lower": ("stored", "new"),
    "outlived, lower": ("removed", None),
}


@pytest.mark.parametrize("held", INSTEAD_OF_THE_FENCE)
def test_install_by_right_of_a_mark_that_is_gone_over(held: str) -> None:
    """An empty key stays empty, and a lease is killed; a state that is no newer is replaced, but
    for one that is a miss: it may stand where there was a fence with a floor."""
    write(7, "new", 2)
    marks = fence(NOTES, [7])
    store().command("DEL", KEY)
    HELD[held]()
    result, left = INSTEAD_OF_THE_FENCE[held]
    assert install(NOTES, {7: NEW}, marks) == {7: result}
    assert shown() == left


@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("marked", [False, True])
def test_install_over_a_state_newer_than_postgresql(rows: int, marked: bool) -> None:
    """Nobody committed it: it goes, or it would outlast every publish."""
    marks = fence(NOTES, [7]) if marked else {}
    put(KEY, note(7, "forged", 1000))
    if rows:
        write(7, "new", 2)
    with counted(LOADS, "psyche", "hit") as loads, counted(PUBLISHES, "psyche", "dropped") as more:
        assert install(NOTES, {7: NEW}, marks) == {7: "dropped"}
    assert (got(KEY), loads(), more()) == (None, 0, 1)


def test_install_over_a_tombstone_newer_than_postgresql() -> None:
    """The same."""
    write(7, "new", 2)
    put(KEY, {"_gone": 1000})
    assert install(NOTES, {7: NEW}, {}) == {7: "dropped"}
    assert load() == NEW


def test_install_over_a_tombstone_that_is_newer() -> None:
    """The row has been deleted since: the absence stays."""
    put(KEY, {"_gone": 3})
    assert install(gone_notes(3), {7: NEW}, {}) == {7: "newer"}
    assert got(KEY) == {"_gone": 3}


def test_two_writers_in_flight() -> None:
    """The last to leave puts in its state, unless the first committed a newer one."""
    write(7, "new", 2)
    for late, left in ((NEW, None), (Note(user_id=7, text="newest", version=4), "newest")):
        first, last = fence(NOTES, [7]), fence(NOTES, [7])
        newer = Note(user_id=7, text="newer", version=3)
        assert install(NOTES, {7: newer}, first) == {7: "waiting"}
        assert marks_and_floor() == ({last[7].token}, 3)
        install(NOTES, {7: late}, last)
        assert shown() == left


def mark_runs_out(mark: Mark) -> None:
    """As if its deadline had passed, and no other's."""
    held = got(KEY)
    assert mark.token in held["_fence"]
    put(KEY, {**held, "_fence": {**held["_fence"], mark.token: 1}}, "KEEPTTL")


def test_mark_that_ends_before_its_writer_installs() -> None:
    """Where nobody has looked since, nothing has happened; another writer who found it dead could
    not know whether it had committed: then nothing goes in any more."""
    dead = fence(NOTES, [7])
    fence(NOTES, [7])
    mark_runs_out(dead[7])
    assert install(NOTES, {7: write(7, "new", 2)}, dead) == {7: "waiting"}
    assert shown() == 2
    dead = fence(NOTES, [7])
    mark_runs_out(dead[7])
    fence(NOTES, [7])
    assert install(NOTES, {7: write(7, "new", 3)}, dead) == {7: "waiting"}
    assert shown() == UNKNOWN_VERSION


def test_writer_that_died() -> None:
    """Its mark runs out, and the next reader fills."""
    put(KEY, note(7, "old", 1))
    fence(NOTES, [7])
    write(7, "new", 2)  # committed, and never installed
    assert load() == NEW
    assert shown() == 1
    fence_runs_out(KEY)
    assert load() == NEW
    assert shown() == "new"


def test_writer_that_died_on_a_busy_key(settings: Any) -> None:
    """The mark of a dead writer ends, however often others join."""
    dead = fence(NOTES, [7])[7]
    left = got(KEY)["_fence"]
    patience(settings, FENCE_SECONDS=60)
    write(7, "new", 2)
    for _ in range(3):
        assert install(NOTES, {7: NEW}, fence(NOTES, [7])) == {7: "waiting"}
    assert got(KEY)["_fence"] == left
    mark_runs_out(dead)
    assert install(NOTES, {7: NEW}, fence(NOTES, [7])) == {7: "removed"}
    install(NOTES, {7: NEW}, fence(NOTES, [7]))
    assert shown() == "new"


def test_install_of_an_absence() -> None:
    """With its version it goes in as a tombstone; without one the entry goes."""
    put(KEY, note(7, "old", 1))
    assert install(NOTES, {7: Gone(2)}, fence(NOTES, [7])) == {7: "stored"}
    assert (got(KEY), load()) == ({"_gone": 2}, None)
    put(KEY, note(7, "old", 1))
    assert install(NOTES, {7: None}, fence(NOTES, [7])) == {7: "removed"}
    assert got(KEY) is None


@pytest.mark.parametrize("held", ["lower", "equal", "higher", "tombstone, higher", "lease"])
def test_install_of_an_absence_without_version_or_mark(held: str) -> None:
    """The entry goes, whatever its version."""
    HELD[held]()
    install(NOTES, {7: None}, {})
    assert got(KEY) is None


def test_install_of_an_absence_without_version_into_another_writers_fence() -> None:
    """Nothing goes in there any more."""
    put(KEY, fence_of(WRITERS, 1))
    assert install(NOTES, {7: None}, fence(NOTES, [7])) == {7: "waiting"}
    assert marks_and_floor() == ({"theirs"}, UNKNOWN_VERSION)


def test_install_renews_the_lifetime() -> None:
    """Every write refreshes it, less a tenth at most."""
    put(KEY, note(7), "PX", 1000)
    install(NOTES, {7: NEW}, fence(NOTES, [7]))
    assert 77_700_000 < store().command("PTTL", KEY) <= 86_400_000


def test_install_by_right_of_a_mark_of_an_earlier_life() -> None:
    """An older snapshot may bring the fence back: what goes in is stamped with the mark's life,
    so that nobody believes it."""
    mark = fence(NOTES, [7])[7]
    assert install(NOTES, {7: NEW}, {7: Mark(mark.token, OTHER_LIFE)}) == {7: "stored"}
    assert entries.get(NOTES, 7).kind == "outlived"


def test_install_is_one_round_trip(trips: Any, django_assert_num_queries: Any) -> None:
    """However many users, and no SQL."""
    rows = {u: Note(user_id=u, text="a", version=1) for u in range(1, 51)}
    install(NOTES, rows, fence(NOTES, list(rows)))
    marks = fence(NOTES, list(rows))
    with trips() as t, django_assert_num_queries(0):
        assert install(NOTES, rows, marks) == dict.fromkeys(rows, "stored")
        assert install(NOTES, {}, {}) == {}
    assert t.count == 1


def test_install_while_the_cache_is_away(away: None) -> None:
    """Nothing is raised, and the breaker does not close before a look at the outbox."""
    with counted(PUBLISHES, "psyche", "away") as more:
        assert install(NOTES, {7: NEW, 8: None}, {}) == {7: "away", 8: "away"}
    assert (more(), store().breaker.state) == (2, "open")


def test_install_while_the_breaker_closes(server: Any) -> None:
    """Who finds it closed by then tells the cache after all."""
    put(KEY, note(7, "old", 1))
    marks = fence(NOTES, [7])
    breaker = store().breaker
    breaker.failed()
    missed = breaker.missed
    breaker.missed = lambda: setattr(breaker, "_retry_at", None) or missed()  # type: ignore[method-assign]
    assert install(NOTES, {7: write(7, "new", 2)}, marks) == {7: "stored"}


@pytest.mark.parametrize("held", ["lower", "equal"])
def test_install_over_a_state_while_the_cache_is_full(held: str) -> None:
    """What cannot be replaced may not stay."""
    marks = fence(NOTES, [7])
    HELD[held]()
    store().command("CONFIG", "SET", "maxmemory", "1")
    try:
        assert install(NOTES, {7: write(7, "new", 2)}, marks) == {7: "full"}
        assert store().command("EXISTS", KEY) == 0
        assert store().breaker.state == "closed"
    finally:
        store().command("CONFIG", "SET", "maxmemory", "0")


def test_install_into_others_fence_while_the_cache_is_full() -> None:
    """The floor that cannot be noted takes the fence with it: nothing can go in then."""
    put(KEY, fence_of(WRITERS, 1))
    marks = fence(NOTES, [7])
    store().command("CONFIG", "SET", "maxmemory", "1")
    try:
        assert install(NOTES, {7: NEW}, marks) == {7: "waiting"}
        assert store().command("EXISTS", KEY) == 0
    finally:
        store().command("CONFIG", "SET", "maxmemory", "0")


# --- abandon -----------------------------------------------------------------------------------

ABANDONED: dict[str, object] = {
    "nothing": None,
    "lower": None,
    "their fence": 1,
    "their fence, one mark expired": UNKNOWN_VERSION,
}


@pytest.mark.parametrize("held", ABANDONED)
def test_abandon_by_right_of_a_mark_left_over(held: str) -> None:
    """Only the mark goes; an entry that nobody writes any more is filled by the next reader."""
    HELD[held]()
    fences.abandon(NOTES, 7, fence(NOTES, [7])[7])
    assert shown() == ABANDONED[held]


@pytest.mark.parametrize("held", ["nothing", "lower", "equal", "higher", "lease"])
def test_abandon_of_a_mark_that_is_gone(held: str) -> None:
    """What has come since stays: nothing was committed."""
    mark = fence(NOTES, [7])[7]
    store().command("DEL", KEY)
    HELD[held]()
    before = store().command("GET", KEY)
    fences.abandon(NOTES, 7, mark)
    assert store().command("GET", KEY) == before


def test_abandon_while_the_cache_is_away(away: None) -> None:
    """The mark runs out by itself."""
    fences.abandon(NOTES, 7, Mark("x", OTHER_LIFE))


# --- observe -----------------------------------------------------------------------------------


@pytest.mark.parametrize("held", WITHOUT_A_MARK)
def test_observe_over(held: str) -> None:
    """As an install without a mark."""
    HELD[held]()
    observe(NOTES, {7: 2})
    assert shown() == WITHOUT_A_MARK[held][1]


def test_observe_of_several(trips: Any, django_assert_num_queries: Any) -> None:
    """One round trip, no SQL: the older one goes, the other stays."""
    for user_id in (1, 2):
        put(f"psyche:{user_id}", note(user_id, "held", user_id))
    with trips() as t, django_assert_num_queries(0):
        observe(NOTES, {1: 2, 2: 2})
        observe(NOTES, {})
        assert t.count == 1
    assert [got(f"psyche:{user_id}") is not None for user_id in (1, 2)] == [False, True]


def test_observe_of_what_is_newer(trips: Any, django_assert_num_queries: Any) -> None:
    """Two round trips and a query more: what nobody has committed goes (G9), what somebody has
    stays."""
    for user_id in (1, 2, 3):
        put(f"psyche:{user_id}", note(user_id, "held", 9))
    write(1, "held", 9)
    write(2, "committed", 3)
    with trips() as t, django_assert_num_queries(1):
        observe(NOTES, {1: 8, 2: 3, 3: 3})
        assert t.count == 3
    held = [got(f"psyche:{user_id}") is not None for user_id in (1, 2, 3)]
    assert held == [True, False, False]


def test_observe_during_which_the_cache_goes_away(settings: Any) -> None:
    """The caller is told of that, too: what nobody has committed is still there."""

    def read(_: Sequence[int]) -> Mapping[int, Note]:
        settings.AEVON_CACHE = {**settings.AEVON_CACHE, "URL": "redis://127.0.0.1:1/0"}
        return {}

    put(KEY, note(7, "held", 9))
    with pytest.raises(CacheUnavailable):
        observe(replace(NOTES, read=read), {7: 3})


def test_observe_while_the_cache_is_away(away: None) -> None:
    """The caller is told: the outbox keeps the row."""
    with pytest.raises(CacheUnavailable):
        observe(NOTES, {7: 2})


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
    """The key ends at the same instant, not a tenth before."""
    ends = time.time() + 300
    projection = passes(ends)
    for put_in in (
        lambda: resolve_many(projection, {7: EMPTY}),
        lambda: install(projection, projection.read([7]), fence(projection, [7])),
    ):
        put_in()
        before, left = time.time(), store().command("PTTL", "session:7") / 1000
        assert before + left - 0.5 < ends < time.time() + left + 0.5


def test_document_that_has_ended() -> None:
    """It is neither filled nor installed: a held one is removed."""
    projection = passes(time.time() - 1)
    resolve_many(projection, {7: EMPTY})
    assert store().command("EXISTS", "session:7") == 0
    put("session:7", {"userId": 7, "text": "p", "version": 1, "expiresAt": 1})
    marks = fence(projection, [7])
    assert install(projection, projection.read([7]), marks) == {7: "removed"}
    assert store().command("EXISTS", "session:7") == 0


# --- drop --------------------------------------------------------------------------------------

DROPPED: dict[str, object] = dict.fromkeys(HELD) | {
    "their fence": UNKNOWN_VERSION,
    "their fence, one mark expired": UNKNOWN_VERSION,
}


@pytest.mark.parametrize("held", HELD)
def test_drop_over(held: str) -> None:
    """Everything goes but the marks of writers in flight, into whose fence nothing goes now."""
    HELD[held]()
    fences.drop(NOTES, [7])
    assert shown() == DROPPED[held]


def test_writer_in_flight_during_a_drop() -> None:
    """What it commits does not go in: whoever dropped may know better."""
    marks = fence(NOTES, [7])
    fences.drop(NOTES, [7])
    assert marks_and_floor() == ({marks[7].token}, UNKNOWN_VERSION)
    assert 0 < store().command("PTTL", KEY) <= 5000
    assert install(NOTES, {7: write(7, "new", 2)}, marks) == {7: "removed"}
    assert shown() is None


def test_drop_of_several(trips: Any) -> None:
    """States and leases go in one round trip; none of nobody's."""
    put(KEY, note(7))
    put("psyche:8", {"_lease": "x"})
    with trips() as t:
        fences.drop(NOTES, [7, 8, 9])
        fences.drop(NOTES, [])
    assert (t.count, store().command("DBSIZE")) == (1, 0)


def test_drop_while_the_cache_is_away(away: None) -> None:
    """The caller is told."""
    with pytest.raises(CacheUnavailable):
        fences.drop(NOTES, [7, 8])


def test_drop_while_the_cache_is_full() -> None:
    """A fence that cannot be noted goes with the rest."""
    put(KEY, fence_of(WRITERS, 1))
    store().command("CONFIG", "SET", "maxmemory", "1")
    try:
        fences.drop(NOTES, [7])
        assert store().command("EXISTS", KEY) == 0
    finally:
        store().command("CONFIG", "SET", "maxmemory", "0")


@pytest.mark.parametrize("deadline", [9_999_999_999_999, 2**52])
def test_fence_whose_deadline_no_writer_can_have_set(deadline: int) -> None:
    """Somebody edited the key, or the server's clock was set back: the next look at it ends it."""
    add_notes(7)
    put(KEY, {"_fence": {"x": deadline}, "_floor": 0})
    fences.drop(NOTES, [7])
    assert store().command("EXISTS", KEY) == 0
    put(KEY, {"_fence": {"x": deadline}, "_floor": 0})
    assert install(NOTES, {7: write(7, "new", 2)}, fence(NOTES, [7])) == {7: "removed"}
    assert store().command("EXISTS", KEY) == 0
