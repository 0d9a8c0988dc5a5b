"""Tokens that somebody has worked on, over HTTP: 401 from a gateway's door and from an endpoint's,
never 500, and never let in."""

import base64
import json
from typing import Any

import pytest
from django.test import Client
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from auth_sessions import services
from auth_sessions.models import User
from tests.auth_sessions import material
from tests.auth_sessions.material import ALGORITHMS, part

DOORS = ("/api/v1/auth/validate/", "/api/v1/auth/sessions/")
CLIENT = Client()
BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

pytestmark = pytest.mark.django_db(transaction=True)
quietly = hypothesis_settings(
    max_examples=30, deadline=None, suppress_health_check=list(HealthCheck)
)


def answers(header: str) -> list[int]:
    """What both doors say to this Authorization header."""
    responses = [CLIENT.get(door, HTTP_AUTHORIZATION=header) for door in DOORS]
    assert all(
        "Bearer" in answer["WWW-Authenticate"] for answer in responses if answer.status_code == 401
    )
    return [response.status_code for response in responses]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def members(encoded: str) -> dict[str, Any]:
    """What a header or a payload says."""
    padded = encoded + "=" * (-len(encoded) % 4)
    said: dict[str, Any] = json.loads(base64.urlsafe_b64decode(padded))
    return said


@st.composite
def forgeries(draw: st.DrawFn, good: str, other: str) -> str:
    """One of two sound tokens, altered in one way."""
    header, payload, signature = good.split(".")
    way = draw(
        st.sampled_from(["letter", "cut", "put in", "splice", "header", "payload", "signature"])
    )
    at = draw(st.integers(0, len(good) - 1))
    if way == "letter":
        return good[:at] + draw(st.sampled_from(BASE64 + ".=+/ é\0")) + good[at + 1 :]
    if way == "cut":
        return good[:at] + good[at + draw(st.integers(1, len(good))) :]
    if way == "put in":
        return good[:at] + draw(st.text(min_size=1, max_size=9)) + good[at:]
    if way == "splice":
        parts = zip(good.split("."), other.split("."), strict=True)
        return ".".join(draw(st.sampled_from(pair)) for pair in parts)
    if way == "signature":
        return f"{header}.{payload}.{part(draw(st.binary(max_size=300)))}"
    said = members(header if way == "header" else payload)
    name = draw(st.sampled_from([*said, "x"]) | st.text(max_size=5))
    changed = part(said | {name: draw(JSON)})
    return (
        f"{changed}.{payload}.{signature}" if way == "header" else f"{header}.{changed}.{signature}"
    )


@pytest.mark.parametrize("examples", [50, pytest.param(4000, marks=pytest.mark.soak)])
def test_an_altered_token_is_401(user: User, settings: Any, examples: int) -> None:
    """Of each kind of key, whatever was changed; the tokens themselves go on being let in."""
    settings.JWT_ACCEPTED_KEYS = "\n".join(map(material.accepted_text, ALGORITHMS))
    sound = []
    for algorithm in ALGORITHMS:
        settings.JWT_SIGNING_KEY = material.signing_text(algorithm)
        sound.append(services.open_session(user)[1].access)
    assert [answers(f"Bearer {token}") for token in sound] == [[204, 200]] * 3

    @hypothesis_settings(quietly, max_examples=examples)
    @given(st.data())
    def forge(data: st.DataObject) -> None:
        forged = data.draw(forgeries(*data.draw(st.permutations(sound))[:2]))
        # Spaces around it are the header's, not the token's.
        assume(forged.strip(" ") not in sound)
        assert answers(f"Bearer {forged}") == [401, 401]

    forge()
    assert [answers(f"Bearer {token}") for token in sound] == [[204, 200]] * 3


@quietly
@given(
    header=st.text(max_size=60)
    | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1"))
    | st.tuples(
        st.sampled_from(["Bearer", "bearer", "Basic", "Digest", "DPoP", "Token", ""]),
        st.sampled_from([" ", "  ", "\t", "", ",", "\xa0", "="]),
        st.text(max_size=40) | st.sampled_from(["x.y.z", "..", ".", "a" * 70_000, "null", "{}"]),
    ).map("".join)
)
def test_any_text_for_a_header_is_401(header: str) -> None:
    """Another scheme, none, or what is no text at all."""
    assert answers(header) == [401, 401]


def test_a_sound_token_in_the_wrong_place_is_401(user: User) -> None:
    """It is read in one way only (RFC 6750, 2.1)."""
    token = services.open_session(user)[1].access
    assert answers(f"Bearer {token}") == answers(f"bearer  {token} ") == [204, 200]
    for header in (
        *(token, f"Basic {token}", f"Bearer{token}", f"Bearer\t{token}", f"JWT {token}"),
        *(f"Bearer {token}, Bearer {token}", f"Bearer {token},", f"Bearer {token} {token}"),
        *(f"Bearer \xa0{token}", f"Bearer {token}\x85", f"Bearer token={token}"),
        *(f'Bearer "{token}"', f"Bearer Bearer {token}", f" Bearer {token}"),
    ):
        assert answers(header) == [401, 401], header
