"""A command with a key is carried out once."""

import contextlib
from functools import partial
from typing import Any

import pytest
from django.db import transaction

from aevon import intents
from aevon.cache import bounded_list
from auth_sessions.models import User
from beep import services
from beep.models import Turn
from tests.beep.conftest import Performed
from tests.beep.lists import cached, recorded, seqs
from tests.threads import in_threads

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_retry_gets_the_first_answer(user: User, performed: Performed) -> None:
    """Nothing is done again, and no turn is added."""
    first = services.command(user.pk, "open Notes", idempotency_key="k")
    services.command(user.pk, "open Ledger")
    again = services.command(user.pk, "open Notes", idempotency_key="k")
    assert again == services.Answer(
        first.seq, first.response, first.resolved, first.at, replayed=True
    )
    assert not first.replayed
    assert len(performed) == Turn.objects.count() == 2


def test_a_key_with_another_command_is_refused(user: User, performed: Performed) -> None:
    """And nothing is done."""
    services.command(user.pk, "open Notes", idempotency_key="k")
    with pytest.raises(services.KeyReused):
        services.command(user.pk, "close Notes", idempotency_key="k")
    assert len(performed) == Turn.objects.count() == 1


def test_a_key_belongs_to_its_user(user: User, make_user: object, performed: Performed) -> None:
    """Another user's command under the same key is another command."""
    other = make_user()  # type: ignore[operator]
    services.command(user.pk, "open Notes", idempotency_key="k")
    assert not services.command(other.pk, "open Notes", idempotency_key="k").replayed
    assert len(performed) == 2


@pytest.mark.parametrize("cache", ["there", "away"])
def test_concurrent_requests_with_one_key_act_once(
    user: User, performed: Performed, cache: str, cache_away: Any
) -> None:
    """Eight at once: one acts, seven wait and get its answer. The cache has no part in that."""
    command = partial(services.command, user.pk, "open Notes", idempotency_key="k")
    with cache_away() if cache == "away" else contextlib.nullcontext():
        answers = in_threads([command] * 8)
    assert seqs(answers) == [1] * 8
    assert sorted(answer.replayed for answer in answers) == [False, *[True] * 7]
    assert len(performed) == Turn.objects.count() == 1


def test_a_retry_that_overtakes_the_push(
    user: User, performed: Performed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one's process died after its commit, or is slow: what the retry acknowledges is in
    the list."""
    services.command(user.pk, "open Notes")
    with monkeypatch.context() as patched:
        patched.setattr(bounded_list, "push", lambda *_: None)
        services.command(user.pk, "open Ledger", idempotency_key="k")
    assert seqs(services.history(user.pk)) == [1]
    assert services.command(user.pk, "open Ledger", idempotency_key="k").replayed
    assert cached(user.pk) == recorded(user.pk)
    assert seqs(services.history(user.pk)) == [1, 2]


def test_a_command_that_failed_can_be_tried_again(user: User, performed: Performed) -> None:
    """A failure leaves no claim on the key."""

    def fail(user_id: int, arguments: object) -> intents.Done:
        raise RuntimeError("broken")

    working = intents._handlers["canvas.open"]
    intents.register("canvas.open", fail)
    with pytest.raises(RuntimeError):
        services.command(user.pk, "open Notes", idempotency_key="k")
    intents.register("canvas.open", working)
    assert not services.command(user.pk, "open Notes", idempotency_key="k").replayed


def test_a_command_with_a_key_refuses_to_be_part_of_a_transaction(user: User) -> None:
    """Whose rollback would take the turn back, but not what the command did."""
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        services.command(user.pk, "help", idempotency_key="k")
