"""`convo_history:{userId}`: whole turns, newest first, five at most, each once."""

import contextlib
import dataclasses
import random
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from django.db import transaction
from prometheus_client import REGISTRY

from aevon.cache import Recent, bounded_list
from aevon.cache.connection import store
from aevon.cache.models import Outbox
from aevon.cache.tasks import drain_outbox
from auth_sessions.models import User
from beep import selectors, services
from beep.documents import TurnDocument
from beep.models import Turn
from beep.projection import CONVO
from tests.beep.lists import (
    cached,
    calls_counted,
    evict,
    key,
    record,
    recorded,
    seqs,
    speak,
)
from tests.threads import in_threads
from tests.waiting import wait_for_locks

pytestmark = pytest.mark.django_db(transaction=True)


def loads(result: str) -> float:
    """How many loads of the list ended so."""
    labels = {"keyspace": "convo_history", "result": result}
    return REGISTRY.get_sample_value("aevon_cache_loads_total", labels) or 0.0


def rebuild_overtaken_by(change: Callable[[], object], user: User) -> None:
    """A rebuild that read PostgreSQL before the change and writes the list after it."""
    overtaken = iter([True])

    def recent(user_ids: Sequence[int]) -> dict[int, Recent[TurnDocument]]:
        found = selectors.recent(user_ids)
        if next(overtaken, False):
            change()
        return found

    bounded_list.rebuild(dataclasses.replace(CONVO, recent=recent), [user.pk])


def test_the_sixth_turn_pushes_out_the_first(user: User) -> None:
    """Five stay in the list, all six in PostgreSQL."""
    speak(user.pk, 6)
    assert seqs(cached(user.pk)) == [6, 5, 4, 3, 2]
    assert Turn.objects.count() == 6


def test_history_is_told_oldest_first(user: User) -> None:
    """The list itself is newest first."""
    speak(user.pk, 3)
    assert seqs(services.history(user.pk)) == [1, 2, 3]


def test_a_hit_asks_postgresql_nothing(user: User, django_assert_num_queries: Any) -> None:
    """The list answers alone."""
    speak(user.pk, 2)
    with django_assert_num_queries(0):
        assert seqs(services.history(user.pk)) == [1, 2]


def test_a_read_is_one_round_trip(user: User) -> None:
    """The server ran one command."""
    speak(user.pk, 2)
    with calls_counted() as counted:
        services.history(user.pk)
    assert counted == {"lrange": 1}


def test_a_push_is_one_round_trip(user: User) -> None:
    """The server was sent one script; the rest ran inside it."""
    speak(user.pk, 2)
    turn = record(user.pk)
    with calls_counted() as counted:
        assert bounded_list.push(CONVO, user.pk, turn) == "stored"
    assert counted == {"evalsha": 1, "lindex": 1, "lpush": 1, "ltrim": 1, "pexpire": 1}


def test_every_turn_refreshes_the_lifetime(user: User, settings: Any) -> None:
    """The configured time counts from the last turn."""
    speak(user.pk, 1)
    store().command("PEXPIRE", key(user.pk), 5_000)
    speak(user.pk, 1)
    full_ms = settings.AEVON_CACHE["CONVO_HISTORY_TTL_SECONDS"] * 1000
    assert full_ms - 5_000 < store().command("PTTL", key(user.pk)) <= full_ms


def test_a_rebuilt_list_equals_the_lost_one(user: User) -> None:
    """Byte for byte."""
    speak(user.pk, 7)
    lost = store().command("LRANGE", key(user.pk), 0, -1)
    evict(user.pk)
    services.history(user.pk)
    assert store().command("LRANGE", key(user.pk), 0, -1) == lost


def test_a_lost_push_is_made_good_by_the_next(user: User) -> None:
    """A gap makes the list follow PostgreSQL."""
    speak(user.pk, 2)
    record(user.pk)
    assert speak(user.pk, 1)[0].seq == 4
    assert seqs(cached(user.pk)) == [4, 3, 2, 1]


def test_a_push_that_comes_twice_is_in_the_list_once(user: User) -> None:
    """A retry after a broken connection changes nothing."""
    speak(user.pk, 2)
    before = cached(user.pk)
    assert bounded_list.push(CONVO, user.pk, before[0]) == "stored"
    assert cached(user.pk) == before


def test_pushes_in_the_wrong_order_end_in_order(user: User) -> None:
    """The later turn's push came first."""
    speak(user.pk, 1)
    second, third = record(user.pk), record(user.pk)
    bounded_list.push(CONVO, user.pk, third)
    bounded_list.push(CONVO, user.pk, second)
    assert cached(user.pk) == recorded(user.pk)
    assert seqs(cached(user.pk)) == [3, 2, 1]


@pytest.mark.parametrize(
    "corrupt",
    [
        ("SET", "a string"),
        ("LPUSH", "not JSON"),
        ("LPUSH", '{"seq":99}'),
        ("LPUSH", '{"_fence":1}'),
        ("RPUSH", "[]"),
    ],
)
def test_a_corrupt_list_is_served_from_postgresql_and_replaced(
    user: User, corrupt: tuple[str, str]
) -> None:
    """A key of another type or an element that is no turn; counted each time it is met."""
    speak(user.pk, 3)
    command, value = corrupt
    store().command(command, key(user.pk), value)
    before = loads("corrupt")
    assert seqs(services.history(user.pk)) == [1, 2, 3]
    assert loads("corrupt") == before + 1
    assert cached(user.pk) == recorded(user.pk)


def test_a_command_heals_a_list_of_another_type(user: User) -> None:
    """The push finds it before any reader does."""
    turn = record(user.pk)
    store().command("SET", key(user.pk), "a string")
    assert bounded_list.push(CONVO, user.pk, turn) == "rebuilt"
    assert cached(user.pk) == recorded(user.pk)


def test_with_the_cache_away_turns_come_from_postgresql(
    user: User, cache_away: Callable[[], Any]
) -> None:
    """Commands, references and history work; the list follows when the cache is back."""
    waiting = Outbox.objects.filter(keyspace="convo_history").values_list("user_id", flat=True)
    speak(user.pk, 2)
    drain_outbox()
    assert not waiting.exists()
    with cache_away():
        assert speak(user.pk, 1)[0].seq == 3
        assert seqs(services.history(user.pk)) == [1, 2, 3]
        assert waiting.get() == user.pk
    drain_outbox()
    assert not Outbox.objects.exists()
    assert seqs(services.history(user.pk)) == [1, 2, 3]
    assert cached(user.pk) == recorded(user.pk)


def test_what_is_forgotten_with_the_cache_away_does_not_come_back(
    user: User, cache_away: Callable[[], Any]
) -> None:
    """The outbox removes the list."""
    speak(user.pk, 2)
    with cache_away():
        services.forget(user.pk)
        assert services.history(user.pk) == []
    drain_outbox()
    assert services.history(user.pk) == []


def test_forgetting_leaves_nothing_but_the_count(user: User) -> None:
    """Rows and list are gone; the next number follows the last."""
    speak(user.pk, 3)
    services.forget(user.pk)
    assert not Turn.objects.exists()
    assert cached(user.pk) == services.history(user.pk) == []
    assert speak(user.pk, 1)[0].seq == 4


def test_forgetting_twice_or_nothing_is_harmless(user: User) -> None:
    """Also for a user who never spoke."""
    services.forget(user.pk)
    speak(user.pk, 1)
    services.forget(user.pk)
    services.forget(user.pk)
    assert services.history(user.pk) == []


def test_a_push_that_comes_after_the_forgetting_brings_nothing_back(user: User) -> None:
    """The turn's process was slow; meanwhile it was forgotten and another turn made."""
    speak(user.pk, 2)
    late = record(user.pk)
    services.forget(user.pk)
    bounded_list.push(CONVO, user.pk, late)
    assert cached(user.pk) == []
    speak(user.pk, 1)
    bounded_list.push(CONVO, user.pk, late)
    assert seqs(cached(user.pk)) == [4]


def test_a_rebuild_overtaken_by_the_forgetting_brings_nothing_back(user: User) -> None:
    """PostgreSQL was read before, the list is written after."""
    speak(user.pk, 2)
    evict(user.pk)
    rebuild_overtaken_by(partial(services.forget, user.pk), user)
    assert cached(user.pk) == []


def test_forgetting_takes_the_turn_that_it_waited_for(user: User) -> None:
    """A command was recording when it began: that turn is before the forgetting, and goes too."""
    speak(user.pk, 1)
    recording = threading.Event()

    def slow_command() -> None:
        with transaction.atomic():
            record(user.pk)
            recording.set()
            wait_for_locks()

    def forget() -> None:
        assert recording.wait(30)
        services.forget(user.pk)

    in_threads([slow_command, forget])
    assert not Turn.objects.exists()
    assert speak(user.pk, 1)[0].seq == 3


def test_commands_and_forgettings_at_once_leave_one_truth(user: User) -> None:
    """Sixteen commands and four forgettings at once: what is left is what PostgreSQL has."""
    calls: list[Callable[[], Any]] = [partial(services.command, user.pk, "words")] * 16
    calls += [partial(services.forget, user.pk)] * 4 + [partial(evict, user.pk)] * 4
    for _ in range(5):
        random.shuffle(calls)
        in_threads(calls)
        assert cached(user.pk) in ([], recorded(user.pk))
        assert services.history(user.pk) == recorded(user.pk)[::-1]
    assert speak(user.pk, 1)[0].seq == 5 * 16 + 1


def test_a_deleted_turn_leaves_the_list(user: User) -> None:
    """Whoever deletes through Django, in the admin for instance."""
    speak(user.pk, 3)
    Turn.objects.get(seq=2).delete()
    assert cached(user.pk) == []
    assert seqs(services.history(user.pk)) == [1, 3]


def test_turns_deleted_in_bulk_leave_the_list(user: User) -> None:
    """A queryset, as the admin's action has it."""
    speak(user.pk, 3)
    Turn.objects.filter(seq__lt=3).delete()
    assert seqs(services.history(user.pk)) == [3]


def test_a_deleted_conversation_takes_its_turns_and_its_list(user: User) -> None:
    """The list is removed once, not once per turn."""
    speak(user.pk, 3)
    with calls_counted() as counted:
        user.conversation.delete()
    assert not Turn.objects.exists()
    assert cached(user.pk) == []
    assert counted["unlink"] == 1


def test_a_deletion_that_is_rolled_back_leaves_the_list(user: User) -> None:
    """Nothing is told to the cache before the commit."""
    speak(user.pk, 2)
    with contextlib.suppress(RuntimeError), transaction.atomic():
        user.conversation.delete()
        raise RuntimeError
    assert seqs(cached(user.pk)) == [2, 1]


@pytest.mark.parametrize(("deleted", "left"), [(2, [3, 1]), (1, [3, 2])])
def test_a_rebuild_overtaken_by_a_deletion_brings_nothing_back(
    user: User, deleted: int, left: list[int]
) -> None:
    """One turn of three was deleted after PostgreSQL was read and before the list was written."""
    speak(user.pk, 3)
    evict(user.pk)
    rebuild_overtaken_by(Turn.objects.filter(seq=deleted).delete, user)
    assert cached(user.pk) == []
    assert seqs(services.history(user.pk)) == left[::-1]


def test_a_rebuild_overtaken_by_new_turns_stays(user: User) -> None:
    """What newer turns push out has not been taken back."""
    speak(user.pk, 5)
    evict(user.pk)
    rebuild_overtaken_by(partial(record, user.pk), user)
    assert seqs(cached(user.pk)) == [5, 4, 3, 2, 1]


def test_a_list_that_is_filled_ends_like_any_other(user: User, settings: Any) -> None:
    """Its lifetime counts from then."""
    speak(user.pk, 2)
    evict(user.pk)
    services.history(user.pk)
    full_ms = settings.AEVON_CACHE["CONVO_HISTORY_TTL_SECONDS"] * 1000
    assert 0 < store().command("PTTL", key(user.pk)) <= full_ms
