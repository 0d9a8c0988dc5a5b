"""Any order of changes, flushes, evictions and outages against a model of what was acknowledged."""

from collections.abc import Callable
from typing import Any

import pytest
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

from aevon.cache import CANVAS, resources
from aevon.cache.connection import store
from aevon.cache.tasks import drain_outbox
from auth_sessions.models import User
from canvas import services
from canvas.layout import merge_patch
from canvas.models import AwayEdit, Canvas
from tests.canvas.helpers import mark, ttl_ms, window
from tests.servers import without_cache

ids = st.sampled_from(["a", "b", "c"])


def machine(make_user: Callable[..., User]) -> type[RuleBasedStateMachine]:
    class CanvasMachine(RuleBasedStateMachine):
        """One user's canvas; `layout` and `revision` are the last acknowledged ones."""

        def __init__(self) -> None:
            super().__init__()
            self.user_id = make_user().pk
            self.layout: dict[str, Any] = {"microApps": {}}
            self.revision = 0

        @rule(app_id=ids, z=st.integers(-9, 9))
        def put_a_window(self, app_id: str, z: int) -> None:
            self._patch({"microApps": {app_id: window(zIndex=z)}})

        @rule(app_id=ids)
        def close_a_window(self, app_id: str) -> None:
            self._patch({"microApps": {app_id: None}})

        @rule()
        def replace_everything(self) -> None:
            document = services.change(self.user_id, {"replace": {"microApps": {}}})
            self._acknowledged({"microApps": {}}, document.revision)

        @rule()
        def flush(self) -> None:
            services.persist_now()

        @rule()
        def log_out(self) -> None:
            services.persist_at_session_end(user_id=self.user_id)
            self._settled()

        @rule()
        def flush_from_the_cache(self) -> None:
            resources.resource("canvas").drop([self.user_id])

        @precondition(lambda self: mark(self.user_id) is None)
        @rule()
        def evict_what_is_saved(self) -> None:
            store().command("UNLINK", CANVAS.key(self.user_id))

        @rule(windows=st.dictionaries(ids, st.integers(-9, 9), min_size=1), flush=st.booleans())
        def change_while_the_cache_is_away(self, windows: dict[str, int], flush: bool) -> None:
            for app_id, z in windows.items():
                patch = {"microApps": {app_id: window(zIndex=z)}}
                with override_settings(AEVON_CACHE=without_cache()):
                    services.change(self.user_id, {"patch": patch})
                self.layout = merge_patch(self.layout, patch)
            if flush:  # before the drain, while live document and row have diverged
                services.persist_now()
            drain_outbox()
            before, self.revision = self.revision, services.live(self.user_id).revision
            assert self.revision > before

        def _patch(self, patch: dict[str, Any]) -> None:
            document = services.change(self.user_id, {"patch": patch})
            self._acknowledged(merge_patch(self.layout, patch), document.revision)

        def _acknowledged(self, layout: dict[str, Any], revision: int) -> None:
            assert revision == self.revision + 1
            self.layout, self.revision = layout, revision

        def _settled(self) -> None:
            row = Canvas.objects.filter(user_id=self.user_id).first()
            assert (row.layout if row else {"microApps": {}}) == self.layout

        @invariant()
        def a_reader_sees_what_was_acknowledged(self) -> None:
            document = services.live(self.user_id)
            assert (document.layout, document.revision) == (self.layout, self.revision)

        @invariant()
        def a_row_is_never_ahead_and_behind_only_when_marked(self) -> None:
            row = Canvas.objects.filter(user_id=self.user_id).first()
            saved = row.revision if row else 0
            assert saved <= self.revision
            if mark(self.user_id) is None:
                assert saved == self.revision
                assert (row.layout if row else {"microApps": {}}) == self.layout
                assert ttl_ms(self.user_id) > 0
            else:
                assert ttl_ms(self.user_id) == -1

        def teardown(self) -> None:
            drain_outbox()
            services.persist_now()
            assert not AwayEdit.objects.filter(user_id=self.user_id).exists()
            self._settled()

    return CanvasMachine


@pytest.mark.django_db
def test_any_order_of_events_keeps_what_was_acknowledged(make_user: Any) -> None:
    """One user, a few windows; a few runs of up to 25 steps."""
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine(make_user),
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
