"""Write-through, and the whole protocol of an entry under random schedules."""

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models.signals import class_prepared, post_delete, post_save, pre_delete, pre_save
from django.test.utils import isolate_apps
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from aevon.cache import cache_aside, fences, outbox, write_through
from aevon.cache.connection import store
from aevon.cache.fences import Mark
from aevon.cache.models import Outbox
from aevon.cache.write_through import guarded
from tests.cache.entry_states import between, fence_runs_out, got, note, put, write
from tests.cache.ledgers import NOTE_RESOURCE, NOTES, Note, add_notes, query
from tests.servers import without_cache
from tests.threads import in_another_thread, in_thread

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


def fenced() -> bool:
    """Whether the entry is a fence."""
    return "_fence" in (got(KEY) or {})


def test_publish_inside_a_transaction() -> None:
    """The entry is fenced until the commit: neither the old state is served, nor the new one."""
    put(KEY, note(7, "old", 1))
    with transaction.atomic():
        save("new", 2)
        assert fenced()
        assert in_another_thread(cache_aside.load, NOTES, 7) is None  # no row has been committed
        assert cache_aside.load(NOTES, 7) == Note(user_id=7, text="new", version=2)
        assert fenced()
    assert got(KEY) == note(7, "new", 2)


def test_publish_before_the_change() -> None:
    """What counts is what has been committed."""
    put(KEY, note(7, "old", 1))
    with transaction.atomic():
        write_through.publish_on_commit(NOTES, [7])
        write(7, "new", 2)
    assert got(KEY) == note(7, "new", 2)


def test_publish_inside_nested_transactions() -> None:
    """Only the outermost commit counts."""
    put(KEY, note(7, "old", 1))
    with transaction.atomic():
        with transaction.atomic():
            save("new", 2)
        assert fenced()
    assert got(KEY) == note(7, "new", 2)


def test_publish_by_several_parts_of_a_transaction(
    trips: Any, django_assert_num_queries: Any
) -> None:
    """Each user is fenced when first told of; all are published together, with one query."""
    add_notes(1, 2, 3)
    with trips() as t, django_assert_num_queries(3):  # BEGIN and COMMIT are two
        with transaction.atomic():
            write_through.publish_on_commit(NOTES, [1, 2])
            write_through.publish_on_commit(NOTES, [2, 3])
            with transaction.atomic(savepoint=False):
                write_through.publish_on_commit(NOTES, [1, 2, 3])
            assert (t.count, len(connection.run_on_commit)) == (2, 1)
        assert t.count == 3
    assert [got(f"psyche:{user_id}") for user_id in (1, 2, 3)] == [note(1), note(2), note(3)]


def test_publish_of_nobody(trips: Any, django_assert_num_queries: Any) -> None:
    """Nothing is asked, inside a transaction or outside."""
    with trips() as t, django_assert_num_queries(0):
        write_through.publish_on_commit(NOTES, [])
    assert t.count == 0


def test_rollback() -> None:
    """What was rolled back is never seen; the fence runs out, and the next reader fills."""
    save("old", 1)
    rolled_back("never", 2)
    assert cache_aside.load(NOTES, 7) == Note(user_id=7, text="old", version=1)
    fence_runs_out(KEY)
    assert cache_aside.load(NOTES, 7) == Note(user_id=7, text="old", version=1)
    assert got(KEY) == note(7, "old", 1)


def test_rollback_of_an_inner_transaction() -> None:
    """What it wrote is never seen; the outer one's mark was the only one, and its state goes in."""
    with transaction.atomic():
        save("outer", 1)
        rolled_back("inner", 2)
    assert got(KEY) == note(7, "outer", 1)


def test_publish_after_the_rollback_of_an_inner_transaction() -> None:
    """The hook went with the savepoint: a later write of the outer one has a hook of its own. The
    inner one's writer is never heard of again: so long as its mark counts nothing goes in, and what
    was committed is read from PostgreSQL."""
    with transaction.atomic():
        rolled_back("inner", 2)
        save("outer", 3)
        assert len(connection.run_on_commit) == 1
    outer = Note(user_id=7, text="outer", version=3)
    assert cache_aside.load(NOTES, 7) == outer
    fence_runs_out(KEY)
    assert cache_aside.load(NOTES, 7) == outer
    assert got(KEY) == note(7, "outer", 3)


def test_publish_of_many(trips: Any, django_assert_num_queries: Any) -> None:
    """One query and two round trips for all; each once, and who has no row loses the entry."""
    add_notes(1, 2, 3)
    put("psyche:4", note(4))
    for user_id in (1, 2, 3):
        put(f"psyche:{user_id}", note(user_id, "old", 0))
    with django_assert_num_queries(1), trips() as t:
        write_through.publish_on_commit(NOTES, [3, 1, 2, 4, 1])
        assert t.count == 2
    assert [got(f"psyche:{user_id}") for user_id in (1, 2, 3, 4)] == [
        note(1),
        note(2),
        note(3),
        None,
    ]


@pytest.mark.parametrize("inside", [False, True])
def test_publish_of_more_than_a_few(
    trips: Any, django_assert_num_queries: Any, inside: bool
) -> None:
    """They lose their entries: one round trip before the commit, one after it, and no SQL."""
    users = range(1, write_through.FEW_USERS + 2)
    add_notes(*users)
    for user_id in users:
        put(f"psyche:{user_id}", note(user_id, "old", 0))
    with trips() as t:
        if inside:
            with transaction.atomic():
                write_through.publish_on_commit(NOTES, users)
        else:
            with django_assert_num_queries(0):
                write_through.publish_on_commit(NOTES, users)
        assert t.count == 2
    assert store().command("DBSIZE") == 0


def test_publish_while_the_cache_is_away(away: None) -> None:
    """The write succeeds; the outbox has its version, by the database itself."""
    save("a", 4)
    with transaction.atomic():
        save("b", 5)
    assert list(Outbox.objects.values_list("keyspace", "user_id", "version")) == [("psyche", 7, 5)]


def test_cache_that_goes_away_before_the_commit(settings: Any) -> None:
    """The fence does its work until the outbox does."""
    put(KEY, note(7, "old", 1))
    here = settings.AEVON_CACHE
    with transaction.atomic():
        save("new", 2)
        settings.AEVON_CACHE = without_cache()
    settings.AEVON_CACHE = here
    assert fenced()
    assert cache_aside.load(NOTES, 7) == Note(user_id=7, text="new", version=2)
    outbox.drain({"psyche": NOTE_RESOURCE.observe})
    assert got(KEY)["_floor"] == 2


def test_cache_that_comes_back_before_the_commit(settings: Any) -> None:
    """Nobody is marked, so nothing goes in; what is older goes."""
    put(KEY, note(7, "old", 1))
    here = settings.AEVON_CACHE
    with transaction.atomic():
        settings.AEVON_CACHE = without_cache()
        save("new", 2)
        settings.AEVON_CACHE = here
        assert got(KEY) == note(7, "old", 1)
    assert got(KEY) is None


def test_rows_that_cannot_be_read_after_the_commit(caplog: pytest.LogCaptureFixture) -> None:
    """The writer hears nothing, the log does, and the old entry is not served any more."""
    put(KEY, note(7, "old", 1))
    with transaction.atomic():
        save("new", 2)
        connection.run_on_commit.insert(
            0, (set(), lambda: query("ALTER TABLE test_note RENAME TO away"), True)
        )
    query("ALTER TABLE away RENAME TO test_note")
    assert "does not exist" in caplog.text
    assert got(KEY) is None


# --- guarded writes ----------------------------------------------------------------------------


def raise_row(expected: int, text: str) -> Note | None:
    """A write that is computed from the version expected."""
    rows = query(
        "UPDATE test_note SET text = %s, version = version + 1 WHERE user_id = 7 AND version = %s"
        " RETURNING version",
        text,
        expected,
    )
    return Note(user_id=7, text=text, version=rows[0][0]) if rows else None


def test_guarded_write(trips: Any, django_assert_num_queries: Any) -> None:
    """From the entry: two round trips and one statement; fenced in between."""
    put(KEY, note(7))
    add_notes(7)
    with trips() as t, django_assert_num_queries(1):
        with guarded(NOTES, 7) as writing:
            assert writing.state == Note(user_id=7, text="a", version=1)
            document = raise_row(1, "b")
            assert document is not None
            writing.publish(document)
        assert t.count == 2
    assert got(KEY) == note(7, "b", 2)


def test_guarded_write_is_fenced_until_it_is_published() -> None:
    """Readers read PostgreSQL meanwhile."""
    save("a", 1)
    with guarded(NOTES, 7) as writing:
        assert fenced()
        document = raise_row(1, "b")
        assert cache_aside.load(NOTES, 7) == document
        assert fenced()
        writing.publish(document)
    assert got(KEY) == note(7, "b", 2)


@pytest.mark.parametrize("held", [None, {"_gone": 4}, {"_lease": "x"}, b"rubbish"])
def test_guarded_write_without_a_state(held: Any) -> None:
    """Whatever else is there is no state: the row is to be read."""
    if held is not None:
        put(KEY, held)
    with guarded(NOTES, 7) as writing:
        assert writing.state is None
        writing.publish(write(7, "new", 5))
    assert cache_aside.load(NOTES, 7) == Note(user_id=7, text="new", version=5)


def test_guarded_write_that_is_not_made(trips: Any, django_assert_num_queries: Any) -> None:
    """The state goes back: two round trips, and nobody need read PostgreSQL."""
    save("a", 1)
    with trips() as t, django_assert_num_queries(0):
        with guarded(NOTES, 7) as writing:
            pass
        writing.abandon()  # again is harmless
        assert t.count == 2
    assert got(KEY) == note(7)


def test_guarded_write_that_is_refused() -> None:
    """The caller says that nothing was written; an exception alone does not."""
    save("a", 1)
    with guarded(NOTES, 7) as write:
        write.abandon()
    assert got(KEY) == note(7)
    with pytest.raises(ValueError, match="no stake"), guarded(NOTES, 7):
        raise ValueError("no stake")
    assert fenced()


def test_guarded_write_that_is_not_made_without_a_state() -> None:
    """Only the mark goes: the next reader fills."""
    add_notes(7)
    with guarded(NOTES, 7):
        pass
    assert got(KEY) is None
    assert cache_aside.load(NOTES, 7) == Note(user_id=7, text="a", version=1)
    assert got(KEY) == note(7)


@pytest.mark.parametrize("told", [True, False])
def test_guarded_write_that_is_not_made_beside_one_that_is(told: bool) -> None:
    """Its old state does not come back, whether the other has told the cache or the outbox has."""
    save("a", 1)
    with guarded(NOTES, 7):
        if told:
            save("new", 2)
        else:
            write(7, "new", 2)
            outbox.drain({"psyche": NOTE_RESOURCE.observe})
    assert got(KEY) is None
    assert cache_aside.load(NOTES, 7) == Note(user_id=7, text="new", version=2)


def test_guarded_write_that_is_not_made_after_an_eviction() -> None:
    """Its old state does not come back: somebody may have written since."""
    save("a", 1)
    with guarded(NOTES, 7):
        store().command("DEL", KEY)
        write(7, "new", 2)
    assert got(KEY) is None


@pytest.mark.parametrize("error", [DatabaseError, KeyboardInterrupt])
def test_guarded_write_of_which_nobody_knows(error: type[BaseException]) -> None:
    """PostgreSQL may have committed: the fence stays until it runs out."""
    save("a", 1)
    with pytest.raises(error), guarded(NOTES, 7):
        raise error
    assert fenced()


def test_guarded_write_beside_another() -> None:
    """The last to leave puts its state in, and none goes back."""
    save("a", 1)
    with guarded(NOTES, 7) as first:
        with guarded(NOTES, 7) as second:
            assert second.state is None
            second.publish(write(7, "second", 3))
        assert fenced()
        first.publish(Note(user_id=7, text="first", version=2))
    assert got(KEY) is None
    assert cache_aside.load(NOTES, 7) == Note(user_id=7, text="second", version=3)


def test_guarded_write_inside_a_transaction() -> None:
    """Refused: it would be published before its commit."""
    with pytest.raises(RuntimeError, match="not in a transaction"), transaction.atomic():
        guarded(NOTES, 7).__enter__()
    assert got(KEY) is None


def test_guarded_write_while_the_cache_is_away(away: None) -> None:
    """From the row, and it goes on."""
    add_notes(7)
    with guarded(NOTES, 7) as writing:
        assert writing.state is None
        document = raise_row(1, "b")
        assert document is not None
        writing.publish(document)
    assert query("SELECT version FROM test_note") == [(2,)]
    assert list(Outbox.objects.values_list("user_id", "version")) == [(7, 2)]


# --- models ------------------------------------------------------------------------------------


SIGNALS = (class_prepared, pre_save, post_save, pre_delete, post_delete)


@pytest.fixture
def followed() -> Any:
    """A group's id is that of the user whose entry follows it."""
    before = [signal.receivers[:] for signal in SIGNALS]
    write_through.follow(NOTES, Group, "pk")
    write_through.follow(NOTES, Group, "pk")
    yield
    del write_through._followed[Group]
    for signal, receivers in zip(SIGNALS, before, strict=True):
        signal.receivers = receivers
        signal.sender_receivers_cache.clear()


def test_save_and_delete_of_a_followed_model(followed: None) -> None:
    """Each makes the entry follow its rows after the commit."""
    write(7, "saved", 1)
    group = Group.objects.create(pk=7, name="g")
    assert got(KEY) == note(7, "saved", 1)
    write(7, "saved again", 2)
    group.save()
    assert got(KEY) == note(7, "saved again", 2)
    write(7, "deleted", 3)
    group.delete()
    assert got(KEY) == note(7, "deleted", 3)


def test_save_of_a_model_that_two_users_follow(followed: None, monkeypatch: Any) -> None:
    """Both entries go with it: a giver's, and a taker's."""
    monkeypatch.setattr(Group, "taker_id", property(lambda group: group.pk + 1), raising=False)
    write_through.follow(NOTES, Group, "taker_id")
    write(7, "saved", 1)
    write(8, "saved", 1)
    Group.objects.create(pk=7, name="g")
    assert (got(KEY), got("psyche:8")) == (note(7, "saved", 1), note(8, "saved", 1))


@isolate_apps("tests")
def test_save_by_a_proxy_that_was_there_before(request: pytest.FixtureRequest) -> None:
    """A service follows models when Django is ready: proxies have been declared by then."""

    class Proxy(Group):
        class Meta:
            app_label = "tests"
            proxy = True

    class ProxyOfAProxy(Proxy):
        class Meta:
            app_label = "tests"
            proxy = True

    request.getfixturevalue("followed")
    write(7, "saved", 1)
    ProxyOfAProxy.objects.create(pk=7, name="g")
    assert got(KEY) == note(7, "saved", 1)


@pytest.mark.parametrize("inside", [False, True])
def test_entry_during_a_save_of_a_followed_model(followed: None, inside: bool) -> None:
    """It is fenced before the row changes, also where no transaction is open."""
    put(KEY, note(7, "old", 1))
    write(7, "new", 2)
    seen: list[bool] = []
    pre_save.connect(lambda **_: seen.append(fenced()), sender=Group, weak=False)
    with transaction.atomic() if inside else contextlib.nullcontext():
        Group.objects.create(pk=7, name="g")
    assert (seen, got(KEY)) == ([True], note(7, "new", 2))


def test_save_of_a_followed_model_costs(
    followed: None, trips: Any, django_assert_num_queries: Any
) -> None:
    """Two round trips and one query more; so does one inside a transaction."""
    put(KEY, note(7, "old", 1))
    with trips() as t, django_assert_num_queries(2):
        group = Group.objects.create(pk=7, name="g")
        assert t.count == 2
    with trips() as t, django_assert_num_queries(4):
        with transaction.atomic():
            group.save(force_update=True)
        assert t.count == 2


def test_save_of_a_followed_model_that_fails(followed: None) -> None:
    """Nobody knows what became of it: the fence runs out."""
    write(7, "a", 1)
    Group.objects.create(pk=7, name="g")
    with pytest.raises(IntegrityError):
        Group.objects.create(pk=7, name="g")
    fence_runs_out(KEY)
    assert cache_aside.load(NOTES, 7) == Note(user_id=7, text="a", version=1)
    assert got(KEY) == note(7)


def test_row_that_gets_its_owner_by_the_save(followed: None, trips: Any) -> None:
    """There is nobody to fence before; afterwards it is followed as any."""
    with trips() as t:
        group = Group.objects.create(name="g")
        assert t.count == 2
    write(group.pk, "a", 1)
    group.save()
    key = f"psyche:{group.pk}"
    assert cache_aside.load(NOTES, group.pk) == Note(user_id=group.pk, text="a", version=1)
    assert got(key) == note(group.pk)


def test_model_that_is_followed_twice(followed: None) -> None:
    """Following again is harmless: the entry is published once per save."""
    assert write_through.followed(Group) == [(NOTES, "pk")]
    with transaction.atomic():
        Group.objects.create(pk=7, name="g")
        assert len(connection.run_on_commit) == 1


def test_model_that_nobody_follows() -> None:
    """Nothing follows it."""
    assert write_through.followed(Permission) == []


# --- concurrency -------------------------------------------------------------------------------


def test_eight_writers_and_eight_readers() -> None:
    """Whatever the order of their commits and publishes, the last row is what is served, and no
    reader sees a version go backwards after its acknowledgement."""
    write(7, "0", 0)
    acknowledged = [0]
    lock = threading.Lock()

    def acknowledge(version: int) -> None:
        with lock:
            acknowledged[0] = max(acknowledged[0], version)

    def row_lock_writer() -> None:
        for _ in range(25):
            with transaction.atomic():
                version = query(
                    "UPDATE test_note SET version = version + 1 WHERE user_id = 7 RETURNING version"
                )[0][0]
                write_through.publish_on_commit(NOTES, [7])
            acknowledge(version)

    def guarded_writer() -> None:
        for number in range(25):
            written = None
            with guarded(NOTES, 7) as writing:
                state = writing.state
                while written is None:
                    state = state or NOTES.read_one(7)
                    assert state is not None
                    written, state = raise_row(state.version, str(number)), None
                writing.publish(written)
            acknowledge(written.version)

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
        kinds = [row_lock_writer, guarded_writer] * 4
        writers = [threads.submit(in_thread(writer)) for writer in kinds]
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
        query("DELETE FROM cache_outbox")
        self.version = 0
        self.late: list[tuple[Note, dict[int, Mark]]] = []

    def _row(self) -> Note | None:
        return NOTES.read_one(7)

    def _next(self, text: str) -> Note:
        self.version += 1
        return write(7, text, self.version)

    @rule(text=st.text(st.characters(codec="ascii", exclude_characters="\x00"), max_size=3))
    def write(self, text: str) -> None:
        marks = fences.fence(NOTES, [7])
        fences.install(NOTES, {7: self._next(text)}, marks)

    @rule()
    def write_by_reading_again(self) -> None:
        self._next("again")
        write_through.publish_on_commit(NOTES, [7])

    @rule()
    def write_in_a_transaction(self) -> None:
        with transaction.atomic():
            write_through.publish_on_commit(NOTES, [7])
            self._next("in a transaction")

    @rule()
    def guarded_write(self) -> None:
        with guarded(NOTES, 7) as writing:
            assert writing.state in (None, self._row())
            writing.publish(self._next("guarded"))

    @rule()
    def guarded_write_that_is_not_made(self) -> None:
        with guarded(NOTES, 7):
            pass

    @rule()
    def write_that_installs_late(self) -> None:
        marks = fences.fence(NOTES, [7])
        document = self._next("late")
        self.write_by_reading_again()
        self.late.append((document, marks))

    @rule()
    def late_install(self) -> None:
        for document, marks in self.late:
            fences.install(NOTES, {7: document}, marks)
        self.late.clear()

    @rule()
    def writer_that_dies(self) -> None:
        fences.fence(NOTES, [7])
        self._next("of the dead")

    @rule()
    def writer_that_dies_without_its_fence(self) -> None:
        fences.fence(NOTES, [7])
        self.evict()
        self.load()
        self._next("of the dead")
        self.drain()

    @rule()
    def marks_run_out(self) -> None:
        held: Any = None
        with contextlib.suppress(ValueError):
            held = got(KEY)
        if "_fence" in (held or {}):
            put(KEY, {**held, "_fence": dict.fromkeys(held["_fence"], 1)}, "PX", 5000)

    @rule()
    def drain(self) -> None:
        outbox.drain({"psyche": NOTE_RESOURCE.observe})

    @rule()
    def rollback(self) -> None:
        rolled_back("never", self.version + 1)

    @rule()
    def delete(self) -> None:
        query("DELETE FROM test_note")
        write_through.publish_on_commit(NOTES, [7])

    @rule()
    def drop(self) -> None:
        fences.drop(NOTES, [7])

    @rule()
    def evict(self) -> None:
        store().command("DEL", KEY)

    @rule()
    def flush(self) -> None:
        store().command("FLUSHDB")

    @rule()
    def stale_lease(self) -> None:
        store().command("SET", KEY, b'{"_lease":"of one who died"}', "PX", 5, "NX")

    @rule(
        raw=st.sampled_from(
            [
                *(b"", b"{}", b"rubbish", b'{"userId":8,"text":"b","version":99}'),
                b'{"userId":7,"text":"of another life","version":1,"_incarnation":"0123456789ab"}',
            ]
        )
    )
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
    def load_overtaken_by_a_guarded_write(self) -> None:
        cache_aside.load(between(NOTES, self.guarded_write), 7)

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


def test_a_fence_that_somebody_wrote_over_lets_nothing_old_in(tables: None) -> None:
    """Its floor is lost with it; what the random schedules found."""
    entry = Entry()
    entry.write_that_installs_late()
    put(KEY, b'{"userId":7,"text":"x","version":1,"_incarnation":"0123456789ab"}')
    entry.late_install()
    entry.load()


def test_entry_under_random_schedules() -> None:
    """Whatever happens, a load gives the row."""
    check(Entry, 80)
