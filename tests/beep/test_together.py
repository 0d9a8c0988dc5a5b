"""BEEP with the real services behind it."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from auth_sessions.models import User
from beep import services
from beep.models import Turn
from klepsydra.models import Interaction
from tests.servers import without_cache

pytestmark = pytest.mark.django_db(transaction=True)

STORY = (
    ("list instruments", "klepsydra.instruments"),
    ("play the second one", "klepsydra.play"),
    ("again", "klepsydra.play"),
    ("status", "klepsydra.status"),
    ("open Notes", "canvas.open"),
    ("open Ledger", "canvas.open"),
    ("list windows", "canvas.list"),
    ("close the second one", "canvas.close"),
    ("move Ledger right 40", "canvas.move"),
    ("bring it to front", "canvas.front"),
    ("help", "beep.help"),
)


@pytest.fixture(params=["cache there", "cache away"])
def cache(request: Any, settings: Any, client: APIClient) -> None:
    """The story is the same without the cache; `client` has logged in before."""
    if request.param == "cache away":
        settings.AEVON_CACHE = without_cache()


def tell(client: APIClient, text: str, key: str | None = None) -> dict[str, Any]:
    """One command."""
    headers = {"Idempotency-Key": key} if key else {}
    response = client.post("/api/v1/beep/commands/", {"text": text}, headers=headers)
    assert response.status_code == 200, response.content
    body: dict[str, Any] = response.json()
    return body


@pytest.mark.parametrize("keyed", [False, True])
def test_a_story_is_understood_and_carried_out(client: APIClient, cache: None, keyed: bool) -> None:
    """References reach every service, in a transaction of BEEP's too; windows end as told."""
    for number, (text, intent) in enumerate(STORY):
        answer = tell(client, text, f"k{number}" if keyed else None)
        assert answer["resolved"]["intent"] == intent, answer
    apps = client.get("/api/v1/canvas/").json()["layout"]["microApps"]
    assert [app["title"] for app in apps.values()] == ["Ledger"]
    assert Interaction.objects.count() == 2


def test_a_replayed_play_is_played_once(client: APIClient, cache: None) -> None:
    """The retry's answer tells of the first roll."""
    first, again = (tell(client, "play SpinForge", "k") for _ in range(2))
    assert again == first
    assert Interaction.objects.count() == 1


def test_the_state_after_a_keyed_play_is_the_one_in_the_cache(client: APIClient) -> None:
    """What was written inside BEEP's transaction is published after its commit."""
    for number in range(3):
        tell(client, "play SpinForge", f"k{number}")
    assert client.get("/api/v1/klepsydra/psyche/").json()["version"] == 4


def test_a_play_that_died_before_its_turn_was_recorded(
    client: APIClient, cache: None, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes with the transaction of its turn; the retry plays, once."""
    record = services._record

    def die(*_: Any, **__: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(services, "_record", die)
    with pytest.raises(RuntimeError):
        services.command(user.pk, "play SpinForge", idempotency_key="k")
    assert Interaction.objects.count() == 0
    monkeypatch.setattr(services, "_record", record)
    tell(client, "play SpinForge", "k")
    assert Interaction.objects.count() == Turn.objects.count() == 1
