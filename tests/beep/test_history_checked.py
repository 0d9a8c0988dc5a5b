"""Fifty commands of one user at once, half of them sent again, evictions all the while: everything
that anybody saw of the list is checked against the record."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import pytest
from django.db import connection

from aevon.cache import bounded_list, codec
from aevon.cache.connection import Script, store
from aevon.cache.tasks import drain_outbox
from auth_sessions.models import User
from beep import selectors, services
from beep.models import Turn
from tests.beep.conftest import Performed
from tests.beep.lists import cached, evict, key, recorded
from tests.cache.entry_states import life
from tests.threads import in_thread, in_threads

pytestmark = pytest.mark.django_db(transaction=True)

COMMANDS: Final = 50
CROWDS: Final = 10
ENOUGH: Final = 50
EVICTION_SECONDS: Final = 0.005
RULE: Final = "if stamp and newest == seq - 1 then"


@pytest.fixture(autouse=True)
def _patient_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """More threads than connections, which no server of the project has: here they queue for them,
    on a slow machine for longer than a request may."""
    monkeypatch.setattr(connection.pool, "timeout", 60)  # type: ignore[attr-defined]


@dataclass
class Seen:
    """What was read of the list, newest first, each with the last number that had been acknowledged
    when the read began: the key's bytes, and what the service says."""

    acknowledged: int = 0
    raw: list[tuple[int, list[bytes]]] = field(default_factory=list)
    told: list[tuple[int, list[bytes]]] = field(default_factory=list)
    stamp: bytes = field(default_factory=lambda: codec.stamp(life().incarnation))

    def command(self, user_id: int, idempotency_key: str | None) -> int:
        """A command that has returned has been acknowledged."""
        seq = services.command(user_id, "open Notes", idempotency_key=idempotency_key).seq
        self.acknowledged = max(self.acknowledged, seq)  # one number too low is only less strict
        return seq

    def look(self, user_id: int) -> None:
        """At the key. A list that is missing, or leased, promises nothing."""
        least = self.acknowledged
        raws = store().command("LRANGE", key(user_id), 0, -1)
        if raws and not raws[0].startswith(b'{"_lease"'):
            self.raw.append((least, [raw.removesuffix(self.stamp) + b"}" for raw in raws]))

    def ask(self, user_id: int) -> None:
        """The service."""
        least = self.acknowledged
        turns = services.history(user_id)[::-1]
        self.told.append((least, [codec.encode(turn) for turn in turns]))

    def violations(self, user_id: int) -> list[str]:
        """Everything seen that is not the last turns of the record at some moment after what had
        been acknowledged: whole, in order, without a gap, five or all."""
        turns = Turn.objects.filter(conversation_id=user_id).order_by("seq")
        record = [codec.encode(selectors.document_of(turn)) for turn in turns]
        moments = {tuple(record[max(0, n - 5) : n][::-1]): n for n in range(len(record) + 1)}
        return [
            f"{moments.get(tuple(seen))} after {least}: {seen}"
            for least, seen in (*self.raw, *self.told)
            if moments.get(tuple(seen), -1) < least
        ]


@contextmanager
def meanwhile(*works: Callable[[], Any], every: float = 0) -> Iterator[None]:
    """Each of them again and again, in a thread of its own, as long as the block lasts."""
    over = threading.Event()

    def repeat(work: Callable[[], Any]) -> None:
        while not over.is_set():
            work()
            over.wait(every)

    threads = [threading.Thread(target=in_thread(repeat), args=[work]) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def crowd(user: User, seen: Seen, name: str = "") -> list[int]:
    """Fifty commands, of which every second comes three times under one key, in any order."""
    keys = [f"{name}{number}" if number % 2 else None for number in range(COMMANDS)]
    calls = [partial(seen.command, user.pk, each) for each in keys for _ in range(3 if each else 1)]
    random.shuffle(calls)
    look, ask = partial(seen.look, user.pk), partial(seen.ask, user.pk)
    with (
        meanwhile(partial(evict, user.pk), every=EVICTION_SECONDS),
        meanwhile(look, look, ask, drain_outbox),
    ):
        return in_threads(calls, workers=COMMANDS)


def check(user: User, performed: Performed) -> None:
    """One turn and one deed for each command, and a list that was right at every moment; as many
    crowds as it takes to see enough of it, beside all those evictions."""
    seen, seqs = Seen(), list[int]()
    for number in range(CROWDS):
        seqs += crowd(user, seen, f"{number}.")
        if len(seen.raw) >= ENOUGH:
            break
    count = COMMANDS * (number + 1)
    assert seen.violations(user.pk) == []
    assert seen.raw
    assert seen.told
    assert sorted(set(seqs)) == list(range(1, count + 1))
    assert Turn.objects.filter(conversation_id=user.pk).count() == len(performed) == count
    services.history(user.pk)
    assert cached(user.pk) == recorded(user.pk)
    assert len(cached(user.pk)) == 5


def test_history_of_fifty_commands_at_once(user: User, performed: Performed) -> None:
    """What everybody saw."""
    check(user, performed)


@pytest.mark.soak
def test_history_of_many_crowds(make_user: Any, performed: Performed) -> None:
    """For a minute."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        check(make_user(), performed)
        performed.clear()


def test_a_list_that_need_not_be_complete_is_noticed(
    make_user: Any, performed: Performed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: a push onto whatever is there, or nothing, as of a list without the rule."""
    lax = Script("append_list")
    assert RULE in lax.source
    stamp = codec.stamp(life().incarnation).decode()
    lax.__dict__["source"] = lax.source.replace(RULE, f"stamp = '{stamp}'\nif true then")
    monkeypatch.setattr(bounded_list, "APPEND", lax)
    assert any(_violations(make_user()) for _ in range(25))


def _violations(user: User) -> list[str]:
    seen = Seen()
    crowd(user, seen)
    return seen.violations(user.pk)
