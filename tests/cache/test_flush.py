"""The flush of a write-behind buffer: everything acknowledged comes into PostgreSQL, once."""

import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, Final

import pytest
from django.db import OperationalError, transaction

import aevon.cache.batch as batch_module
import aevon.cache.flush as flush_module
from aevon.cache import CANVAS_INDEX, CacheUnavailable, Contended, dirty_index, write_behind
from aevon.cache.codec import encode
from aevon.cache.connection import store
from aevon.cache.dirty_index import SHARDS, Exposure
from aevon.cache.flush import Flushed, flush, flush_users, flushes, last_flush
from aevon.cache.metrics import FLUSHED, FLUSHES
from aevon.cache.write_behind import update
from tests.cache.conftest import back, counted
from tests.cache.entry_states import between, got, put
from tests.cache.ledgers import POISON, SHEETS, Sheet, query
from tests.cache.sheets import (
    KEY,
    MARKS,
    SINCE,
    add,
    edit,
    flush_around,
    marks,
    row,
    save_row,
    save_row_again,
    written_first,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("tables")]
# A flush of everything, and of the user.
EITHER: Final = [partial(flush, seconds=60), lambda sheets: flush_users(sheets, [7])]
# A buffer, and the revisions that have yet to be given.
Overtaken = tuple[Any, Iterator[int]]


@pytest.fixture
def sql_is_faster() -> Overtaken:
    """An unsaved document whose row is written with SQL before each try to hold it."""
    edit("mine")
    save_row("sql", 5)
    revisions = itertools.count(7, 2)
    return written_first(SHEETS, lambda: save_row_again("sql", next(revisions))), revisions


def test_flush() -> None:
    """Each marked document is persisted, unmarked, and gets a lifetime."""
    for user_id in (7, 8, 15):
        edit(f"text {user_id}", user_id)
    seen: list[int] = []
    assert flush(SHEETS, progress=seen.append) == Flushed(persisted=3)
    assert [row(user_id) for user_id in (7, 8, 15)] == [(f"text {u}", 1) for u in (7, 8, 15)]
    assert (marks(), sum(seen)) == ({}, 3)
    assert got(KEY) == {"userId": 7, "text": "text 7", "revision": 1, "_persistedRevision": 1}
    assert store().command("TTL", KEY) >= 86_400 * 0.9 - 10


def test_flush_of_nothing(django_assert_num_queries: Any) -> None:
    """No SQL."""
    with django_assert_num_queries(0):
        assert flush(SHEETS) == flush_users(SHEETS, []) == flush_users(SHEETS, [7]) == Flushed()


def test_flush_of_some_users() -> None:
    """The others wait."""
    edit("a", 7)
    edit("b", 8)
    assert flush_users(SHEETS, [7, 9]) == Flushed(persisted=1)
    assert (row(7), row(8), marks()) == (("a", 1), None, {"8": 1})


def test_flush_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """More documents than one statement takes."""
    monkeypatch.setattr(flush_module, "BATCH", 2)
    for user_id in (7, 15, 23, 31, 39):
        edit("x", user_id)
    seen: list[int] = []
    assert flush(SHEETS, progress=seen.append) == Flushed(persisted=5)
    assert (seen, marks()) == ([2, 2, 1], {})


@pytest.mark.parametrize("after", [True, False])
def test_change_during_the_flush(after: bool) -> None:
    """Between its read and its clear: it stays marked and unsaved, and the next flush has it."""
    edit("old")
    flush_around(lambda: edit("new"), after=after)
    assert (row(), marks(), got(KEY)["text"]) == (("old", 1), {"7": 2}, "new")
    assert store().command("TTL", KEY) == -1
    flush(SHEETS)
    assert (row(), marks()) == (("new", 2), {})


def test_eviction_of_a_saved_document_during_the_next_flush() -> None:
    """The row has everything, nothing is lost; the next flush clears the mark."""
    edit("a")
    flush_around(lambda: store().command("DEL", KEY))
    assert (row(), marks(), store().command("EXISTS", KEY)) == (("a", 1), {"7": 1}, 0)
    assert flush(SHEETS) == Flushed(unchanged=1)
    assert (row(), marks()) == (("a", 1), {})


def test_change_after_an_eviction_during_the_flush() -> None:
    """It is computed from the row, and stays marked."""
    edit("a")

    def act() -> None:
        store().command("DEL", KEY)
        edit("b")

    flush_around(act)
    assert (got(KEY)["revision"], marks()) == (2, {"7": 2})
    flush(SHEETS)
    assert row() == ("b", 2)


def test_overlapping_flush() -> None:
    """Both finish, one effect."""
    edit("a")
    assert flush_around(lambda: flush(SHEETS)).persisted == 1
    assert (row(), marks()) == (("a", 1), {})


def test_marks_that_are_gone() -> None:
    """Whoever cleared them; one that was marked anew is not."""
    for user_id in (7, 15, 23, 23):
        edit("a", user_id)
    flush_users(SHEETS, [7])
    later = time.time() + 1
    users = (7, 15, 23)
    cleared = SHEETS.index.clear(dict.fromkeys(users, 1), dict.fromkeys(users, later))
    assert (cleared, marks()) == ({7, 15}, {"23": 2})


def test_older_flush_that_finishes_last() -> None:
    """It does not write its older document over the newer row, nor clear the newer mark."""
    edit("old")

    def overtaken() -> None:
        edit("new")
        flush(SHEETS)
        edit("newest")

    flush_around(overtaken)
    assert (row(), marks()) == (("new", 2), {"7": 3})


def test_flusher_that_dies_after_its_commit() -> None:
    """The next one finishes what it left."""
    edit("a")
    with pytest.raises(KeyboardInterrupt):
        flush_around(lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert (row(), marks()) == (("a", 1), {"7": 1})
    assert flush(SHEETS) == Flushed(unchanged=1)
    assert (marks(), store().command("TTL", KEY) > 0) == ({}, True)


def test_database_away_during_a_flush() -> None:
    """Everything stays marked and unsaved until it is back."""
    edit("a")

    def away(_: Any) -> Any:
        raise OperationalError("away")

    for _ in range(3):
        with pytest.raises(OperationalError):
            flush(replace(SHEETS, save=away))
    assert (marks(), store().command("TTL", KEY)) == ({"7": 1}, -1)
    assert flush(SHEETS).persisted == 1


def test_cache_away_during_a_flush(server: Any, brief: None) -> None:
    """The rows have been written; the marks are cleared by the next flush."""
    edit("a")
    server.pause()
    with pytest.raises(CacheUnavailable):
        flush(SHEETS)
    server.resume()
    back()
    assert flush(SHEETS).persisted == 1


def test_mark_without_a_document(caplog: pytest.LogCaptureFixture) -> None:
    """What the cache's memory lost is counted and reported; the mark goes."""
    save_row("saved", 3)
    store().command("ZADD", MARKS, 5, 7)
    with counted(FLUSHED, "canvas", "lost") as more:
        assert flush(SHEETS) == Flushed(lost=1)
    assert (more(), marks()) == (1, {})
    assert "unsaved document of user 7 is gone" in caplog.text


def test_mark_of_a_document_that_is_in_its_row() -> None:
    """Nothing was lost."""
    save_row("saved", 3)
    store().command("ZADD", MARKS, 3, 7)
    assert flush(SHEETS) == Flushed(unchanged=1)
    assert marks() == {}


@pytest.mark.parametrize("read_first", [False, True])
def test_change_while_a_lost_document_is_reported(read_first: bool) -> None:
    """The old mark hides the change's own: it must not be cleared with it."""
    save_row("saved", 3)
    store().command("ZADD", MARKS, 7, 7)

    def act() -> None:
        if read_first:
            write_behind.load(SHEETS, 7)
        edit("new")

    flush(replace(SHEETS, projection=between(SHEETS.projection, act)))
    assert (row(), marks()) == (("new", 8), {})


def test_change_after_a_loss_before_the_flush() -> None:
    """It is persisted at once, and goes on above the lost mark, which would never be cleared."""
    save_row("saved", 3)
    store().command("ZADD", MARKS, 7, 7)
    edit("new")
    assert flush(SHEETS) == Flushed(lost=1)
    assert (row(), marks()) == (("new", 8), {})


def test_marks_that_come_in_the_wrong_order() -> None:
    """The higher revision stays: two processes may be overtaken between script and mark."""
    older, newer = edit("a"), edit("b")
    store().pipeline([c for each in (newer, older) for c in SHEETS.index.mark(each)])
    assert marks() == {"7": 2}


def test_lease_of_a_dead_reader() -> None:
    """A change does not wait for its end; nothing is marked before it is stored, or lost."""
    save_row("saved", 3)
    put(KEY, {"_lease": "dead"}, "PX", 5_000)
    assert edit("new").revision == 4
    assert (marks(), flush(SHEETS), row()) == ({"7": 4}, Flushed(persisted=1), ("new", 4))


@pytest.mark.parametrize("persist", EITHER)
def test_lease_of_a_dead_flusher(persist: Callable[..., Flushed]) -> None:
    """It had met the mark of a document that was saved and evicted: the next one finishes it."""
    save_row("saved", 3)
    store().command("ZADD", MARKS, 3, 7)
    put(KEY, {"_lease": "dead"}, "PX", 5_000)
    assert persist(SHEETS) == Flushed(unchanged=1)
    assert (marks(), got(KEY)["text"]) == ({}, "saved")


def test_change_refused_behind_a_lease() -> None:
    """No mark is left of what was never stored."""
    put(KEY, {"_lease": "alive"}, "PX", 5_000)
    tried = []

    def refuse_the_second(sheet: Sheet) -> Sheet:
        tried.append(sheet)
        if len(tried) > 1:
            raise ValueError("no")
        return sheet

    with pytest.raises(ValueError, match="no"):
        update(SHEETS, 7, refuse_the_second)
    assert marks() == {}


def test_lease_of_a_reader_that_is_only_slow() -> None:
    """A change takes its lease away, and it fills nothing any more."""
    slow = replace(SHEETS, projection=between(SHEETS.projection, lambda: edit("new")))
    save_row("saved", 3)
    assert write_behind.load(slow, 7).text == "saved"
    assert write_behind.load(SHEETS, 7).text == "new"


BROKEN: dict[str, Callable[[], object]] = {
    "change": lambda: edit("c", 15),
    "first change": lambda: edit("c", 23),
    "flush": lambda: flush(SHEETS),
    "flush of one": lambda: flush_users(SHEETS, [7]),
    "exposure": SHEETS.index.exposure,
    "counts": SHEETS.index.counts,
}


@pytest.mark.parametrize("first", BROKEN)
def test_index_of_another_type(first: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is made anew from the documents by whoever meets it; nothing unsaved is forgotten."""
    edit("a", 7)
    edit("b", 15)
    store().command("SET", MARKS, "no index")
    BROKEN[first]()
    flush(SHEETS)
    texts = {7: "a", 15: "c" if first == "change" else "b"}
    assert {user_id: row(user_id)[0] for user_id in texts} == texts  # type: ignore[index]
    assert marks() == {}
    assert f"{MARKS} was no index" in caplog.text


@pytest.mark.parametrize("key", [MARKS, "canvas:since:7"])
def test_foreign_member_of_an_index(key: str) -> None:
    """It is no user: a flush removes it and goes on."""
    edit("a")
    store().command("ZADD", key, 1, "somebody", 2, "0", 3, "8")  # 8 belongs into another shard
    assert flush(SHEETS) == Flushed(persisted=1)
    assert SHEETS.index.counts() == dict.fromkeys(range(SHARDS), 0)


@pytest.mark.parametrize("score", ["inf", "1e300", 2**53])
def test_mark_that_no_document_can_have(score: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It is replaced by the document's own, and stops nobody."""
    edit("a")
    edit("b", 15)
    store().command("ZADD", MARKS, score, 7, score, 23)
    assert flush(SHEETS) == Flushed(persisted=2)
    assert (row(), marks()) == (("a", 1), {})
    assert "Impossible marks" in caplog.text


FOREIGN = [b'{"_gone":5}', b'{"_x":1}', b'{"_fence":{"a":99999999999999},"_floor":3}', b"[]", b""]


@pytest.mark.parametrize("raw", FOREIGN)
def test_value_that_is_no_document(raw: bytes) -> None:
    """Another pattern's, or nobody's: it counts as lost, and is replaced by whoever meets it."""
    edit("a")
    put(KEY, raw)
    edit("b", 15)
    assert flush(SHEETS) == Flushed(persisted=1, lost=1)
    put(KEY, raw)
    assert write_behind.load(SHEETS, 7).text == ""
    put(KEY, raw)
    assert edit("new").text == got(KEY)["text"] == "new"


def test_document_of_an_earlier_life_of_somebody_else() -> None:
    """It is not shown, nor saved as theirs."""
    edit("theirs", 15)
    put(KEY, encode(Sheet(user_id=15, text="theirs", revision=9)))
    store().command("ZADD", MARKS, 9, 7)
    assert write_behind.load(SHEETS, 7).user_id == 7
    flush(SHEETS)
    assert ((row() or ("?", 0))[0], row(15)) == ("", ("theirs", 1))


def test_document_that_cannot_count_on() -> None:
    """Nothing is acknowledged that nobody could read any more."""
    for revision in (2**53 - 1, 2**52 + 1):
        put(KEY, {"userId": 7, "text": "odd", "revision": revision})
        assert edit("new").revision == 1
        assert got(KEY)["text"] == "new"
        store().command("DEL", KEY)
    save_row("odd", 2**52)
    with pytest.raises(Contended):
        edit("new")


def test_index_made_anew_with_a_document_of_an_earlier_life() -> None:
    """It may hold something unsaved just as well."""
    put(KEY, encode(Sheet(user_id=7, text="a", revision=1, dirty_since=1.0, incarnation="0" * 12)))
    store().command("SET", MARKS, "no index")
    assert flush(SHEETS) == Flushed(persisted=1)
    assert row() == ("a", 1)


def test_corrupt_document_that_was_marked() -> None:
    """It counts as lost: there is nothing to persist."""
    edit("a")
    put(KEY, b"rubbish")
    assert flush(SHEETS) == Flushed(lost=1)


def test_poison_document(caplog: pytest.LogCaptureFixture) -> None:
    """The others are persisted; the one PostgreSQL refuses stays, marked and reported."""
    for user_id in (7, 15, 23):
        edit(POISON if user_id == 15 else "good", user_id)
    with counted(FLUSHED, "canvas", "refused") as more:
        assert flush(SHEETS) == Flushed(persisted=2, refused=1)
    assert (row(7), row(15), row(23), marks()) == (("good", 1), None, ("good", 1), {"15": 1})
    assert (more(), store().command("TTL", "canvas:15")) == (1, -1)
    assert "refuses the document of user 15" in caplog.text


def test_poison_document_that_is_mended() -> None:
    """The next flush takes it."""
    edit(POISON)
    flush(SHEETS)
    edit("good")
    assert flush(SHEETS) == Flushed(persisted=1)
    assert row() == ("good", 2)


def test_document_of_a_user_that_no_longer_exists() -> None:
    """Mark and document go."""
    edit("orphan")
    nobody = replace(SHEETS, locked=lambda users, wait: nullcontext(dict.fromkeys(users)))
    assert flush(nobody) == Flushed(unchanged=1)
    assert (marks(), store().command("EXISTS", KEY)) == ({}, 0)


# --- exposure ----------------------------------------------------------------------------------


def test_exposure() -> None:
    """How many documents are unsaved, and since when the oldest is."""
    assert SHEETS.index.exposure() == Exposure(0, None)
    first = edit("a", 7)
    edit("b", 8)
    edit("c", 7)
    assert SHEETS.index.exposure() == Exposure(2, first.dirty_since)


def test_exposure_of_a_mark_without_a_document() -> None:
    """It counts as unsaved, of unknown age."""
    store().command("ZADD", MARKS, 5, 7)
    assert SHEETS.index.exposure() == Exposure(1, None)


def test_exposure_in_one_round_trip(trips: Any) -> None:
    """However many are unsaved."""
    for user_id in range(7, 40):
        edit("a", user_id)
    with trips() as t:
        assert SHEETS.index.exposure().unsaved == 33
    assert t.count == 1


# --- what documents are told -------------------------------------------------------------------


@pytest.mark.parametrize("after", [True, False])
def test_document_that_changed_during_the_flush_is_told(after: bool) -> None:
    """How much of it is saved, and that the rest is younger than the flush."""
    edit("old")
    began = time.time()
    flush_around(lambda: edit("new"), after=after)
    told = got(KEY)
    assert (told["revision"], told["_persistedRevision"]) == (2, 1)
    assert told["_dirtySince"] >= began
    assert SHEETS.index.exposure() == Exposure(1, told["_dirtySince"])
    assert edit("newest").persisted_revision == 1


def test_what_a_document_was_told_survives_a_change_under_way() -> None:
    """The change was computed before the flush, and is stored after it."""
    edit("a")

    def change(sheet: Sheet) -> Sheet:
        flush(SHEETS)
        return add("b")(sheet)

    began = time.time()
    update(SHEETS, 7, change)
    told = got(KEY)
    assert (told["text"], told["revision"], told["_persistedRevision"]) == ("ab", 2, 1)
    assert told["_dirtySince"] >= began
    assert (flush(SHEETS), row(), marks()) == (Flushed(persisted=1), ("ab", 2), {})


TAIL = ',"_persistedRevision":9,"_persistedAt":"2026-01-01T00:00:00Z","_dirtySince":1.5,'


@pytest.mark.parametrize("text", [TAIL + '"_incarnation":"abc"}', TAIL, "\\", '"', "é\U0001f600"])
def test_text_that_looks_like_what_the_layer_notes(text: str) -> None:
    """Nobody's text is taken for it, or changed."""
    edit("old")
    flush_around(lambda: edit(text))
    assert (got(KEY)["text"], got(KEY)["_persistedRevision"]) == (text, 1)

    def change(sheet: Sheet) -> Sheet:
        flush(SHEETS)
        return add("+")(sheet)

    assert update(SHEETS, 7, change).text == f"{text}+"
    assert (got(KEY)["text"], got(KEY)["_persistedRevision"]) == (f"{text}+", 2)


def test_flush_of_what_others_have_settled_since() -> None:
    """A document that holds nothing unsaved is told nothing, and keeps its lifetime."""
    edit("old")

    def overtaken() -> None:
        edit("new")
        flush(SHEETS)

    flush_around(overtaken)
    assert (got(KEY)["_persistedRevision"], "_dirtySince" in got(KEY)) == (2, False)
    assert store().command("PTTL", KEY) > 0


def test_slow_flush_tells_nothing_that_is_known() -> None:
    """A faster one has told more by then."""
    edit("old")

    def overtaken() -> None:
        edit("new")
        flush(SHEETS)
        edit("newest")

    flush_around(overtaken)
    assert (got(KEY)["revision"], got(KEY)["_persistedRevision"]) == (3, 2)


def test_flush_that_is_late_makes_nothing_older() -> None:
    """What it read is older than the change that is unsaved by now."""
    sheet = edit("a")
    assert sheet.dirty_since is not None
    SHEETS.index.changed_since([7], sheet.dirty_since - 60)
    assert SHEETS.index.exposure().oldest_since == sheet.dirty_since
    SHEETS.index.changed_since([8], sheet.dirty_since - 60)
    assert SHEETS.index.counts()[0] == 0


def test_two_flushes_that_take_turns() -> None:
    """The first tells the document, which changes its bytes, before the second settles it: it is
    saved and counts as such, or keeps its mark."""
    edit("a")
    first = flush_module.persist(SHEETS, SHEETS.index.marks_of([7]), at=time.time())
    edit("b")
    second = flush_module.persist(SHEETS, SHEETS.index.marks_of([7]), at=time.time())
    flush_module.settle(SHEETS, first)
    flush_module.settle(SHEETS, second)
    assert ("_dirtySince" in got(KEY), marks()) == (False, {})
    assert (row(), got(KEY)["_persistedRevision"]) == (("b", 2), 2)


def test_memory_that_is_lost_between_commit_and_clear() -> None:
    """Another document has got the same revision since: its mark is not cleared for the first."""
    edit("lost")
    taken = flush_module.persist(SHEETS, SHEETS.index.marks_of([7]), at=time.time())
    store().command("DEL", KEY)
    query("DELETE FROM test_sheet")  # the fill came before the commit
    edit("new")
    save_row("lost", 1)
    flush_module.settle(SHEETS, taken)
    assert marks() == {"7": 1}
    flush(SHEETS)
    assert (row(), marks()) == (("new", 2), {})


# --- order, time and size ----------------------------------------------------------------------


def persisted_in_order(**members: Any) -> tuple[Any, list[int]]:
    """A buffer, and the users in the order in which it persists them."""
    order: list[int] = []

    def save(sheets: Sequence[Sheet]) -> Mapping[int, str]:
        order.extend(sheet.user_id for sheet in sheets)
        return SHEETS.save(sheets)

    return replace(SHEETS, save=save, **members), order


def test_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the first unsaved change, over all shards, also where a page has fewer than are marked."""
    monkeypatch.setattr(flush_module, "BATCH", 1)
    monkeypatch.setattr(dirty_index, "BATCH", 2)
    users = [12, 7, 15, 8, 23, 31, 9]
    for user_id in users:
        edit("a", user_id)
    edit("b", 12)
    buffer, order = persisted_in_order()
    flush(buffer)
    assert order == users


@pytest.fixture
def an_hour_passes(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """For flushes, which look at the time after each document."""
    monkeypatch.setattr(flush_module, "BATCH", 1)
    clock = SimpleNamespace(**vars(time))
    monkeypatch.setattr(flush_module, "time", clock)
    return lambda: setattr(clock, "monotonic", lambda: time.monotonic() + 3600)


def test_flush_that_has_to_end(an_hour_passes: Callable[[], None]) -> None:
    """What it does not reach in time is counted and stays; the next flush begins with it."""
    for user_id in (7, 8, 9):
        edit("a", user_id)
    assert flush(SHEETS, seconds=0) == Flushed(left=3)
    assert flush_around(an_hour_passes, seconds=60) == Flushed(persisted=1, left=2)
    assert marks().keys() == {"8", "9"}
    assert flush(SHEETS) == Flushed(persisted=2)


def test_flush_that_has_to_end_beside_another(an_hour_passes: Callable[[], None]) -> None:
    """The other one has cleared as many marks as have stayed: what is left is told by name."""
    for user_id in (7, 8):
        edit("a", user_id)

    def other() -> None:
        flush_users(SHEETS, [7])
        an_hour_passes()

    flushed = flush_around(lambda: edit("b", 7), then=other, seconds=60)
    assert (flushed, marks()) == (Flushed(persisted=1, left=1), {"8": 1})


def test_flush_that_has_to_end_among_those_without_a_place(
    an_hour_passes: Callable[[], None],
) -> None:
    """They come last, and are counted when they are not reached."""
    for user_id in (7, 8, 9):
        edit("a", user_id)
        store().command("DEL", CANVAS_INDEX.since.key(user_id % SHARDS))
    assert flush_around(an_hour_passes, seconds=60) == Flushed(persisted=1, left=2)


@pytest.mark.parametrize("persist", EITHER)
def test_flush_that_has_to_end_while_it_tries_again(
    persist: Callable[..., Flushed], sql_is_faster: Overtaken, an_hour_passes: Callable[[], None]
) -> None:
    """A worker's end is near, or somebody waits for an answer: it does not go on trying."""
    buffer, revisions = sql_is_faster
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(flush_module.time, "sleep", lambda _: an_hour_passes())
        assert persist(buffer) == Flushed(left=1)
    assert next(revisions) == 7 + 2 * 2


def test_large_documents_make_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by their bytes, not by their number."""
    monkeypatch.setattr(batch_module, "READ", 1)
    monkeypatch.setattr(batch_module, "BATCH_BYTES", 1_000)
    for user_id in (7, 8, 9):
        edit("x" * 2_000, user_id)
    sizes: list[int] = []

    def save(sheets: Sequence[Sheet]) -> Mapping[int, str]:
        sizes.append(len(sheets))
        return SHEETS.save(sheets)

    assert flush(replace(SHEETS, save=save)).persisted == 3
    assert sizes == [1, 1, 1]


def test_flush_of_some_shards() -> None:
    """The others wait for who has them."""
    edit("a", 7)
    edit("b", 8)
    assert flush(SHEETS, shards=[7]) == Flushed(persisted=1)
    assert marks() == {"8": 1}
    assert flush(SHEETS, shards=[7], seconds=0) == Flushed()


@pytest.mark.parametrize("since", [None, 2**32])
def test_mark_without_its_place_in_the_order(since: float | None) -> None:
    """Somebody died between the two, or has another clock: it is found all the same."""
    edit("a")
    store().command(*(("ZREM", SINCE, 7) if since is None else ("ZADD", SINCE, since, 7)))
    assert flush(SHEETS) == Flushed(persisted=1)
    assert marks() == {}


def test_place_in_the_order_without_a_mark(django_assert_num_queries: Any) -> None:
    """It is removed, and PostgreSQL is asked nothing."""
    store().command("ZADD", SINCE, time.time() - 1_000, 7)
    with django_assert_num_queries(0):
        assert flush(SHEETS) == Flushed()
    assert store().command("EXISTS", SINCE) == 0
    assert SHEETS.index.exposure() == Exposure(0, None)


# --- what was overtaken ------------------------------------------------------------------------


def test_loss_that_somebody_has_read_over(caplog: pytest.LogCaptureFixture) -> None:
    """The document was filled again from its row: the mark would stay for ever."""
    save_row("saved", 3)
    store().command("ZADD", MARKS, 7, 7)
    write_behind.load(SHEETS, 7)
    assert flush(SHEETS) == Flushed(lost=1)
    assert (row(), marks()) == (("saved", 8), {})
    assert "unsaved document of user 7 is gone" in caplog.text
    assert flush(SHEETS) == Flushed()


def test_flusher_that_dies_while_it_reports_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lost mark hides that of a change made since, and is all that there is of it."""
    save_row("saved", 3)
    store().command("ZADD", MARKS, 7, 7)
    edit("new")

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(flush_module, "lift", die)
        with pytest.raises(KeyboardInterrupt):
            flush(SHEETS)
    assert marks() == {"7": 7}
    flush(SHEETS)
    assert (row(), marks()) == (("new", 8), {})


def test_mark_whose_document_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Dragonfly a mark may be seen before its document: no loss, and no revision is skipped; the
    flush tries again."""
    edit("a")
    flush(SHEETS)
    store().command("ZADD", MARKS, "GT", 2, 7)
    monkeypatch.setattr(batch_module, "time", _Meanwhile(lambda: edit("b")))
    assert flush(SHEETS) == Flushed(persisted=1)
    assert (row(), got(KEY)["revision"], marks()) == (("b", 2), 2, {})


class _Meanwhile:
    """The module `time`, in which something else happens during a sleep."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.sleep = lambda _: act()

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@pytest.mark.parametrize("revision", [1, 9])
def test_row_that_sql_has_written(revision: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ahead of the unsaved document, or of its very revision: the document goes on above it, and is
    saved at once."""
    edit("mine")
    save_row("sql", revision)
    pauses: list[float] = []
    clock = SimpleNamespace(**{**vars(time), "sleep": pauses.append})
    monkeypatch.setattr(flush_module, "time", clock)
    assert (flush(SHEETS), pauses) == (Flushed(persisted=1), [])
    assert (row(), marks()) == (("mine", revision + 1), {})
    assert got(KEY)["_persistedRevision"] == revision + 1


def test_document_that_is_saved_by_the_time_of_the_lift(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another flush was faster: no revision is skipped."""
    edit("mine")
    save_row("sql", 1)
    lift = flush_module.lift

    def late(*args: Any, **options: Any) -> list[int]:
        monkeypatch.setattr(flush_module, "lift", lift)
        flush(SHEETS)
        return lift(*args, **options)

    monkeypatch.setattr(flush_module, "lift", late)
    flush(SHEETS)
    assert (row(), got(KEY)["revision"], marks()) == (("mine", 2), 2, {})


@pytest.mark.parametrize("persist", EITHER)
@pytest.mark.parametrize("before", ["settle", "lift"])
def test_document_that_another_flush_has_only_lifted(
    before: str, persist: Callable[..., Flushed], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be slow, or dead: the row has nothing of it yet."""
    edit("mine")
    save_row("sql", 5)
    step = getattr(flush_module, before)

    def late(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(flush_module, before, step)
        update(SHEETS, 7, lambda sheet: sheet, floor=5)
        return step(*args, **options)

    monkeypatch.setattr(flush_module, before, late)
    assert persist(SHEETS) == Flushed(persisted=1)
    assert (row(), marks()) == (("mine", 6), {})


def test_progress_of_a_flush_that_tries_again(
    sql_is_faster: Overtaken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each document is one."""
    buffer, _ = sql_is_faster
    monkeypatch.setattr(flush_module, "PAUSE_SECONDS", 0)
    seen: list[int] = []
    flush(buffer, progress=seen.append)
    assert seen == [1]


@pytest.mark.parametrize("persist", EITHER)
def test_document_that_is_overtaken_again_and_again(
    persist: Callable[..., Flushed], sql_is_faster: Overtaken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By somebody who writes the row with SQL before each try: after some, it is called left."""
    buffer, revisions = sql_is_faster
    monkeypatch.setattr(flush_module, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(flush_module, "PATIENCE_SECONDS", 60)  # as many as there are
    monkeypatch.setattr(batch_module, "UNDER_WAY_SECONDS", 0)
    assert persist(buffer) == Flushed(left=1)
    assert marks().keys() == {"7"}
    # In each try the row is held twice: once lifted, the document is to be saved again.
    assert next(revisions) == 7 + 2 * 2 * (flush_module.TRIES + 1)


def test_document_that_is_lost_and_cannot_be_lifted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once, however often that is tried."""
    save_row("saved", 3)
    store().command("ZADD", MARKS, 5, 7)

    def contended(*_: Any, **__: Any) -> None:
        raise Contended

    monkeypatch.setattr(flush_module, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(batch_module, "update", contended)
    assert flush(SHEETS) == Flushed(lost=1, left=1)
    assert caplog.text.count("is gone from the cache") == 1


def test_lost_documents_in_more_than_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes on above each of them is saved, and counted as lost alone."""
    monkeypatch.setattr(batch_module, "READ", 1)
    monkeypatch.setattr(batch_module, "BATCH_BYTES", 0)
    users = (7, 15, 23)
    for user_id in users:
        save_row("saved" * 100, 3, user_id)
        store().command("ZADD", MARKS, 5, user_id)
    assert flush(SHEETS) == Flushed(lost=3)
    assert (marks(), [row(user_id) for user_id in users]) == ({}, [("saved" * 100, 6)] * 3)


@pytest.mark.django_db(transaction=True)
def test_flush_inside_a_transaction() -> None:
    """What is not committed must not be called saved."""
    edit("a")
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        flush(SHEETS)
    assert (marks(), row()) == ({"7": 1}, None)


def test_row_that_sql_has_written_over_a_saved_document() -> None:
    """A document that holds nothing unsaved is not put over it."""
    edit("mine")
    flush(SHEETS)
    save_row_again("sql", 9)
    store().command("ZADD", MARKS, 1, 7)  # whose flusher died before it cleared it
    assert flush(SHEETS) == Flushed(unchanged=1)
    assert (row(), marks()) == (("sql", 9), {})


def test_row_of_the_same_revision_that_another_flush_wrote() -> None:
    """It is this document's: nothing goes on above it."""
    edit("a")
    assert flush_around(lambda: flush(SHEETS)) == Flushed(persisted=1)
    assert (row(), got(KEY)["revision"]) == (("a", 1), 1)


# --- what PostgreSQL refuses -------------------------------------------------------------------


def refusing(**members: Any) -> tuple[Any, list[int]]:
    """A buffer whose batches fail as a whole, and how many documents each batch had."""
    sizes: list[int] = []

    def save(sheets: Sequence[Sheet]) -> Mapping[int, str]:
        sizes.append(len(sheets))
        return SHEETS.save(sheets)

    return replace(SHEETS, save=save, **members), sizes


def test_poison_is_found_by_halves() -> None:
    """One in sixty-four costs a dozen transactions more, not sixty-four."""
    users = range(8, 8 + 64)
    for user_id in users:
        edit(POISON if user_id == 31 else "good", user_id)
    buffer, sizes = refusing()
    assert flush(buffer) == Flushed(persisted=63, refused=1)
    assert len(sizes) <= 13


def test_poison_is_set_aside() -> None:
    """A scheduled flush does not try it before its time, and asks PostgreSQL nothing for it."""
    edit(POISON)
    buffer, sizes = refusing()
    assert flush(buffer, patient=True) == Flushed(refused=1)
    assert flush(buffer, patient=True) == Flushed(postponed=1)
    assert (len(sizes), marks(), SHEETS.index.exposure().refused) == (1, {"7": 1}, 1)


def test_poison_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """When its time has come; then after as long as it has been waiting."""
    edit(POISON)
    buffer, sizes = refusing()
    flush(buffer)
    first = SHEETS.index.refusals([7])[7]
    assert 55 < first.retry_at - time.time() <= 60
    noted = {"revision": 1, "firstAt": time.time() - 600, "retryAt": time.time() - 1}
    store().command("HSET", "canvas:refused:7", 7, json.dumps(noted))
    assert flush(buffer, patient=True) == Flushed(refused=1)
    again = SHEETS.index.refusals([7])[7]
    assert 595 < again.retry_at - time.time() < 605
    monkeypatch.setattr(dirty_index, "BACKOFF_SECONDS", (60.0, 90.0))
    flush(buffer)
    assert 85 < SHEETS.index.refusals([7])[7].retry_at - time.time() <= 90
    assert len(sizes) == 3


@pytest.mark.parametrize("noted", [b"rubbish", b'{"revision":"x"}'])
def test_note_of_a_refusal_that_cannot_be_read(noted: bytes) -> None:
    """The document is tried at once."""
    edit("good")
    store().command("HSET", "canvas:refused:7", 7, noted)
    assert flush(SHEETS, patient=True) == Flushed(persisted=1)


@pytest.mark.parametrize("how", ["change", "logout", "command"])
def test_poison_that_is_tried_at_once(how: str) -> None:
    """Its user has changed something, goes, or somebody runs the command; nothing of it stays."""
    edit(POISON)
    buffer, _ = refusing()
    flush(buffer, patient=True)
    if how == "change":
        edit("good")
        assert flush(buffer, patient=True) == Flushed(persisted=1)
    else:
        put(KEY, {"userId": 7, "text": "good", "revision": 1, "_dirtySince": 1.0})
        assert (flush_users(buffer, [7]) if how == "logout" else flush(buffer)).persisted == 1
    assert (SHEETS.index.refusals([7]), SHEETS.index.exposure()) == ({}, Exposure(0, None))


# --- the record of the flushes -----------------------------------------------------------------


def test_last_flush() -> None:
    """None before the first; then what it did and when, whoever asks."""
    assert last_flush(SHEETS) is None
    edit("a")
    began = time.time()
    with counted(FLUSHES, "canvas", "done") as more:
        flush(SHEETS)
    told = last_flush(SHEETS)
    assert told is not None
    assert began <= told.began <= told.ended <= time.time()
    assert (told.counts["persisted"], told.counts["refused"], told.failed, more()) == (1, 0, 0, 1)


def test_last_flush_that_failed() -> None:
    """PostgreSQL went away under it."""

    def away(_: Any) -> Any:
        raise OperationalError("away")

    edit("a")
    with (
        counted(FLUSHES, "canvas", "failed") as more,
        pytest.raises(OperationalError),
    ):
        flush(replace(SHEETS, save=away))
    told = last_flush(SHEETS)
    assert told is not None
    assert (told.failed, told.counts["persisted"], more()) == (1, 0, 1)


def test_parts_of_a_flush_are_one() -> None:
    """Added up as they end; a part of an earlier one that ends late does not count."""
    for user_id in (7, 8, 15):
        edit("a", user_id)
    for shard in (7, 0):
        flush(SHEETS, shards=[shard], began=1_000.0)
    flush(SHEETS, shards=[1], began=900.0)
    told = last_flush(SHEETS)
    assert told is not None
    assert (told.began, told.counts["persisted"]) == (1_000, 3)


def test_the_last_flushes_stay_on_record(monkeypatch: Any) -> None:
    """The newest first, and no more than are kept; what somebody else put there is passed over."""
    monkeypatch.setattr(flush_module, "KEPT", 3)
    for number in range(1, 6):
        flush(SHEETS, began=float(number))
    assert [record.began for record in flushes(SHEETS)] == [5, 4, 3]
    store().command("LSET", "canvas:flush:recent", 1, '{"began": 4}')
    assert [record.began for record in flushes(SHEETS)] == [5, 3]


RECORDS: list[tuple[Any, ...]] = [
    ("SET", "rubbish"),
    ("ZADD", 1, "x"),
    ("HSET", "x", "y"),
    ("LPUSH", "x"),
    ("LPUSH", "[" * 5_000),
    ("LPUSH", '{"began": "1"}'),
    ("LPUSH", '{"began": "1e300", "ended": "inf", "failed": Infinity, "persisted": Infinity}'),
]


@pytest.mark.parametrize("record", RECORDS, ids=range(len(RECORDS)))
def test_record_that_somebody_replaced(record: tuple[Any, ...]) -> None:
    """It tells nothing, and the next flush makes it anew."""
    name, *values = record
    store().command(name, "canvas:flush:recent", *values)
    assert last_flush(SHEETS) is None
    flush(SHEETS)
    assert last_flush(SHEETS) is not None


def test_claim_of_an_early_flush() -> None:
    """One in so many seconds."""
    claims = [flush_module.claim_early(SHEETS, for_seconds=60) for _ in range(3)]
    assert claims == [True, False, False]
    assert 50_000 < store().command("PTTL", "canvas:flush:early") <= 60_000
    store().command("DEL", "canvas:flush:early")
    assert flush_module.claim_early(SHEETS, for_seconds=60)
