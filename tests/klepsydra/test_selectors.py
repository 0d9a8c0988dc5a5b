"""Reads from PostgreSQL."""

from collections.abc import Callable
from typing import Any

import pytest

from auth_sessions.models import User
from klepsydra import selectors, services
from klepsydra.models import PsycheState
from tests.klepsydra.rows import PSYCHES, held, play, row

pytestmark = pytest.mark.django_db(transaction=True)


def test_every_user_with_a_state_is_told(make_user: Callable[..., User]) -> None:
    """In order; who has none is left out."""
    users = [make_user() for _ in range(3)]
    services.begin([users[2].pk, users[0].pk])
    assert list(PSYCHES.user_ids()) == [users[0].pk, users[2].pk]


def test_many_states_are_one_query(
    make_user: Callable[..., User], django_assert_num_queries: Any
) -> None:
    """All misses together; each entry equals its row."""
    users = [make_user() for _ in range(3)]
    services.begin([user.pk for user in users[:2]])
    with django_assert_num_queries(1):
        found = PsycheState.cached.get_many([user.pk for user in users])
    assert sorted(found) == [users[0].pk, users[1].pk]
    assert all(held(user.pk) == row(user.pk) for user in users)


def test_a_read_state_equals_the_one_that_an_update_returned(player: User) -> None:
    """Floats and times to the last digit."""
    for _ in range(10):
        assert play(player.pk).answer.psyche == PSYCHES.read_one(player.pk)


def test_a_missing_state_is_not_locked(user: User) -> None:
    """There is nothing to lock."""
    assert selectors.read_locked(user.pk) is None
