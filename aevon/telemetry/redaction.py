"""The last line of defence: what looks like a secret does not stay in a line of the log.

Nobody means to log one. An error's own words may hold it all the same: a URL with its password, or
the row that PostgreSQL refuses, with somebody's layout in it.
"""

import re
from functools import lru_cache
from typing import Any, Final

from structlog.typing import EventDict

HIDDEN: Final = "[hidden]"
_NAME: Final = r"(?:passw(?:or)?d|secret|token|api[_-]?key|sessionid)[\w-]{0,40}"
_SECRET: Final = re.compile(_NAME, re.IGNORECASE)
_RULES: Final = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), replacement)
    for pattern, replacement in (
        # A JSON web token, or the beginning of one.
        (r"\beyJ[\w-]{6,}(?:\.[\w-]*){0,4}", HIDDEN),
        # A private key in PEM, on one line or on many.
        (r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", HIDDEN),
        # The user and the password of a URL.
        (r"(?<=://)[^/\s\"'<>]*@", f"{HIDDEN}@"),
        # Headers, as names of HTTP or of WSGI.
        (r"((?:authorization|cookie)[\"']?\s*[:=]\s*)[^\r\n]+", rf"\1{HIDDEN}"),
        (r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", rf"\1 {HIDDEN}"),
        # A name and its value, in a query, in JSON or in Python's way of writing.
        (
            rf"({_NAME}[\"']?\s*[:=]\s*)(?:\"[^\"]*\"|'[^']*'|[^\s\"',;&)}}\]]+)",
            rf"\1{HIDDEN}",
        ),
        # A row that PostgreSQL tells with an error, however many lines it has.
        (
            r"(?m:^)((?:DETAIL|CONTEXT): ).*?(?=\n\n(?:The above exception|During handling)|\Z)",
            rf"\1{HIDDEN}",
        ),
    )
)


# In small letters: a text without any of these has nothing to hide, and is told at once.
_SIGNS: Final = (
    *("eyj", "://", "-----begin", "authorization", "cookie", "bearer", "basic", "passw"),
    # Not "api", which every route of ours has in it.
    *("secret", "token", "apikey", "api_key", "api-key", "sessionid", "detail:", "context:"),
)


def redacted(text: str) -> str:
    """The text without what looks like a secret."""
    small = text.lower()
    if not any(sign in small for sign in _SIGNS):
        return text
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def redact(_logger: Any, _name: str, event: EventDict) -> EventDict:
    """structlog's processor: every text of a record, however deep."""
    return {key: _named(key, value) for key, value in event.items()}


def _named(key: str, value: Any) -> Any:
    return HIDDEN if _is_secret(key) else _shown(value)


@lru_cache(maxsize=512)
def _is_secret(key: str) -> bool:
    return _SECRET.search(key) is not None


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return redacted(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(key): _named(str(key), each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(each) for each in value]
    return redacted(str(value))
