"""What `manage.py check` says about BEEP's resolver."""

from collections.abc import Iterator
from typing import Any, Final

import httpx
from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from beep import resolvers

OF_THE_MODEL: Final = "beep.llm.resolve"
_HINT: Final = "docs/beep.md, Another resolver, says what it may be."


@register()
def resolver_is_there(**_: Any) -> list[CheckMessage]:
    """E001: AEVON_BEEP_RESOLVER is no callable; E002: the language model's settings."""
    path = settings.AEVON_BEEP_RESOLVER
    try:
        resolver = resolvers.current()
    except ImportError as error:
        return [_error(f"AEVON_BEEP_RESOLVER: {path!r} cannot be imported: {error}.", "E001")]
    if not callable(resolver):
        return [_error(f"AEVON_BEEP_RESOLVER: {path!r} cannot be called.", "E001")]
    return list(_of_the_model()) if path == OF_THE_MODEL else []


def _of_the_model() -> Iterator[CheckMessage]:
    if not _is_http(settings.AEVON_BEEP_LLM_URL):
        yield _error("AEVON_BEEP_LLM_URL must be an http(s) URL, such as http://host/v1.", "E002")
    if not settings.AEVON_BEEP_LLM_MODEL:
        yield _error("AEVON_BEEP_LLM_MODEL must name a model of that endpoint.", "E002")
    if not settings.AEVON_BEEP_LLM_KEY.isascii():
        yield _error("AEVON_BEEP_LLM_KEY must be of ASCII characters.", "E002")


def _is_http(url: str) -> bool:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return parsed.scheme in ("http", "https") and bool(parsed.host)


def _error(message: str, number: str) -> CheckMessage:
    return Error(message, hint=_HINT, id=f"beep.{number}")
