"""The public API in any order, beside a model of the rows: each load gives the row's state."""

import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import psycopg
import pytest
from django.db import connections, transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from aevon.cache import PSYCHE, entries, fences, leases, resources
from aevon.cache.codec import stamped
from aevon.cache.connection import store
from auth_sessions.models import User
from klepsydra import services
from klepsydra.models import PsycheState
from tests.cache.entry_states import life
from tests.consistency.switches import without
from tests.servers import database_url

pytestmark = pytest.mark.django_db(transaction=True)

PROJECTION: Final = PsycheState.cached.projection
EARLIER_LIFE: Final = "0" * 12
which: Final = st.integers(0, 1)
streaks: Final = st.integers(0, 1000)


class Rows(RuleBasedStateMachine):
    """Two users' rows, and everything that may happen to them and to their entries.

    The model of a row is its streak (None: there is no row) and its version, or the version of
    its absence.
    """

    users: tuple[int, int]

    def __init__(self) -> None:
        super().__init__()
        store().command("FLUSHDB")
        with self._outside() as outside:
            outside.execute("DELETE FROM klepsydra_psychestate")
            outside.execute("DELETE FROM cache_outbox")
            floors = dict(outside.execute("SELECT user_id, version FROM cache_version_floor"))
        self.rows: dict[int, tuple[int | None, int]] = {
            user: (None, floors.get(user, 0)) for user in self.users
        }
        # The model at the beginning of each block, the outermost first; its end.
        self.blocks: list[tuple[dict[int, tuple[int | None, int]], Any]] = []
        self.snapshot: dict[int, bytes | None] = {}
        self.thread = ThreadPoolExecutor(1)

    def teardown(self) -> None:
        try:
            while self.blocks:
                self.roll_back(runs_out=True)
            self.load_many()
        finally:
            self.thread.submit(connections.close_all).result()
            self.thread.shutdown()

    @contextlib.contextmanager
    def _outside(self) -> Any:
        """A connection that knows of no cache."""
        with psycopg.connect(database_url(), autocommit=True) as outside:
            yield outside

    def _changes(self, user: int, streak: int | None, steps: int = 1) -> None:
        self.rows[user] = (streak, self.rows[user][1] + steps)

    def _exists(self, user: int) -> bool:
        return self.rows[user][0] is not None

    # --- loads ---------------------------------------------------------------------------------

    def _assert_is(self, document: Any, user: int, rows: Any) -> None:
        streak, version = rows[user]
        if streak is None:
            assert document is None
        else:
            assert document is not None
            assert (document.loss_streak, document.version) == (streak, version)

    @rule(number=which)
    def load(self, number: int) -> None:
        user = self.users[number]
        document = PsycheState.cached.get(user)
        self._assert_is(document, user, self.rows)
        assert document == PROJECTION.read_one(user)

    @rule()
    def load_many(self) -> None:
        found = PsycheState.cached.get_many(self.users)
        for user in self.users:
            self._assert_is(found.get(user), user, self.rows)

    @rule(many=st.booleans())
    def load_elsewhere(self, many: bool) -> None:
        """In a process of its own, so to speak: it sees what is committed."""
        committed = self.blocks[0][0] if self.blocks else self.rows
        one = lambda: {user: PsycheState.cached.get(user) for user in self.users}  # noqa: E731
        load = (lambda: PsycheState.cached.get_many(self.users)) if many else one
        found = self.thread.submit(load).result(10)
        for user in self.users:
            self._assert_is(found.get(user), user, committed)

    # --- writes --------------------------------------------------------------------------------

    @rule(number=which, streak=streaks, fields=st.sampled_from([None, ["loss_streak"]]))
    def save(self, number: int, streak: int, fields: list[str] | None) -> None:
        user = self.users[number]
        state = PsycheState.objects.filter(pk=user).first()
        if state:
            state.loss_streak = streak
            state.save(update_fields=fields)
            self._changes(user, streak)

    @rule(streak=streaks, number=which)
    def update(self, number: int, streak: int) -> None:
        user = self.users[number]
        if PsycheState.objects.filter(pk=user).update(loss_streak=streak):
            self._changes(user, streak)

    @rule(streak=streaks)
    def bulk_update(self, streak: int) -> None:
        states = list(PsycheState.objects.filter(pk__in=self.users))
        for state in states:
            state.loss_streak = streak
            self._changes(state.pk, streak)
        PsycheState.objects.bulk_update(states, ["loss_streak"])

    @rule(number=which, streak=streaks, bulk=st.booleans())
    def create(self, number: int, streak: int, bulk: bool) -> None:
        user = self.users[number]
        if self._exists(user):
            return
        state = PsycheState(user_id=user, loss_streak=streak, phase=0.5)
        if bulk:
            PsycheState.objects.bulk_create([state])
        else:
            state.save(force_insert=True)
        self._changes(user, streak)

    @rule(number=which, bulk=st.booleans())
    def delete(self, number: int, bulk: bool) -> None:
        user = self.users[number]
        if not self._exists(user):
            return
        rows = PsycheState.objects.filter(pk=user)
        if bulk:
            rows.delete()
        else:
            rows.get().delete()
        self._changes(user, None)

    @rule(number=which)
    def play(self, number: int) -> None:
        """Guarded, where no transaction is open; a user without a row gets one first."""
        user = self.users[number]
        answer = services.play(user, "sisyphus-ascent", 1).answer
        self._changes(user, answer.psyche.loss_streak, 1 if self._exists(user) else 2)
        self._assert_is(answer.psyche, user, self.rows)

    @precondition(lambda self: not self.blocks)
    @rule(number=which, streak=streaks)
    def sql_from_outside(self, number: int, streak: int) -> None:
        """And what the listener does about it."""
        self._sql(self.users[number], streak)
        self.drain()

    def _sql(self, user: int, streak: int) -> None:
        if self._exists(user):
            with self._outside() as outside:
                statement = "UPDATE klepsydra_psychestate SET loss_streak = %s WHERE user_id = %s"
                outside.execute(statement, [streak, user])
            self._changes(user, streak)

    # --- transactions --------------------------------------------------------------------------

    @precondition(lambda self: len(self.blocks) < 3)
    @rule(savepoint=st.booleans())
    def begin(self, savepoint: bool) -> None:
        """A transaction, or a savepoint in it, or a block without one."""
        block = transaction.atomic(savepoint=savepoint)
        block.__enter__()
        self.blocks.append((dict(self.rows), block))

    @precondition(lambda self: self.blocks)
    @rule()
    def commit(self) -> None:
        _, block = self.blocks.pop()
        block.__exit__(None, None, None)

    @precondition(lambda self: self.blocks)
    @rule(runs_out=st.booleans())
    def roll_back(self, runs_out: bool) -> None:
        """To the innermost savepoint, with the blocks in between that have none."""
        while True:
            before, block = self.blocks.pop()
            has_savepoint = not self.blocks or block.savepoint
            with contextlib.suppress(ZeroDivisionError):
                block.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
            if has_savepoint:
                break
        self.rows = before
        if runs_out:
            self.fences_run_out()

    # --- what happens to entries ---------------------------------------------------------------

    @rule(number=which)
    def evict(self, number: int) -> None:
        """But not the fence of our own transaction: others may then fill what is committed, and
        we would be given that instead of what we have written and not committed."""
        if not (self.blocks and self._is_fenced(self.users[number])):
            store().command("DEL", PSYCHE.key(self.users[number]))

    def _is_fenced(self, user: int) -> bool:
        return b"_fence" in (store().command("GET", PSYCHE.key(user)) or b"")

    @rule(number=which)
    def flush(self, number: int) -> None:
        resources.resource("psyche").drop([self.users[number]])

    @rule()
    def drain(self) -> None:
        resources.repair_waiting()

    @rule(number=which)
    def reader_that_died(self, number: int) -> None:
        leases.lease(PROJECTION, {self.users[number]: entries.EMPTY})
        self.evict(number)  # the lease runs out

    @rule()
    def fences_run_out(self) -> None:
        """Of writers that died or were rolled back: none other is in flight."""
        if not self.blocks:
            for user in self.users:
                if self._is_fenced(user):
                    store().command("DEL", PSYCHE.key(user))

    @rule(number=which)
    def writer_that_died(self, number: int) -> None:
        fences.fence(PROJECTION, [self.users[number]])

    @precondition(lambda self: not self.blocks)
    @rule(number=which, streak=streaks)
    def writer_that_died_after_its_commit(self, number: int, streak: int) -> None:
        fences.fence(PROJECTION, [self.users[number]])
        self._sql(self.users[number], streak)

    @rule()
    def remember(self) -> None:
        """The server takes a snapshot of what is cached."""
        self.load_many()
        for user in self.users:
            self.snapshot[user] = store().command("GET", PSYCHE.key(user))

    @precondition(lambda self: not self.blocks)
    @rule()
    def go_back(self) -> None:
        """The server is restarted from it: what was stamped then is of another life now."""
        for user, raw in self.snapshot.items():
            key = PSYCHE.key(user)
            if raw is None:
                store().command("DEL", key)
                continue
            today = stamped(b"}", life().incarnation)
            earlier = raw.replace(today, stamped(b"}", EARLIER_LIFE))
            store().command("SET", key, earlier, "PX", 60_000)
        self.snapshot = {}

    @precondition(lambda self: not self.blocks)
    @rule(number=which, streak=streaks)
    def go_back_behind_a_write(self, number: int, streak: int) -> None:
        self.remember()
        self.update(number, streak)
        self.go_back()


def run(make_user: Callable[..., User], **changes: Any) -> None:
    """Let the machine loose on two users."""
    Rows.users = (make_user().pk, make_user().pk)
    options: dict[str, Any] = {
        "max_examples": int(os.environ.get("MACHINE_EXAMPLES", "40")),
        "stateful_step_count": 40,
        "deadline": None,
        "suppress_health_check": list(HealthCheck),
    }
    run_state_machine_as_test(Rows, settings=settings(**options | changes))


def test_each_load_gives_the_row(make_user: Callable[..., User]) -> None:
    """After any sequence of writes, transactions, losses and restarts."""
    run(make_user)


@pytest.mark.parametrize("protection", ["fence", "outbox", "incarnation"])
def test_a_protection_that_is_missing_is_noticed(
    make_user: Callable[..., User], protection: str
) -> None:
    """The other ones need processes that come in between."""
    first_failure = {"phases": [Phase.generate], "derandomize": True, "max_examples": 1000}
    with without(protection), pytest.raises(AssertionError):
        run(make_user, **first_failure)
