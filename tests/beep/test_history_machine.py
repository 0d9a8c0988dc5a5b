"""Any sequence of commands, lost pushes, late pushes, evictions and forgettings."""

import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from aevon.cache import bounded_list
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
        self.count = 0
        # What a crash after the commit leaves behind, until the next turn or miss.
        self.behind = False

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
        self.behind = False

    @rule()
    def command_whose_push_is_lost(self) -> None:
        """Its process died after the commit; or it is only slow, and the push comes later."""
        turn = record(self.user_id)
        self._recorded(turn)
        self.late.append(turn)
        self.behind = bool(cached(self.user_id))

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
    def evict(self) -> None:
        """Memory pressure."""
        evict(self.user_id)
        self.behind = False

    @rule()
    def forget(self) -> None:
        """Everything so far."""
        services.forget(self.user_id)
        self.turns = []
        self.behind = False

    @rule()
    def read(self) -> None:
        """The last five turns; while the list is behind, the last five of some moment before."""
        told = services.history(self.user_id)
        if self.behind:
            assert told == self.turns[: seqs(self.turns).index(told[-1].seq) + 1][-5:]
        else:
            assert told == self.turns[-5:]

    @invariant()
    def the_list_holds_whole_turns_in_order(self) -> None:
        """At most five, each once, none that was forgotten."""
        held = cached(self.user_id)
        assert len(held) <= 5
        assert seqs(held) == sorted(set(seqs(held)), reverse=True)
        assert all(turn in self.turns for turn in held)


@pytest.mark.django_db(transaction=True)
def test_the_list_is_right_after_any_sequence_of_events() -> None:
    """As the machine's invariants and reads say."""
    run_state_machine_as_test(
        HistoryMachine, settings=settings(max_examples=60, stateful_step_count=25, deadline=None)
    )
