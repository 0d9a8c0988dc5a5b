"""Keys in every form that somebody may put into a setting."""

import base64
import functools
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

SECRETS = (
    "x9Fq2-unguessable-and-long-enough-for-every-hash-that-there-is-1234567890",
    "Zr7-another-one-that-is-as-long-as-that-and-just-as-good-a-key-0987654321",
)
ALGORITHMS = ("HS256", "EdDSA", "RS256")


def key(kind: str, number: int = 0) -> Any:
    """A private key, the same for the same number."""
    return _made(kind, number)


# Once for all tests: RSA takes its time.
@functools.cache
def _made(kind: str, _: int) -> Any:
    make = {
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
        "RS256": lambda: rsa.generate_private_key(65537, 2048),
        "rsa-1024": lambda: rsa.generate_private_key(65537, 1024),
        "ed448": ed448.Ed448PrivateKey.generate,
        "x25519": x25519.X25519PrivateKey.generate,
        "ec": lambda: ec.generate_private_key(ec.SECP256R1()),
    }
    return make[kind]()


def private(
    kind: str,
    number: int = 0,
    *,
    form: PrivateFormat = PrivateFormat.PKCS8,
    sealed: KeySerializationEncryption | None = None,
) -> str:
    """A private key in PEM."""
    pem: bytes = key(kind, number).private_bytes(Encoding.PEM, form, sealed or NoEncryption())
    return pem.decode()


def public(kind: str, number: int = 0) -> str:
    """Its public half in PEM."""
    half = key(kind, number).public_key()
    pem: bytes = half.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


def encrypted(kind: str) -> str:
    """A private key behind a pass phrase."""
    return private(kind, sealed=BestAvailableEncryption(b"pass phrase"))


def openssh_public(kind: str) -> str:
    """As ssh has it."""
    half = key(kind).public_key()
    return str(half.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())


@functools.cache
def certificate() -> str:
    """Of an RSA key, signed by itself."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "aevon")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key("RS256").public_key()).serial_number(1)
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    return builder.sign(key("RS256"), hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def signing_text(algorithm: str, number: int = 0) -> str:
    """What goes into JWT_SIGNING_KEY for this algorithm."""
    return SECRETS[number] if algorithm == "HS256" else private(algorithm, number)


def accepted_text(algorithm: str, number: int = 0) -> str:
    """What goes into JWT_ACCEPTED_KEYS: no more than verifying needs."""
    return SECRETS[number] if algorithm == "HS256" else public(algorithm, number)


def part(value: object) -> str:
    """One part of a JWT: bytes as they are, anything else as JSON."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def hmac_signed(header: object, payload: object, secret: str, algorithm: str = "sha256") -> str:
    """A token with any header and payload, properly signed: PyJWT would refuse to make some."""
    content = f"{part(header)}.{part(payload)}"
    return f"{content}.{part(hmac.digest(secret.encode(), content.encode(), algorithm))}"


def thumbprint(members: dict[str, str]) -> str:
    """RFC 7638."""
    canonical = json.dumps(members, separators=(",", ":"), sort_keys=True).encode()
    return part(hashlib.sha256(canonical).digest())
