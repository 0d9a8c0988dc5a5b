"""What people may see of a value: no token, no hash, and no character that hides another; and how
durations and sizes are written for them."""

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Final

MASKED: Final = "(masked)"
# What a deeper value is cut to: nobody reads on, and nothing that walks through it must overflow.
DEPTH_MAX: Final = 32

# Letters that are not seen, or turn the direction of others; halves of a letter, which no answer
# could carry; what is no letter yet.
_UNSEEN: Final = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_SECRET_NAME: Final = re.compile(
    r"token|secret|password|passwd|digest|hash|signature|authorization|cookie|^jti$|^refresh$",
    re.IGNORECASE,
)
# A JSON Web Token, a password as Django stores it, a digest in hexadecimal.
_SECRET_TEXT: Final = re.compile(
    r"eyJ[\w-]+\.[\w-]+\.[\w-]*|\b(?:argon2\w*|pbkdf2_\w+|bcrypt\w*|scrypt)\$\S+"
    r"|\b[0-9a-fA-F]{40,}\b"
)


def visible(text: str, *, keep: str = "") -> str:
    """The text with every unseen character written out, `\\u202e`, but for those to `keep`."""
    return "".join(
        _written_out(letter)
        if unicodedata.category(letter) in _UNSEEN and letter not in keep
        else letter
        for letter in text
    )


def _written_out(letter: str) -> str:
    number = ord(letter)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def masked(value: Any, *, depth: int = 0) -> Any:
    """The value without what would let somebody in: the tokens of leases and fences, members with
    a secret's name, texts that look like one. Session ids stay: they name, and open nothing."""
    if isinstance(value, str):
        return _SECRET_TEXT.sub(MASKED, value)
    if not isinstance(value, Mapping | list | tuple):
        return value
    if depth >= DEPTH_MAX:
        return "…"
    if isinstance(value, list | tuple):
        return [masked(each, depth=depth + 1) for each in value]
    return {masked(str(name)): _member(str(name), each, depth + 1) for name, each in value.items()}


def _member(name: str, value: Any, depth: int) -> Any:
    if name == "_fence" and isinstance(value, Mapping):
        # The marks are its names.
        return {f"mark {n} {MASKED}": masked(each, depth=depth) for n, each in _numbered(value)}
    if name == "_lease" or (_SECRET_NAME.search(name) and isinstance(value, str)):
        return MASKED
    return masked(value, depth=depth)


def _numbered(members: Mapping[Any, Any]) -> Any:
    return enumerate(members.values(), start=1)


def pretty(value: Any) -> str:
    """JSON for people."""
    if value is None:
        return "nothing"
    return visible(json.dumps(masked(value), ensure_ascii=False, indent=2), keep="\n")


def remaining(type_: str, ttl_seconds: float | None) -> str:
    """Of a key with this type and time to live: `1 h 5 min`, `without end`, `no key`."""
    if ttl_seconds is not None:
        return duration(ttl_seconds)
    return "no key" if type_ == "none" else "without end"


def duration(seconds: float) -> str:
    """The two largest units: `3 d 4 h`, `5 min 6 s`."""
    # A score that somebody has put into the index can be without end.
    minutes, left = divmod(int(min(seconds, 1e11)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (left, "s")]
    first = next((i for i, (count, _) in enumerate(parts) if count), 3)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2])


def size(count: float) -> str:
    """Bytes: `512 B`, `1.5 KiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:,.0f} B" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"
