"""Write-behind: acknowledged changes reach PostgreSQL, whatever comes between."""

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from aevon.cache import (
    CANVAS_INDEX,
    CacheUnavailable,
    Contended,
    InternalKeyspace,
    UnknownKeyspace,
    write_behind,
)
from aevon.cache.codec import encode
from aevon.cache.connection import Script, reset, store
from aevon.cache.entries import Found
from aevon.cache.flush import flush
from aevon.cache.write_behind import update
from tests.cache.entry_states import got, life, put
from tests.cache.ledgers import SHEETS, Sheet, query
from tests.cache.sheets import KEY, MARKS, add, edit, flush_around, live, marks, row, save_row
from tests.threads import in_thread

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("tables")]


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


def test_update_to_a_document_made_anew() -> None:
    """What the cache layer notes in it is not the caller's to forget."""
    edit("a")
    flush(SHEETS)
    update(SHEETS, 7, lambda _: Sheet(user_id=7, text="new", revision=0))
    told = got(KEY)
    assert (told["text"], told["revision"], told["_persistedRevision"]) == ("new", 2, 1)


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


def test_memory_that_is_lost_between_read_and_write() -> None:
    """Another document has got the same revision since: the change is computed from that."""
    edit("lost")
    waiting = [lambda: (store().command("DEL", KEY), edit("new"))]

    def change(sheet: Sheet) -> Sheet:
        while waiting:
            waiting.pop()()
        return add("+")(sheet)

    assert update(SHEETS, 7, change).text == "new+"


def test_server_that_restarts_between_read_and_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may not know of what was persisted since: what it takes is not acknowledged."""
    save_row("persisted", 5)
    stale = encode(Sheet(user_id=7, text="stale", revision=1, incarnation=life().incarnation))
    put(KEY, stale)
    exchange, lives = store().exchange, []

    def of_another_life(commands: Any, **options: Any) -> Any:
        answer = exchange(commands, **options)
        if getattr(commands[0], "script", None) is not write_behind.COMPARE_AND_SET or lives:
            return answer
        lives.append(answer.life)
        put(KEY, store().command("GET", KEY).replace(answer.life.incarnation.encode(), b"0" * 12))
        return answer._replace(life=answer.life._replace(incarnation="0" * 12))

    monkeypatch.setattr(store(), "exchange", of_another_life)
    assert update(SHEETS, 7, add("+")).text == "persisted+"
    assert lives


def test_another_life_that_holds_the_same_between_read_and_write() -> None:
    """A copy of the memory, which knows nothing of what was persisted since, is not written on."""
    edit("a")
    read = store().command("GET", KEY)
    copy = read.replace(life().incarnation.encode(), b"0" * 12)
    put(KEY, copy)
    call = write_behind.COMPARE_AND_SET.on(KEY, read, read.replace(b'"a"', b'"b"'), b"", "")
    assert store().script(call) == b"conflict"
    assert store().command("GET", KEY) == copy


def test_entry_evicted_between_read_and_write() -> None:
    """The change is computed again; the row's revision is not gone back behind."""
    save_row("saved", 3)
    waiting = [lambda: store().command("DEL", KEY)]

    def change(sheet: Sheet) -> Sheet:
        while waiting:
            waiting.pop()()
        return add("+")(sheet)

    assert update(SHEETS, 7, change).revision == 4


# --- what the layer notes in a document --------------------------------------------------------

NOTES = (',"_persistedRevision":7', ',"_persistedAt":"2026-01-02T03:04:05.000006Z"')
SINCE_NOTE = ',"_dirtySince":1796021671.05862'
STAMP = ',"_incarnation":"ed8c242253a5"}'
LIKE_NOTES = st.sampled_from([*NOTES, SINCE_NOTE, STAMP, STAMP[:-1], ',"_', "x" * 90, "}", '"'])


@given(
    inner=st.lists(LIKE_NOTES, max_size=5).map("".join),
    told=st.sampled_from(["", NOTES[0], NOTES[1], "".join(NOTES)]),
    since=st.sampled_from(["", SINCE_NOTE]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_notes_are_found_at_the_end_alone(inner: str, told: str, since: str) -> None:
    """By a flush and by the server's scripts alike, whatever the content looks like."""
    head = f'{{"text":{json.dumps(inner)},"inner":{{"a":1{inner}}}'
    raw = (head + told + since + STAMP).encode()
    script = Script("told").source + "return {parts(ARGV[1])}"
    parts = store().command("EVAL", script, 1, KEY, raw)
    assert [each.decode() for each in parts] == [head, told, since, STAMP]
    assert write_behind.Held(None, raw).head == head.encode()


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
        flush_around(lambda: self.change("d"))

    @rule()
    def flush_overtaken_by_a_flush_and_a_change(self) -> None:
        def overtake() -> None:
            self.change("e")
            flush(SHEETS)
            self.change("f")

        flush_around(overtake)

    @rule()
    def flush_that_dies(self) -> None:
        try:
            flush_around(lambda: (_ for _ in ()).throw(KeyboardInterrupt))
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
    assert write_behind._missing(SHEETS, 7, held).document.text == "unsaved"
    with pytest.raises(CacheUnavailable):
        write_behind._missing(SHEETS, 7, held, strict=True)


def test_document_of_an_earlier_life_that_is_changed_while_it_is_compared() -> None:
    """Somebody else was faster: what they made of it is not replaced."""
    outlived("unsaved", 7)
    waiting = [lambda: edit("changed")]

    def read(user_ids: Sequence[int]) -> Any:
        rows = SHEETS.projection.read(user_ids)
        while waiting:
            waiting.pop()()
        return rows

    late = replace(SHEETS, projection=replace(SHEETS.projection, read=read))
    write_behind.load(late, 7)
    assert got(KEY)["text"] == "changed"
