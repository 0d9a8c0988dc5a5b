"""`If-Match` and `If-None-Match` (RFC 9110, 13.1)."""

import re
from typing import Final

from rest_framework.exceptions import ParseError

ANY: Final = "*"
_TAG: Final = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_LIST: Final = re.compile(rf"[ \t]*{_TAG.pattern}(?:[ \t]*,[ \t]*{_TAG.pattern})*[ \t]*")
# For the documentation: what a client has any reason to send.
SCHEMA: Final = {
    "type": "string",
    "pattern": r'^(\*|(W/)?"[!#-~]*"(, *(W/)?"[!#-~]*")*)$',
}


def strong(header: str | None) -> frozenset[str] | None:
    """The opaque tags in an `If-Match` that can match; None when any state does.

    Weak tags never match here. Raises `ParseError` for a malformed header.
    """
    if header is None or header.strip() == ANY:
        return None
    return frozenset(tag for weak, tag in _tags("If-Match", header) if not weak)


def names(header: str | None, tag: str) -> bool:
    """Whether an `If-None-Match` names this tag, weak or not. Raises `ParseError`."""
    if header is None:
        return False
    return header.strip() == ANY or tag in {each for _, each in _tags("If-None-Match", header)}


def _tags(name: str, header: str) -> list[tuple[str, str]]:
    if not _LIST.fullmatch(header):
        message = f'{name} must be * or a list of entity tags such as "7".'
        raise ParseError(message, code="malformed_precondition")
    return _TAG.findall(header)
