"""The keys that tokens are signed with and verified against, each known by its `kid`.

A key brings its algorithm with it: no setting, and no token, can name another (RFC 8725, 3.1).
"""

import functools
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from jwt.algorithms import HMACAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError
from jwt.utils import base64url_encode

from aevon import env

SIGNING: Final = "JWT_SIGNING_KEY"
ACCEPTED: Final = "JWT_ACCEPTED_KEYS"
RSA_MIN_BITS: Final = 2048  # RFC 7518, 3.3
RSA_MAX_BITS: Final = 8192  # larger ones take seconds to sign with
KID_BYTES: Final = 16

# A PEM block, or what stands up to the next comma or line.
_PIECE: Final = re.compile(r"\s*-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----|[^,\n]+", re.DOTALL)
# What a public key's thumbprint is made of, in this order (RFC 7638, 3.2; RFC 8037, 2).
_MEMBERS: Final = {"OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}


@dataclass(frozen=True, slots=True)
class Key:
    """One key; `signing` is None where it only verifies. Printed, it shows no material."""

    kid: str
    algorithm: str
    signing: bytes | Ed25519PrivateKey | RSAPrivateKey | None = field(repr=False)
    verifying: bytes | Ed25519PublicKey | RSAPublicKey = field(repr=False)

    @property
    def jwk(self) -> dict[str, str] | None:
        """The public key as RFC 7517 has it; None of a secret."""
        if isinstance(self.verifying, bytes):
            return None
        return {**_members(self.verifying), "kid": self.kid, "alg": self.algorithm, "use": "sig"}


@dataclass(frozen=True, slots=True, eq=False)
class KeyRing:
    """The key that signs, and by `kid` it and all others that are verified against.

    No two are the same: what is remembered of one is not for another.
    """

    signing: Key
    by_kid: Mapping[str, Key]

    def get(self, kid: str | None) -> Key | None:
        """The key of this id. A token of before there were ids is by the one that signs."""
        return self.signing if kid is None else self.by_kid.get(kid)

    def jwks(self) -> list[dict[str, str]]:
        """The public keys, that which signs first."""
        return [jwk for key in self.by_kid.values() if (jwk := key.jwk)]


@functools.cache
def ring() -> KeyRing:
    """The keys that the settings name. Raises `ImproperlyConfigured`, which names the setting."""
    signing = read_signing(settings.JWT_SIGNING_KEY)
    accepted = read_accepted(settings.JWT_ACCEPTED_KEYS)
    # One that signs as well is one key.
    return KeyRing(signing, {key.kid: key for key in (signing, *accepted)})


def read_signing(text: str) -> Key:
    """The key in `JWT_SIGNING_KEY`: a secret, or one private key in PEM."""
    pem = _lines(text)
    if env.PEM_MARK in pem and len(_pieces(pem)) != 1:
        raise _wrong(SIGNING, "must be one private key in PEM, with nothing before or after it")
    key = _read(pem, SIGNING)
    if key.signing is None:
        raise _wrong(SIGNING, "is a public key, which cannot sign: give the private one")
    return key


def read_accepted(text: str) -> list[Key]:
    """The keys in `JWT_ACCEPTED_KEYS`, as keys that only verify."""
    pieces = enumerate(_pieces(_lines(text)), start=1)
    keys = [_read(piece, f"{ACCEPTED} (key {number})") for number, piece in pieces]
    return [replace(key, signing=None) for key in keys]


def _lines(text: str) -> str:
    """PEM as it is written in one line, where a variable cannot hold several."""
    return text.replace("\\n", "\n") if env.PEM_MARK in text else text


def _pieces(text: str) -> list[str]:
    found = (match.group().strip() for match in _PIECE.finditer(text))
    return [piece for piece in found if piece]


def _read(text: str, setting: str) -> Key:
    if env.PEM_MARK in text:
        return _from_pem(text.encode("utf-8", "surrogateescape"), setting)
    return _from_secret(text, setting)


def _from_secret(text: str, setting: str) -> Key:
    """HS256, whose key is as long as its hash at least (RFC 7518, 3.2)."""
    if env.length_in_bytes(text) < env.SECRET_MIN_BYTES:
        raise _wrong(setting, f"is too short: a secret has {env.SECRET_MIN_BYTES} bytes at least")
    if not settings.DEVELOPMENT and env.is_weak(text):
        raise _wrong(setting, "is too weak: monotonous, or made of a common word")
    secret = text.encode("utf-8", "surrogateescape")
    try:
        # Public keys in other clothes: everybody who has one could sign with it.
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except InvalidKeyError:
        raise _wrong(setting, "is a key in a form that is not read here: use PEM") from None
    # No token's signing input is this text: it has no dot.
    kid = hmac.digest(secret, b"kid", "sha256")[:KID_BYTES]
    return Key(_text(kid), "HS256", secret, secret)


def _from_pem(pem: bytes, setting: str) -> Key:
    key = _loaded(pem, setting)
    public = key.public_key() if isinstance(key, Ed25519PrivateKey | RSAPrivateKey) else key
    if isinstance(public, Ed25519PublicKey):
        algorithm = "EdDSA"
    elif isinstance(public, RSAPublicKey):
        algorithm = "RS256"
        _check_size(public, setting)
    else:
        raise _wrong(setting, "is neither an Ed25519 nor an RSA key")
    return Key(_thumbprint(public), algorithm, None if key is public else key, public)


def _loaded(pem: bytes, setting: str) -> Any:
    # No error's own text: it may tell of the key.
    try:
        if b"PRIVATE KEY-----" in pem:
            return load_pem_private_key(pem, password=None)
        return load_pem_public_key(pem)
    except TypeError:
        raise _wrong(setting, "is encrypted: give the key without its pass phrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise _wrong(setting, "is not an Ed25519 or RSA key in PEM") from None


def _check_size(key: RSAPublicKey, setting: str) -> None:
    if not RSA_MIN_BITS <= key.key_size <= RSA_MAX_BITS:
        why = f"must have {RSA_MIN_BITS} to {RSA_MAX_BITS} bits, not {key.key_size}"
        raise _wrong(setting, f"is an RSA key that {why}")


def _thumbprint(key: Ed25519PublicKey | RSAPublicKey) -> str:
    """RFC 7638, which every tool can compute from the public key."""
    canonical = json.dumps(_members(key), separators=(",", ":"))
    return _text(hashlib.sha256(canonical.encode()).digest())


def _members(key: Ed25519PublicKey | RSAPublicKey) -> dict[str, str]:
    if isinstance(key, RSAPublicKey):
        jwk = RSAAlgorithm.to_jwk(key, as_dict=True)
    else:
        jwk = OKPAlgorithm.to_jwk(key, as_dict=True)
    return {name: jwk[name] for name in _MEMBERS[jwk["kty"]]}


def _text(digest: bytes) -> str:
    return base64url_encode(digest).decode()


def _wrong(setting: str, why: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"{setting} {why}.")


def _settings_changed(*, setting: str, **_: Any) -> None:
    if setting in {SIGNING, ACCEPTED, "DEVELOPMENT"}:
        ring.cache_clear()


setting_changed.connect(_settings_changed)
