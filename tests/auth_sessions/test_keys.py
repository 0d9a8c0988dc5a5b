"""Which keys tokens may be signed with, what is published of them, and how they are exchanged."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, PublicFormat
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from rest_framework.test import APIClient

from auth_sessions import keys, tokens
from auth_sessions.models import User
from tests.auth_sessions import material
from tests.auth_sessions.material import ALGORITHMS, SECRETS

JWKS = "/.well-known/jwks.json"
TOKEN = "/api/v1/auth/token/"
REFRESH = "/api/v1/auth/token/refresh/"
VALIDATE = "/api/v1/auth/validate/"

# RFC 8037, A.2 and A.3; RFC 7638, 3.1.
RFC_ED25519 = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
RFC_ED25519_THUMBPRINT = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
RFC_RSA = (
    "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWK"
    "RXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMic"
    "AtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3"
    "XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
)
RFC_RSA_THUMBPRINT = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def pem_of(jwk: dict[str, str]) -> str:
    """A public JWK as PEM."""
    half: Any = jwt.PyJWK(jwk, "EdDSA" if jwk["kty"] == "OKP" else "RS256").key
    pem: bytes = half.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


# --- What is a key -----------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_algorithm_is_the_keys(algorithm: str) -> None:
    """Of a text, an Ed25519 key and an RSA key; in one line as well."""
    text = material.signing_text(algorithm)
    key = keys.read_signing(text)
    assert key.algorithm == algorithm
    for newline in ("\\n", "\r\n"):
        assert keys.read_signing(text.replace("\n", newline)).kid == key.kid
    assert keys.read_signing(material.signing_text(algorithm, 1)).kid != key.kid
    assert not any(line in repr(key) for line in text.splitlines() if "-----" not in line)


def test_an_rsa_key_in_its_older_form() -> None:
    """PKCS#1, as older tools write it, is the same key."""
    older = material.private("RS256", form=PrivateFormat.TraditionalOpenSSL)
    assert older.startswith("-----BEGIN RSA PRIVATE KEY-----")
    assert keys.read_signing(older).kid == keys.read_signing(material.private("RS256")).kid


def test_the_id_of_a_public_key_is_its_thumbprint() -> None:
    """The examples of the RFCs."""
    ed = pem_of({"kty": "OKP", "crv": "Ed25519", "x": RFC_ED25519})
    rsa = pem_of({"kty": "RSA", "n": RFC_RSA, "e": "AQAB"})
    accepted = keys.read_accepted(ed + rsa)
    assert [key.kid for key in accepted] == [RFC_ED25519_THUMBPRINT, RFC_RSA_THUMBPRINT]


def test_the_id_of_a_secret_tells_nothing_of_it() -> None:
    """Always the same, another for another secret, and as short for a long one."""
    ids = [keys.read_signing(text).kid for text in (*SECRETS, SECRETS[0], "é" * 16, "x7-" * 999)]
    assert ids[0] == ids[2]
    assert len(set(ids)) == 4
    assert {len(kid) for kid in ids} == {22}
    plain = [
        material.part(text) for text in (SECRETS[0].encode(), sha256(SECRETS[0].encode()).digest())
    ]
    assert not any(ids[0].startswith(text[:4]) for text in plain)


def test_a_secret_is_measured_in_bytes() -> None:
    """RFC 7518, 3.2; in development as well."""
    assert keys.read_signing("é" * 16).verifying == ("é" * 16).encode()
    with pytest.raises(ImproperlyConfigured, match="JWT_SIGNING_KEY is too short"):
        keys.read_signing("é" * 15 + "x")


def jwk(kind: str) -> str:
    """The private key as JSON."""
    algorithm = jwt.get_algorithm_by_name(kind)
    return str(algorithm.to_jwk(material.key(kind)))


NO_KEYS: dict[str, Callable[[], str]] = {
    "empty": lambda: "",
    "short": lambda: "x" * 31,
    "elliptic curve": lambda: material.private("ec"),
    "elliptic curve, older": lambda: material.private("ec", form=PrivateFormat.TraditionalOpenSSL),
    "Ed448": lambda: material.private("ed448"),
    "X25519": lambda: material.private("x25519"),
    "RSA, small": lambda: material.private("rsa-1024"),
    "encrypted": lambda: material.encrypted("EdDSA"),
    "encrypted RSA": lambda: material.encrypted("RS256"),
    "certificate": material.certificate,
    "OpenSSH": lambda: material.private("EdDSA", form=PrivateFormat.OpenSSH),
    "OpenSSH, public": lambda: material.openssh_public("RS256"),
    "JWK": lambda: jwk("RS256"),
    "cut": lambda: material.private("RS256")[:400],
    "without its end": lambda: material.private("EdDSA").replace("-----END", ""),
    "altered": lambda: material.private("RS256").replace("a", "b"),
    "header alone": lambda: "-----BEGIN PRIVATE KEY-----",
    "header in a text": lambda: SECRETS[0] + "-----BEGIN PUBLIC KEY-----",
    "of no bytes": lambda: "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----",
}
NO_SIGNING_KEYS: dict[str, Callable[[], str]] = {
    "public Ed25519": lambda: material.public("EdDSA"),
    "public RSA": lambda: material.public("RS256"),
    "two keys": lambda: material.private("EdDSA") + material.private("EdDSA", 1),
    "a key and a secret": lambda: material.private("EdDSA") + SECRETS[0],
    "a secret and a key": lambda: SECRETS[0] + "\n" + material.private("EdDSA"),
    "a key and its certificate": lambda: material.private("RS256") + material.certificate(),
}


def material_shown(text: str, message: str) -> list[str]:
    """Runs of the key's own letters that the message repeats."""
    lines = [line for line in text.splitlines() if "-----" not in line]
    runs = {line[at : at + 8] for line in lines for at in range(max(1, len(line) - 8))}
    return [run for run in runs if run and run in message]


@pytest.mark.parametrize("what", NO_KEYS | NO_SIGNING_KEYS)
def test_what_is_no_signing_key(what: str) -> None:
    """The message names the setting, and shows nothing of what it holds."""
    text = (NO_KEYS | NO_SIGNING_KEYS)[what]()
    with pytest.raises(ImproperlyConfigured, match=r"^JWT_SIGNING_KEY ") as refused:
        keys.read_signing(text)
    assert material_shown(text, str(refused.value)) == []
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("what", [what for what in NO_KEYS if what != "empty"])
def test_what_is_no_accepted_key(what: str) -> None:
    """Nor one to verify against; the message says which it is."""
    text = NO_KEYS[what]()
    with pytest.raises(ImproperlyConfigured, match=r"^JWT_ACCEPTED_KEYS \(key [2-9]") as refused:
        keys.read_accepted(f"{SECRETS[0]},{text}")
    assert material_shown(text, str(refused.value)) == []


@pytest.mark.parametrize("separator", [",", "\n", ",\n", " , ", "\\n"])
def test_accepted_keys_are_a_list(separator: str) -> None:
    """Secrets and PEM blocks, private or public, in any order; none of them can sign."""
    texts = [
        material.private("EdDSA"),
        material.public("RS256"),
        material.public("EdDSA", 1),
        SECRETS[0],
        SECRETS[1],
    ]
    found = keys.read_accepted(separator.join(texts))
    assert [key.algorithm for key in found] == ["EdDSA", "RS256", "EdDSA", "HS256", "HS256"]
    assert {key.signing for key in found} == {None}
    assert keys.read_accepted("") == keys.read_accepted(" \n") == []


def test_the_same_key_twice_is_one(settings: Any) -> None:
    """Its private half signs, although its public half is accepted as well."""
    settings.JWT_SIGNING_KEY = material.private("EdDSA")
    settings.JWT_ACCEPTED_KEYS = material.public("EdDSA") * 2 + SECRETS[0]
    ring = keys.ring()
    assert [key.algorithm for key in ring.by_kid.values()] == ["EdDSA", "HS256"]
    assert next(iter(ring.by_kid)) == ring.signing.kid
    assert ring.signing.signing is not None
    assert len(Client().get(JWKS).json()["keys"]) == 1


@pytest.mark.parametrize("weak", ["a" * 40, "changeme" * 5])
def test_a_weak_secret_is_not_accepted_in_production(settings: Any, weak: str) -> None:
    """Who guesses it can sign as long as it is accepted."""
    assert len(keys.read_accepted(weak)) == 1
    settings.DEVELOPMENT = False
    with pytest.raises(ImproperlyConfigured, match=r"^JWT_ACCEPTED_KEYS .* too weak"):
        keys.read_accepted(weak)


# --- What is said of a wrong one -----------------------------------------------------------------


def test_the_check_finds_a_wrong_key(settings: Any) -> None:
    """With the setting's name."""
    assert [found for found in run_checks() if found.id == "auth_sessions.E001"] == []
    settings.JWT_ACCEPTED_KEYS = material.private("ec")
    (found,) = [found for found in run_checks() if found.id == "auth_sessions.E001"]
    assert found.msg == "JWT_ACCEPTED_KEYS (key 1) is neither an Ed25519 nor an RSA key."


def test_nothing_starts_with_a_wrong_key_in_production(tmp_path: Path) -> None:
    """One line instead of a server that could neither sign nor verify."""
    path = tmp_path / "key.pem"
    path.write_text(material.private("ec"))
    variables = {
        "AEVON_ENV": "production",
        "DJANGO_SECRET_KEY": SECRETS[0],
        "JWT_SIGNING_KEY_FILE": str(path),
    }
    command = [sys.executable, "manage.py", "shell", "-c", "print('started')"]
    done = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    wrong = "Wrong setting: JWT_SIGNING_KEY is neither an Ed25519 nor an RSA key.\n"
    assert done.stderr == wrong


# --- What is published ---------------------------------------------------------------------------


def test_the_public_keys_are_published(settings: Any) -> None:
    """That which signs first; nothing private, and nothing of a secret."""
    settings.JWT_SIGNING_KEY = material.private("EdDSA")
    settings.JWT_ACCEPTED_KEYS = SECRETS[0] + "\n" + material.private("RS256")
    response = Client().get(JWKS)
    assert response.status_code == 200
    assert response["Content-Type"] == "application/jwk-set+json"
    assert response["Cache-Control"] == "public, max-age=300"
    assert not response.cookies
    ed, rsa = response.json()["keys"]
    assert set(ed) == {"kty", "crv", "x", "kid", "alg", "use"}
    assert set(rsa) == {"kty", "n", "e", "kid", "alg", "use"}
    assert (ed["alg"], rsa["alg"], ed["use"], rsa["use"]) == ("EdDSA", "RS256", "sig", "sig")
    assert ed["kid"] == material.thumbprint({name: ed[name] for name in ("kty", "crv", "x")})
    assert rsa["kid"] == material.thumbprint({name: rsa[name] for name in ("kty", "n", "e")})


def test_a_secret_is_not_published(settings: Any) -> None:
    """There is no key for others then."""
    settings.JWT_ACCEPTED_KEYS = SECRETS[0]
    assert json.loads(Client().get(JWKS).content) == {"keys": []}


def test_the_keys_are_read_only(settings: Any) -> None:
    """GET and HEAD, in plain HTTP from inside as well, and whatever the caller's token is worth."""
    settings.SECURE_SSL_REDIRECT = True
    assert Client().head(JWKS).status_code == 200
    assert Client().get(JWKS, headers={"Authorization": "Bearer x"}).status_code == 200
    for method in ("post", "put", "patch", "delete", "options"):
        assert getattr(Client(enforce_csrf_checks=True), method)(JWKS).status_code == 405


@pytest.mark.parametrize("algorithm", ["EdDSA", "RS256"])
def test_a_gateway_verifies_by_the_published_keys_alone(settings: Any, algorithm: str) -> None:
    """It picks the key by the token's `kid`."""
    settings.JWT_SIGNING_KEY = material.private(algorithm)
    settings.JWT_ACCEPTED_KEYS = material.public("EdDSA", 1) + material.public("RS256", 1)
    token = tokens.issue(User(pk=7, username="ada"), uuid4()).access
    published = jwt.PyJWKSet.from_dict(Client().get(JWKS).json())
    key = published[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=[key.algorithm_name], audience="aevon")
    assert (claims["sub"], claims["iss"], key.algorithm_name) == ("7", "aevon", algorithm)


# --- How one is exchanged for another ------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("old", "new"),
    [("HS256", "HS256"), ("HS256", "EdDSA"), ("EdDSA", "RS256"), ("RS256", "RS256")],
)
def test_a_rotation_logs_nobody_out(make_user: Any, settings: Any, old: str, new: str) -> None:
    """Published, signed with, the old one removed; a session lives through all of it."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    make_user(username="ada", password="lovelace")
    old_text, new_text = material.signing_text(old, 0), material.signing_text(new, 1)

    settings.JWT_SIGNING_KEY = old_text
    first = APIClient().post(TOKEN, {"username": "ada", "password": "lovelace"}).json()
    settings.JWT_ACCEPTED_KEYS = material.accepted_text(new, 1)
    assert validated(first["access"]) == 204

    settings.JWT_SIGNING_KEY, settings.JWT_ACCEPTED_KEYS = (
        new_text,
        material.accepted_text(old, 0),
    )
    assert validated(first["access"]) == 204
    second = APIClient().post(REFRESH, {"refresh": first["refresh"]}).json()
    headers = [jwt.get_unverified_header(pair["access"]) for pair in (first, second)]
    assert [header["alg"] for header in headers] == [old, new]
    assert headers[0]["kid"] != headers[1]["kid"]

    settings.JWT_ACCEPTED_KEYS = ""
    assert (validated(first["access"]), validated(second["access"])) == (401, 204)
    assert APIClient().post(REFRESH, {"refresh": first["refresh"]}).status_code == 401
    assert APIClient().post(REFRESH, {"refresh": second["refresh"]}).status_code == 200


def validated(token: str) -> int:
    """What a gateway hears about this token."""
    return Client().get(VALIDATE, headers={"Authorization": f"Bearer {token}"}).status_code
