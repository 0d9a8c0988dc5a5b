"""After any sequence of what can happen, the cache holds the row, or nothing."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aevon.cache import PSYCHE, resources
from aevon.cache.connection import store
from auth_sessions.models import User
from klepsydra import services
from klepsydra.models import Interaction, PsycheState
from tests.klepsydra.rows import edit, fence_runs_out, fenced, held, play, row, sql

pytestmark = pytest.mark.django_db(transaction=True)


def plays(user: User) -> None:
    """One more."""
    play(user.pk)


def plays_in_a_transaction(user: User) -> None:
    """Two, committed together."""
    with transaction.atomic():
        play(user.pk)
        play(user.pk)


def is_rolled_back(user: User) -> None:
    """A play and a save that never were."""
    with transaction.atomic():
        play(user.pk)
        PsycheState.objects.get(pk=user.pk).save()
        transaction.set_rollback(True)


def saves(user: User) -> None:
    """As the admin does."""
    for state in PsycheState.objects.filter(pk=user.pk):
        state.loss_streak += 1
        state.save()


def updates(user: User) -> None:
    """Without a signal."""
    PsycheState.objects.filter(pk=user.pk).update(frustration_level=0.1)


def updates_in_bulk(user: User) -> None:
    """Likewise."""
    found = list(PsycheState.objects.filter(pk=user.pk))
    PsycheState.objects.bulk_update(found, ["loss_streak"])


def is_updated_and_partly_undone(user: User) -> None:
    """The inner transaction never was."""
    with transaction.atomic():
        updates(user)
        with suppress(ValueError), transaction.atomic():
            saves(user)
            raise ValueError
        updates(user)


def is_changed_by_others(user: User) -> None:
    """With psql, and repaired."""
    sql("UPDATE klepsydra_psychestate SET loss_streak = 4 WHERE user_id = %s", user.pk)
    resources.repair_waiting()


def deletes(user: User) -> None:
    """The state goes."""
    for state in PsycheState.objects.filter(pk=user.pk):
        state.delete()


def begins_again(user: User) -> None:
    """Deleted and made anew in one transaction."""
    with transaction.atomic():
        deletes(user)
        PsycheState.objects.create(user=user, phase=0.5)


def fences_run_out(user: User) -> None:
    """Seconds pass."""
    if fenced(user.pk):
        fence_runs_out(user.pk)


def is_evicted(user: User) -> None:
    """The entry goes."""
    store().command("DEL", PSYCHE.key(user.pk))


def is_tampered_with(user: User) -> None:
    """A wrong streak under the right version; the next write puts it right."""
    services.psyche(user.pk)
    edit(user.pk, lossStreak=5)
    play(user.pk)


def reads(user: User) -> None:
    """Fills what is missing."""
    services.psyche(user.pk)


STEPS: list[Callable[[User], None]] = [
    plays, plays_in_a_transaction, is_rolled_back, saves, updates, updates_in_bulk,
    is_updated_and_partly_undone, is_changed_by_others, deletes, begins_again, fences_run_out,
    is_evicted, is_tampered_with, reads,
]  # fmt: skip


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(st.sampled_from(STEPS), min_size=1, max_size=20))
def test_the_cache_holds_the_row_or_nothing(
    make_user: Callable[..., User], steps: list[Callable[[User], None]]
) -> None:
    """After each step, and whoever loads gets the row; once no fence is left it is cached."""
    user = make_user()
    for step in steps:
        step(user)
        assert held(user.pk) in (None, row(user.pk))
    assert as_members(PsycheState.cached.get(user.pk)) == row(user.pk)
    fences_run_out(user)
    assert as_members(services.psyche(user.pk)) == row(user.pk) == held(user.pk)
    versions = list(Interaction.objects.filter(user=user).values_list("psyche_version", flat=True))
    assert versions == sorted(set(versions), reverse=True)


def as_members(document: Any) -> Any:
    """As the cache holds it."""
    return msgspec.to_builtins(document)
