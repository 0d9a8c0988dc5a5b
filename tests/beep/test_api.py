"""`/api/v1/beep/`."""

from typing import Any

import pytest
from django.db import connection
from rest_framework.test import APIClient

from auth_sessions.models import User
from beep.models import COMMAND_MAX, Turn
from tests.beep.conftest import Performed
from tests.beep.lists import speak

pytestmark = pytest.mark.django_db(transaction=True)

COMMANDS = "/api/v1/beep/commands/"
HISTORY = "/api/v1/beep/history/"


def test_a_command_is_answered_with_what_was_understood(
    client: APIClient, desk: None, performed: Performed
) -> None:
    """The contract's four members."""
    client.post(COMMANDS, {"text": "open Notes"})
    body = client.post(COMMANDS, {"text": "close it"}).json()
    assert body.keys() == {"seq", "response", "resolved", "at"}
    assert body["seq"] == 2
    assert body["resolved"] == {
        "intent": "canvas.close",
        "arguments": {"microApps": ["Notes"]},
        "references": [{"phrase": "it", "value": "Notes", "why": "pronoun", "seq": 1}],
        "question": None,
        "candidates": [],
        "takesBack": None,
    }


def test_history_holds_the_turns_oldest_first(user: User, client: APIClient) -> None:
    """The last five, each as the list has it."""
    answers = speak(user.pk, 6)
    turns = client.get(HISTORY).json()["turns"]
    assert [turn["seq"] for turn in turns] == [2, 3, 4, 5, 6]
    assert turns[-1] == {
        "seq": 6,
        "command": "words 6",
        "response": answers[-1].response,
        "at": answers[-1].at,
    }


def test_history_can_be_forgotten(user: User, client: APIClient) -> None:
    """204 without a body, and nothing is left."""
    speak(user.pk, 2)
    response = client.delete(HISTORY)
    assert (response.status_code, response.content) == (204, b"")
    assert client.get(HISTORY).json() == {"turns": []}


@pytest.mark.parametrize("text", ["x" * COMMAND_MAX, " open ", "ö", "日本"])
def test_a_text_is_kept_as_it_is(client: APIClient, text: str) -> None:
    """Up to 4,000 characters, nothing trimmed."""
    assert client.post(COMMANDS, {"text": text}).status_code == 200
    assert Turn.objects.get().command == text


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"text": ""},
        {"text": " \n\t"},
        {"text": None},
        {"text": 7},
        {"text": True},
        {"text": ["open"]},
        {"text": "x" * (COMMAND_MAX + 1)},
    ],
)
def test_a_wrong_text_is_refused_by_name(client: APIClient, body: dict[str, Any]) -> None:
    """400, the field named, nothing recorded."""
    response = client.post(COMMANDS, body)
    assert response.status_code == 400
    assert response["Content-Type"] == "application/problem+json"
    assert [error["field"] for error in response.json()["errors"]] == ["text"]
    assert not Turn.objects.exists()


def test_an_unknown_member_is_refused_by_name(client: APIClient) -> None:
    """As everywhere in the API."""
    response = client.post(COMMANDS, {"text": "help", "userId": 7})
    assert response.status_code == 400
    assert [error["field"] for error in response.json()["errors"]] == ["userId"]


@pytest.mark.parametrize("escape", [r"\u0000", r"\ud800"])
def test_a_character_that_cannot_be_stored_is_refused(client: APIClient, escape: str) -> None:
    """In JSON's own escapes."""
    body = f'{{"text": "open {escape}"}}'
    response = client.post(COMMANDS, body, content_type="application/json")
    assert response.status_code == 400


@pytest.mark.parametrize("escape", [r"\u0000", r"\ud800"])
def test_a_name_with_an_escape_of_its_own_is_a_turn(client: APIClient, escape: str) -> None:
    """The command's quoted name is a JSON text inside the JSON: no 500."""
    response = client.post(COMMANDS, {"text": f'open "{escape}"'})
    assert response.status_code == 200
    assert response.json()["resolved"]["intent"] is None


def test_a_megabyte_is_too_large(client: APIClient) -> None:
    """413, unread."""
    assert client.post(COMMANDS, {"text": "x" * 2**20}).status_code == 413


def test_a_retry_with_a_key_is_marked_as_replayed(client: APIClient, performed: Performed) -> None:
    """The same body, and a header that says so."""
    first, again = (
        client.post(COMMANDS, {"text": "open Notes"}, headers={"Idempotency-Key": "k-1"})
        for _ in range(2)
    )
    assert again.json() == first.json()
    assert "Idempotency-Replayed" not in first
    assert again["Idempotency-Replayed"] == "true"
    assert len(performed) == 1


def test_a_key_with_another_command_is_unprocessable(client: APIClient) -> None:
    """422, and one turn."""
    headers = {"Idempotency-Key": "k-1"}
    client.post(COMMANDS, {"text": "help"}, headers=headers)
    response = client.post(COMMANDS, {"text": "status"}, headers=headers)
    assert response.status_code == 422
    assert response.json()["type"] == "/problems/idempotency-key-reused"
    assert Turn.objects.count() == 1


@pytest.mark.parametrize("key", ["", " ", "a b", "ö", "x" * 201])
def test_a_wrong_key_is_refused_by_name(client: APIClient, key: str) -> None:
    """1 to 200 visible ASCII characters."""
    response = client.post(COMMANDS, {"text": "help"}, headers={"Idempotency-Key": key})
    assert response.status_code == 400
    assert [error["field"] for error in response.json()["errors"]] == ["Idempotency-Key"]
    assert not Turn.objects.exists()


def test_the_longest_key_is_taken(client: APIClient) -> None:
    """All of it counts."""
    headers = {"Idempotency-Key": "~" * 200}
    assert client.post(COMMANDS, {"text": "help"}, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"), [("post", COMMANDS), ("get", HISTORY), ("delete", HISTORY)]
)
def test_a_stranger_is_refused(method: str, path: str) -> None:
    """401 with the scheme to use."""
    response = getattr(APIClient(), method)(path)
    assert response.status_code == 401
    assert response["WWW-Authenticate"].startswith("Bearer")


def test_a_user_deleted_meanwhile_is_refused(user: User, client: APIClient) -> None:
    """Their session may still be cached while the row is gone."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("DELETE FROM auth_sessions_user WHERE id = %s", [user.pk])
        cursor.execute("SET session_replication_role = DEFAULT")
    assert client.post(COMMANDS, {"text": "help"}).status_code == 401
