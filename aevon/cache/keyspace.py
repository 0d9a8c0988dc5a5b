"""Every key name, its type and its validation, in one registry.

The four names of the integration protocol (section 3) are `name:{userId}`, as are those that a
project of its own declares; every other key has three parts, `service:key:id` (section 4.1). The
patterns refuse a keyspace that is not here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeVar

from aevon.cache import conf

USER_ID_MAX: Final = 2**63 - 1
_CANONICAL = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_PART: Final = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)


class InvalidKey(ValueError):
    """A user id or key part that cannot stand in a key: nothing was sent to the server."""


class UnknownKeyspace(LookupError):
    """A keyspace outside the registry was handed to a pattern."""


def canonical_user_id(value: object) -> int:
    """The user id as an integer of 1 … 2^63-1; the text form must be canonical decimal.

    Raises `InvalidKey` for signs, spaces, globs, newlines, braces, leading zeros, booleans.
    """
    if type(value) is int and 1 <= value <= USER_ID_MAX:  # nearly always
        return value
    if isinstance(value, str) and _CANONICAL.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= USER_ID_MAX:
        shown = repr(value)
        raise InvalidKey(f"Not a user id: {shown if len(shown) <= 40 else shown[:37] + '…'}")
    return value


def _safety_ttl(setting: str) -> Callable[[], int]:
    return lambda: int(getattr(conf.current(), setting) * 1000)


@dataclass(frozen=True, slots=True)
class Keyspace:
    """One of the protocol's four names: `name:{userId}`.

    `ttl_ms()` is the lifetime that every write refreshes; None where the document itself says
    when it ends (a session).
    """

    name: str
    service: str
    type: Literal["string", "list"]
    ttl_ms: Callable[[], int] | None

    def key(self, user_id: object) -> str:
        """The key of one user; raises `InvalidKey`."""
        return f"{self.name}:{canonical_user_id(user_id)}"

    def user_id(self, key: str) -> int | None:
        """The user id in a key of this keyspace, or None when the key is not one of ours."""
        name, _, rest = key.partition(":")
        if name != self.name or not _CANONICAL.fullmatch(rest):
            return None
        return int(rest) if int(rest) <= USER_ID_MAX else None


@dataclass(frozen=True, slots=True)
class InternalKeyspace:
    """A key of the system's own, in three parts: `service:name:{id}`."""

    service: str
    name: str

    def key(self, part: object) -> str:
        """The key; `part` is a shard number or a token of letters, digits, `.`, `_`, `-`."""
        text = str(part)
        is_number = type(part) is int and 0 <= part <= USER_ID_MAX
        if not is_number and not _PART.fullmatch(text):
            raise InvalidKey(f"Not a key part: {text[:40]!r}")
        return f"{self.service}:{self.name}:{text}"


class IndexKeys(NamedTuple):
    """What a write-behind buffer notes beside its documents (`dirty_index`), by shard; under
    `flush`, the record of the last one."""

    dirty: InternalKeyspace
    since: InternalKeyspace
    refused: InternalKeyspace
    flush: InternalKeyspace


K = TypeVar("K", Keyspace, InternalKeyspace)

PSYCHE = Keyspace("psyche", "klepsydra", "string", _safety_ttl("psyche_ttl_seconds"))
CANVAS = Keyspace("canvas", "canvas", "string", _safety_ttl("canvas_idle_ttl_seconds"))
SESSION = Keyspace("session", "auth_sessions", "string", None)
CONVO_HISTORY = Keyspace("convo_history", "beep", "list", _safety_ttl("convo_history_ttl_seconds"))

CANVAS_INDEX = IndexKeys(
    *(InternalKeyspace("canvas", name) for name in ("dirty", "since", "refused", "flush"))
)
LOGIN_ATTEMPTS_BY_NAME = InternalKeyspace("auth", "login-name")
LOGIN_ATTEMPTS_BY_ADDRESS = InternalKeyspace("auth", "login-address")
PROBE = InternalKeyspace("cache", "probe")
HISTORY = InternalKeyspace("cache", "history")
PROCESSES = InternalKeyspace("cache", "processes")

REGISTRY: Final = {space.name: space for space in (PSYCHE, CANVAS, SESSION, CONVO_HISTORY)}
INTERNAL: Final = (
    *CANVAS_INDEX,
    LOGIN_ATTEMPTS_BY_NAME,
    LOGIN_ATTEMPTS_BY_ADDRESS,
    PROBE,
    HISTORY,
    PROCESSES,
)


def declare(
    name: str, *, service: str, ttl_seconds: float, kind: Literal["string", "list"] = "string"
) -> Keyspace:
    """A further keyspace, `name:{userId}`, in the registry: for a project that has lifted the cache
    layer, whose names are no business of this file.

    `service` is the application that owns it; every write renews its lifetime. Raises `ValueError`
    for a name that is taken or is not of a-z, 0-9 and _, 32 at most, and for no lifetime.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"A keyspace is called a-z, 0-9 and _, 32 at most, not {name[:40]!r}.")
    if name in REGISTRY:
        raise ValueError(f"The keyspace `{name}` is {REGISTRY[name].service}'s already.")
    if ttl_seconds <= 0:
        raise ValueError(f"The keyspace `{name}` needs a lifetime above 0, not {ttl_seconds!r}.")
    lifetime_ms = int(ttl_seconds * 1000)
    REGISTRY[name] = Keyspace(name, service, kind, lambda: lifetime_ms)
    return REGISTRY[name]


def registered(keyspace: K) -> K:
    """`keyspace` itself when the registry holds it; raises `UnknownKeyspace` otherwise."""
    if not any(keyspace is known for known in (*REGISTRY.values(), *INTERNAL)):
        raise UnknownKeyspace(f"Not in the keyspace registry: {keyspace!r}")
    return keyspace
