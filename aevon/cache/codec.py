"""Value <-> bytes: JSON in UTF-8 that any language can read (contract, section 1).

Documents are msgspec Structs with camelCase members. A struct's members keep their order, so the
bytes are golden-tested. Members that begin with `_` belong to the cache layer; a document with
nothing else is a miss for every reader.

A state that must not outlive its server ends with the member `_incarnation`. It is compared as
bytes: what another program has written anew is checked against PostgreSQL before it is believed.
"""

import functools
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar

import msgspec

# RFC 8259, 6: the largest integer that every reader, Lua's among them, holds exactly.
VERSION_MAX: Final = 2**53 - 1
Version = Annotated[int, msgspec.Meta(ge=1, le=VERSION_MAX)]

D = TypeVar("D", bound=msgspec.Struct)

# msgspec gives up on deep nesting with a RecursionError.
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class CorruptValue(ValueError):
    """What the key holds is neither the document's type nor an entry of the cache layer."""


class _Miss:
    def __repr__(self) -> str:
        return "MISS"


MISS: Final = _Miss()


class Document(msgspec.Struct, rename="camel", kw_only=True, frozen=True):
    """Base of everything that Dragonfly holds: camelCase members, in the order declared."""


def encode(value: Any) -> bytes:
    """JSON bytes of a document, or of plain JSON values."""
    return msgspec.json.encode(value)


@functools.cache
def _decoder(document_type: type[D]) -> msgspec.json.Decoder[D]:
    return msgspec.json.Decoder(document_type)


def decode(raw: bytes, document_type: type[D]) -> D | _Miss:
    """The document in `raw`; MISS for a lease or another entry that carries no state.

    Raises `CorruptValue` for anything else: not JSON, another shape, an older format.
    """
    try:
        document: D = _decoder(document_type).decode(raw)
    except _UNREADABLE as error:
        if _carries_no_state(raw):
            return MISS
        raise CorruptValue(str(error)) from None
    return document


def _carries_no_state(raw: bytes) -> bool:
    return members_of_the_layer(raw) is not None


def members_of_the_layer(raw: bytes) -> dict[str, Any] | None:
    """The members of an entry that carries nothing but the cache layer's own; None for others."""
    try:
        members = msgspec.json.decode(raw)
    except _UNREADABLE:
        return None
    if not isinstance(members, dict) or not members:
        return None
    return members if all(name.startswith("_") for name in members) else None


@functools.lru_cache(maxsize=8)
def stamp(incarnation: str) -> bytes:
    """The end of every document of that life of the server."""
    return b',"_incarnation":"%s"}' % incarnation.encode()


def stamped(document: bytes, incarnation: str) -> bytes:
    """The document of a life of the server."""
    return document[:-1] + stamp(incarnation)


def is_stamped(document: bytes, incarnation: str) -> bool:
    """Whether the document is of that life."""
    return document.endswith(stamp(incarnation))


def rfc3339(moment: datetime) -> str:
    """RFC 3339 in UTC, always with six digits of microseconds: `2026-11-24T10:00:00.000000Z`."""
    # Not strftime, which takes ten times as long.
    return f"{moment.astimezone(UTC).isoformat(timespec='microseconds')[:-6]}Z"
