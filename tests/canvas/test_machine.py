"""Any order of changes, flushes in their parts, evictions, restarts and outages, against a model of
what was acknowledged."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Final, NamedTuple

import msgspec
import psycopg
import pytest
from django.db import OperationalError, connection
from django.test import override_settings
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import aevon.cache.batch as batch_module
from aevon.cache import CANVAS, LockedRow, codec, flush, resources
from aevon.cache.connection import store
from aevon.cache.dirty_index import DirtyIndex
from aevon.cache.tasks import drain_outbox
from auth_sessions.models import User
from canvas import services
from canvas.documents import CanvasDocument, empty
from canvas.layout import merge_patch
from canvas.models import AwayEdit, Canvas
from canvas.projection import CANVAS_BUFFER
from tests.canvas.helpers import mark, ttl_ms, window
from tests.servers import without_cache

ids = st.sampled_from(["a", "b", "c"])
layouts = st.dictionaries(ids, st.integers(-9, 9), max_size=2)
flushers = st.sampled_from(["one", "another"])
EARLIER_LIFE: Final = "0" * 12
END: Final = "the end"


class Killed(BaseException):
    """What a process does not survive."""


class Held(NamedTuple):
    """What the cache holds of a user: the document, its lifetime in milliseconds, its mark."""

    document: CanvasDocument | None
    ttl_ms: int
    mark: int | None

    @property
    def unsaved(self) -> bool:
        """Whether there is a document that says it holds something unsaved."""
        return self.document is not None and self.document.dirty_since is not None

    @property
    def outlived(self) -> bool:
        """Whether there is a document of an earlier life of the server."""
        return self.document is not None and self.document.incarnation == EARLIER_LIFE


def held(user_id: int) -> Held:
    """Looked at without touching it."""
    raw = store().command("GET", CANVAS.key(user_id))
    document = None if raw is None else codec.decode(raw, CanvasDocument)
    return Held(document, ttl_ms(user_id), mark(user_id))


def put_of_an_earlier_life(user_id: int, was: Held) -> None:
    """The server comes back with what it held then."""
    discard_everything(user_id)
    if was.document is not None:
        earlier = msgspec.structs.replace(was.document, incarnation=EARLIER_LIFE)
        lifetime = ("PX", was.ttl_ms) if was.ttl_ms > 0 else ()
        store().command("SET", CANVAS.key(user_id), codec.encode(earlier), *lifetime)
    if was.mark is not None:
        noted = was.document or empty(user_id)
        since = noted.dirty_since or time.time()
        marked = msgspec.structs.replace(noted, revision=was.mark, dirty_since=since)
        store().pipeline(CANVAS_BUFFER.index.mark(marked))


def discard_everything(user_id: int) -> None:
    """The cache's memory of a user is gone."""
    unmark = CANVAS_BUFFER.index.unmark(user_id)
    store().pipeline([("UNLINK", CANVAS.key(user_id)), *unmark])


def flush_in_steps(user_id: int) -> Iterator[str]:
    """What a flush does with a batch (`_Run.batch`), with a pause wherever it may be overtaken."""
    at = time.time()
    marks = CANVAS_BUFFER.index.marks_of([user_id])
    yield "marks"
    batch = flush.persist(CANVAS_BUFFER, marks, at=at)
    yield "persisted"
    flush.settle(CANVAS_BUFFER, batch)
    yield "settled"
    floors = flush.overtaken(CANVAS_BUFFER, batch)
    yield "compared"
    lost = {user_id for user_id in floors if batch.is_lost(user_id)}
    lifted = flush.lift(CANVAS_BUFFER, floors, lost=lost)
    yield "lifted"
    marks = CANVAS_BUFFER.index.marks_of(lifted)
    again = flush.persist(CANVAS_BUFFER, marks, at=time.time())
    yield "persisted again"
    flush.settle(CANVAS_BUFFER, again)


@contextmanager
def without_postgresql(_: Sequence[int], *, wait: bool) -> Iterator[Mapping[int, LockedRow | None]]:
    """Nothing listens where PostgreSQL was."""
    with connection.wrap_database_errors:
        psycopg.connect("postgres://aevon@127.0.0.1:1/aevon")
    yield {}


def patch_of(windows: dict[str, int]) -> dict[str, Any]:
    """Windows by their `zIndex`."""
    return {"microApps": {app_id: window(zIndex=z) for app_id, z in windows.items()}}


def machine(
    make_user: Callable[..., User], patched: pytest.MonkeyPatch
) -> type[RuleBasedStateMachine]:
    class CanvasMachine(RuleBasedStateMachine):
        """One user's canvas; `layout` and `revision` are what was acknowledged last, or by SQL
        where only the row is left. `elsewhere`: SQL has written the row past the live document."""

        def __init__(self) -> None:
            super().__init__()
            self.user_id = make_user().pk
            self.layout: dict[str, Any] = {"microApps": {}}
            self.revision = self.row_revision = 0
            self.flushes: dict[str, Iterator[str]] = {}
            self.elsewhere = self.was_unsaved = False
            self.snapshot: Held | None = None

        # --- changes ---

        @rule(app_id=ids, z=st.integers(-9, 9))
        def put_a_window(self, app_id: str, z: int) -> None:
            self._patch(patch_of({app_id: z}))

        @rule(app_id=ids)
        def close_a_window(self, app_id: str) -> None:
            self._patch({"microApps": {app_id: None}})

        @rule()
        def replace_everything(self) -> None:
            document = services.change(self.user_id, {"replace": {"microApps": {}}})
            self._acknowledged({"microApps": {}}, document.revision)

        @rule()
        def look(self) -> None:
            document = services.live(self.user_id)
            assert document.layout == self.layout
            assert document.revision >= self.revision

        @rule(windows=layouts)
        def write_the_row_from_outside(self, windows: dict[str, int]) -> None:
            was, row = held(self.user_id), self._row()
            if row is None:
                row = Canvas.objects.create(user_id=self.user_id)
            Canvas.objects.filter(pk=self.user_id).update(layout=patch_of(windows))
            if was.document is None:
                self.layout, self.revision = self._in_row()
            elif was.outlived:
                self._the_newer_counts(was.document)
            else:
                self.elsewhere = self._in_row() != (was.document.layout, was.document.revision)

        # --- flushes ---

        @rule()
        def one_flush_goes_on(self) -> None:
            self._go_on("one")

        @rule()
        def another_flush_goes_on(self) -> None:
            self._go_on("another")

        @rule(app_id=ids, z=st.integers(-9, 9), which=flushers)
        def a_flush_goes_on_and_is_overtaken(self, app_id: str, z: int, which: str) -> None:
            self._go_on(which)
            self.put_a_window(app_id, z)

        @precondition(lambda self: self.flushes)
        @rule(which=flushers)
        def kill_a_flush(self, which: str) -> None:
            self.flushes.pop(which, None)

        @rule()
        def kill_a_flush_between_telling_and_clearing(self) -> None:
            def die(*_: Any) -> None:
                raise Killed

            with patched.context() as patch, suppress(Killed):
                patch.setattr(DirtyIndex, "clear", die)
                services.persist_now()

        @rule()
        def flush_without_postgresql(self) -> None:
            waiting = mark(self.user_id) is not None
            try:
                flush.flush(replace(CANVAS_BUFFER, locked=without_postgresql))
                refused = False
            except OperationalError:
                refused = True
            assert refused == waiting

        @rule()
        def flush(self) -> None:
            services.persist_now()

        @rule()
        def log_out(self) -> None:
            services.persist_at_session_end(user_id=self.user_id)
            if not self.elsewhere:
                self._settled()

        # --- the cache's memory ---

        @rule()
        def flush_from_the_cache(self) -> None:
            resources.resource("canvas").drop([self.user_id])

        @precondition(lambda self: ttl_ms(self.user_id) > 0)
        @rule()
        def evict_what_is_saved(self) -> None:
            store().command("UNLINK", CANVAS.key(self.user_id))

        @rule()
        def restart(self) -> None:
            """Nothing is forgotten; but what SQL has written cannot be told any more from what
            has been persisted since."""
            was = held(self.user_id)
            put_of_an_earlier_life(self.user_id, was)
            if was.document is not None:
                self._the_newer_counts(was.document)

        @rule()
        def take_a_snapshot(self) -> None:
            self.snapshot = held(self.user_id)

        @precondition(lambda self: self.snapshot)
        @rule()
        def restart_with_an_older_snapshot(self) -> None:
            """What is left is the newer of snapshot and row; flushes of that life have ended."""
            assert self.snapshot
            self.flushes.clear()
            put_of_an_earlier_life(self.user_id, self.snapshot)
            self._the_newer_counts(self.snapshot.document or empty(self.user_id))

        @rule(
            windows=st.dictionaries(ids, st.integers(-9, 9), min_size=1, max_size=2),
            restarts=st.booleans(),
            between=st.sampled_from(["nothing", "a flush", "a step"]),
        )
        def change_while_the_cache_is_away(
            self, windows: dict[str, int], restarts: bool, between: str
        ) -> None:
            was = held(self.user_id)
            if restarts and was.document is not None:
                self._the_newer_counts(was.document)
            for app_id, z in windows.items():
                patch = patch_of({app_id: z})
                with override_settings(AEVON_CACHE=without_cache()):
                    changed = services.change(self.user_id, {"patch": patch})
                self.layout = merge_patch(self.layout, patch)
            if restarts:
                put_of_an_earlier_life(self.user_id, was)
            if between == "a flush":  # before the drain, while document and row have diverged
                services.persist_now()
            elif between == "a step":
                self._go_on("one")
            drain_outbox()
            before = max(self.revision, changed.revision)
            self.revision = services.live(self.user_id).revision
            assert self.revision > before

        def _go_on(self, which: str) -> None:
            running = self.flushes.setdefault(which, flush_in_steps(self.user_id))
            if next(running, END) is END:
                del self.flushes[which]

        def _the_newer_counts(self, document: CanvasDocument) -> None:
            """Of the row and a document of an earlier life; the row where they are equal."""
            self.layout, self.revision = self._in_row()
            if document.revision > self.revision:
                self.layout, self.revision = document.layout, document.revision
            self.elsewhere = False

        def _patch(self, patch: dict[str, Any]) -> None:
            document = services.change(self.user_id, {"patch": patch})
            self._acknowledged(merge_patch(self.layout, patch), document.revision)
            assert document.layout == self.layout

        def _acknowledged(self, layout: dict[str, Any], revision: int) -> None:
            assert revision > self.revision
            self.layout, self.revision = layout, revision

        def _row(self) -> Canvas | None:
            return Canvas.objects.filter(user_id=self.user_id).first()

        def _in_row(self) -> tuple[Any, int]:
            row = self._row()
            return (row.layout, row.revision) if row else ({"microApps": {}}, 0)

        def _settled(self) -> None:
            assert self._in_row()[0] == self.layout

        @invariant()
        def nothing_is_lost(self) -> None:
            """A reader sees what was acknowledged; the row does not go back; what is not marked is
            clean and in its row."""
            now, (layout, saved) = held(self.user_id), self._in_row()
            assert saved >= self.row_revision
            self.row_revision = saved
            if now.document is None:
                self._only_the_row_is_left(layout, saved)
            elif not now.outlived:
                self._is_live(now.document, now, layout, saved)
            self.was_unsaved = now.unsaved

        def _only_the_row_is_left(self, layout: Any, saved: int) -> None:
            if self.elsewhere and not self.was_unsaved:
                self.layout, self.revision = layout, saved
            self.elsewhere = False
            assert layout == self.layout
            assert saved >= self.revision

        def _is_live(self, document: CanvasDocument, now: Held, layout: Any, saved: int) -> None:
            assert document.layout == self.layout
            assert document.revision >= self.revision
            self.revision = document.revision
            self.elsewhere &= (layout, saved) != (document.layout, document.revision)
            assert document.persisted_revision <= saved
            assert now.ttl_ms == -1 if now.unsaved else now.ttl_ms > 0
            assert now.mark is not None or not now.unsaved
            if not now.unsaved and not self.elsewhere:
                assert (document.layout, document.revision) == (layout, saved)

        def teardown(self) -> None:
            drain_outbox()
            services.persist_now()
            assert not AwayEdit.objects.filter(user_id=self.user_id).exists()
            assert mark(self.user_id) is None
            assert ttl_ms(self.user_id) != -1
            if not self.elsewhere:
                self._settled()

    return CanvasMachine


@pytest.mark.django_db(transaction=True)  # in one transaction PostgreSQL would run out of locks
@pytest.mark.parametrize("examples", [60, pytest.param(2000, marks=pytest.mark.soak)])
def test_any_order_of_events_keeps_what_was_acknowledged(
    make_user: Any, monkeypatch: pytest.MonkeyPatch, examples: int
) -> None:
    """One user, a few windows, two flushes under way at once; runs of up to 40 steps."""
    monkeypatch.setattr(batch_module, "UNDER_WAY_SECONDS", 0)  # nothing happens during the pause
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine(make_user, monkeypatch),
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
