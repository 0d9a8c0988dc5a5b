"""What the cache layer counts of its own protocol, for `/metrics`."""

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from django.db import DatabaseError, connection

from aevon.cache import bounded_list, cache_aside, fences, write_behind, write_through
from aevon.cache.connection import CacheError, reset, store
from aevon.cache.metrics import (
    BREAKER_STATE,
    BREAKER_TRANSITIONS,
    CONFLICTS,
    FENCES,
    FLUSH_ROWS,
    FLUSH_SECONDS,
    QUERIES,
    REFUSED_FILLS,
    ROUND_TRIPS,
)
from tests.cache.conftest import back, counted
from tests.cache.entry_states import between, got, put, write
from tests.cache.ledgers import LINES, NOTES, SHEETS, Sheet, add_lines, add_notes, query
from tests.servers import without_cache

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("tables")]
KEY = "psyche:7"


def observed(histogram: Any, *labels: str) -> int:
    """How many observations a histogram has."""
    return int(sum(bucket.get() for bucket in histogram.labels(*labels)._buckets))


def _evict() -> None:
    store().command("DEL", KEY)


def _begin_to_write() -> None:
    fences.fence(NOTES, [7])


def _fill_up() -> None:
    store().command("CONFIG", "SET", "maxmemory", "1")


@pytest.mark.parametrize(
    ("meanwhile", "reason"),
    [(_evict, "lease-gone"), (_begin_to_write, "fenced"), (_fill_up, "full")],
    ids=["lease-gone", "fenced", "full"],
)
def test_a_refused_fill_is_counted_by_its_reason(
    meanwhile: Callable[[], None], reason: str
) -> None:
    """What happens between the reader's lease and its filling."""
    add_notes(7)
    try:
        with counted(REFUSED_FILLS, "psyche", reason) as more:
            document = cache_aside.load(between(NOTES, meanwhile), 7)
            assert document is not None
            assert more() == 1
    finally:
        reset()
        store().command("CONFIG", "SET", "maxmemory", "0")


def test_a_fill_that_succeeds_or_finds_nothing_is_not_refused() -> None:
    """A lease that is given back has been refused nothing."""
    add_notes(7)
    with counted(REFUSED_FILLS, "psyche", "lease-gone") as more:
        assert cache_aside.load_many(NOTES, [7, 8]).keys() == {7}
        assert more() == 0


def test_a_list_that_may_not_be_filled_is_counted() -> None:
    """Somebody has removed the lease since."""
    add_lines(7, 2)

    def recent(user_ids: Any) -> Any:
        found = LINES.recent(user_ids)
        store().command("DEL", "convo_history:7")
        return found

    overtaken = bounded_list.BoundedList(
        keyspace=LINES.keyspace,
        element=LINES.element,
        limit=LINES.limit,
        recent=recent,
        user_ids=LINES.user_ids,
    )
    with counted(REFUSED_FILLS, "convo_history", "lease-gone") as more:
        assert len(bounded_list.read(overtaken, 7)) == 2
        assert more() == 1


def test_fences_are_counted() -> None:
    """Taken by the first writer, joined by the second; one whose mark ran out is found so."""
    with (
        counted(FENCES, "psyche", "taken") as taken,
        counted(FENCES, "psyche", "joined") as joined,
        counted(FENCES, "psyche", "expired") as expired,
    ):
        fences.fence(NOTES, [7, 8])
        fences.fence(NOTES, [7])
        assert (taken(), joined(), expired()) == (2, 1, 0)
        held = got(KEY)
        put(KEY, {**held, "_fence": dict.fromkeys(held["_fence"], 1)}, "PX", 5000)
        fences.fence_and_get(NOTES, 7)
        assert (taken(), joined(), expired()) == (2, 2, 2)


def test_a_fence_that_nobody_takes_away_is_counted() -> None:
    """A guarded write that fails may have committed; one that was abandoned has not."""
    with counted(FENCES, "psyche", "abandoned") as abandoned:
        with contextlib.suppress(DatabaseError), write_through.guarded(NOTES, 7):
            query("SELECT 1/0")
        assert abandoned() == 1
        with contextlib.suppress(DatabaseError), write_through.guarded(NOTES, 7) as writing:
            writing.abandon()
            raise DatabaseError
        with write_through.guarded(NOTES, 7) as writing:
            writing.publish(write(7, "a", 1))
        assert abandoned() == 1


def test_a_writer_that_the_cache_leaves_in_between_is_counted(settings: Any) -> None:
    """Fenced, committed, and nobody to tell."""
    with counted(FENCES, "psyche", "abandoned") as left, counted(FENCES, "psyche", "away") as away:
        marks = fences.fence(NOTES, [7])
        settings.AEVON_CACHE = without_cache()
        fences.install(NOTES, {7: write(7, "a", 1)}, marks)
        assert (left(), away()) == (1, 0)
        assert fences.fence(NOTES, [7, 8]) == {}
        assert away() == 2


def test_a_lost_comparison_is_counted() -> None:
    """Each time that the change is computed again."""

    def edited(sheet: Sheet) -> Sheet:
        return msgspec.structs.replace(sheet, text="mine")

    write_behind.update(SHEETS, 7, edited)
    others = [2, 3]

    def overtaken(sheet: Sheet) -> Sheet:
        if others:
            put("canvas:7", {"userId": 7, "text": "other", "revision": others.pop(0)})
        return edited(sheet)

    with counted(CONFLICTS, "canvas", "compare-and-set") as more:
        write_behind.update(SHEETS, 7, overtaken)
        assert more() == 2


def test_the_breakers_ways_are_counted() -> None:
    """Its state is told with each change, and a store made anew is trusted."""
    with (
        counted(BREAKER_TRANSITIONS, "open") as opened,
        counted(BREAKER_TRANSITIONS, "closed") as closed,
    ):
        store().breaker.failed()
        store().breaker.failed()
        assert (opened(), closed()) == (1, 0)
        assert BREAKER_STATE.labels("open")._value.get() == 1
        back()
        assert (opened(), closed()) == (1, 1)
        assert BREAKER_STATE.labels("closed")._value.get() == 1
        assert BREAKER_STATE.labels("half-open")._value.get() == 0
    store().breaker.failed()
    reset()
    store()
    assert BREAKER_STATE.labels("closed")._value.get() == 1


def test_round_trips_are_measured_by_kind() -> None:
    """Those that come to nothing, too."""
    kinds = ("command", "script", "pipeline")
    before = {kind: observed(ROUND_TRIPS, kind) for kind in kinds}
    store().command("PING")
    fences.fence(NOTES, [7])
    store().pipeline([("PING",), ("PING",)])
    with contextlib.suppress(CacheError):
        store().command("NOSUCHCOMMAND")
    taken = {kind: observed(ROUND_TRIPS, kind) - before[kind] for kind in kinds}
    assert taken == {"command": 2, "script": 1, "pipeline": 1}


def test_statements_are_measured_by_operation() -> None:
    """Once each, on a connection made anew as well; what is no verb of ours is `other`."""
    connection.close()
    operations = ("select", "insert", "delete", "other")
    before = {name: observed(QUERIES, name) for name in operations}
    query("INSERT INTO test_note VALUES (7, 'a', 1)")
    query(" select 1")
    with contextlib.suppress(DatabaseError):
        query("DELETE FROM test_note WHERE 1/0 = 1")
    connection.close()
    query("SHOW server_version")
    taken = {name: observed(QUERIES, name) - before[name] for name in operations}
    assert {name: count >= 1 for name, count in taken.items()} == dict.fromkeys(operations, True)
    assert (taken["insert"], taken["delete"]) == (1, 1)


def test_a_flush_is_measured_where_it_has_something_to_do() -> None:
    """Its seconds and its rows."""
    from aevon.cache.flush import flush  # noqa: PLC0415  the name is the module's in aevon.cache

    seconds, rows = observed(FLUSH_SECONDS, "canvas"), observed(FLUSH_ROWS, "canvas")
    flush(SHEETS)
    assert observed(FLUSH_SECONDS, "canvas") == seconds
    write_behind.update(SHEETS, 7, lambda sheet: msgspec.structs.replace(sheet, text="a"))
    before = FLUSH_ROWS.labels("canvas")._sum.get()
    flush(SHEETS)
    assert observed(FLUSH_SECONDS, "canvas") == seconds + 1
    assert observed(FLUSH_ROWS, "canvas") == rows + 1
    assert FLUSH_ROWS.labels("canvas")._sum.get() == before + 1
