"""KLEPSYDRA over HTTP."""

from functools import partial
from typing import Any

import pytest
from rest_framework.test import APIClient

from auth_sessions.models import User
from klepsydra import examples, services
from klepsydra.instruments import INSTRUMENTS, disclosed_odds, instrument
from klepsydra.models import Interaction, PsycheState
from klepsydra.serializers import (
    AnswerSerializer,
    InstrumentListSerializer,
    InteractionSerializer,
    PsycheSerializer,
)
from tests.klepsydra.rows import SLUG, held, row, sql
from tests.threads import in_threads

pytestmark = pytest.mark.django_db(transaction=True)

PSYCHE = "/api/v1/klepsydra/psyche/"
INSTRUMENTS_URL = "/api/v1/klepsydra/instruments/"
INTERACTIONS = "/api/v1/klepsydra/interactions/"
STAKE = {"instrument": SLUG, "stake": 1}


def post(client: APIClient, body: Any = STAKE, **headers: str) -> Any:
    """One interaction; header names with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(INTERACTIONS, body, format="json", headers=named)


def refused_field(response: Any) -> str:
    """The member that a 400 names."""
    assert response.status_code == 400
    assert response["Content-Type"] == "application/problem+json"
    return str(response.json()["errors"][0]["field"])


def test_the_psyche_is_what_the_cache_holds(client: APIClient, user: User) -> None:
    """Member for member, the contract's seven first."""
    body = client.get(PSYCHE).json()
    assert body == held(user.pk) == row(user.pk)
    assert list(body)[:7] == [
        "userId", "sreWave", "lossStreak", "frustrationLevel", "isThrottled", "version",
        "updatedAt",
    ]  # fmt: skip


def test_a_play_answers_outcome_and_state(client: APIClient, user: User) -> None:
    """The state is the one that was written."""
    response = post(client)
    assert response.status_code == 200
    assert response.json()["outcome"]["instrument"] == SLUG
    assert response.json()["psyche"] == row(user.pk) == held(user.pk)
    assert "Idempotency-Replayed" not in response


def test_a_throttled_player_rests(client: APIClient, player: User) -> None:
    """200: the protection is no fault."""
    PsycheState.objects.update(is_throttled=True, frustration_level=0.9)
    outcome = post(client).json()["outcome"]
    assert (outcome["kind"], outcome["stake"], outcome["tier"]) == ("rested", 0, None)
    assert outcome["retryAfterSeconds"] > 100


def test_the_instruments_disclose_the_odds_of_this_moment(client: APIClient, player: User) -> None:
    """By the functions that decide a play."""
    body = client.get(INSTRUMENTS_URL).json()
    assert [each["slug"] for each in body["instruments"]] == list(INSTRUMENTS)
    for each in body["instruments"]:
        assert each["odds"] == disclosed_odds(instrument(each["slug"]), wave=body["wave"])
        assert each["minStake"] >= 1
    assert (body["pityNext"], body["pityThreshold"]) == (False, 5)


def test_the_instruments_tell_when_pity_decides_the_next_play(
    client: APIClient, player: User
) -> None:
    """After five losses, and at the amplitude of the caller's own wave."""
    PsycheState.objects.get(pk=player.pk).delete()
    PsycheState.objects.create(user=player, phase=1.0, amplitude=0.5, loss_streak=5)
    body = client.get(INSTRUMENTS_URL).json()
    assert (body["lossStreak"], body["pityNext"]) == (5, True)
    assert body["instruments"][0]["odds"]["crest"]["wave"] == 0.5
    assert abs(body["wave"]) <= 0.5


def test_the_odds_that_are_disclosed_are_those_that_are_used(
    client: APIClient, player: User
) -> None:
    """On a flat wave nothing moves in between."""
    state = PsycheState.objects.get(pk=player.pk)
    state.amplitude = 0.0
    state.save()
    odds = client.get(INSTRUMENTS_URL).json()["instruments"][0]["odds"]["now"]
    used = post(client).json()["outcome"]["weights"]
    assert used == {each["tier"]: each["weight"] for each in odds["tiers"]}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"instrument": SLUG, "stake": 0}, "stake"),
        ({"instrument": SLUG, "stake": 1_001}, "stake"),
        ({"instrument": SLUG, "stake": 10**18}, "stake"),
        ({"instrument": SLUG, "stake": 1.0}, "stake"),
        ({"instrument": SLUG, "stake": "1"}, "stake"),
        ({"instrument": SLUG, "stake": True}, "stake"),
        ({"instrument": SLUG, "stake": None}, "stake"),
        ({"instrument": SLUG}, "stake"),
        ({"stake": 1}, "instrument"),
        ({"instrument": "roulette", "stake": 1}, "instrument"),
        ({"instrument": "SpinForge", "stake": 1}, "instrument"),
        ({"instrument": "x" * 65, "stake": 1}, "instrument"),
        ({"instrument": 5, "stake": 1}, "instrument"),
        ({**STAKE, "userId": 1}, "userId"),
        ({**STAKE, "version": 1}, "version"),
        ({**STAKE, "roll": 9_999}, "roll"),
    ],
)
def test_a_bad_request_names_its_member(
    client: APIClient, user: User, body: dict[str, Any], field: str
) -> None:
    """And changes nothing."""
    assert refused_field(post(client, body)) == field
    assert not Interaction.objects.exists()


@pytest.mark.parametrize(
    "raw",
    [
        "[]",
        "1",
        "null",
        '{"instrument": "a\\u0000b", "stake": 1}',
        '"x"',
        "{",
        '{"stake": NaN}',
        "",
    ],
)
def test_a_body_that_no_parser_takes_is_refused(client: APIClient, raw: str) -> None:
    """400, never 500."""
    response = client.post(INTERACTIONS, raw, content_type="application/json")
    assert response.status_code == 400


def test_another_content_type_is_refused(client: APIClient) -> None:
    """Forms are not JSON."""
    response = client.post(INTERACTIONS, "instrument=x", content_type="text/plain")
    assert response.status_code == 415


@pytest.mark.parametrize("path", [PSYCHE, INSTRUMENTS_URL])
def test_without_a_token_nothing_is_told(path: str) -> None:
    """401 with the scheme to use."""
    response = APIClient().get(path)
    assert response.status_code == 401
    assert response["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", [PSYCHE, INSTRUMENTS_URL])
def test_a_user_deleted_meanwhile_gets_401(client: APIClient, monkeypatch: Any, path: str) -> None:
    """The token was checked a moment before."""
    monkeypatch.setattr(services, "_begin", deleted_meanwhile)
    response = client.get(path)
    assert (response.status_code, response.json()["status"]) == (401, 401)


def test_a_player_deleted_meanwhile_gets_401(client: APIClient, monkeypatch: Any) -> None:
    """Who plays begins without reading first."""
    monkeypatch.setattr(services, "_begin", deleted_meanwhile)
    assert post(client).status_code == 401
    assert not Interaction.objects.exists()


def deleted_meanwhile(user_id: int) -> None:
    """As `_begin` finds it."""
    raise services.NoSuchUser(f"There is no user {user_id}.")


# --- Idempotency-Key -------------------------------------------------------------------------


def test_a_retry_gets_the_same_bytes(client: APIClient, user: User) -> None:
    """And a header that says so."""
    first = post(client, Idempotency_Key="7f3c")
    post(client)
    again = post(client, Idempotency_Key="7f3c")
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first
    assert row(user.pk)["version"] == 3


def test_a_key_with_another_stake_is_unprocessable(client: APIClient) -> None:
    """422 as a problem document."""
    post(client, Idempotency_Key="7f3c")
    response = post(client, {**STAKE, "stake": 2}, Idempotency_Key="7f3c")
    assert response.status_code == 422
    assert response.json()["type"] == "/problems/idempotency-key-reused"


@pytest.mark.parametrize("key", ["", " ", "a b", "ü", "x" * 201, "a\tb", "a\x7f"])
def test_a_key_that_is_none_is_refused(client: APIClient, key: str) -> None:
    """400 naming the header; nothing is played."""
    assert refused_field(post(client, Idempotency_Key=key)) == "Idempotency-Key"
    assert not Interaction.objects.exists()


@pytest.mark.parametrize("key", ["x", "!~", "x" * 200, '"quoted"', "%s%(a)s"])
def test_any_visible_ascii_is_a_key(client: APIClient, key: str) -> None:
    """From 1 to 200 characters."""
    assert post(client, Idempotency_Key=key).status_code == 200
    assert post(client, Idempotency_Key=key)["Idempotency-Replayed"] == "true"


def test_concurrent_retries_over_http_play_once(client: APIClient, user: User) -> None:
    """All of them get the same bytes."""
    responses = in_threads([partial(post, client, Idempotency_Key="k")] * 12)
    assert {response.status_code for response in responses} == {200}
    assert len({response.content for response in responses}) == 1
    assert row(user.pk)["version"] == 2


# --- Outages ---------------------------------------------------------------------------------


def test_with_the_cache_away_every_endpoint_answers(client: APIClient, cache_away: Any) -> None:
    """From PostgreSQL."""
    with cache_away():
        assert client.get(PSYCHE).status_code == 200
        assert client.get(INSTRUMENTS_URL).status_code == 200
        assert post(client).json()["psyche"]["version"] == 2


# --- The document of the API -----------------------------------------------------------------


def members(serializer: Any) -> set[str]:
    """The members that the OpenAPI document tells of."""
    return set(serializer().fields)


def test_the_documented_members_are_the_real_ones(client: APIClient) -> None:
    """Both ways."""
    played, told = post(client).json(), client.get(INSTRUMENTS_URL).json()
    fields = AnswerSerializer().fields
    assert members(PsycheSerializer) == set(played["psyche"])
    assert set(fields["outcome"].fields) == set(played["outcome"])  # type: ignore[attr-defined]
    assert members(InstrumentListSerializer) == set(told)
    listed = InstrumentListSerializer().fields["instruments"].child.fields  # type: ignore[attr-defined]
    assert set(listed) == set(told["instruments"][0])
    assert set(listed["odds"].fields) == set(told["instruments"][0]["odds"])


def test_the_examples_are_valid() -> None:
    """Each against the serializer that it illustrates."""
    for serializer, example in (
        (InteractionSerializer, examples.INTERACTION),
        (PsycheSerializer, examples.PSYCHE),
        (AnswerSerializer, examples.PLAYED),
        (AnswerSerializer, examples.RESTED),
        (InstrumentListSerializer, examples.INSTRUMENTS),
    ):
        checked = serializer(data=example.value)
        assert checked.is_valid(), checked.errors
        assert set(example.value) == set(serializer().fields)


def test_a_foreign_change_is_what_the_next_play_starts_from(client: APIClient, user: User) -> None:
    """SQL from elsewhere, with the entry still as before."""
    client.get(PSYCHE)
    sql("UPDATE klepsydra_psychestate SET loss_streak = 5 WHERE user_id = %s", user.pk)
    assert post(client).json()["outcome"]["pity"] is True
