"""Sessions that are near: nothing is asked for them, and their end is known a little later."""

import subprocess
import sys
from typing import Any

import pytest

from aevon.cache import conf, near_cache
from aevon.cache.connection import Tracking, store
from auth_sessions import services
from auth_sessions.models import User
from auth_sessions.projection import SESSIONS
from tests.auth_sessions.asking import VALIDATE, bearer, log_in
from tests.servers import environment
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)

ENDS_A_SESSION = """
import sys, django
django.setup()
from auth_sessions import services
sys.exit(not services.end_session(int(sys.argv[1]), sys.argv[2]))
"""


@pytest.fixture(autouse=True)
def near(settings: Any) -> None:
    """Sessions are."""
    settings.AEVON_CACHE = {**settings.AEVON_CACHE, "NEAR_CACHE": {"session": 10}}


def near_client(user: User) -> tuple[Any, str]:
    """A client whose session is near by now, and its id."""
    tokens = log_in().json()
    client = bearer(tokens["access"])

    def is_near() -> bool:
        assert client.get(VALIDATE).status_code == 204
        tracking = store().tracking
        return tracking is not None and tracking.held("session", user.pk) is not None

    assert eventually(is_near)
    return client, tokens["sid"]


def asked(command: str) -> int:
    """How often the server has been asked this."""
    stats: dict[str, Any] = store().command("INFO", "commandstats")
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


def test_a_gateways_question_costs_nothing(ada: User, django_assert_num_queries: Any) -> None:
    """Neither a round trip nor SQL."""
    client, _ = near_client(ada)
    before = asked("get")
    with django_assert_num_queries(0):
        for _ in range(5):
            assert client.get(VALIDATE).status_code == 204
    assert asked("get") == before


def test_session_that_another_process_ends(ada: User) -> None:
    """It is refused as soon as the server has told of it, and never let in again."""
    client, sid = near_client(ada)
    subprocess.run(
        [sys.executable, "-c", ENDS_A_SESSION, str(ada.pk), sid],
        env=environment(conf.current().url),
        check=True,
        timeout=60,
    )
    assert eventually(lambda: client.get(VALIDATE).status_code == 401)
    assert {client.get(VALIDATE).status_code for _ in range(20)} == {401}


def test_session_that_another_process_has_just_opened(
    ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is refused for what the server has yet to tell of."""
    near_client(ada)
    before = store().command("GET", f"session:{ada.pk}")
    monkeypatch.setattr(Tracking, "_told", lambda self, keys: None)
    token = log_in().json()["access"]
    after = store().command("GET", f"session:{ada.pk}")
    # What this process did itself it knows: near is again what was there before.
    store().command("SET", f"session:{ada.pk}", before)
    tracking = store().tracking
    assert tracking is not None
    near_cache.get(SESSIONS, ada.pk)
    assert tracking.held("session", ada.pk) is not None
    store().command("SET", f"session:{ada.pk}", after)
    assert bearer(token).get(VALIDATE).status_code == 204


def test_session_that_this_process_ends(ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused at once, however late the server tells of it."""
    client, sid = near_client(ada)
    monkeypatch.setattr(Tracking, "_told", lambda self, keys: None)
    assert services.end_session(ada.pk, sid)
    assert client.get(VALIDATE).status_code == 401


def test_user_whom_this_process_deactivates(ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Likewise."""
    client, _ = near_client(ada)
    monkeypatch.setattr(Tracking, "_told", lambda self, keys: None)
    ada.is_active = False
    ada.save()
    assert client.get(VALIDATE).status_code == 401
