"""The cache goes away and comes back: the row takes the changes, the live document follows."""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg
import pytest
import redis
from django.db import transaction
from rest_framework.test import APIClient

from aevon.cache import (
    CANVAS,
    CacheError,
    CacheUnavailable,
    Contended,
    flush,
    resources,
    write_behind,
)
from aevon.cache.connection import Store, reset, store
from aevon.cache.models import Outbox
from aevon.cache.tasks import drain_outbox
from auth_sessions.models import User
from canvas import journal, services
from canvas.documents import CanvasDocument
from canvas.layout import Change, InvalidLayout
from canvas.models import AwayEdit, Canvas
from canvas.persistence import save
from canvas.projection import CANVAS_BUFFER
from canvas.services import Flushed
from tests.cache.sheets import written_first
from tests.canvas.helpers import held, in_row, live, mark, patch, poison, put, ttl_ms, window
from tests.servers import database_url
from tests.threads import in_thread
from tests.waiting import wait_for_locks

pytestmark = pytest.mark.django_db


def waiting() -> int:
    """How many canvases the outbox has yet to tell of."""
    return Outbox.objects.filter(keyspace="canvas").count()


def test_the_row_takes_a_change_while_the_cache_is_away(user: User, cache_away: Any) -> None:
    """Acknowledged with its revision, noted for later, and seen by the next reader."""
    with cache_away():
        assert patch(user.pk, a=window()).revision == 1
        assert patch(user.pk, a={"zIndex": 5}).revision == 2
        assert live(user.pk) == {"a"}
    assert Canvas.objects.get(user=user).layout == {"microApps": {"a": window(zIndex=5)}}
    assert [edit.change for edit in AwayEdit.objects.all()] == [
        {"patch": {"microApps": {"a": window()}}},
        {"patch": {"microApps": {"a": {"zIndex": 5}}}},
    ]
    assert waiting() == 1


def test_a_refused_change_leaves_nothing_behind(user: User, cache_away: Any) -> None:
    """Neither row nor journal nor outbox."""
    with cache_away():
        with pytest.raises(InvalidLayout):
            patch(user.pk, a={"zIndex": 1})
        with pytest.raises(services.RevisionMismatch) as mismatch:
            services.change(user.pk, {"patch": {}}, if_match={"3"})
    assert mismatch.value.current == 0
    assert not Canvas.objects.exists()
    assert not AwayEdit.objects.exists()
    assert waiting() == 0


@pytest.fixture
def lose_answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From then on the cache stores documents, and its answer is lost."""
    exchange = Store._exchange

    def lost(self: Store, commands: Sequence[Any], *how: Any, **options: Any) -> Any:
        replies = exchange(self, commands, *how, **options)
        if any(getattr(c, "script", None) is write_behind.COMPARE_AND_SET for c in commands):
            raise redis.ConnectionError("The connection was reset.")
        return replies

    return lambda: monkeypatch.setattr(Store, "_exchange", lost)


def test_a_conditional_change_that_may_have_been_made_is_not_refused(
    user: User, client: APIClient, lose_answers: Callable[[], None]
) -> None:
    """412 would say that it was not; the row, which is older, cannot tell."""
    revision = patch(user.pk, a=window()).revision
    lose_answers()
    body, headers = {"microApps": {"b": window()}}, {"If-Match": f'"{revision}"'}
    answer = client.patch("/api/v1/canvas/", body, "json", headers=headers)
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    reset()  # the breaker has opened
    assert held(user.pk)["layout"]["microApps"].keys() == {"a", "b"}  # type: ignore[index]


def test_a_change_that_may_have_been_made_is_made_once_more(
    user: User, lose_answers: Callable[[], None]
) -> None:
    """Where the row takes it, it is acknowledged."""
    lose_answers()
    patch(user.pk, a=window())
    assert in_row(user.pk) == {"a"}
    reset()
    assert live(user.pk) == {"a"}


def test_if_match_is_compared_with_the_row_while_the_cache_is_away(
    user: User, cache_away: Any
) -> None:
    """What the reader was shown is what the writer may name."""
    Canvas.objects.create(user=user, revision=7)
    with cache_away():
        assert services.change(user.pk, {"patch": {}}, if_match={"7"}).revision == 8


def test_a_user_who_is_gone_changes_nothing(cache_away: Any) -> None:
    """The caller hears of it."""
    with cache_away(), pytest.raises(Canvas.DoesNotExist):
        patch(10**9, a=window())
    assert waiting() == 0


@pytest.mark.django_db(transaction=True)
def test_changes_at_once_while_the_cache_is_away_all_survive(user: User, cache_away: Any) -> None:
    """The row's lock orders them."""

    @in_thread
    def work(number: int) -> int:
        return patch(user.pk, **{f"a{number}": window()}).revision

    with cache_away(), ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(work, range(24))) == list(range(1, 25))
    assert in_row(user.pk) == {f"a{number}" for number in range(24)}


def test_what_was_unsaved_before_and_what_changed_meanwhile_both_survive(
    user: User, cache_away: Any
) -> None:
    """The live document was never persisted; the row never heard of it."""
    patch(user.pk, before=window(), moved=window())
    with cache_away():
        patch(user.pk, meanwhile=window())
        assert live(user.pk) == {"meanwhile"}
    drain_outbox()
    assert live(user.pk) == {"before", "moved", "meanwhile"}
    replayed = services.live(user.pk)
    assert replayed.persisted_revision == replayed.revision == Canvas.objects.get().revision
    assert mark(user.pk) is None
    assert not AwayEdit.objects.exists()
    assert in_row(user.pk) == {"before", "moved", "meanwhile"}


def test_the_same_revision_on_both_sides_is_not_taken_for_the_same(
    user: User, cache_away: Any
) -> None:
    """Live document and row both count to 2, with different content; a flush comes in between."""
    patch(user.pk, a=window())
    patch(user.pk, b=window())
    with cache_away():
        patch(user.pk, c=window())
        patch(user.pk, d=window())
    assert services.persist_now() == Flushed(left=1)
    assert (mark(user.pk), ttl_ms(user.pk)) == (2, -1)
    drain_outbox()
    services.persist_now()
    assert in_row(user.pk) == {"a", "b", "c", "d"}


def test_a_document_that_waits_for_a_change_past_the_cache_is_tried_once(
    user: User, cache_away: Any
) -> None:
    """Nothing but a replay ends that, which may want the row meanwhile."""
    patch(user.pk, a=window())
    with cache_away():
        patch(user.pk, b=window())
    tries: list[None] = []
    buffer = written_first(CANVAS_BUFFER, lambda: tries.append(None))
    assert flush.flush(buffer) == flush.flush_users(buffer, [user.pk]) == Flushed(left=1)
    assert len(tries) == 2


def test_a_change_that_came_after_one_past_the_cache_stays(user: User, cache_away: Any) -> None:
    """It was acknowledged by a process that had the cache again before the first one had."""
    patch(user.pk, a=window(), b=window(), c=window())
    services.persist_now()
    with cache_away():
        patch(user.pk, a={"zIndex": 2, "title": "away"}, b={"zIndex": 2}, c={"zIndex": 2})
        patch(user.pk, d=window(), e=window())
    patch(user.pk, a={"zIndex": 3}, b=None, d=window(zIndex=3))
    assert journal.replay(CANVAS_BUFFER, [user.pk]) == [user.pk]
    apps = services.live(user.pk).layout["microApps"]
    assert apps == {
        "a": window(zIndex=3, title="away"),
        "c": window(zIndex=2),
        "d": window(zIndex=3),
        "e": window(),
    }
    assert Canvas.objects.get(user=user).layout["microApps"] == apps


def test_a_change_past_the_cache_comes_after_what_was_live_before(
    user: User, cache_away: Any
) -> None:
    """Saved or not, and however often it was changed there."""
    patch(user.pk, a=window(), b=window())
    services.persist_now()
    patch(user.pk, a={"zIndex": 2})
    with cache_away():
        patch(user.pk, a={"zIndex": 3}, b={"zIndex": 3})
    drain_outbox()
    apps = services.live(user.pk).layout["microApps"]
    assert apps == {"a": window(zIndex=3), "b": window(zIndex=3)}


def test_a_row_that_has_counted_further_does_not_swallow_the_live_document(
    user: User, cache_away: Any
) -> None:
    """The replay's revision is above both, so that the flush is not refused."""
    patch(user.pk, a=window())
    with cache_away():
        for number in range(5):
            patch(user.pk, b=window(zIndex=number))
    services.persist_now()
    drain_outbox()
    assert services.live(user.pk).revision == 6
    assert in_row(user.pk) == {"a", "b"}


def test_a_change_after_the_return_survives_the_replay(user: User, cache_away: Any) -> None:
    """It came to the live document before the replay did."""
    patch(user.pk, a=window())
    with cache_away():
        patch(user.pk, b=window())
    patch(user.pk, c=window())
    drain_outbox()
    services.persist_now()
    assert in_row(user.pk) == {"a", "b", "c"}


def test_a_replacement_meanwhile_replaces(user: User, cache_away: Any) -> None:
    """That is what its user asked for; what changed after it is kept."""
    patch(user.pk, a=window())
    with cache_away():
        put(user.pk, b=window())
        patch(user.pk, c=window())
    drain_outbox()
    assert live(user.pk) == {"b", "c"}


def test_a_window_closed_live_and_moved_meanwhile_is_whole(user: User, cache_away: Any) -> None:
    """Of a patch that does not fit the live document any more, the row has all."""
    patch(user.pk, a=window())
    services.persist_now()
    patch(user.pk, a=None, b=window())
    with cache_away():
        patch(user.pk, a={"zIndex": 9})
    drain_outbox()
    layout = services.live(user.pk).layout
    assert layout == {"microApps": {"a": window(zIndex=9), "b": window()}}


def test_an_empty_cache_takes_the_row(user: User, cache_away: Any) -> None:
    """The server came back without its memory."""
    with cache_away():
        patch(user.pk, a=window())
    store().command("FLUSHDB")
    drain_outbox()
    assert live(user.pk) == {"a"}
    assert waiting() == 0


def test_a_saved_document_is_changed_as_the_row_was(user: User, cache_away: Any) -> None:
    """No stale state is served after the drain."""
    patch(user.pk, a=window())
    services.persist_now()
    with cache_away():
        patch(user.pk, a={"zIndex": 9})
    drain_outbox()
    assert services.live(user.pk).layout["microApps"]["a"]["zIndex"] == 9


def test_a_logout_brings_in_what_changed_meanwhile(user: User, cache_away: Any) -> None:
    """Without waiting for the drain, which then finds nothing to do."""
    patch(user.pk, a=window())
    with cache_away():
        patch(user.pk, b=window())
    services.persist_at_session_end(user_id=user.pk)
    assert in_row(user.pk) == {"a", "b"}
    drain_outbox()
    assert live(user.pk) == {"a", "b"}


def test_a_replay_that_another_was_faster_with_does_nothing(user: User, cache_away: Any) -> None:
    """It waited for the row, and finds the journal empty."""
    with cache_away():
        patch(user.pk, a=window())
    assert journal.replay(CANVAS_BUFFER, [user.pk]) == [user.pk]
    journal._replay_one(CANVAS_BUFFER, user.pk)
    assert services.live(user.pk).revision == 2


def test_a_drain_while_the_cache_is_away_changes_nothing(user: User, cache_away: Any) -> None:
    """The journal stays for the next one."""
    with cache_away():
        patch(user.pk, a=window())
        drain_outbox()
    assert AwayEdit.objects.count() == waiting() == 1


def test_a_repair_without_journal_removes_what_is_saved(make_user: Any) -> None:
    """And leaves what is not."""
    saved, unsaved = make_user().pk, make_user().pk
    patch(saved, a=window())
    services.persist_now()
    patch(unsaved, a=window())
    resources.resource("canvas").repair([saved, unsaved])
    assert held(saved) is None
    assert live(unsaved) == {"a"}


def test_a_user_deleted_while_the_cache_is_away_is_forgotten(user: User, cache_away: Any) -> None:
    """Even what was unsaved: no flush could ever save it."""
    patch(user.pk, a=window())
    user_id = user.pk
    with cache_away():
        user.delete()
        resources.forget_users([user_id])
    drain_outbox()
    assert held(user_id) is None
    assert mark(user_id) is None


def test_a_repair_under_contention_waits_for_the_next_drain(
    user: User, cache_away: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trouble of this canvas alone, which keeps no other keyspace waiting."""
    with cache_away():
        patch(user.pk, a=window())
    monkeypatch.setattr(write_behind, "ATTEMPTS", 0)
    with pytest.raises(Contended):
        journal.replay(CANVAS_BUFFER, [user.pk])
    with pytest.raises(CacheError) as trouble:
        resources.resource("canvas").repair([user.pk])
    assert not isinstance(trouble.value, CacheUnavailable)
    assert AwayEdit.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_edit_is_not_repeated_because_another_users_failed(
    make_user: Any, cache_away: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ada, between two whose canvases are contended, moved her window on since."""
    bob, ada, eve = make_user(), make_user(), make_user()
    with cache_away():
        for user in (bob, ada, eve):
            patch(user.pk, a=window(zIndex=1))
    replay_one = journal._replay_one

    def contended(buffer: Any, user_id: int) -> None:
        if user_id != ada.pk:
            raise Contended
        replay_one(buffer, user_id)

    with monkeypatch.context() as patched:
        patched.setattr(journal, "_replay_one", contended)
        drain_outbox()
    assert AwayEdit.objects.count() == 2
    patch(ada.pk, a={"zIndex": 5})
    drain_outbox()
    layouts = [services.live(user.pk).layout["microApps"] for user in (bob, ada, eve)]
    assert [apps["a"]["zIndex"] for apps in layouts] == [1, 5, 1]
    assert (AwayEdit.objects.count(), waiting()) == (0, 0)


@pytest.mark.django_db(transaction=True)
def test_a_repair_inside_a_transaction_is_refused(user: User, cache_away: Any) -> None:
    """Its rollback would bring back edits that the live document has already."""
    with cache_away():
        patch(user.pk, b=window())
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        resources.resource("canvas").repair([user.pk])
    assert held(user.pk) is None


@pytest.mark.django_db(transaction=True)
def test_drains_beside_changes_past_the_cache_neither_block_nor_lose(
    user: User, cache_away: Any
) -> None:
    """Some processes have the cache back, some not yet; nobody waits for a deadlock."""
    done = threading.Event()

    @in_thread
    def drain() -> None:
        while not done.is_set():
            drain_outbox()

    @in_thread
    def change(number: int) -> None:
        journal.change_row(user.pk, lambda _: {"patch": {"microApps": {f"a{number}": window()}}})

    with ThreadPoolExecutor(6) as pool:
        drains = [pool.submit(drain) for _ in range(2)]
        changes = [pool.submit(change, number) for number in range(40)]
        [each.result(20) for each in changes]
        done.set()
        [each.result(20) for each in drains]
    drain_outbox()
    services.persist_now()
    assert live(user.pk) == in_row(user.pk) == {f"a{number}" for number in range(40)}


@pytest.mark.django_db(transaction=True)
def test_a_flush_waits_for_a_change_past_the_cache(user: User) -> None:
    """And sees it then: the live document, which lacks it, is not written over it."""
    patch(user.pk, b=window())

    with ThreadPoolExecutor(1) as pool:

        def plan(_: CanvasDocument) -> Change:
            flushing.append(pool.submit(in_thread(services.persist_now)))
            wait_for_locks()
            return {"patch": {"microApps": {"x": window()}}}

        flushing: list[Future[Flushed]] = []
        journal.change_row(user.pk, plan)
        assert flushing[0].result(5) == Flushed(left=1)
    assert in_row(user.pk) == {"x"}
    drain_outbox()
    services.persist_now()
    assert live(user.pk) == in_row(user.pk) == {"b", "x"}


@pytest.mark.django_db(transaction=True)
def test_a_change_past_the_cache_waits_for_a_flush(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the flush has read it also writes, before anybody can change the row."""
    patch(user.pk, b=window())
    with ThreadPoolExecutor(1) as pool:

        def save_late(documents: Sequence[CanvasDocument]) -> Mapping[int, str]:
            changing.append(pool.submit(in_thread(change)))
            wait_for_locks()
            return save(documents)

        def change() -> None:
            journal.change_row(user.pk, lambda _: {"patch": {"microApps": {"x": window()}}})

        changing: list[Future[None]] = []
        flush.flush(replace(CANVAS_BUFFER, save=save_late))
        changing[0].result(5)
    assert in_row(user.pk) == {"b", "x"}
    drain_outbox()
    services.persist_now()
    assert live(user.pk) == in_row(user.pk) == {"b", "x"}


def restarted(user_id: int) -> None:
    """The server has come back, with the user's document as it is."""
    raw = store().command("GET", CANVAS.key(user_id))
    forged = re.sub(rb'"_incarnation":"\w+"', b'"_incarnation":"000000000000"', raw)
    store().command("SET", CANVAS.key(user_id), forged)


@pytest.mark.parametrize("changes", [1, 3])
def test_what_was_unsaved_survives_a_restart_and_changes_past_the_cache(
    user: User, cache_away: Any, changes: int
) -> None:
    """The outage was the restart; the row has counted as far as the document meanwhile, or on."""
    patch(user.pk, b=window())
    with cache_away():
        for number in range(changes):
            patch(user.pk, x=window(zIndex=number))
    restarted(user.pk)
    drain_outbox()
    assert live(user.pk) == {"b", "x"}
    services.persist_now()
    assert live(user.pk) == in_row(user.pk) == {"b", "x"}
    assert services.live(user.pk).layout["microApps"]["x"]["zIndex"] == changes - 1


def test_what_was_replayed_is_in_the_row(user: User, cache_away: Any) -> None:
    """With what had been unsaved before: neither needs the cache's memory any more."""
    patch(user.pk, b=window())
    older = store().command("GET", CANVAS.key(user.pk))
    with cache_away():
        patch(user.pk, x=window())
    drain_outbox()
    assert in_row(user.pk) == {"b", "x"}
    store().command("SET", CANVAS.key(user.pk), older)
    restarted(user.pk)
    assert live(user.pk) == {"b", "x"}


@pytest.mark.django_db(transaction=True)
def test_a_restart_during_a_replay_is_waited_for(user: User, cache_away: Any) -> None:
    """Who finds the older document goes by the row, once the replay has made it."""
    patch(user.pk, b=window())
    older = store().command("GET", CANVAS.key(user.pk))
    with cache_away():
        patch(user.pk, x=window())
    write = journal._write
    with ThreadPoolExecutor(1) as pool, pytest.MonkeyPatch.context() as patched:
        changing: list[Future[Any]] = []

        def write_late(*args: Any) -> None:
            store().command("SET", CANVAS.key(user.pk), older)
            restarted(user.pk)
            changing.append(pool.submit(in_thread(lambda: patch(user.pk, c=window()))))
            wait_for_locks()
            write(*args)

        patched.setattr(journal, "_write", write_late)
        # As from another process: in this one it would wait for its turn already.
        patched.setattr(write_behind, "turn", lambda _: contextlib.nullcontext())
        journal.replay(CANVAS_BUFFER, [user.pk])
        changing[0].result(5)
    services.persist_now()
    assert live(user.pk) == in_row(user.pk) == {"b", "c", "x"}


def somebody_held_back(patched: pytest.MonkeyPatch) -> threading.Event:
    """Set once somebody's change has to wait for its turn."""
    turn, told = write_behind.turn, threading.Event()

    @contextlib.contextmanager
    def telling(user_id: int) -> Iterator[None]:
        lock: Any = turn(user_id)
        if not lock.acquire(blocking=False):
            told.set()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    patched.setattr(write_behind, "turn", telling)
    return told


@pytest.mark.django_db(transaction=True)
def test_a_restart_during_a_replay_in_the_same_process(user: User, cache_away: Any) -> None:
    """A change that finds the older document has its turn after the replay, and waits for the row
    without keeping the replay from its own change."""
    patch(user.pk, b=window())
    restarted(user.pk)
    with cache_away():
        patch(user.pk, x=window())
    repeated = journal._repeated
    with ThreadPoolExecutor(1) as pool, pytest.MonkeyPatch.context() as patched:
        changing: list[Future[Any]] = []

        def repeat_late(*args: Any) -> CanvasDocument:
            if not changing:
                changing.append(pool.submit(in_thread(lambda: patch(user.pk, c=window()))))
                assert held_back.wait(30)
            return repeated(*args)

        held_back = somebody_held_back(patched)
        patched.setattr(journal, "_repeated", repeat_late)
        journal.replay(CANVAS_BUFFER, [user.pk])
        changing[0].result(5)
    services.persist_now()
    assert live(user.pk) == in_row(user.pk) == {"b", "c", "x"}


@pytest.mark.django_db(transaction=True)
def test_a_change_that_has_its_turn_before_the_replay(user: User, cache_away: Any) -> None:
    """The replay takes its turn before the row: who waits for the row, in their turn, would keep
    it from its own change."""
    patch(user.pk, b=window())
    with cache_away():
        patch(user.pk, x=window())
    restarted(user.pk)
    held = journal.locked
    with ThreadPoolExecutor(1) as pool, pytest.MonkeyPatch.context() as patched:
        changing: list[Future[Any]] = []

        @contextlib.contextmanager
        def locked(user_ids: Sequence[int]) -> Iterator[Any]:
            with held(user_ids) as rows:
                changing.append(pool.submit(in_thread(lambda: patch(user.pk, c=window()))))
                assert held_back.wait(30)
                yield rows

        held_back = somebody_held_back(patched)
        patched.setattr(journal, "locked", locked)
        journal.replay(CANVAS_BUFFER, [user.pk])
        changing[0].result(5)
    services.persist_now()
    assert live(user.pk) == in_row(user.pk) == {"b", "c", "x"}


def test_a_window_that_is_neither_live_nor_in_the_row(user: User, cache_away: Any) -> None:
    """Closed on the live canvas, moved past it, removed with SQL: it stays closed, and nothing of
    the user waits for it for ever."""
    patch(user.pk, notes=window(), other=window())
    services.persist_now()
    patch(user.pk, notes=None)
    with cache_away():
        patch(user.pk, notes={"zIndex": 7})
    Canvas.objects.update(layout={"microApps": {"other": window()}})
    drain_outbox()
    assert not AwayEdit.objects.exists()
    services.persist_at_session_end(user_id=user.pk)
    assert live(user.pk) == in_row(user.pk) == {"other"}


def test_a_replay_onto_what_postgresql_refuses(user: User, cache_away: Any) -> None:
    """The live document takes the change once; it waits like any other that is refused."""
    patch(user.pk, a=window())
    poison(user.pk)
    with cache_away():
        patch(user.pk, b=window(zIndex=1))
    drain_outbox()
    patch(user.pk, b={"zIndex": 9})
    drain_outbox()
    assert services.live(user.pk).layout["microApps"]["b"]["zIndex"] == 9
    assert not AwayEdit.objects.exists()
    patch(user.pk, a={"title": "Notes"})
    services.persist_now()
    assert in_row(user.pk) == {"a", "b"}


@pytest.mark.django_db(transaction=True)
def test_sql_beside_a_change_past_the_cache(user: User, cache_away: Any) -> None:
    """Both take the row, then the outbox: nobody is sacrificed to a deadlock."""
    patch(user.pk, x=window())
    services.persist_now()
    with cache_away(), ThreadPoolExecutor(1) as pool:
        with psycopg.connect(database_url()) as stranger:
            one = [user.pk]
            stranger.execute("SELECT FROM canvas_canvas WHERE user_id = %s FOR UPDATE", one)
            changing = pool.submit(in_thread(lambda: patch(user.pk, y=window())))
            wait_for_locks()
            change = "UPDATE canvas_canvas SET revision = revision + 1 WHERE user_id = %s"
            stranger.execute(change, one)
        assert changing.result(5).revision == 3


def test_a_reader_is_never_told_unchanged_while_the_cache_is_away(
    client: APIClient, cache_away: Any
) -> None:
    """The row may have counted as far as the live layout, with something else in it."""
    client.patch("/api/v1/canvas/", {"microApps": {"live": window()}})
    headers = {"If-None-Match": '"1"'}
    assert client.get("/api/v1/canvas/", headers=headers).status_code == 304
    with cache_away():
        client.patch("/api/v1/canvas/", {"microApps": {"away": window()}})
        answer = client.get("/api/v1/canvas/", headers=headers)
    assert (answer.status_code, set(answer.json()["layout"]["microApps"])) == (200, {"away"})


def test_a_document_of_another_user_is_not_served(user: User) -> None:
    """Somebody copied a key."""
    patch(user.pk, a=window())
    raw = store().command("GET", CANVAS.key(user.pk))
    store().command("SET", CANVAS.key(user.pk + 1), raw)
    assert services.live(user.pk + 1).revision == 0
