"""Write-through, and the whole protocol of an entry under random schedules."""

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import DatabaseError, connection, transaction
from django.db.models.signals import post_delete, post_save
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from aevon.cache import cache_aside, write_through
from aevon.cache.connection import store
from aevon.cache.models import Outbox
from tests.cache.conftest import in_thread
from tests.cache.entry_states import between, got, note, put, write
from tests.cache.ledgers import NOTES, Note, add_notes, query

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("tables")]
KEY = "psyche:7"


def save(text: str, version: int) -> None:
    """Write user 7's row; the entry follows after the commit."""
    write(7, text, version)
    write_through.publish_on_commit(NOTES, [7])


def rolled_back(text: str, version: int, then: str = "SELECT 1/0") -> None:
    """A save whose transaction fails afterwards."""
    with contextlib.suppress(DatabaseError), transaction.atomic():
        save(text, version)
        query(then)


def test_publish_outside_a_transaction() -> None:
    """The entry follows at once."""
    save("a", 1)
    assert got(KEY) == note(7)


def test_publish_inside_a_transaction() -> None:
    """Nothing is seen before the commit, everything after it."""
    put(KEY, note(7, "old", 1))
    with transaction.atomic():
        save("new", 2)
        assert got(KEY) == note(7, "old", 1)
    assert got(KEY) == note(7, "new", 2)


def test_publish_inside_nested_transactions() -> None:
    """Only the outermost commit counts."""
    put(KEY, note(7, "old", 1))
    with transaction.atomic():
        with transaction.atomic():
            save("new", 2)
        assert got(KEY) == note(7, "old", 1)
    assert got(KEY) == note(7, "new", 2)


def test_rollback() -> None:
    """What was rolled back is never seen."""
    save("old", 1)
    rolled_back("never", 2)
    assert got(KEY) == note(7, "old", 1)
    assert cache_aside.load(NOTES, 7) == Note(user_id=7, text="old", version=1)


def test_rollback_of_an_inner_transaction() -> None:
    """The outer one's state is published, the inner one's is not."""
    with transaction.atomic():
        save("outer", 1)
        rolled_back("inner", 2)
    assert got(KEY) == note(7, "outer", 1)


def test_publish_of_many(django_assert_num_queries: Any) -> None:
    """One query for all; each once, and who has no row loses the entry."""
    add_notes(1, 2, 3)
    put("psyche:4", note(4))
    for user_id in (1, 2, 3):
        put(f"psyche:{user_id}", note(user_id, "old", 0))
    with django_assert_num_queries(1):
        write_through.publish_on_commit(NOTES, [3, 1, 2, 4, 1])
    assert [got(f"psyche:{user_id}") for user_id in (1, 2, 3, 4)] == [
        note(1),
        note(2),
        note(3),
        None,
    ]


def test_publish_while_the_cache_is_away(away: None) -> None:
    """The write succeeds, and the outbox remembers; a vanished row's entry, too."""
    add_notes(1)
    write_through.publish_on_commit(NOTES, [1, 2])
    assert sorted(Outbox.objects.values_list("user_id", flat=True)) == [1, 2]


def test_rows_that_cannot_be_read_after_the_commit(caplog: pytest.LogCaptureFixture) -> None:
    """The writer hears nothing, the log does, and the old entry is gone."""
    put(KEY, note(7, "old", 1))
    with transaction.atomic():
        save("new", 2)
        transaction.on_commit(lambda: query("ALTER TABLE test_note RENAME TO away"), robust=True)
        write_through.publish_on_commit(NOTES, [7])
    query("ALTER TABLE away RENAME TO test_note")
    assert "does not exist" in caplog.text
    assert store().command("EXISTS", KEY) == 0


# --- models ------------------------------------------------------------------------------------


@pytest.fixture
def followed() -> Any:
    """Groups whose id and name are user 7's row, as far as the entry is concerned."""
    before = (post_save.receivers[:], post_delete.receivers[:])
    write_through.follow(NOTES, Group, lambda group: 7)
    write_through.follow(NOTES, Group, lambda group: 7)
    yield
    post_save.receivers, post_delete.receivers = before
    for signal in (post_save, post_delete):
        signal.sender_receivers_cache.clear()


def test_save_and_delete_of_a_followed_model(followed: None) -> None:
    """Each makes the entry follow its rows after the commit."""
    write(7, "saved", 1)
    group = Group.objects.create(name="g")
    assert got(KEY) == note(7, "saved", 1)
    write(7, "deleted", 2)
    group.delete()
    assert got(KEY) == note(7, "deleted", 2)


def test_model_that_is_followed_twice(followed: None) -> None:
    """Following again is harmless: the entry is published once per save."""
    with transaction.atomic():
        Group.objects.create(name="g")
        assert len(connection.run_on_commit) == 1


# --- concurrency -------------------------------------------------------------------------------


def test_eight_writers_and_eight_readers() -> None:
    """Whatever the order of their commits and publishes, the last row is what is served, and no
    reader sees a version go backwards after its acknowledgement."""
    write(7, "0", 0)
    acknowledged = [0]

    def writer() -> None:
        for _ in range(25):
            version = query(
                "UPDATE test_note SET version = version + 1 WHERE user_id = 7 RETURNING version"
            )[0][0]
            write_through.publish_on_commit(NOTES, [7])
            acknowledged[0] = max(acknowledged[0], version)

    def reader() -> int:
        stale = 0
        for number in range(60):
            if number % 10 == 0:
                store().command("DEL", KEY)
            known = acknowledged[0]
            held = cache_aside.load(NOTES, 7)
            stale += held is None or held.version < known
        return stale

    with ThreadPoolExecutor(16) as threads:
        writers = [threads.submit(in_thread(writer)) for _ in range(8)]
        readers = [threads.submit(in_thread(reader)) for _ in range(8)]
        assert sum(each.result() for each in readers) == 0
        assert [each.result() for each in writers] == [None] * 8
    served = cache_aside.load(NOTES, 7)
    assert served is not None
    assert served.version == 200


class Entry(RuleBasedStateMachine):
    """One entry, its row, and everything that may happen to either, in any order."""

    def __init__(self) -> None:
        super().__init__()
        store().command("FLUSHDB")
        query("DELETE FROM test_note")
        self.version = 0
        self.late: list[Note] = []

    def _row(self) -> Note | None:
        return NOTES.read_one(7)

    def _next(self, text: str) -> Note:
        self.version += 1
        return write(7, text, self.version)

    @rule(text=st.text(st.characters(codec="ascii", exclude_characters="\x00"), max_size=3))
    def write(self, text: str) -> None:
        write_through.publish(NOTES, self._next(text))

    @rule()
    def write_by_reading_again(self) -> None:
        self._next("again")
        write_through.publish_on_commit(NOTES, [7])

    @rule()
    def write_that_publishes_late(self) -> None:
        document = self._next("late")
        write_through.publish(NOTES, self._next("overtakes"))
        self.late.append(document)

    @rule()
    def late_publish(self) -> None:
        for document in self.late:
            write_through.publish(NOTES, document)
        self.late.clear()

    @rule()
    def rollback(self) -> None:
        rolled_back("never", self.version + 1)

    @rule()
    def delete(self) -> None:
        query("DELETE FROM test_note")
        write_through.publish_on_commit(NOTES, [7])

    @rule()
    def evict(self) -> None:
        store().command("DEL", KEY)

    @rule()
    def flush(self) -> None:
        store().command("FLUSHDB")

    @rule()
    def stale_lease(self) -> None:
        store().command("SET", KEY, b'{"_lease":"of one who died"}', "PX", 5, "NX")

    @rule(raw=st.sampled_from([b"", b"{}", b"rubbish", b'{"userId":8,"text":"b","version":99}']))
    def corrupt(self, raw: bytes) -> None:
        put(KEY, raw)

    @rule()
    def load_overtaken_by_a_write(self) -> None:
        cache_aside.load(between(NOTES, self.write_by_reading_again), 7)

    @rule()
    def load_overtaken_by_an_eviction_and_a_write(self) -> None:
        def overtake() -> None:
            self.write_by_reading_again()
            self.evict()

        cache_aside.load(between(NOTES, overtake), 7)

    @rule()
    def load_overtaken_by_a_delete(self) -> None:
        cache_aside.load(between(NOTES, self.delete), 7)

    @rule()
    def load_many(self) -> None:
        row = self._row()
        assert cache_aside.load_many(NOTES, [7]) == ({7: row} if row else {})

    @rule()
    def load(self) -> None:
        assert cache_aside.load(NOTES, 7) == self._row()

    def teardown(self) -> None:
        assert [cache_aside.load(NOTES, 7) for _ in range(2)] == [self._row()] * 2


def check(machine: Callable[[], RuleBasedStateMachine], examples: int) -> None:
    """Run a state machine inside one test."""
    run_state_machine_as_test(
        machine,  # type: ignore[arg-type]
        settings=settings(
            max_examples=examples,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_entry_under_random_schedules() -> None:
    """Whatever happens, a load gives the row."""
    check(Entry, 50)
