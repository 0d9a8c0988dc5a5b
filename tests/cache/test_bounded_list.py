"""Bounded lists: whole elements, in order, each once, at most five."""

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from aevon.cache import CacheUnavailable, Keyspace, Recent, UnknownKeyspace
from aevon.cache.bounded_list import (
    BoundedList,
    forget,
    observe,
    push,
    read,
    rebuild,
    warm,
    would_warm,
)
from aevon.cache.connection import store
from aevon.cache.metrics import LOADS, PUBLISHES
from aevon.cache.models import Outbox
from tests.cache.conftest import counted
from tests.cache.entry_states import element, life
from tests.cache.ledgers import LINES, Line, add_lines, query
from tests.threads import in_threads

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("tables")]
KEY = "convo_history:7"


def record(seq: int) -> Line:
    """A line that PostgreSQL has now."""
    query("INSERT INTO test_line VALUES (7, %s, %s)", seq, f"line {seq}")
    return Line(seq=seq, text=f"line {seq}")


def held() -> list[int]:
    """The sequence numbers in the cache."""
    found = [json.loads(raw) for raw in store().command("LRANGE", KEY, 0, -1)]
    return [each["seq"] for each in found if "_lease" not in each]


def seqs(lines: Sequence[Line]) -> list[int]:
    """The sequence numbers of some lines."""
    return [line.seq for line in lines]


# --- push --------------------------------------------------------------------------------------


def test_element_golden_bytes() -> None:
    """What is stored is what any language can read; at its end, whether filled or pushed, is the
    life of the server."""
    push(LINES, 7, record(1))
    push(LINES, 7, record(2))
    end = b',"_incarnation":"%s"}' % life().incarnation.encode()
    elements = [b'{"seq":2,"text":"line 2"' + end, b'{"seq":1,"text":"line 1"' + end]
    assert store().command("LRANGE", KEY, 0, -1) == elements


@pytest.fixture
def older(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The list as a server has it that has come back with what it held in its life before: turns 1
    and 2 of three. What is there is also the newest that it read."""
    for seq in (1, 2):
        push(LINES, 7, record(seq))
    elements = store().command("LRANGE", KEY, 0, -1)
    record(3)
    store().command("DEL", KEY)
    before = [each.replace(life().incarnation.encode(), b"an-older-one") for each in elements]
    store().command("RPUSH", KEY, *before)
    return before


def test_list_of_an_older_life_is_not_believed(older: list[bytes]) -> None:
    """It is a miss, and replaced."""
    with counted(LOADS, "convo_history", "miss") as more:
        assert seqs(read(LINES, 7)) == held() == [3, 2, 1]
    assert more() == 1
    with counted(LOADS, "convo_history", "hit") as more:
        assert seqs(read(LINES, 7)) == [3, 2, 1]
    assert more() == 1


def test_push_onto_a_list_of_an_older_life(older: list[bytes]) -> None:
    """What fits onto it makes it no younger: it is as little believed as before."""
    query("DELETE FROM test_line WHERE user_id = 7 AND seq < 3")
    push(LINES, 7, Line(seq=3, text="line 3"))
    assert held() == [3, 2, 1]
    assert seqs(read(LINES, 7)) == held() == [3]


def test_list_of_an_older_life_that_another_reader_has_replaced_stays(older: list[bytes]) -> None:
    """Who has read the older one takes nothing away from it."""
    read(LINES, 7)
    there = store().command("LRANGE", KEY, 0, -1)
    query("DELETE FROM test_line WHERE user_id = 7")
    rebuild(LINES, [7], replacing={7: older[0]})
    assert store().command("LRANGE", KEY, 0, -1) == there


def test_warm_up_replaces_a_list_of_an_older_life(older: list[bytes]) -> None:
    """As if nothing were there."""
    assert would_warm(LINES, [7]) == warm(LINES, [7]) == {7: "loaded"}
    assert held() == [3, 2, 1]


def test_sixth_element() -> None:
    """The oldest goes; the newest is first."""
    results = [push(LINES, 7, record(seq)) for seq in range(1, 8)]
    assert (results[0], set(results[1:])) == ("rebuilt", {"stored"})
    assert held() == [7, 6, 5, 4, 3]


def test_push_is_one_round_trip(trips: Any, django_assert_num_queries: Any) -> None:
    """Onto a list that is there, and no SQL."""
    push(LINES, 7, record(1))
    push(LINES, 7, line := record(2))
    with trips() as t, django_assert_num_queries(0):
        push(LINES, 7, replace_text(line, 3))
    assert (t.count, held()) == (1, [3, 2, 1])


def replace_text(line: Line, seq: int) -> Line:
    """A line that follows, without a row."""
    return Line(seq=seq, text=line.text)


def test_push_renews_the_lifetime(settings: Any) -> None:
    """Every turn refreshes it."""
    push(LINES, 7, record(1))
    store().command("EXPIRE", KEY, 5)
    push(LINES, 7, record(2))
    assert store().command("TTL", KEY) > 80_000


def test_push_of_the_same_element_again() -> None:
    """A retry changes nothing."""
    lines = [record(seq) for seq in (1, 2, 3)]
    for line in [*lines, lines[1], lines[2], lines[2]]:
        push(LINES, 7, line)
    assert held() == [3, 2, 1]


def test_push_onto_a_missing_list() -> None:
    """It is rebuilt: nothing older is missing from it."""
    add_lines(7, 6)
    with counted(PUBLISHES, "convo_history", "rebuilt") as more:
        assert push(LINES, 7, record(7)) == "rebuilt"
    assert (held(), more()) == ([7, 6, 5, 4, 3], 1)


def test_push_over_a_gap() -> None:
    """The element before is on its way: both are there, once, when either arrives."""
    push(LINES, 7, record(1))
    second, third = record(2), record(3)
    assert push(LINES, 7, third) == "rebuilt"
    assert push(LINES, 7, second) == "stored"
    assert held() == [3, 2, 1]


def test_late_push_of_what_was_forgotten() -> None:
    """It does not come back."""
    late = record(1)
    query("DELETE FROM test_line")
    forget(LINES, [7])
    push(LINES, 7, record(2))
    push(LINES, 7, late)
    assert held() == [2]


@pytest.mark.parametrize("command", [("SET", KEY, "x"), ("SADD", KEY, "x"), ("LPUSH", KEY, "{")])
def test_push_onto_something_else(command: tuple[str, ...]) -> None:
    """It is replaced by a list."""
    add_lines(7, 2)
    store().command(*command)
    assert push(LINES, 7, record(3)) == "rebuilt"
    assert held() == [3, 2, 1]


def test_push_while_the_cache_is_away(away: None) -> None:
    """It is noted; nothing is raised."""
    assert push(LINES, 7, record(1)) == "away"
    assert list(Outbox.objects.values_list("keyspace", "user_id")) == [("convo_history", 7)]


def test_push_while_the_cache_is_full(full: None) -> None:
    """Nothing is raised, and what is read is right. (Redis lets a script write that has deleted
    before; Dragonfly does not.)"""
    for seq in (1, 2):
        push(LINES, 7, record(seq))
        assert seqs(read(LINES, 7)) == [2, 1][-seq:]


# --- read --------------------------------------------------------------------------------------


def test_hit(trips: Any, django_assert_num_queries: Any) -> None:
    """One round trip and no SQL, newest first."""
    push(LINES, 7, record(1))
    push(LINES, 7, record(2))
    with trips() as t, django_assert_num_queries(0), counted(LOADS, "convo_history", "hit") as more:
        assert read(LINES, 7) == [Line(seq=2, text="line 2"), Line(seq=1, text="line 1")]
    assert (t.count, more()) == (1, 1)


def test_miss() -> None:
    """The list is rebuilt and equals the one that was lost."""
    for seq in range(1, 8):
        push(LINES, 7, record(seq))
    lost = store().command("LRANGE", KEY, 0, -1)
    store().command("DEL", KEY)
    with counted(LOADS, "convo_history", "miss") as more:
        assert seqs(read(LINES, 7)) == [7, 6, 5, 4, 3]
    assert (store().command("LRANGE", KEY, 0, -1), more()) == (lost, 1)


def test_user_without_elements() -> None:
    """Nothing, and no key."""
    assert read(LINES, 7) == []
    assert store().command("DBSIZE") == 0


def test_read_while_the_cache_is_away(away: None) -> None:
    """PostgreSQL answers."""
    add_lines(7, 6)
    with counted(LOADS, "convo_history", "away") as more:
        assert seqs(read(LINES, 7)) == [6, 5, 4, 3, 2]
    assert more() == 1


UNREADABLE: list[tuple[str, ...]] = [
    ("SET", KEY, "x"),
    ("SET", KEY, ""),
    ("SADD", KEY, "x"),
    ("RPUSH", KEY, "{"),
    ("RPUSH", KEY, '{"_fence":"x"}'),
    ("RPUSH", KEY, '{"seq":2,"text":"line 2"}', '{"_lease":"x"}'),
    ("RPUSH", KEY, '{"seq":99}'),
    ("RPUSH", KEY, '{"seq":99,"text":5}'),
    ("RPUSH", KEY, '{"seq":"2","text":"x"}'),
    ("RPUSH", KEY, '{"seq":2,"text":"line 2"}', "rubbish"),
]


@pytest.mark.parametrize("command", UNREADABLE)
@pytest.mark.parametrize("rows", [0, 2])
def test_list_that_cannot_be_read(command: tuple[str, ...], rows: int) -> None:
    """It is served from PostgreSQL, replaced, and counted."""
    store().command(*command)
    add_lines(7, rows)
    with counted(LOADS, "convo_history", "corrupt") as more:
        assert seqs(read(LINES, 7)) == [2, 1][:rows]
    assert more() == 1
    assert held() == [2, 1][:rows]


@pytest.mark.parametrize("order", [(1, 2, 3), (2, 3), (3, 3, 2), (6, 5, 4, 3, 2, 1)])
def test_list_out_of_order(order: tuple[int, ...]) -> None:
    """Oldest first, twice the same, or one too many: it is replaced by what PostgreSQL has."""
    add_lines(7, max(order))
    for seq in order:
        store().command("RPUSH", KEY, f'{{"seq":{seq},"text":"line {seq}"}}')
    with counted(LOADS, "convo_history", "corrupt") as more:
        newest = list(range(max(order), 0, -1))[:5]
        assert seqs(read(LINES, 7)) == held() == newest
    assert more() == 1


# --- rebuild -----------------------------------------------------------------------------------


def test_rebuild_of_several(trips: Any, django_assert_num_queries: Any) -> None:
    """One query between two round trips; who has none gets no key, and what is there stays."""
    for user_id in (7, 8):
        add_lines(user_id, user_id)
    store().command("RPUSH", "convo_history:6", element('{"seq":1,"text":"line 1"}'))
    rebuild(LINES, [6, 7])  # sends the scripts
    store().command("DEL", KEY)
    with trips() as t, django_assert_num_queries(1):
        lists = rebuild(LINES, [6, 7, 8, 9])
    assert (t.count, {u: seqs(lines) for u, lines in lists.items()}) == (
        2,
        {6: [], 7: [7, 6, 5, 4, 3], 8: [8, 7, 6, 5, 4], 9: []},
    )
    assert {key.decode() for key in store().command("KEYS", "*")} == {
        f"convo_history:{user_id}" for user_id in (6, 7, 8)
    }


Change = Callable[[], object]


def overtaken(change: Change) -> BoundedList[Line]:
    """The list as one reader knows it: the change comes after its SELECT and before its fill."""
    waiting = [change]

    def recent(user_ids: Sequence[int]) -> dict[int, Recent[Line]]:
        found = LINES.recent(user_ids)
        while waiting:
            waiting.pop()()
        return found

    return replace(LINES, recent=recent)


def forget_two() -> None:
    """The newest line is forgotten."""
    query("DELETE FROM test_line WHERE seq = 2")
    forget(LINES, [7])


OVERTAKING: dict[str, tuple[Change, list[int]]] = {
    "a push": (lambda: push(LINES, 7, record(3)), [3, 2, 1]),
    "a forgetting": (forget_two, []),
    "an eviction": (lambda: store().command("DEL", KEY), []),
    # A turn whose process died before its push, and another that psql deleted.
    "a drain": (lambda: (record(3), observe(LINES, {7: 3})), []),
    "a comparison": (lambda: (query("DELETE FROM test_line"), observe(LINES, {7: None})), []),
}


@pytest.mark.parametrize("what", OVERTAKING)
def test_rebuild_that_is_overtaken(what: str) -> None:
    """It puts nothing in: what it has read may be older than what has happened since."""
    add_lines(7, 2)
    change, left = OVERTAKING[what]
    assert seqs(read(overtaken(change), 7)) == [2, 1]
    assert held() == left


def test_rebuild_beside_another() -> None:
    """One of them fills; the other is served from PostgreSQL at once."""
    add_lines(7, 2)
    others: list[list[int]] = []
    assert seqs(read(overtaken(lambda: others.append(seqs(read(LINES, 7)))), 7)) == [2, 1]
    assert (others, held()) == ([[2, 1]], [2, 1])


def test_reader_that_died_with_its_lease() -> None:
    """It is waited for no longer than any reader takes; the next turn does not wait at all."""
    add_lines(7, 1)
    lease = '{"_lease":"x"}'
    store().pipeline([("RPUSH", KEY, lease), ("PEXPIRE", KEY, 4000)])
    with counted(LOADS, "convo_history", "miss") as more:
        assert seqs(read(LINES, 7)) == [1]
    assert (more(), store().command("LRANGE", KEY, 0, -1)) == (1, [lease.encode()])
    assert push(LINES, 7, record(2)) == "rebuilt"
    assert held() == [2, 1]
    store().command("DEL", KEY)
    store().command("RPUSH", KEY, lease)  # no reader leaves one without an end
    assert seqs(read(LINES, 7)) == held() == [2, 1]


@pytest.mark.django_db(transaction=True)
def test_rebuild_inside_a_transaction() -> None:
    """What it reads may be rolled back: nothing is put in."""
    with contextlib.suppress(RuntimeError), transaction.atomic():
        add_lines(7, 1)
        assert seqs(read(LINES, 7)) == [1]
        raise RuntimeError
    assert store().command("DBSIZE") == 0


def test_list_without_the_newest_element() -> None:
    """It was deleted, and its process may be slow: a list that ends before it would take it in."""
    late = record(3)
    query("INSERT INTO test_line VALUES (7, 2, 'line 2')")

    def recent(user_ids: Sequence[int]) -> dict[int, Recent[Line]]:
        return {u: replace(found, last=3) for u, found in LINES.recent(user_ids).items()}

    lines = replace(LINES, recent=recent)
    assert push(LINES, 7, late) == "rebuilt"
    query("DELETE FROM test_line WHERE seq = 3")
    observe(lines, {7: None})
    assert seqs(read(lines, 7)) == [2]
    push(lines, 7, late)
    assert store().command("DBSIZE") == 0


def test_rebuild_while_the_cache_is_away(away: None) -> None:
    """The lists are given; nothing has changed that somebody would have to follow."""
    add_lines(7, 1)
    assert seqs(rebuild(LINES, [7])[7]) == [1]
    assert Outbox.objects.count() == 0


# --- observe -----------------------------------------------------------------------------------


def test_observation_of_what_is_there(trips: Any) -> None:
    """The normal case, the push came first: the list is not touched. One round trip."""
    for seq in (1, 2, 3):
        push(LINES, 7, record(seq))
    observe(LINES, {7: 3})
    store().command("PEXPIRE", KEY, 50_000)
    with trips() as t:
        observe(LINES, {7: 3, 8: 1})
    assert (t.count, held()) == (1, [3, 2, 1])
    observe(LINES, {7: 2})
    observe(LINES, {7: None})
    assert held() == [3, 2, 1]
    assert store().command("PTTL", KEY) <= 50_000


@pytest.mark.parametrize("seen", [3, None])
def test_observation_of_a_lost_push(seen: int | None) -> None:
    """The list goes; who reads next has it whole."""
    for seq in (1, 2):
        push(LINES, 7, record(seq))
    record(3)
    observe(LINES, {7: seen, 8: None})
    assert held() == []
    assert seqs(read(LINES, 7)) == held() == [3, 2, 1]


@pytest.mark.parametrize("command", UNREADABLE)
def test_observation_of_something_else(command: tuple[str, ...]) -> None:
    """It goes as well."""
    add_lines(7, 2)
    store().command(*command)
    observe(LINES, {7: None})
    assert store().command("DBSIZE") == 0


def test_observation_while_the_cache_is_away(away: None) -> None:
    """Whoever drains is told."""
    for seen in (1, None):
        with pytest.raises(CacheUnavailable):
            observe(LINES, {7: seen})


# --- forget ------------------------------------------------------------------------------------


def test_forget() -> None:
    """The lists go."""
    add_lines(7, 1)
    rebuild(LINES, [7])
    assert forget(LINES, [7, 8]) == "dropped"
    assert store().command("DBSIZE") == 0


def test_forget_while_the_cache_is_away(away: None) -> None:
    """It is noted."""
    assert forget(LINES, [7, 8]) == "away"
    assert Outbox.objects.count() == 2


def test_list_outside_the_registry() -> None:
    """A pattern refuses a keyspace that nobody registered."""
    with pytest.raises(UnknownKeyspace):
        replace(LINES, keyspace=Keyspace("lines", "x", "list", None))


# --- concurrency -------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_sixteen_callers_beside_evictions() -> None:
    """Each turn once, in order, at most five, and the list equals PostgreSQL's in the end."""

    def turn() -> None:
        with transaction.atomic():
            query("SELECT pg_advisory_xact_lock(7)")
            seq = query("SELECT coalesce(max(seq), 0) + 1 FROM test_line WHERE user_id = 7")[0][0]
            line = record(seq)
        push(LINES, 7, line)

    def work(number: int) -> bool:
        for _ in range(10):
            turn()
            if number == 0:
                store().command("DEL", KEY)
        found = held()
        return found == sorted(set(found), reverse=True) and len(found) <= 5

    assert all(in_threads([partial(work, number) for number in range(16)], workers=16))
    assert seqs(read(LINES, 7)) == held() == [160, 159, 158, 157, 156]


class History(RuleBasedStateMachine):
    """One list, its rows, pushes that are late, evictions and corruption, in any order."""

    def __init__(self) -> None:
        super().__init__()
        store().command("FLUSHDB")
        query("DELETE FROM test_line")
        self.seq = self.forgotten = 0
        self.late: list[Line] = []

    @rule()
    def turn(self) -> None:
        self.seq += 1
        push(LINES, 7, record(self.seq))

    @rule()
    def turn_whose_push_is_late(self) -> None:
        self.seq += 1
        self.late.append(record(self.seq))

    @rule()
    def late_pushes(self) -> None:
        while self.late:
            push(LINES, 7, self.late.pop())

    @rule()
    def forget(self) -> None:
        self.forgotten = self.seq
        query("DELETE FROM test_line")
        forget(LINES, [7])

    @rule()
    def evict(self) -> None:
        store().command("DEL", KEY)

    @rule()
    def corrupt(self) -> None:
        store().command("LPUSH", KEY, '{"seq":999}')

    @rule()
    def rebuild(self) -> None:
        rebuild(LINES, [7])

    @rule()
    def read(self) -> None:
        found = seqs(read(LINES, 7))
        assert found == sorted(set(found), reverse=True)
        assert len(found) <= 5
        assert min(found, default=self.forgotten + 1) > self.forgotten

    def teardown(self) -> None:
        self.late_pushes()
        last = range(self.seq, self.forgotten, -1)
        assert seqs(read(LINES, 7)) == list(last)[:5]


def test_list_under_random_schedules() -> None:
    """Whatever happens, the list is the last turns."""
    run_state_machine_as_test(
        History,
        settings=settings(
            max_examples=50,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
