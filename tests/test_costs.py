"""What each request costs: round trips to the cache and statements to PostgreSQL, warm.

Times are in docs/benchmarks.md: they depend on the machine. Counts creep.
"""

from typing import Any, NamedTuple

import pytest
from rest_framework.test import APIClient

from canvas import services as canvas
from tests.canvas.helpers import window

pytestmark = pytest.mark.django_db(transaction=True)

API = "/api/v1"
OPEN = {"microApps": {"a": window()}}
MOVE = {"microApps": {"a": {"zIndex": 3}}}
PLAY = {"instrument": "spinforge", "stake": 1}


class Cost(NamedTuple):
    """A request, and what it costs; the session is one of the round trips."""

    method: str
    path: str
    body: Any
    round_trips: int
    statements: int


COSTS = {
    "validate": Cost("get", "/auth/validate/", None, 1, 0),
    "psyche": Cost("get", "/klepsydra/psyche/", None, 2, 0),
    "play": Cost("post", "/klepsydra/interactions/", PLAY, 3, 1),
    "canvas": Cost("get", "/canvas/", None, 2, 0),
    "move a window": Cost("patch", "/canvas/", MOVE, 3, 0),
    "last turns": Cost("get", "/beep/history/", None, 2, 0),
    "command": Cost("post", "/beep/commands/", {"text": "help"}, 3, 1),
}


@pytest.mark.parametrize("cost", COSTS.values(), ids=COSTS)
def test_request(client: APIClient, trips: Any, django_assert_num_queries: Any, cost: Cost) -> None:
    client.patch(f"{API}/canvas/", OPEN)
    client.post(f"{API}/beep/commands/", {"text": "help"})
    ask = getattr(client, cost.method)
    assert ask(f"{API}{cost.path}", cost.body).status_code < 300
    with trips() as sent, django_assert_num_queries(cost.statements):
        assert ask(f"{API}{cost.path}", cost.body).status_code < 300
    assert sent.count == cost.round_trips


def test_flush_of_a_batch(make_user: Any, trips: Any, django_assert_num_queries: Any) -> None:
    """However many canvases fit into one: read a hundred at a time, told and cleared at once."""
    users = [make_user() for _ in range(120)]
    for user in users:
        canvas.change(user.pk, {"patch": OPEN})
    with django_assert_num_queries(11):
        canvas.persist_now()  # a script that the server has yet to learn takes another trip
    for user in users:
        canvas.change(user.pk, {"patch": MOVE})
    with trips() as sent, django_assert_num_queries(11):
        assert canvas.persist_now().persisted == len(users)
    assert sent.count == 17
