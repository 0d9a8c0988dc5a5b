"""What tokens say, and that nothing else is believed."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework_simplejwt.tokens import AccessToken as SimpleJWTAccessToken

from auth_sessions import keys, tokens
from auth_sessions.models import Session, User
from auth_sessions.signing import MAX_TOKEN_BYTES
from auth_sessions.tokens import InvalidToken
from tests.auth_sessions import material
from tests.auth_sessions.material import ALGORITHMS, SECRETS, hmac_signed, part
from tests.waiting import eventually

SID = UUID("0d5ce2a4-2d0c-4a43-a2a9-5ac7d1d53c0c")
ADA = User(pk=7, username="ada", email="ada@example.org", sovereignty_class="SOVEREIGN")


def claims_of(token: str) -> dict[str, Any]:
    """What a token carries, unchecked."""
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def signed(settings: Any, **changes: Any) -> str:
    """A token with other claims, signed with our key; a claim that is None is left out."""
    claims = {**claims_of(tokens.issue(ADA, SID).access), **changes}
    kept = {name: value for name, value in claims.items() if value is not None}
    return hmac_signed({"alg": "HS256", "typ": "JWT"}, kept, settings.JWT_SIGNING_KEY)


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


def test_token_that_was_remembered_ends(settings: Any) -> None:
    """That its signature is true is known, and does not let it live on."""
    token = signed(settings, exp=int(time.time()) + 2)
    assert tokens.read_access(token) is tokens.read_access(token)
    assert eventually(lambda: not _is_read(token))


def _is_read(token: str) -> bool:
    try:
        tokens.read_access(token)
    except InvalidToken:
        return False
    return True


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
            {"exp": str(2**32)},
            {"exp": 2.0**32},
        ),
        *({"exp": None}, {"exp": -1}, {"exp": [1]}, {"exp": True}, {"exp": {}}, {"nbf": 10**11}),
        *({"iat": "x"}, {"iat": 10**13}, {"iat": 2**33}, {"iat": None}, {"iat": "1"}, {"iat": 1.5}),
        *({"iat": True}, {"iat": [1]}, {"iat": float("nan")}, {"iat": 10**400}, {"nbf": "x"}),
        *({"iss": "x"}, {"iss": None}, {"aud": "x"}, {"aud": None}, {"aud": []}, {"aud": 5}),
        *({"iss": ["aevon"]}, {"aud": ["aevon"]}, {"aud": ["aevon", "x"]}, {"aud": {"aevon": 1}}),
        *({"typ": None}, {"typ": "id"}, {"typ": 5}, {"typ": ["access"]}),
        *({"jti": None}, {"jti": ""}, {"jti": 5}, {"jti": ["x"]}, {"sub": None}, {"sub": "x"}),
        *({"sub": ""}, {"sub": 7}, {"sub": "07"}, {"sub": "+7"}, {"sub": "٧"}, {"sub": "7\u0000"}),
        *({"sub": "-1"}, {"sub": "1 2"}, {"sub": "1\n"}, {"sub": "*"}, {"sub": str(2**63)}),
        *({"sub": {}}, {"sid": None}, {"sid": ""}, {"sid": "x"}, {"sid": 5}, {"sid": ["a"]}),
        *({"email": None}, {"email": 5}, {"email": "\ud800"}, {"email": ["ada@example.org"]}),
        *({"sovereigntyClass": None}, {"sovereigntyClass": 1}, {"sovereigntyClass": {}}),
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
    """Refused, also where the letters would mean the same bytes."""
    token = tokens.issue(ADA, SID).access
    position %= len(token)
    changed = token[:position] + letter + token[position + 1 :]
    if changed != token:
        with pytest.raises(InvalidToken):
            tokens.read_access(changed)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_token_has_one_spelling(settings: Any, algorithm: str) -> None:
    """No padding, no spaces, no line ends, no other letters for the same last bits."""
    settings.JWT_SIGNING_KEY = material.signing_text(algorithm)
    token = tokens.issue(ADA, SID).access
    assert tokens.read_access(token).user_id == 7
    last = token[-1]
    others = [token[:-1] + chr(ord(last) + step) for step in (-1, 1)]
    head, body, signature = token.split(".")
    padded = [f"{token}=", f"{token}==", f"{head}.{body}=.{signature}"]
    longer = [f" {token}", f"{token} ", f"{token}\n", f"{token}.", f".{token}"]
    for changed in (*others, *padded, *longer):
        with pytest.raises(InvalidToken):
            tokens.read_access(changed)


GOOD_HEADERS: dict[str, object] = {
    "no kid": {"alg": "HS256", "typ": "JWT"},
    "no typ": {"alg": "HS256"},
    "typ in small letters": {"alg": "HS256", "typ": "jwt"},
    "an unknown member": {"alg": "HS256", "x5t": "x", "n": {"deep": [1]}},
    "a key of its own, which is not looked at": {"alg": "HS256", "jwk": {"kty": "oct", "k": "eA"}},
}
BAD_HEADERS: dict[str, object] = {
    "kid of another type": {"alg": "HS256", "kid": 5},
    "kid in a list": {"alg": "HS256", "kid": ["x"]},
    "kid of an object": {"alg": "HS256", "kid": {}},
    "kid of nothing": {"alg": "HS256", "kid": None},
    "kid of no letters": {"alg": "HS256", "kid": ""},
    "unknown kid": {"alg": "HS256", "kid": "x"},
    "a path for a kid": {"alg": "HS256", "kid": "../../dev/null"},
    "critical extension": {"alg": "HS256", "crit": ["exp"], "exp": 1},
    "critical extension that PyJWT knows": {"alg": "HS256", "crit": ["b64"], "b64": True},
    "no critical extension": {"alg": "HS256", "crit": []},
    "critical text": {"alg": "HS256", "crit": "b64"},
    "unencoded payload": {"alg": "HS256", "b64": False, "crit": ["b64"]},
    "unencoded payload, not critical": {"alg": "HS256", "b64": False},
    "typ of something else": {"alg": "HS256", "typ": "dpop+jwt"},
    "typ of OAuth's": {"alg": "HS256", "typ": "at+jwt"},
    "typ of another type": {"alg": "HS256", "typ": 5},
    "typ of nothing": {"alg": "HS256", "typ": None},
    "no alg": {"typ": "JWT"},
    "alg none": {"alg": "none"},
    "alg in small letters": {"alg": "hs256"},
    "another length": {"alg": "HS384"},
    "another family": {"alg": "EdDSA"},
    "alg in a list": {"alg": ["HS256"]},
    "alg of an object": {"alg": {}},
    "alg twice": b'{"alg":"none","alg":"HS256"}',
    "kid twice": b'{"alg":"HS256","kid":"x","kid":"x"}',
    "any member twice": b'{"alg":"HS256","a":1,"a":1}',
    "an array": [1],
    "a text": "HS256",
    "nothing": b"",
    "a number that is none": b'{"alg":"HS256","x":NaN}',
    "a number without an end": b'{"alg":"HS256","x":' + b"1" * 5000 + b"}",
    "more after it": b'{"alg":"HS256"}x',
    "byte order mark": b'\xef\xbb\xbf{"alg":"HS256"}',
    "UTF-16": '{"alg":"HS256"}'.encode("utf-16"),
    "no UTF-8": b'{"alg":"HS256","x":"\xff"}',
    "half a surrogate pair": b'{"alg":"HS256","x":"\\ud800"}',
    "deep": b'{"alg":"HS256","x":' + b"[" * 40 + b"]" * 40 + b"}",
    "very deep": b'{"alg":"HS256","x":' + b"[" * 3000 + b"]" * 3000 + b"}",
}


@pytest.mark.parametrize("what", GOOD_HEADERS | BAD_HEADERS)
def test_a_header_that_is_properly_signed(settings: Any, what: str) -> None:
    """With our own secret: what is refused is refused for what the header says."""
    payload = claims_of(tokens.issue(ADA, SID).access)
    header = (GOOD_HEADERS | BAD_HEADERS)[what]
    algorithm = "sha384" if what == "another length" else "sha256"
    token = hmac_signed(header, payload, settings.JWT_SIGNING_KEY, algorithm)
    if what in GOOD_HEADERS:
        assert tokens.read_access(token).user_id == 7
    else:
        with pytest.raises(InvalidToken):
            tokens.read_access(token)


def twice(payload: dict[str, Any], name: str) -> bytes:
    """The payload with one member said twice, the second time as it was."""
    return f'{{"{name}":null,'.encode() + json.dumps(payload).encode()[1:]


BAD_PAYLOADS: dict[str, Callable[[dict[str, Any]], object]] = {
    "sub twice": lambda payload: twice(payload, "sub"),
    "an unknown member twice": lambda payload: twice({"x": 1, **payload}, "x"),
    "deep": lambda payload: {**payload, "x": json.loads("[" * 40 + "]" * 40)},
    "very deep": lambda _: b"[" * 3000 + b"]" * 3000,
    "an array": lambda payload: [payload],
    "nothing": lambda _: b"",
    "no JSON": lambda _: b"{",
    "more after it": lambda payload: json.dumps(payload).encode() + b"x",
    "byte order mark": lambda payload: b"\xef\xbb\xbf" + json.dumps(payload).encode(),
    "UTF-16": lambda payload: json.dumps(payload).encode("utf-16"),
    "a number that is none": lambda payload: {**payload, "x": float("nan")},
    "too long": lambda payload: {**payload, "x": "x" * MAX_TOKEN_BYTES},
    "64 kB": lambda payload: {**payload, "x": "x" * 65_536},
}


@pytest.mark.parametrize("what", BAD_PAYLOADS)
def test_a_payload_that_is_properly_signed(settings: Any, what: str) -> None:
    """And yet none of ours; a large one of ours is read."""
    payload = claims_of(tokens.issue(ADA, SID).access)
    header = {"alg": "HS256", "typ": "JWT"}
    large = {**payload, "x": "x" * (MAX_TOKEN_BYTES // 2)}
    assert tokens.read_access(hmac_signed(header, large, settings.JWT_SIGNING_KEY)).user_id == 7
    with pytest.raises(InvalidToken):
        tokens.read_access(
            hmac_signed(header, BAD_PAYLOADS[what](payload), settings.JWT_SIGNING_KEY)
        )


@pytest.mark.parametrize("algorithm", ["EdDSA", "RS256"])
def test_a_public_key_is_no_secret(settings: Any, algorithm: str) -> None:
    """What everybody knows signs nothing, in whatever spelling (RFC 8725, 2.1)."""
    settings.JWT_SIGNING_KEY = material.private(algorithm)
    settings.JWT_ACCEPTED_KEYS = SECRETS[0]
    good = tokens.issue(ADA, SID).access
    kid, payload = jwt.get_unverified_header(good)["kid"], claims_of(good)
    assert tokens.read_access(good).user_id == 7
    pem = material.public(algorithm)
    jwk = json.dumps(keys.ring().jwks()[0])
    for secret in (pem, pem.strip(), pem.replace("\n", ""), jwk, kid, ""):
        for named in ({"kid": kid}, {}, {"kid": keys.read_signing(SECRETS[0]).kid}):
            with pytest.raises(InvalidToken):
                tokens.read_access(hmac_signed({"alg": "HS256", **named}, payload, secret))


def test_a_key_signs_with_its_own_algorithm_alone(settings: Any) -> None:
    """The right key and its own `kid`, and another algorithm of its family."""
    settings.JWT_SIGNING_KEY = SECRETS[0]
    settings.JWT_ACCEPTED_KEYS = material.public("RS256")
    payload = claims_of(tokens.issue(ADA, SID).access)
    secret, rsa = keys.ring().by_kid.values()
    private = material.key("RS256")
    for key, algorithm, kid in (
        (SECRETS[0], "HS256", secret.kid),
        (private, "RS256", rsa.kid),
    ):
        token = jwt.encode(payload, key, algorithm=algorithm, headers={"kid": kid})
        assert tokens.read_access(token).user_id == 7
    for key, algorithm, kid in (
        (SECRETS[0], "HS512", secret.kid),
        (private, "RS512", rsa.kid),
        (private, "PS256", rsa.kid),
        (private, "RS256", secret.kid),
        (SECRETS[0], "HS256", rsa.kid),
        (private, "RS256", None),
        (private, "RS256", "x"),
    ):
        token = jwt.encode(payload, key, algorithm=algorithm, headers={"kid": kid} if kid else {})
        with pytest.raises(InvalidToken):
            tokens.read_access(token)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_accepted_key(settings: Any, algorithm: str) -> None:
    """Verifies what it has signed and nothing else, for as long as it is accepted."""
    settings.JWT_SIGNING_KEY = material.signing_text(algorithm, 1)
    old = tokens.issue(ADA, SID).access
    payload, header = claims_of(old), jwt.get_unverified_header(old)
    other = material.key("EdDSA", 2)
    settings.JWT_SIGNING_KEY = material.signing_text(algorithm, 0)
    settings.JWT_ACCEPTED_KEYS = material.accepted_text(algorithm, 1)
    assert tokens.read_access(old).user_id == 7
    assert jwt.get_unverified_header(tokens.issue(ADA, SID).access)["kid"] != header["kid"]
    with pytest.raises(InvalidToken):
        tokens.read_access(jwt.encode(payload, other, "EdDSA", headers={"kid": header["kid"]}))
    settings.JWT_ACCEPTED_KEYS = material.accepted_text("EdDSA", 2)
    with pytest.raises(InvalidToken):
        tokens.read_access(old)


def test_token_of_another_key(settings: Any) -> None:
    """Refused, however right its claims are."""
    claims = claims_of(tokens.issue(ADA, SID).access)
    with pytest.raises(InvalidToken):
        tokens.read_access(jwt.encode(claims, "k" * 48, algorithm="HS256"))
    with pytest.raises(InvalidToken):
        tokens.read_access(jwt.encode(claims, settings.JWT_SIGNING_KEY, algorithm="HS384"))


def test_token_of_simplejwts_own_key(settings: Any) -> None:
    """What it would sign with by itself is Django's secret, which is no key of tokens."""
    token = SimpleJWTAccessToken()
    token.payload.update(claims_of(tokens.issue(ADA, SID).access))
    with pytest.raises(InvalidToken):
        tokens.read_access(str(token))
    settings.JWT_ACCEPTED_KEYS = settings.SECRET_KEY
    with pytest.raises(InvalidToken):
        tokens.read_access(str(token))
    settings.JWT_SIGNING_KEY = settings.SECRET_KEY
    assert tokens.read_access(str(token)).user_id == 7


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


def test_a_token_of_a_host_whose_clock_is_ahead(settings: Any) -> None:
    """Half a minute is forgiven, and more than a minute is not."""
    now = int(time.time())
    assert tokens.read_access(signed(settings, iat=now + 30)).user_id == ADA.pk
    with pytest.raises(InvalidToken):
        tokens.read_access(signed(settings, iat=now + 75))


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
