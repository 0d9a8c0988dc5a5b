"""Any sequence of commands, lost and late pushes, slow readers, evictions, deletions and drains."""

import itertools
from typing import Any

import pytest
from django.db import connection
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from aevon.cache import bounded_list
from aevon.cache.leases import new_lease_texts
from aevon.cache.tasks import drain_outbox
from auth_sessions.models import User
from beep import services
from beep.documents import TurnDocument
from beep.projection import CONVO
from tests.beep.lists import cached, evict, record, seqs

_numbers = itertools.count(1)


class HistoryMachine(RuleBasedStateMachine):
    """The turns that a user should have, beside what PostgreSQL and the list say."""

    def __init__(self) -> None:
        super().__init__()
        self.user_id = User.objects.create_user(f"machine{next(_numbers)}").pk
        self.turns: list[TurnDocument] = []
        self.late: list[TurnDocument] = []
        self.readers: list[tuple[Any, Any]] = []
        self.count = self.forgotten = 0
        # What the list may lack, or hold still, until it is drained or missing.
        self.lost = self.removed = False

    @rule(text=st.sampled_from(["help", "close it", "again", "ö" * 4000]))
    def command(self, text: str) -> None:
        """Recorded, pushed, and the list follows PostgreSQL."""
        answer = services.command(self.user_id, text)
        self._recorded(
            TurnDocument(
                seq=answer.seq,
                command=text,
                response=answer.response,
                at=answer.at,
            )
        )
        self.lost = False

    @rule()
    def command_whose_push_is_lost(self) -> None:
        """Its process died after the commit; or it is only slow, and the push comes later."""
        turn = record(self.user_id)
        self._recorded(turn)
        self.late.append(turn)
        self.lost = True

    def _recorded(self, turn: TurnDocument) -> None:
        self.count += 1
        assert turn.seq == self.count
        self.turns.append(turn)

    @rule(data=st.data())
    def late_push(self, data: st.DataObject) -> None:
        """A slow process at last pushes its turn, which may be forgotten or long past."""
        if self.late:
            turn = data.draw(st.sampled_from(self.late))
            self.late.remove(turn)
            bounded_list.push(CONVO, self.user_id, turn)

    @rule()
    def reader_begins(self) -> None:
        """It leaves its lease, where the list is missing, and reads PostgreSQL."""
        users = [self.user_id]
        leases, _ = bounded_list._leased(CONVO, dict.fromkeys(users, b""), new_lease_texts(users))
        self.readers.append((leases, CONVO.recent([self.user_id])))

    @rule(data=st.data())
    def reader_ends(self, data: st.DataObject) -> None:
        """Whatever has happened meanwhile."""
        if self.readers:
            reader = data.draw(st.sampled_from(self.readers))
            self.readers.remove(reader)
            bounded_list._fill(CONVO, *reader)

    @rule(data=st.data())
    def removed_with_psql(self, data: st.DataObject) -> None:
        """Any turn, the last one too."""
        if self.turns:
            turn = data.draw(st.sampled_from(self.turns))
            self.turns.remove(turn)
            with connection.cursor() as cursor:
                cursor.execute("DELETE FROM beep_turn WHERE seq = %s", [turn.seq])
            self.removed = True

    @rule()
    def drain(self) -> None:
        """What the listener does."""
        drain_outbox()
        self.lost = self.removed = False

    @rule()
    def evict(self) -> None:
        """Memory pressure."""
        evict(self.user_id)
        self.lost = self.removed = False

    @rule()
    def forget(self) -> None:
        """Everything so far."""
        services.forget(self.user_id)
        self.turns = []
        self.forgotten = self.count
        self.lost = self.removed = False

    @rule()
    def read(self) -> None:
        """The last five turns, unless the list has not been told yet."""
        told = services.history(self.user_id)
        assert all(turn.seq > self.forgotten for turn in told)
        if not (self.lost or self.removed):
            assert told == self.turns[-5:]

    @invariant()
    def the_list_holds_whole_turns_in_order(self) -> None:
        """At most five, each once, none that was forgotten."""
        held = cached(self.user_id)
        assert len(held) <= 5
        assert seqs(held) == sorted(set(seqs(held)), reverse=True)
        assert self.removed or all(turn in self.turns for turn in held)

    def teardown(self) -> None:
        """When all is said, read and drained, the list is right."""
        while self.late:
            bounded_list.push(CONVO, self.user_id, self.late.pop())
        while self.readers:
            bounded_list._fill(CONVO, *self.readers.pop())
        self.drain()
        self.read()
        assert cached(self.user_id) in ([], self.turns[-5:][::-1])
        User.objects.get(pk=self.user_id).delete()


@pytest.mark.django_db(transaction=True)
def test_the_list_is_right_after_any_sequence_of_events() -> None:
    """As the machine's invariants and reads say."""
    run_state_machine_as_test(
        HistoryMachine, settings=settings(max_examples=60, stateful_step_count=25, deadline=None)
    )
