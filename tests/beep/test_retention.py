"""Turns are kept for so many days, and leave the list with their rows."""

import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from aevon.cache.connection import store
from aevon.cache.tasks import drain_outbox
from auth_sessions.models import User
from beep import selectors, services
from beep.models import Conversation, Turn
from beep.tasks import forget_old
from tests.beep.lists import cached, evict, key, recorded, seqs, speak
from tests.beep.test_history import rebuild_overtaken_by
from tests.threads import in_threads
from tests.waiting import wait_for_locks

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def spoke(settings: Any) -> Callable[[User, int], None]:
    """`spoke(user, 3)`: so many turns, each a second older than they are kept; in the list, too."""

    def speak_long_ago(user: User, count: int) -> None:
        at = timezone.now() - settings.BEEP_RETENTION - timedelta(seconds=1)
        Conversation.objects.create(user=user, last_seq=count)
        Turn.objects.bulk_create(
            Turn(conversation_id=user.pk, seq=seq, command="old", resolved={}, at=at)
            for seq in range(1, count + 1)
        )
        services.history(user.pk)

    return speak_long_ago


def test_old_turns_leave_record_and_list(
    spoke: Any, make_user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In as many batches as it takes; the last ones of who is silent, too. Numbers go on, and a
    list that held none of them stays as it is."""
    monkeypatch.setattr(services, "FORGOTTEN_AT_ONCE", 2)
    silent, talking, young, busy = (make_user() for _ in range(4))
    for user, old, new in ((silent, 3, 0), (talking, 3, 3), (young, 0, 2), (busy, 4, 5)):
        if old:
            spoke(user, old)
        speak(user.pk, new)
    drain_outbox()
    for user in (young, busy):
        store().command("PEXPIRE", key(user.pk), 50_000)
    assert services.forget_old_turns() == 10
    drain_outbox()
    assert [seqs(cached(user.pk)) for user in (silent, talking)] == [[], []]
    assert seqs(services.history(talking.pk)) == [4, 5, 6]
    assert services.history(silent.pk) == []
    for user in (young, busy):
        assert cached(user.pk) == recorded(user.pk)
        assert 0 < store().command("PTTL", key(user.pk)) <= 50_000
    assert speak(silent.pk, 1)[0].seq == 4
    assert services.forget_old_turns() == 0


def test_several_workers_forget_at_once(spoke: Any, make_user: Any) -> None:
    """Each turn once, and nobody fails; commands go on meanwhile."""
    users = [make_user() for _ in range(5)]
    for user in users:
        spoke(user, 20)
    talk = [partial(speak, user.pk, 3) for user in users]
    forgetting: list[Callable[[], Any]] = [services.forget_old_turns] * 4
    assert sum(each for each in in_threads([*talk, *forgetting]) if isinstance(each, int)) == 100
    drain_outbox()
    for user in users:
        assert seqs(services.history(user.pk)) == [21, 22, 23]
        assert cached(user.pk) == recorded(user.pk)


def test_rebuild_overtaken_by_the_forgetting_of_old_turns(spoke: Any, user: User) -> None:
    """PostgreSQL was read before, the list is written after: it is not written."""
    spoke(user, 3)
    evict(user.pk)

    def change() -> None:
        forget_old()
        drain_outbox()

    rebuild_overtaken_by(change, user)
    assert cached(user.pk) == services.history(user.pk) == []


def test_a_key_lives_as_long_as_its_turn(spoke: Any, user: User) -> None:
    """Afterwards the command is another one."""
    spoke(user, 1)
    old = Turn.objects.get()
    Turn.objects.filter(pk=old.pk).delete()
    old.pk, old.idempotency_key, old.request_digest = None, "k", services._digest("help")
    old.save(force_insert=True)
    assert services.command(user.pk, "help", idempotency_key="k").replayed
    forget_old()
    assert not services.command(user.pk, "help", idempotency_key="k").replayed


def test_forgetting_beside_the_purge(user: User, spoke: Any) -> None:
    """Both take the turns before the outbox's row: neither waits for the other in a circle."""
    spoke(user, 3)
    holding = threading.Event()

    def purge() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT id FROM beep_turn FOR UPDATE")
            holding.set()
            wait_for_locks()
            cursor.execute("DELETE FROM beep_turn")

    def forget() -> None:
        assert holding.wait(30)
        services.forget(user.pk)

    in_threads([purge, forget])
    assert not Turn.objects.exists()


def test_the_purge_waits_for_nobody(user: User, spoke: Any) -> None:
    """What somebody holds is passed over, and goes the next time."""
    spoke(user, 3)
    with transaction.atomic():
        Turn.objects.select_for_update().get(seq=2)
        assert in_threads([services.forget_old_turns]) == [2]
    assert services.forget_old_turns() == 1


def test_who_is_purged_of_all_turns_is_not_warmed(user: User, spoke: Any) -> None:
    """There is nothing to load."""
    spoke(user, 2)
    assert list(selectors.users_with_turns()) == [user.pk]
    services.forget_old_turns()
    assert list(selectors.users_with_turns()) == []
