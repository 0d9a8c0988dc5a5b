"""Write-behind: how live layouts come into PostgreSQL, and that none is lost on the way."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import msgspec
import psycopg
import pytest
from django.db import OperationalError
from django.db.models import F

from aevon.cache import CANVAS, batch, flush
from aevon.cache.connection import store
from aevon.signals import session_ending
from auth_sessions import services as session_services
from auth_sessions.models import User
from canvas import services
from canvas.documents import CanvasDocument
from canvas.models import Canvas
from canvas.persistence import save
from canvas.projection import CANVAS_BUFFER
from canvas.services import Flushed
from tests.cache.entry_states import between
from tests.cache.sheets import written_first
from tests.canvas.helpers import elsewhere, held, in_row, live, mark, patch, poison, ttl_ms, window
from tests.servers import database_url
from tests.threads import in_thread
from tests.waiting import wait_for_locks

pytestmark = pytest.mark.django_db


class Killed(BaseException):
    """What a process does not survive."""


def flush_with(saving: Any) -> Flushed:
    """A flush whose `save` is this one."""
    return flush.flush(replace(CANVAS_BUFFER, save=saving))


def late(
    act: Callable[[], object],
    monkeypatch: pytest.MonkeyPatch,
    then: Callable[[], object] = lambda: None,
) -> None:
    """The next flush is overtaken: `act` runs after its commit, before it tells the documents;
    `then` afterwards."""
    settle = flush.settle

    def settle_late(*args: Any) -> set[int]:
        monkeypatch.setattr(flush, "settle", settle)
        act()
        settled = settle(*args)
        then()
        return settled

    monkeypatch.setattr(flush, "settle", settle_late)


def test_a_flush_brings_the_layout_into_postgresql(user: User) -> None:
    """Row and document agree, the mark is gone, the document has its idle lifetime."""
    acknowledged = patch(user.pk, a=window())
    assert services.persist_now() == Flushed(persisted=1)
    row = Canvas.objects.get(user=user)
    assert (row.layout, row.revision) == (acknowledged.layout, 1)
    assert (held(user.pk) or {}).keys() == {
        *("userId", "layout", "revision", "updatedAt", "_changedAt"),
        *("_persistedRevision", "_persistedAt", "_incarnation"),
    }
    assert mark(user.pk) is None
    assert 86_400_000 * 0.9 - 10_000 < ttl_ms(user.pk) <= 86_400_000


def test_a_flush_with_nothing_unsaved_asks_postgresql_nothing(
    user: User, django_assert_num_queries: Any
) -> None:
    """0 SQL, as most flushes of a quiet night."""
    patch(user.pk, a=window())
    services.persist_now()
    with django_assert_num_queries(0):
        assert services.persist_now() == Flushed()


def test_a_flush_takes_all_users_in_one_transaction(
    make_user: Any, django_assert_num_queries: Any
) -> None:
    """The number of statements does not grow with the number of users: one shard, one batch."""
    users = [make_user() for _ in range(40)]
    same_shard = [user.pk for user in users if user.pk % 8 == users[0].pk % 8]
    for user_id in same_shard:
        patch(user_id, a=window())
    # A savepoint, released; brief, make, lock, away edits; stage, copy, time, merge, drop.
    with django_assert_num_queries(11):
        assert services.persist_now() == Flushed(persisted=len(same_shard))


def test_an_edit_during_a_flush_stays_marked(user: User) -> None:
    """It came after the flush had read: the next one brings it."""
    patch(user.pk, a=window())

    def edit_then_save(documents: Sequence[CanvasDocument]) -> Mapping[int, str]:
        patch(user.pk, b=window())
        return save(documents)

    flush_with(edit_then_save)
    assert (in_row(user.pk), live(user.pk)) == ({"a"}, {"a", "b"})
    assert (mark(user.pk), ttl_ms(user.pk)) == (2, -1)
    services.persist_now()
    assert in_row(user.pk) == {"a", "b"}
    assert mark(user.pk) is None


def test_an_edit_between_commit_and_clear_stays_marked(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same, a moment later."""
    patch(user.pk, a=window())
    late(lambda: patch(user.pk, b=window()), monkeypatch)
    services.persist_now()
    assert (mark(user.pk), ttl_ms(user.pk)) == (2, -1)
    services.persist_now()
    assert in_row(user.pk) == {"a", "b"}


@pytest.mark.parametrize("committed", [True, False])
def test_a_flusher_that_dies_leaves_everything_to_the_next(
    user: User, committed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before or after its commit; nothing was cleared, and doing it again is harmless."""
    patch(user.pk, a=window())

    def die(*_: Any) -> Any:
        raise Killed

    if committed:
        late(die, monkeypatch)
    with pytest.raises(Killed):
        flush_with(save if committed else die)
    assert (mark(user.pk), ttl_ms(user.pk)) == (1, -1)
    services.persist_now()
    assert in_row(user.pk) == {"a"}
    assert Canvas.objects.get(user=user).revision == 1  # the very same: nobody need go above it
    assert mark(user.pk) is None


def test_a_slow_flush_does_not_undo_a_faster_one(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slow one has persisted revision 1; the fast one has persisted revision 2 by then."""
    patch(user.pk, a=window())

    def overtake() -> None:
        patch(user.pk, b=window())
        services.persist_now()

    late(overtake, monkeypatch)
    services.persist_now()
    assert in_row(user.pk) == {"a", "b"}
    assert Canvas.objects.get(user=user).revision == 2
    assert mark(user.pk) is None


def test_a_live_document_behind_its_row_goes_on_above_it(user: User) -> None:
    """Somebody has changed the row: what is unsaved still reaches PostgreSQL."""
    patch(user.pk, a=window())
    services.persist_now()
    Canvas.objects.filter(pk=user.pk).update(revision=50)
    patch(user.pk, b=window())
    assert services.persist_now() == Flushed(persisted=1)
    assert (in_row(user.pk), Canvas.objects.get(user=user).revision) == ({"a", "b"}, 51)
    assert mark(user.pk) is None


@pytest.mark.django_db(transaction=True)
def test_flushes_and_edits_all_at_once_lose_nothing(make_user: Any) -> None:
    """Four flushers beside four writers; one undisturbed flush afterwards brings the rest."""
    users = [make_user().pk for _ in range(4)]
    done = threading.Event()

    def write(user_id: int) -> None:
        for number in range(50):
            patch(user_id, **{f"a{number}": window()})

    def flush() -> None:
        while not done.is_set():
            services.persist_now()

    with ThreadPoolExecutor(8) as pool:
        flushing = [pool.submit(in_thread(flush)) for _ in range(4)]
        try:
            list(pool.map(in_thread(write), users))
        finally:
            done.set()
        assert [each.result() for each in flushing] == [None] * 4
    services.persist_now()
    for user_id in users:
        assert in_row(user_id) == {f"a{number}" for number in range(50)}
        assert (mark(user_id), Canvas.objects.get(user_id=user_id).revision) == (None, 50)


@pytest.mark.django_db(transaction=True)
def test_a_row_that_somebody_holds_keeps_nobody_waiting(make_user: Any) -> None:
    """However long they hold it; its user's own changes wait, marked."""
    held_up, other = make_user().pk, make_user().pk
    for user_id in (held_up, other):
        patch(user_id, x=window())
    services.persist_now()
    for user_id in (held_up, other):
        patch(user_id, y=window())
    with elsewhere("SELECT FROM canvas_canvas WHERE user_id = %s FOR UPDATE", held_up):
        assert services.persist_now() == Flushed(persisted=1, left=1)
    assert (in_row(other), mark(held_up)) == ({"x", "y"}, 2)
    assert services.persist_now() == Flushed(persisted=1)


@pytest.mark.django_db(transaction=True)
def test_a_row_that_somebody_holds_is_left_whatever_other_flushes_do(
    make_user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They clear a mark that stayed: there are as many then as stayed, and they are others'."""
    held_up, drawing = make_user().pk, make_user().pk
    for user_id in (held_up, drawing):
        patch(user_id, x=window())
    services.persist_now()
    for user_id in (held_up, drawing):
        patch(user_id, y=window())
    late(lambda: patch(drawing, z=window()), monkeypatch, lambda: services.persist_now([drawing]))
    with elsewhere("SELECT FROM canvas_canvas WHERE user_id = %s FOR UPDATE", held_up):
        assert services.persist_now() == Flushed(persisted=1, left=1)
    assert (mark(drawing), mark(held_up)) == (None, 2)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("away", [False, True])
def test_what_cannot_be_saved_is_left_when_the_time_is_up(
    make_user: Any, cache_away: Any, away: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that somebody holds, or that took changes past the cache; with what was not reached."""
    users = [make_user().pk for _ in range(3)]
    patch(users[0], x=window())
    services.persist_now()
    for user_id in users:
        patch(user_id, y=window())
    if away:
        with cache_away():
            patch(users[0], z=window())
    monkeypatch.setattr(flush, "BATCH", 1)
    clock = SimpleNamespace(**vars(time))
    monkeypatch.setattr(flush, "time", clock)

    def time_is_up() -> None:
        clock.monotonic = lambda: time.monotonic() + 3600

    late(time_is_up, monkeypatch)
    holding = elsewhere("SELECT FROM canvas_canvas WHERE user_id = %s FOR UPDATE", users[0])
    with nullcontext() if away else holding:
        assert services.persist_in_time() == Flushed(left=3)


@pytest.mark.django_db(transaction=True)
def test_a_table_that_somebody_holds_is_not_asked_for_each_row(
    make_user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As to make an index: each time is a wait, however few canvases there are."""
    users = [make_user().pk for _ in range(16)]
    for user_id in users:
        patch(user_id, x=window())
    monkeypatch.setattr(batch, "STUCK_SECONDS", 0.5)
    monkeypatch.setattr(flush, "PATIENCE_SECONDS", 0.5)
    waits: list[None] = []
    buffer = written_first(CANVAS_BUFFER, lambda: waits.append(None))
    with elsewhere("LOCK TABLE canvas_canvas IN SHARE MODE"):
        assert flush.flush(buffer) == Flushed(left=16)
    # Each of the two or three times until half a second is over, and the halves that are left then.
    assert len(waits) < 3 * 8
    assert services.persist_now() == Flushed(persisted=16)


@pytest.mark.django_db(transaction=True)
def test_a_refusal_is_remembered_while_somebody_holds_the_row(user: User) -> None:
    """Its document was not tried, so nothing is known that is better."""
    patch(user.pk, a=window())
    services.persist_now()
    patch(user.pk, a={"zIndex": 2})
    poison(user.pk)
    assert services.persist_now() == Flushed(refused=1)
    with elsewhere("SELECT FROM canvas_canvas WHERE user_id = %s FOR UPDATE", user.pk):
        assert services.persist_now() == Flushed(left=1)
    assert CANVAS_BUFFER.index.refusals([user.pk])[user.pk].revision == 2


@pytest.mark.django_db(transaction=True)
def test_a_refusal_that_somebody_noted_while_they_held_the_row_is_not_called_left(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduled flush finds it on its next try: it is postponed, and counted once."""
    patch(user.pk, a=window())
    services.persist_now()
    patch(user.pk, a={"zIndex": 2})
    refusals = iter([{}, {user.pk: 2}])

    def pause(_: float) -> None:
        CANVAS_BUFFER.index.refuse(next(refusals, {}), {})

    monkeypatch.setattr(flush, "time", SimpleNamespace(**{**vars(time), "sleep": pause}))
    with elsewhere("SELECT FROM canvas_canvas WHERE user_id = %s FOR UPDATE", user.pk):
        assert services.persist_in_time() == Flushed(postponed=1)


@pytest.mark.django_db(transaction=True)
def test_a_row_that_another_flush_holds_is_not_called_left(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is saved by the time that it is tried again."""
    patch(user.pk, x=window())
    tried, saved = threading.Event(), threading.Event()

    def pause(_: float) -> None:
        tried.set()
        assert saved.wait(30)

    monkeypatch.setattr(flush, "time", SimpleNamespace(**{**vars(time), "sleep": pause}))
    with ThreadPoolExecutor(1) as pool:

        def save_late(documents: Sequence[CanvasDocument]) -> Mapping[int, str]:
            flushing.append(pool.submit(in_thread(services.persist_now)))
            assert tried.wait(30)
            return save(documents)

        flushing: list[Future[Flushed]] = []
        assert flush_with(save_late) == Flushed(persisted=1)
        saved.set()
        assert flushing[0].result(5).left == 0


@pytest.mark.django_db(transaction=True)
def test_a_row_that_somebody_is_making_keeps_nobody_waiting(make_user: Any) -> None:
    """Nobody can skip what is not there yet: a moment is waited for it."""
    held_up, other = make_user().pk, make_user().pk
    for user_id in (held_up, other):
        patch(user_id, x=window())
    make = "INSERT INTO canvas_canvas (user_id, layout, revision) VALUES (%s, %s, 0)"
    with elsewhere(make, held_up, '{"microApps": {}}'):
        assert services.persist_now() == Flushed(persisted=1, left=1)
    assert in_row(other) == {"x"}


@pytest.mark.django_db(transaction=True)
def test_a_row_that_is_being_deleted_takes_no_unsaved_document_with_it(user: User) -> None:
    """Its user is still there."""
    patch(user.pk, x=window())
    services.persist_now()
    patch(user.pk, y=window())
    with psycopg.connect(database_url()) as stranger:
        stranger.execute("DELETE FROM canvas_canvas WHERE user_id = %s", [user.pk])
        assert services.persist_now() == Flushed(left=1)
    services.persist_now()
    assert in_row(user.pk) == {"x", "y"}


@pytest.mark.django_db(transaction=True)
def test_a_logout_waits_for_a_row_that_somebody_holds(user: User) -> None:
    """A flush, for example, that has read the canvas before its last change."""
    patch(user.pk, x=window())
    services.persist_now()
    patch(user.pk, y=window())

    def leave() -> None:
        services.persist_at_session_end(user_id=user.pk)

    with ThreadPoolExecutor(1) as pool:
        with elsewhere("SELECT FROM canvas_canvas WHERE user_id = %s FOR UPDATE", user.pk):
            leaving = pool.submit(in_thread(leave))
            wait_for_locks()
        leaving.result(5)
    assert in_row(user.pk) == {"x", "y"}


def test_a_logout_persists_at_once(user: User) -> None:
    """Before the session ends, through the signal."""
    session, _ = session_services.open_session(user)
    patch(user.pk, a=window())
    session_services.end_session(user.pk, getattr(session, "sid", session))
    assert in_row(user.pk) == {"a"}
    assert mark(user.pk) is None


def test_a_logout_persists_only_the_users_own_canvas(make_user: Any) -> None:
    """Others wait for their flush."""
    leaving, staying = make_user(), make_user()
    patch(leaving.pk, a=window())
    patch(staying.pk, a=window())
    session_ending.send(sender=None, user_id=leaving.pk)
    assert (mark(leaving.pk), mark(staying.pk)) == (None, 1)


def test_a_logout_with_the_cache_away_goes_through(
    user: User, cache_away: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing more can be done; the next flush brings what the cache still holds."""
    patch(user.pk, a=window())
    with cache_away():
        session_ending.send(sender=None, user_id=user.pk)
    assert "waits for the next flush" in caplog.text
    services.persist_now()
    assert in_row(user.pk) == {"a"}


def test_a_logout_tells_of_what_it_could_not_persist(
    user: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody writes the row with SQL before each of its tries; the next flush has it."""
    patch(user.pk, a=window())
    services.persist_now()
    patch(user.pk, b=window())

    def write() -> None:
        Canvas.objects.filter(pk=user.pk).update(revision=F("revision") + 2)

    with monkeypatch.context() as patched:
        patched.setattr(flush, "PAUSE_SECONDS", 0)
        patched.setattr(services, "CANVAS_BUFFER", written_first(CANVAS_BUFFER, write))
        session_ending.send(sender=None, user_id=user.pk)
    assert "waits for the next flush" in caplog.text
    assert services.persist_now() == Flushed(persisted=1)
    assert in_row(user.pk) == {"a", "b"}


def test_a_logout_does_not_go_through_when_postgresql_fails(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session must not end with its layout unsaved."""

    def fails(_: Any) -> Mapping[int, str]:
        raise OperationalError("the connection is closed")

    patch(user.pk, a=window())
    monkeypatch.setattr(services, "CANVAS_BUFFER", replace(CANVAS_BUFFER, save=fails))
    with pytest.raises(OperationalError):
        session_ending.send(sender=None, user_id=user.pk)
    assert mark(user.pk) == 1


def test_poison_does_not_keep_the_others_waiting(make_user: Any) -> None:
    """It stays marked and is told; everybody else is persisted by the same flush."""
    users = [make_user().pk for _ in range(24)]
    for user_id in users:
        patch(user_id, a=window())
    poison(users[3])
    assert services.persist_now() == Flushed(persisted=23, refused=1)
    assert [user_id for user_id in users if mark(user_id)] == [users[3]]
    assert ttl_ms(users[3]) == -1


def test_poison_that_is_healed_is_persisted(user: User) -> None:
    """The user's next change of that window is enough."""
    patch(user.pk, a=window())
    poison(user.pk)
    services.persist_now()
    patch(user.pk, a={"title": "Notes"})
    assert services.persist_now() == Flushed(persisted=1)


def test_a_lost_document_is_reported_once(user: User, caplog: pytest.LogCaptureFixture) -> None:
    """Its mark is all that is left of it."""
    patch(user.pk, a=window())
    store().command("UNLINK", CANVAS.key(user.pk))
    assert services.persist_now() == Flushed(lost=1)
    assert f"user {user.pk} is gone" in caplog.text
    assert services.persist_now() == Flushed()


def test_a_deleted_user_is_no_trouble(make_user: Any) -> None:
    """The others are persisted, and nothing of the user stays in the cache."""
    gone, other = make_user(), make_user()
    patch(gone.pk, a=window())
    patch(other.pk, a=window())
    User.objects.filter(pk=gone.pk).delete()
    services.persist_now()
    assert in_row(other.pk) == {"a"}
    assert mark(gone.pk) is None


def test_persisting_named_users_leaves_the_others(make_user: Any) -> None:
    """As a logout does it."""
    one, two = make_user().pk, make_user().pk
    patch(one, a=window())
    patch(two, a=window())
    assert services.persist_now([one]) == Flushed(persisted=1)
    assert (mark(one), mark(two)) == (None, 1)


def test_the_number_of_unsaved_canvases_is_known(make_user: Any) -> None:
    """It is what the loss of the cache would cost."""
    for _ in range(3):
        patch(make_user().pk, a=window())
    assert services.unsaved().unsaved == 3


def test_progress_is_told(make_user: Any) -> None:
    """In numbers of canvases that add up to all."""
    for _ in range(5):
        patch(make_user().pk, a=window())
    told: list[int] = []
    services.persist_now(progress=told.append)
    assert sum(told) == 5


def test_a_change_while_the_loss_of_a_first_layout_is_looked_into(make_user: Any) -> None:
    """There is no row to compare it with; nobody else is kept waiting."""
    user_id, other = make_user().pk, make_user().pk
    patch(user_id, a=window())
    patch(other, a=window())
    store().command("UNLINK", CANVAS.key(user_id))
    projection = between(CANVAS_BUFFER.projection, lambda: patch(user_id, b=window()))
    flush.flush(replace(CANVAS_BUFFER, projection=projection))
    assert in_row(other) == {"a"}
    services.persist_now()
    assert (in_row(user_id), mark(user_id)) == ({"b"}, None)


def test_poison_whose_mark_comes_before_its_next_revision(
    make_user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Marks may be seen before documents (Dragonfly; SCRIPT FLUSH): the others are persisted."""
    bad, other = make_user().pk, make_user().pk
    patch(bad, a=window())
    patch(other, a=window())
    poison(bad)
    document = services.live(bad)
    ahead = msgspec.structs.replace(document, revision=2)
    store().pipeline(CANVAS_BUFFER.index.mark(ahead))
    monkeypatch.setattr(batch.time, "sleep", lambda _: patch(bad, b=window()))
    assert services.persist_now() == Flushed(persisted=1, refused=1)
    assert in_row(other) == {"a"}
