"""A command becomes a turn, in PostgreSQL and in the list."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import pytest
from django.db import IntegrityError, connection

from aevon import intents
from auth_sessions.models import User
from beep import selectors, services
from beep.intents import HELP_TEXT
from beep.models import RESPONSE_MAX, Conversation, Turn
from beep.phrases import NOT_UNDERSTOOD
from beep.resolution import Reference, ResolvedCommand
from canvas import services as canvas
from tests.beep.conftest import Performed
from tests.beep.lists import cached, recorded, seqs, speak
from tests.canvas.helpers import patch
from tests.threads import in_threads

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_command_is_recorded_as_it_was_answered(user: User, performed: Performed) -> None:
    """Row, element and answer say the same."""
    answer = services.command(user.pk, "open Notes")
    turn = Turn.objects.get(conversation_id=user.pk)
    assert (turn.seq, turn.command, turn.response) == (1, "open Notes", "Opened Notes.")
    assert turn.resolved == answer.resolved
    assert cached(user.pk) == recorded(user.pk)
    assert recorded(user.pk)[0].at == answer.at


def test_a_reference_reaches_the_service_resolved(
    user: User, desk: None, performed: Performed
) -> None:
    """ "It" is what the turn before spoke of; the answer says what was understood."""
    services.command(user.pk, "open Notes")
    answer = services.command(user.pk, "close it")
    assert performed[-1] == ("canvas.close", user.pk, {"microApps": ["Notes"]})
    assert answer.response == 'Understood: close "Notes".\nClosed Notes.'
    assert answer.resolved["references"] == [
        {"phrase": "it", "value": "Notes", "why": "pronoun", "seq": 1}
    ]


def test_an_ordinal_points_into_what_another_service_listed(
    user: User, desk: None, performed: Performed
) -> None:
    """ "The second one" of the list in the last response."""
    services.command(user.pk, "list windows")
    services.command(user.pk, "close the second one")
    assert performed[-1] == ("canvas.close", user.pk, {"microApps": ["Ledger"]})


def test_again_repeats_the_last_action(user: User, performed: Performed) -> None:
    """The same intent with the same arguments."""
    services.command(user.pk, "open Notes")
    services.command(user.pk, "again")
    assert performed[0] == performed[1]


def test_a_reference_is_not_resolved_from_another_users_turns(
    make_user: Callable[..., User], performed: Performed
) -> None:
    """Each user's "it" is their own."""
    one, other = make_user(), make_user()
    services.command(one.pk, "open Notes")
    assert services.command(other.pk, "close it").resolved["intent"] is None
    assert len(performed) == 1


def test_what_cannot_be_resolved_gets_a_question_and_is_a_turn(user: User) -> None:
    """Nothing is guessed; the question can be answered by the next command."""
    answer = services.command(user.pk, "close it")
    assert answer.resolved["intent"] is None
    assert answer.response == answer.resolved["question"]
    assert seqs(cached(user.pk)) == [1]


def test_a_refused_intent_answers_with_its_reason(user: User, performed: Performed) -> None:
    """`IntentRefused` is an answer, not an error."""

    def refuse(user_id: int, arguments: Any) -> intents.Done:
        raise intents.IntentRefused("No room.")

    intents.register("canvas.open", refuse)
    assert services.command(user.pk, "open Notes").response == "Not done: No room."


def test_help_is_answered_by_beep_itself(user: User) -> None:
    """And a following "the second one" finds no list in it."""
    assert services.command(user.pk, "help").response == HELP_TEXT
    assert services.command(user.pk, "close the second one").resolved["intent"] is None


def test_a_failing_handler_leaves_no_turn(user: User, performed: Performed) -> None:
    """Its exception goes through, and the number is not used up."""

    def fail(user_id: int, arguments: Any) -> intents.Done:
        raise IntegrityError("broken")

    intents.register("canvas.open", fail)
    with pytest.raises(IntegrityError, match="broken"):
        services.command(user.pk, "open Notes")
    assert speak(user.pk, 1)[0].seq == 1


@pytest.mark.parametrize("escape", [r"\u0000", r"\ud800"])
def test_a_name_that_no_database_can_hold_is_not_understood(
    user: User, performed: Performed, escape: str
) -> None:
    """A quoted name may be a JSON text: its escapes reach neither handlers nor PostgreSQL."""
    answer = services.command(user.pk, f'open "a{escape}"')
    assert answer.response == NOT_UNDERSTOOD
    assert performed == []


@pytest.mark.parametrize(
    "resolved",
    [
        ResolvedCommand(None, question="a\0?"),
        ResolvedCommand(None, question="?", candidates=("a\0",)),
        ResolvedCommand(None, (Reference("it", "a\0", "pronoun"),), question="?"),
    ],
    ids=["question", "candidate", "reference"],
)
def test_what_no_database_can_hold_is_not_understood_whoever_resolves(
    user: User, settings: Any, resolved: ResolvedCommand
) -> None:
    """Another resolver may name anything."""
    settings.AEVON_BEEP_RESOLVER = f"{__name__}.elsewhere"
    ELSEWHERE[:] = [resolved]
    assert services.command(user.pk, "words").response == NOT_UNDERSTOOD


ELSEWHERE: Final[list[ResolvedCommand]] = []


def elsewhere(*_: Any) -> ResolvedCommand:
    """A resolver of somebody else."""
    return ELSEWHERE[0]


def test_a_response_is_kept_storable_and_bounded(user: User, performed: Performed) -> None:
    """However much a handler says."""
    intents.register("canvas.list", lambda *_: intents.Done("x\x00" * RESPONSE_MAX))
    response = services.command(user.pk, "list windows").response
    assert len(response) == RESPONSE_MAX
    assert response.startswith("x\ufffd")
    assert response.endswith(services.ELLIPSIS)


def test_a_response_that_just_fits_is_not_cut(user: User, performed: Performed) -> None:
    """The bound is the column's."""
    intents.register("canvas.list", lambda *_: intents.Done("x" * RESPONSE_MAX))
    assert services.command(user.pk, "list windows").response == "x" * RESPONSE_MAX


def test_a_command_costs_one_statement_and_two_round_trips(
    user: User, desk: None, trips: Any, django_assert_num_queries: Any
) -> None:
    """Turns and canvas in one; number, turn and time in the statement; the turn appended in one."""
    speak(user.pk, 1)
    with django_assert_num_queries(1), trips() as t:
        speak(user.pk, 1)
    assert t.count == 2


def test_a_user_who_is_gone_has_no_turn() -> None:
    """The database's foreign key says so, with a key and without."""
    for idempotency_key in (None, "once"):
        with pytest.raises(services.UserGone):
            services.command(987_654_321, "open", idempotency_key=idempotency_key)
    assert not Turn.objects.exists()
    assert cached(987_654_321) == []


def test_concurrent_commands_of_a_user_are_recorded_once_each(user: User) -> None:
    """Sixteen at once: sixteen numbers without a gap, times in the same order."""
    texts = [f"words {number}" for number in range(16)]
    answers = in_threads([partial(services.command, user.pk, text) for text in texts])
    turns = list(Turn.objects.filter(conversation_id=user.pk).order_by("seq"))
    assert sorted(seqs(answers)) == seqs(turns) == list(range(1, 17))
    assert sorted(turn.command for turn in turns) == sorted(texts)
    assert [turn.at for turn in turns] == sorted(turn.at for turn in turns)
    assert cached(user.pk) == recorded(user.pk)
    assert seqs(cached(user.pk)) == [16, 15, 14, 13, 12]


def test_the_recent_turns_of_many_users_are_one_query(
    make_user: Callable[..., User], django_assert_num_queries: Any
) -> None:
    """Every id asked for is answered, also those of nobody."""
    talker, silent = make_user(), make_user()
    speak(talker.pk, 6)
    with django_assert_num_queries(1):
        found = selectors.recent([silent.pk, talker.pk, 987_654_321])
    assert {user_id: seqs(recent.elements) for user_id, recent in found.items()} == {
        silent.pk: [],
        talker.pk: [6, 5, 4, 3, 2],
        987_654_321: [],
    }


def test_only_users_with_turns_are_warmed(make_user: Callable[..., User]) -> None:
    """Who has forgotten everything has nothing to load."""
    talker, forgetful = make_user(), make_user()
    speak(talker.pk, 1)
    speak(forgetful.pk, 1)
    services.forget(forgetful.pk)
    assert list(selectors.users_with_turns()) == [talker.pk]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE beep_turn SET response = 'other'",
        "UPDATE beep_conversation SET last_seq = last_seq - 1",
        "UPDATE beep_conversation SET forgotten_through = last_seq + 1",
        (
            "INSERT INTO beep_turn (user_id, seq, command, response, resolved, at, request_digest)"
            " SELECT user_id, seq, '', '', '{}', now(), '' FROM beep_turn"
        ),
    ],
)
def test_the_database_refuses_to_rewrite_the_record(user: User, statement: str) -> None:
    """Whoever writes: turns are never changed, numbers never given twice."""
    speak(user.pk, 1)
    with pytest.raises(IntegrityError), connection.cursor() as cursor:
        cursor.execute(statement)


def test_numbers_of_forgotten_turns_do_not_come_back(user: User) -> None:
    """The database refuses that, too."""
    speak(user.pk, 2)
    services.forget(user.pk)
    with pytest.raises(IntegrityError, match="upwards only"):
        Conversation.objects.filter(pk=user.pk).update(forgotten_through=1)


def test_a_correction_takes_back_and_does_the_other(user: User, desk: None) -> None:
    """What was closed is back as it was, the other one is closed; both by the real canvas."""
    before = canvas.live(user.pk).layout["microApps"]["notes"]
    services.command(user.pk, "close Notes")
    answer = services.command(user.pk, "no, the other one")
    assert answer.response.endswith("Notes is back. Closed Ledger (note).")
    assert answer.resolved["takesBack"] == 1
    assert canvas.live(user.pk).layout["microApps"] == {"notes": before}
    assert services.command(user.pk, "undo").response.endswith("Ledger is back.")


def test_what_cannot_be_taken_back_does_not_stop_the_rest(user: User, desk: None) -> None:
    """The window that BEEP moved has been closed by hand since."""
    services.command(user.pk, "move Notes left")
    patch(user.pk, notes=None)
    answer = services.command(user.pk, "no, the ledger")
    assert "That cannot be taken back any more" in answer.response
    assert answer.response.endswith("Moved Ledger to -90, 20.")
    assert services.command(user.pk, "undo").resolved["arguments"] == {"turn": 2}


def test_a_refused_correction_is_not_taken_for_a_deed(user: User, desk: None) -> None:
    """Though something was taken back first, and is told first."""
    services.command(user.pk, "move Notes left")
    answer = services.command(user.pk, "no, to 9999999 0")
    assert answer.response.endswith("Put Notes back. Not done: That does not fit on the canvas.")
    assert services.command(user.pk, "undo").resolved["intent"] is None


def test_nobody_takes_back_what_another_user_did(
    make_user: Callable[..., User], desk: None, user: User
) -> None:
    """Turns are numbered per user; nor what is not there."""
    services.command(user.pk, "close Notes")
    with pytest.raises(intents.IntentRefused):
        intents.perform("beep.undo", make_user().pk, {"turn": 1})
    with pytest.raises(intents.IntentRefused):
        intents.perform("beep.undo", user.pk, {"turn": 10**18})
