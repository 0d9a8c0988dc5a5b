"""What tokens say, and that nothing else is believed."""

import base64
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auth_sessions import tokens
from auth_sessions.models import Session, User
from auth_sessions.tokens import InvalidToken

SID = UUID("0d5ce2a4-2d0c-4a43-a2a9-5ac7d1d53c0c")
ADA = User(pk=7, username="ada", email="ada@example.org", sovereignty_class="SOVEREIGN")


def claims_of(token: str) -> dict[str, Any]:
    """What a token carries, unchecked."""
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def part(value: object) -> str:
    """One part of a JWT."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(settings: Any, **changes: Any) -> str:
    """A token with other claims, signed with our key; a claim that is None is left out."""
    claims = {**claims_of(tokens.issue(ADA, SID).access), **changes}
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(kept, settings.JWT_SIGNING_KEY, algorithm="HS256")


def test_access_token() -> None:
    """It carries id, email and class (domain.md), the session, and ends after 15 minutes."""
    pair = tokens.issue(ADA, SID)
    claims = claims_of(pair.access)
    assert {name: claims[name] for name in ("sub", "sid", "email", "sovereigntyClass")} == {
        "sub": "7",
        "sid": str(SID),
        "email": "ada@example.org",
        "sovereigntyClass": "SOVEREIGN",
    }
    assert (claims["iss"], claims["aud"], claims["typ"]) == ("aevon", "aevon", "access")
    assert claims["exp"] == pair.expires_at
    assert abs(pair.expires_at - time.time() - 900) < 5


def test_refresh_token() -> None:
    """It says no more than whose session it renews, and its id is kept as a digest only."""
    pair = tokens.issue(ADA, SID)
    claims = claims_of(pair.refresh)
    assert set(claims) == {"typ", "exp", "iat", "jti", "iss", "aud", "sub", "sid"}
    assert pair.refresh_digest == tokens.digest(claims["jti"])
    assert claims["jti"] not in pair.refresh_digest
    assert abs(claims["exp"] - time.time() - 7 * 86_400) < 5


def test_tokens_read_back() -> None:
    """Each kind by its own reader."""
    pair = tokens.issue(ADA, SID)
    access, refresh = tokens.read_access(pair.access), tokens.read_refresh(pair.refresh)
    assert (access.user_id, access.sid) == (refresh.user_id, refresh.sid) == (7, str(SID))
    assert access.jti != refresh.jti


def test_one_kind_as_the_other() -> None:
    """Neither stands for the other."""
    pair = tokens.issue(ADA, SID)
    with pytest.raises(InvalidToken):
        tokens.read_access(pair.refresh)
    with pytest.raises(InvalidToken):
        tokens.read_refresh(pair.access)


@pytest.mark.parametrize(
    "changes",
    [
        *(
            {"exp": 1},
            {"exp": 10**13},
            {"exp": 10**17},
            {"exp": 10**18},
            {"exp": 10**400},
            {"exp": "soon"},
            {"exp": float("inf")},
        ),
        *({"exp": None}, {"exp": -1}, {"exp": [1]}, {"iat": "x"}, {"iat": 10**13}, {"nbf": 10**11}),
        *({"iss": "x"}, {"iss": None}, {"aud": "x"}, {"aud": None}, {"aud": []}, {"aud": 5}),
        *({"typ": None}, {"typ": "id"}, {"jti": None}, {"sub": None}, {"sub": ""}, {"sub": "x"}),
        *({"sub": "-1"}, {"sub": "1 2"}, {"sub": "1\n"}, {"sub": "*"}, {"sub": str(2**63)}),
        *({"sub": {}}, {"sid": None}, {"sid": ""}, {"sid": "x"}, {"sid": 5}, {"sid": ["a"]}),
    ],
)
def test_claims_that_are_not_ours(settings: Any, changes: dict[str, Any]) -> None:
    """Properly signed, and yet refused."""
    assert tokens.read_access(signed(settings)).user_id == 7
    with pytest.raises(InvalidToken):
        tokens.read_access(signed(settings, **changes))


DEEP = b"[" * 3000 + b"]" * 3000
HEADERS: dict[str, object] = {
    "alg none": {"alg": "none", "typ": "JWT"},
    "alg None": {"alg": "None"},
    "another alg": {"alg": "RS256", "typ": "JWT"},
    "no alg": {"typ": "JWT"},
    "alg of another type": {"alg": ["HS256"]},
    "key in the header": {"alg": "HS256", "jwk": {"kty": "oct", "k": "eA"}},
    "kid of another type": {"alg": "HS256", "kid": 5},
    "critical extension": {"alg": "HS256", "crit": ["x"], "x": 1},
    "unencoded payload": {"alg": "HS256", "b64": False, "crit": ["b64"]},
    "no object": [1],
    "no JSON": b"{",
    "no UTF-8": b"\xff\xfe",
    "deep": DEEP,
    "deep member": b'{"alg":"HS256","x":' + DEEP + b"}",
}


@pytest.mark.parametrize("what", HEADERS)
@pytest.mark.parametrize("payload", [{"sub": "7"}, DEEP], ids=["plain", "deep"])
def test_header_of_somebody_elses(what: str, payload: object) -> None:
    """Refused before anything in it is believed."""
    for token in (
        f"{part(HEADERS[what])}.{part(payload)}.",
        f"{part(HEADERS[what])}.{part(payload)}.{part(b'x' * 32)}",
    ):
        with pytest.raises(InvalidToken):
            tokens.read_access(token)


@pytest.mark.parametrize("text", ["", " ", ".", "..", "a.b.c", "é.é.é", "\ud800", "a" * 1_000_000])
def test_text_that_is_no_token(text: str) -> None:
    """Refused."""
    with pytest.raises(InvalidToken):
        tokens.read_access(text)


@settings(suppress_health_check=list(HealthCheck), deadline=None)
@given(position=st.integers(0, 10**6), letter=st.characters(codec="ascii"))
def test_token_with_one_letter_changed(position: int, letter: str) -> None:
    """Refused, unless the letters mean the same bytes."""
    token = tokens.issue(ADA, SID).access
    position %= len(token)
    changed = token[:position] + letter + token[position + 1 :]
    try:
        claims = tokens.read_access(changed)
    except InvalidToken:
        return
    assert claims == tokens.read_access(token)


def test_token_of_another_key(settings: Any) -> None:
    """Refused, however right its claims are."""
    claims = claims_of(tokens.issue(ADA, SID).access)
    with pytest.raises(InvalidToken):
        tokens.read_access(jwt.encode(claims, "k" * 48, algorithm="HS256"))
    with pytest.raises(InvalidToken):
        tokens.read_access(jwt.encode(claims, settings.JWT_SIGNING_KEY, algorithm="HS384"))


def test_session_id_in_another_form(settings: Any) -> None:
    """It is brought into the form that the document has."""
    assert tokens.read_access(signed(settings, sid=SID.hex.upper())).sid == str(SID)


def test_refresh_token_of_its_session() -> None:
    """The latest, the one before it, and any other."""
    old, other = tokens.issue(ADA, SID), tokens.issue(ADA, SID)
    next_id = tokens.successor(tokens.read_refresh(old.refresh).jti)
    latest = tokens.issue(ADA, SID, refresh_id=next_id)
    session = Session(sid=SID, user=ADA, refresh_digest=latest.refresh_digest)
    claims = [tokens.read_refresh(pair.refresh) for pair in (old, latest, other)]
    assert [tokens.is_latest(session, each) for each in claims] == [False, True, False]
    assert [tokens.is_latest_but_one(session, each) for each in claims] == [True, False, False]


def test_tokens_end_with_their_session() -> None:
    """Neither lives longer than it may."""
    last = datetime.now(UTC) + timedelta(seconds=60)
    pair = tokens.issue(ADA, SID, not_after=last)
    assert pair.access_expires_at == pair.refresh_expires_at == last.replace(microsecond=0)


def test_pairs_of_one_instant() -> None:
    """No two tokens are alike."""
    pairs = [tokens.issue(ADA, uuid4()) for _ in range(100)]
    assert len({pair.refresh_digest for pair in pairs}) == 100
    ends = {pair.access_expires_at - datetime.now(UTC) for pair in pairs}
    assert max(ends) < timedelta(minutes=15)
