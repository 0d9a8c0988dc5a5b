"""Sessions while servers are away: they fail closed (fault 18)."""

from typing import Any

import pytest
from django.db import connection
from rest_framework.test import APIClient

from aevon.embedded import CacheServer, PostgresServer
from auth_sessions import selectors, services
from auth_sessions.models import User
from tests.faults.witness import forget_connections
from tests.waiting import eventually

VALIDATE = "/api/v1/auth/validate/"
PATHS = (VALIDATE, "/api/v1/auth/sessions/", "/api/v1/klepsydra/psyche/", "/api/v1/canvas/")


def statuses(client: APIClient) -> set[int]:
    """What each of the paths answers, one request after the other."""
    return {client.get(path).status_code for path in PATHS}


def test_nobody_is_let_in_while_neither_server_can_say_who_they_are(
    server: CacheServer, postgresql: PostgresServer, make_players: Any, browser: Any
) -> None:
    """503 with a time to come back, for a live session and for one that has ended; a token that is
    none is a 401 all the same. One server alone is enough, and nothing has been revived."""
    (player,) = make_players(1)
    client, other = browser(player), browser(player)
    gone = selectors.sessions_of(player).order_by("created_at").last()
    assert gone is not None
    services.end_session(player, gone.sid)
    assert (statuses(client), statuses(other)) == ({200, 204}, {401})
    server.kill()
    assert (statuses(client), statuses(other)) == ({200, 204}, {401})
    forget_connections()
    postgresql.kill()
    for who in (client, other):
        answers = [who.get(path) for path in PATHS]
        assert {answer.status_code for answer in answers} == {503}
        assert all(int(answer["Retry-After"]) >= 1 for answer in answers)
    forged = APIClient(raise_request_exception=False)
    forged.credentials(HTTP_AUTHORIZATION="Bearer x.y.z")
    assert statuses(forged) == {401}
    postgresql.start()
    connection.close()
    assert (statuses(client), statuses(other)) == ({200, 204}, {401})
    server.start()
    assert eventually(lambda: statuses(client) == {200, 204})
    assert statuses(other) == {401}


@pytest.mark.parametrize("change", [{"is_active": False}, {"password": "!"}])
def test_a_cache_that_is_away_hides_no_end(
    server: CacheServer, make_players: Any, browser: Any, change: dict[str, Any]
) -> None:
    """What ends while it is away is refused at once, and still when it is back with what it had."""
    (player,) = make_players(1)
    client = browser(player)
    assert client.get(VALIDATE).status_code == 204
    server.kill()
    User.objects.filter(pk=player).update(**change)
    assert client.get(VALIDATE).status_code == 401
    server.start()
    for _ in range(20):
        assert client.get(VALIDATE).status_code == 401
