"""simplejwt's tokens, signed with the ring's key and verified against the one that they name."""

import functools
import re
from typing import Any, Final

import jwt
from jwt.exceptions import DecodeError, InvalidTokenError
from jwt.utils import base64url_decode
from rest_framework.exceptions import ParseError
from rest_framework_simplejwt import tokens as simplejwt
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenBackendError
from rest_framework_simplejwt.settings import api_settings

from aevon.api import parsers
from auth_sessions import keys
from auth_sessions.keys import Key

MAX_TOKEN_BYTES: Final = 8192

# PyJWT would take a signature with padding, too: one token in two spellings (RFC 7515, 2).
_COMPACT: Final = re.compile(rb"([\w-]+)\.[\w-]+\.[\w-]+", re.ASCII)
_HEADERS_REMEMBERED: Final = 64


class _StrictReader(jwt.PyJWT):
    """PyJWT, which of a member that occurs twice would take the last (RFC 7519, 4)."""

    def _decode_payload(self, decoded: dict[str, Any]) -> dict[str, Any]:
        return _members(decoded["payload"])


class KeyRingBackend(TokenBackend):
    """simplejwt's backend with many keys. Raises `TokenBackendError`."""

    def __init__(self) -> None:
        # simplejwt wants to hear of one algorithm for all; here each key has its own.
        super().__init__("HS256", audience=api_settings.AUDIENCE, issuer=api_settings.ISSUER)

    def encode(self, payload: dict[str, Any]) -> str:
        """Sign with the ring's signing key, whose id goes into the header."""
        key = keys.ring().signing
        assert key.signing is not None  # noqa: S101  the ring would not be there
        claims = {**payload, "aud": self.audience, "iss": self.issuer}
        return jwt.encode(claims, key.signing, algorithm=key.algorithm, headers={"kid": key.kid})

    def decode(self, token: Any, verify: bool = True) -> dict[str, Any]:  # noqa: ARG002
        """The claims, which are verified in any case, against one key and by its algorithm."""
        key = _key_of(token)
        try:
            return _READER.decode(
                token,
                key.verifying,
                algorithms=[key.algorithm],
                audience=self.audience,
                issuer=self.issuer,
                # What it would refuse is a clock that is a second behind: see tokens.py.
                options={"strict_aud": True, "verify_iat": False},
            )
        except InvalidTokenError as error:
            raise TokenBackendError(str(error)) from error


_READER: Final = _StrictReader()
_BACKEND: Final = KeyRingBackend()


class AccessToken(simplejwt.AccessToken):
    """What a caller shows with every request."""

    def get_token_backend(self) -> KeyRingBackend:
        """The ring, not the one key of simplejwt's settings."""
        return _BACKEND


class RefreshToken(simplejwt.RefreshToken):
    """What gets the next access token."""

    def get_token_backend(self) -> KeyRingBackend:
        """As an access token's."""
        return _BACKEND


def _key_of(token: bytes) -> Key:
    found = _COMPACT.fullmatch(token) if len(token) <= MAX_TOKEN_BYTES else None
    if found is None:
        raise TokenBackendError("The token is not in the compact form of RFC 7515, or too long.")
    key = keys.ring().get(_kid(found[1]))
    if key is None:
        raise TokenBackendError("No key has this id.")
    return key


# Nearly all tokens have the same header. What is refused is not remembered.
@functools.lru_cache(_HEADERS_REMEMBERED)
def _kid(header: bytes) -> str | None:
    """The key's id in an encoded JOSE header.

    We understand no extension (`crit`, `b64`) and sign nothing but JWTs: with another `typ` it was
    made for something else (RFC 8725, 3.11).
    """
    try:
        members = _members(base64url_decode(header))
    except (ValueError, DecodeError) as error:
        raise TokenBackendError("The header cannot be read.") from error
    kid, typ = members.get("kid"), members.get("typ", "JWT")
    if members.keys() & {"crit", "b64"} or not isinstance(typ, str) or typ.upper() != "JWT":
        raise TokenBackendError("The header is another's.")
    if kid is not None and not isinstance(kid, str):
        raise TokenBackendError("The key's id is no text.")
    return kid


def _members(content: bytes) -> dict[str, Any]:
    try:
        return parsers.parse(content)
    except ParseError as error:
        raise DecodeError(str(error)) from error
