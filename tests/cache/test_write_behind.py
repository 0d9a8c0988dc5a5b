"""Write-behind: acknowledged changes reach PostgreSQL, whatever comes between."""

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from django.db import OperationalError
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

import aevon.cache.flush as flush_module
from aevon.cache import (
    CANVAS_INDEX,
    CacheUnavailable,
    Contended,
    InternalKeyspace,
    UnknownKeyspace,
    write_behind,
)
from aevon.cache.codec import encode
from aevon.cache.connection import reset, store
from aevon.cache.dirty_index import SHARDS, Exposure
from aevon.cache.entries import Found
from aevon.cache.flush import Flushed, flush, flush_users
from aevon.cache.metrics import FLUSHED
from aevon.cache.write_behind import InRow, update
from tests.cache.conftest import back, counted
from tests.cache.entry_states import between, got, life, put
from tests.cache.ledgers import POISON, SHEETS, Sheet, query
from tests.threads import in_thread

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("tables")]
KEY, MARKS = "canvas:7", "canvas:dirty:7"


def edit(text: str = "a", user_id: int = 7, buffer: Any = SHEETS) -> Sheet:
    """An acknowledged change."""
    sheet: Sheet = update(buffer, user_id, lambda s: msgspec.structs.replace(s, text=text))
    return sheet


def add(letter: str) -> Callable[[Sheet], Sheet]:
    """A change that keeps what is there."""
    return lambda sheet: msgspec.structs.replace(sheet, text=sheet.text + letter)


def row(user_id: int = 7) -> tuple[str, int] | None:
    """Text and revision in PostgreSQL."""
    rows = query("SELECT text, revision FROM test_sheet WHERE user_id = %s", user_id)
    return rows[0] if rows else None


def save_row(text: str, revision: int, user_id: int = 7) -> None:
    """A row that has been persisted before."""
    query("INSERT INTO test_sheet VALUES (%s, %s, %s)", user_id, text, revision)


def marks() -> dict[str, float]:
    """What is marked: user -> revision."""
    keys = [CANVAS_INDEX.dirty.key(shard) for shard in range(SHARDS)]
    pairs = [store().command("ZRANGE", key, 0, -1, "WITHSCORES") for key in keys]
    flat = [each.decode() for pair in pairs for each in pair]
    return {user: float(score) for user, score in zip(flat[::2], flat[1::2], strict=True)}


def around(act: Callable[[], object], *, after: bool = True) -> Any:
    """The buffer during whose persist `act` runs, once: after it, or before."""
    waiting = [act]

    def persist(sheets: Sequence[Sheet]) -> dict[int, InRow]:
        if not after and waiting:
            waiting.pop()()
        revisions = SHEETS.persist(sheets)
        if after and waiting:
            waiting.pop()()
        return revisions

    return replace(SHEETS, persist=persist)


def live(**members: Any) -> Sheet:
    """User 7's document, as of the server's present life."""
    return Sheet(user_id=7, incarnation=life().incarnation, **members)


# --- load --------------------------------------------------------------------------------------


def test_document_golden_bytes() -> None:
    """What is stored is what any language can read."""
    edit("ü")
    raw = store().command("GET", KEY)
    since = json.loads(raw)["_dirtySince"]
    stamp = f'"_dirtySince":{since},"_incarnation":"{life().incarnation}"'
    assert raw == f'{{"userId":7,"text":"ü","revision":1,{stamp}}}'.encode()
    assert abs(since - time.time()) < 5


def test_load_of_a_user_without_a_row() -> None:
    """The empty document, which is cached."""
    assert write_behind.load(SHEETS, 7) == live(text="", revision=0)
    assert got(KEY) == {"userId": 7, "text": "", "revision": 0}


def test_load_of_a_row(trips: Any, django_assert_num_queries: Any) -> None:
    """A miss fills, a hit is one round trip and no SQL."""
    save_row("saved", 3)
    assert write_behind.load(SHEETS, 7) == live(text="saved", revision=3, persisted_revision=3)
    with trips() as t, django_assert_num_queries(0):
        assert write_behind.load(SHEETS, 7).revision == 3
    assert t.count == 1


def test_load_while_the_cache_is_away(away: None) -> None:
    """What PostgreSQL has, or the empty document."""
    save_row("saved", 3, user_id=8)
    assert [write_behind.load(SHEETS, u).revision for u in (7, 8)] == [0, 3]


def test_load_of_a_corrupt_document() -> None:
    """It is replaced by what PostgreSQL has."""
    save_row("saved", 3)
    put(KEY, b"rubbish")
    assert write_behind.load(SHEETS, 7).revision == 3
    assert got(KEY)["text"] == "saved"


# --- update ------------------------------------------------------------------------------------


def test_update_in_two_round_trips(trips: Any, django_assert_num_queries: Any) -> None:
    """And no SQL, while the document is there."""
    edit("a")
    with trips() as t, django_assert_num_queries(0):
        assert edit("b").revision == 2
    assert t.count == 2


def test_update_keeps_what_is_unsaved() -> None:
    """No expiry, a mark with the revision, and the time of the first unsaved change."""
    first = edit("a")
    second = edit("b")
    assert store().command("TTL", KEY) == -1
    assert marks() == {"7": 2}
    assert second.dirty_since == first.dirty_since


def test_update_above_a_floor() -> None:
    """The revision rises above what the row has."""
    assert update(SHEETS, 7, add("x"), floor=10).revision == 11


def test_update_that_is_refused() -> None:
    """Nothing is changed, nothing is marked."""
    edit("a")
    flush(SHEETS)

    def refuse(_: Sheet) -> Sheet:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        update(SHEETS, 7, refuse)
    assert (got(KEY)["text"], marks()) == ("a", {})


def test_update_while_the_cache_is_away(away: None) -> None:
    """The caller is told: nothing has been acknowledged."""
    with pytest.raises(CacheUnavailable):
        edit("a")


def test_update_while_the_cache_is_full(full: None) -> None:
    """The caller is told, at once: the row can take it."""
    with pytest.raises(CacheUnavailable, match="full"):
        edit("a")


def test_update_of_a_document_while_the_cache_is_full() -> None:
    """The same, of one that is there; it stays as it was, with its mark."""
    edit("a")
    store().command("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(CacheUnavailable):
            edit("b")
    finally:
        reset()
        store().command("CONFIG", "SET", "maxmemory", "0")
    assert (got(KEY)["text"], marks()) == ("a", {"7": 1})


def test_update_that_loses_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives up, and nothing was changed by it."""
    monkeypatch.setattr(write_behind, "ATTEMPTS", 3)
    edit("a")

    def overtaken(sheet: Sheet) -> Sheet:
        put(KEY, {"userId": 7, "text": "other", "revision": sheet.revision + 1})
        return msgspec.structs.replace(sheet, text="mine")

    with pytest.raises(Contended):
        update(SHEETS, 7, overtaken)
    assert got(KEY)["text"] == "other"


def test_update_that_loses_once() -> None:
    """It is computed again from what won."""
    edit("a")
    waiting = [lambda: put(KEY, {"userId": 7, "text": "won", "revision": 2})]

    def change(sheet: Sheet) -> Sheet:
        while waiting:
            waiting.pop()()
        return add("+")(sheet)

    assert update(SHEETS, 7, change) == live(
        text="won+", revision=3, dirty_since=got(KEY)["_dirtySince"]
    )


@pytest.mark.parametrize("raw", [b"", b"{}", b"rubbish", b'{"_lease":"x"}'])
def test_update_of_what_cannot_be_read(raw: bytes) -> None:
    """It is computed from what PostgreSQL has."""
    save_row("saved", 3)
    put(KEY, raw, "PX", 100)
    assert update(SHEETS, 7, add("+")).text == "saved+"
    assert got(KEY)["revision"] == 4


def test_update_while_a_script_is_unknown() -> None:
    """After SCRIPT FLUSH the mark comes before the document: both are there in the end."""
    edit("a")
    store().command("SCRIPT", "FLUSH")
    edit("b")
    assert (got(KEY)["text"], marks()) == ("b", {"7": 2})


def test_entry_evicted_between_read_and_write() -> None:
    """The change is computed again; the row's revision is not gone back behind."""
    save_row("saved", 3)
    waiting = [lambda: store().command("DEL", KEY)]

    def change(sheet: Sheet) -> Sheet:
        while waiting:
            waiting.pop()()
        return add("+")(sheet)

    assert update(SHEETS, 7, change).revision == 4


# --- flush -------------------------------------------------------------------------------------


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
    flush(around(lambda: edit("new"), after=after))
    assert (row(), marks(), got(KEY)["text"]) == (("old", 1), {"7": 2}, "new")
    assert store().command("TTL", KEY) == -1
    flush(SHEETS)
    assert (row(), marks()) == (("new", 2), {})


def test_eviction_of_a_saved_document_during_the_next_flush() -> None:
    """The row has everything: nothing is lost, nothing comes back."""
    edit("a")
    flush(around(lambda: store().command("DEL", KEY)))
    assert (row(), marks(), store().command("EXISTS", KEY)) == (("a", 1), {}, 0)


def test_change_after_an_eviction_during_the_flush() -> None:
    """It is computed from the row, and stays marked."""
    edit("a")

    def act() -> None:
        store().command("DEL", KEY)
        edit("b")

    flush(around(act))
    assert (got(KEY)["revision"], marks()) == (2, {"7": 2})
    flush(SHEETS)
    assert row() == ("b", 2)


def test_overlapping_flush() -> None:
    """Both finish, one effect."""
    edit("a")
    assert flush(around(lambda: flush(SHEETS))).persisted == 1
    assert (row(), marks()) == (("a", 1), {})


def test_older_flush_that_finishes_last() -> None:
    """It does not write its older document over the newer row, nor clear the newer mark."""
    edit("old")

    def overtaken() -> None:
        edit("new")
        flush(SHEETS)
        edit("newest")

    flush(around(overtaken, after=False))
    assert (row(), marks()) == (("new", 2), {"7": 3})


def test_flusher_that_dies_after_its_commit() -> None:
    """The next one finishes what it left."""
    edit("a")
    with pytest.raises(KeyboardInterrupt):
        flush(around(lambda: (_ for _ in ()).throw(KeyboardInterrupt)))
    assert (row(), marks()) == (("a", 1), {"7": 1})
    assert flush(SHEETS).persisted == 1
    assert (marks(), store().command("TTL", KEY) > 0) == ({}, True)


def test_database_away_during_a_flush() -> None:
    """Everything stays marked and unsaved until it is back."""
    edit("a")

    def away(_: Any) -> Any:
        raise OperationalError("away")

    for _ in range(3):
        with pytest.raises(OperationalError):
            flush(replace(SHEETS, persist=away))
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
    store().command("ZADD", key, 1, "somebody", 2, "0")
    assert flush(SHEETS) == Flushed(persisted=1)
    assert SHEETS.index.counts() == dict.fromkeys(range(SHARDS), 0)


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
        assert flush(replace(SHEETS, persist=_all_or_none)) == Flushed(persisted=2, refused=1)
    assert (row(7), row(15), row(23), marks()) == (("good", 1), None, ("good", 1), {"15": 1})
    assert (more(), store().command("TTL", "canvas:15")) == (1, -1)
    assert "refuses the document of user 15" in caplog.text


def _all_or_none(sheets: Sequence[Sheet]) -> dict[int, int]:
    from django.db import transaction  # noqa: PLC0415

    with transaction.atomic():
        return SHEETS.persist(sheets)


def test_poison_document_that_is_mended() -> None:
    """The next flush takes it."""
    edit(POISON)
    flush(replace(SHEETS, persist=_all_or_none))
    edit("good")
    assert flush(SHEETS) == Flushed(persisted=1)
    assert row() == ("good", 2)


def test_document_of_a_user_that_no_longer_exists() -> None:
    """Mark and document go."""
    edit("orphan")
    assert flush(replace(SHEETS, persist=lambda _: {})) == Flushed(unchanged=1)
    assert (marks(), store().command("EXISTS", KEY)) == ({}, 0)


# --- removal -----------------------------------------------------------------------------------


def test_removal_of_what_is_saved() -> None:
    """A document that holds something unsaved stays."""
    edit("saved", 7)
    flush(SHEETS)
    edit("unsaved", 8)
    assert write_behind.discard_saved(SHEETS, [7, 8, 9]) == [8]
    assert (got(KEY), got("canvas:8")["text"]) == (None, "unsaved")


@pytest.mark.parametrize("raw", [b"", b"{}", b"rubbish", b"[1]"])
def test_removal_of_what_cannot_be_read(raw: bytes) -> None:
    """It holds nothing: it goes."""
    put(KEY, raw)
    store().command("LPUSH", "canvas:8", "x")
    assert write_behind.discard_saved(SHEETS, [7, 8]) == []
    assert store().command("DBSIZE") == 0


def test_removal_with_everything_unsaved() -> None:
    """Document and mark go."""
    edit("a")
    write_behind.discard(SHEETS, [7])
    assert store().command("DBSIZE") == 0


def test_clean_document_evicted_during_an_update() -> None:
    """The change is not lost, nor does the revision go back."""
    edit("a")
    flush(SHEETS)
    waiting = [lambda: store().command("DEL", KEY)]

    def change(sheet: Sheet) -> Sheet:
        while waiting:
            waiting.pop()()
        return add("b")(sheet)

    assert (update(SHEETS, 7, change).text, marks()) == ("ab", {"7": 2})


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


# --- concurrency -------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_sixteen_writers_beside_a_flusher_and_evictions() -> None:
    """No acknowledged change is lost: every letter is in PostgreSQL in the end, and no row went
    back."""
    done: list[bool] = []

    def writer(number: int) -> None:
        for _ in range(20):
            update(SHEETS, 7 + number % 2, add(chr(97 + number)))

    def flusher() -> list[int]:
        revisions = []
        while not done:
            flush(SHEETS)
            revisions.append((row() or ("", 0))[1])
            write_behind.discard_saved(SHEETS, [7, 8])
        return revisions

    with ThreadPoolExecutor(18) as threads:
        flushers = [threads.submit(in_thread(flusher)) for _ in range(2)]
        list(threads.map(in_thread(writer), range(16)))
        done.append(True)
        assert all((seen := each.result()) == sorted(seen) for each in flushers)
    flush(SHEETS)
    for user_id, parity in ((7, 0), (8, 1)):
        letters = "".join(chr(97 + n) * 20 for n in range(16) if n % 2 == parity)
        text, revision = row(user_id) or ("", 0)
        assert ("".join(sorted(text)), revision) == (letters, 160)


class Buffer(RuleBasedStateMachine):
    """One write-behind document, in any order of changes, flushes that stop anywhere, evictions
    of what is saved, and outside removals of what is saved."""

    def __init__(self) -> None:
        super().__init__()
        store().command("FLUSHDB")
        query("DELETE FROM test_sheet")
        self.text = ""

    @rule(letter=st.sampled_from("abc"))
    def change(self, letter: str) -> None:
        self.text = update(SHEETS, 7, add(letter)).text

    @rule()
    def load(self) -> None:
        assert write_behind.load(SHEETS, 7).text == self.text

    @rule()
    def flush(self) -> None:
        flush(SHEETS)
        assert (row() or ("", 0))[0] == self.text

    @rule()
    def flush_overtaken_by_a_change(self) -> None:
        flush(around(lambda: self.change("d")))

    @rule()
    def flush_overtaken_by_a_flush_and_a_change(self) -> None:
        def overtake() -> None:
            self.change("e")
            flush(SHEETS)
            self.change("f")

        flush(around(overtake, after=False))

    @rule()
    def flush_that_dies(self) -> None:
        try:
            flush(around(lambda: (_ for _ in ()).throw(KeyboardInterrupt)))
        except KeyboardInterrupt:
            return

    @rule()
    def evict_what_is_saved(self) -> None:
        write_behind.discard_saved(SHEETS, [7])

    @rule()
    def corrupt_what_is_saved(self) -> None:
        if not write_behind.discard_saved(SHEETS, [7]):
            put(KEY, b"rubbish")

    def teardown(self) -> None:
        flush(SHEETS)
        assert (row() or ("", 0))[0] == self.text == write_behind.load(SHEETS, 7).text
        assert marks() == {}


def test_buffer_under_random_schedules() -> None:
    """Every acknowledged change reaches PostgreSQL."""
    run_state_machine_as_test(
        Buffer,
        settings=settings(
            max_examples=50,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_index_outside_the_registry() -> None:
    """A buffer's marks live under a registered name, or it cannot be made."""
    with pytest.raises(UnknownKeyspace):
        replace(SHEETS, keys=CANVAS_INDEX._replace(since=InternalKeyspace("canvas", "since")))


# --- documents of an earlier life of the server ------------------------------------------------


def outlived(text: str, revision: int, **members: Any) -> bytes:
    """Put user 7's document of an earlier life into the key, and give its bytes."""
    sheet = Sheet(user_id=7, text=text, revision=revision, incarnation="0" * 12, **members)
    raw = encode(sheet)
    put(KEY, raw)
    return raw


LOOKS: dict[str, Callable[[], object]] = {
    "load": lambda: write_behind.load(SHEETS, 7),
    "flush": lambda: flush(SHEETS),
    "update": lambda: update(SHEETS, 7, add("+")),
}


@pytest.mark.parametrize("dirty_since", [None, 5.0])
@pytest.mark.parametrize("look", LOOKS)
def test_document_of_an_earlier_life_behind_its_row(look: str, dirty_since: float | None) -> None:
    """An older snapshot never replaces what has been persisted since."""
    save_row("persisted", 5)
    outlived("old", 2, dirty_since=dirty_since)
    store().command("ZADD", MARKS, 2, 7)
    LOOKS[look]()
    flush(SHEETS)
    assert row(7) == (("persisted+", 6) if look == "update" else ("persisted", 5))
    assert write_behind.load(SHEETS, 7).text == row(7)[0]
    assert marks() == {}
    assert store().command("PTTL", KEY) > 0


@pytest.mark.parametrize("dirty_since", [None, 5.0])
@pytest.mark.parametrize("look", LOOKS)
def test_document_of_an_earlier_life_ahead_of_its_row(look: str, dirty_since: float | None) -> None:
    """What is unsaved in it exists nowhere else: it goes on, and reaches PostgreSQL."""
    save_row("persisted", 5)
    outlived("unsaved", 7, dirty_since=dirty_since)
    if look == "flush":
        store().command("ZADD", MARKS, 7, 7)
    LOOKS[look]()
    flush(SHEETS)
    assert row(7) == (("unsaved+", 8) if look == "update" else ("unsaved", 7))
    assert write_behind.load(SHEETS, 7).text == row(7)[0]


def test_document_of_an_earlier_life_while_the_cache_goes_away(server: Any) -> None:
    """A load gives what counts; nobody is refused."""
    save_row("persisted", 5)
    held = Found("outlived", outlived("unsaved", 7), life())
    server.pause()
    assert write_behind._open(SHEETS, 7, held).text == "unsaved"
    with pytest.raises(CacheUnavailable):
        write_behind._open(SHEETS, 7, held, strict=True)
