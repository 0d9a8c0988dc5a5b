"""JSON bodies, read strictly: what PostgreSQL's jsonb or another reader would refuse is a 400.

Python's own `json` reads them, because its hooks see duplicate members and out-of-range numbers;
RFC 8259 leaves both to the reader (sections 4 and 6), I-JSON (RFC 7493) forbids them.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import IO, Any

from django.conf import settings
from django.http import UnreadablePostError
from django.utils.http import parse_header_parameters
from rest_framework.exceptions import ParseError, UnsupportedMediaType
from rest_framework.parsers import BaseParser

from aevon.api.exceptions import BodyTooLarge

MAX_DEPTH = 32
MIN_INTEGER, MAX_INTEGER = -(2**63), 2**63 - 1
INTEGER_MAX_CHARACTERS = len(str(MIN_INTEGER))
NAME_SHOWN_CHARACTERS = 64
BROKE_OFF = "The body broke off."

# Possessive, and an unfinished string runs to the end: linear time on any input.
STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
NOT_BRACKET = re.compile(r"[^][{}]++")
STEP = {"[": 1, "{": 1, "]": -1, "}": -1}


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`.

    Raises `ParseError` (400) for anything that is not one well-formed UTF-8 JSON object, nested
    at most `MAX_DEPTH` deep, with unique members, finite numbers, integers of 64 bits, and
    without `\\u0000` or half a surrogate pair.
    """
    text = _text(body)
    _check_depth(text)
    value = _load(text)
    if not isinstance(value, dict):
        raise ParseError("The body must be a JSON object.", code="not_an_object")
    # UTF-8 and the JSON grammar refuse both as raw characters: only escapes can bring them.
    if "\\u" in text:
        _check_strings(value)
    return value


def _text(body: bytes) -> str:
    if body.startswith(b"\xef\xbb\xbf"):
        raise ParseError("The body must not begin with a byte order mark.", code="byte_order_mark")
    if not body.strip(b" \t\r\n"):
        raise ParseError("The body is empty; it must be a JSON object.", code="empty_body")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"The body is not valid UTF-8 (byte {error.start})."
        raise ParseError(message, code="invalid_utf8") from None


def _check_depth(text: str) -> None:
    """Refuse deep nesting before `json` recurses into it and runs out of stack."""
    brackets = NOT_BRACKET.sub("", STRING.sub("", text))
    if any(depth > MAX_DEPTH for depth in accumulate(STEP[bracket] for bracket in brackets)):
        message = f"The body is nested too deeply: at most {MAX_DEPTH} levels."
        raise ParseError(message, code="nested_too_deeply")


def _load(text: str) -> Any:
    try:
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_constant,
        )
    except json.JSONDecodeError as error:
        message = f"The body is not valid JSON: {error.msg} ({error.lineno}:{error.colno})."
        raise ParseError(message, code="invalid_json") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    name = Counter(name for name, _ in pairs).most_common(1)[0][0]
    raise ParseError(f"The member {_shown(name)} occurs twice.", code="duplicate_member")


def _shown(name: str) -> str:
    # ASCII escapes: the name may hold what no response can carry, such as half a pair.
    return json.dumps(name[:NAME_SHOWN_CHARACTERS])


def _integer(digits: str) -> int:
    # Length first: Python refuses to convert thousands of digits with a ValueError of its own.
    if len(digits) <= INTEGER_MAX_CHARACTERS:
        value = int(digits)
        if MIN_INTEGER <= value <= MAX_INTEGER:
            return value
    raise ParseError("An integer is outside the signed 64-bit range.", code="number_out_of_range")


def _number(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ParseError("A number is too large for a double.", code="number_out_of_range")
    return value


def _constant(name: str) -> None:
    raise ParseError(f"{name} is not a JSON number.", code="not_a_number")


def _check_strings(value: Any) -> None:
    for string in _strings(value):
        if "\x00" in string:
            raise ParseError(
                "A string holds \\u0000, which cannot be stored.", code="nul_character"
            )
        if any("\ud800" <= character <= "\udfff" for character in string):
            message = "A string holds half of a surrogate pair, which is not a character."
            raise ParseError(message, code="lone_surrogate")


def _strings(value: Any) -> Iterator[str]:
    """Every string and member name in `value`, whose depth has been checked."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for member in value.values():
            yield from _strings(member)
    elif isinstance(value, list):
        for element in value:
            yield from _strings(element)


class StrictJSONParser(BaseParser):
    """`application/json` by way of `parse`.

    Raises `ParseError` (400), `BodyTooLarge` (413) and `UnsupportedMediaType` (415: a charset
    other than UTF-8, or a content coding, which could expand past the limit).
    """

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The object in `stream`, of which at most one byte over the limit is read."""
        self._check_media_type(media_type or "")
        meta = parser_context["request"].META if parser_context else {}
        _check_coding(meta)
        body = read_limited(stream)
        _check_length(meta, body)
        return parse(body)

    def _check_media_type(self, media_type: str) -> None:
        name, parameters = parse_header_parameters(media_type)
        # Content negotiation lets `*/*` and `application/*` through.
        if name.lower() != self.media_type:
            raise UnsupportedMediaType(media_type)
        charset = parameters.get("charset", "utf-8").lower()
        if charset not in {"utf-8", "utf8"}:
            raise UnsupportedMediaType(media_type, detail="The charset must be UTF-8.")


class MergePatchParser(StrictJSONParser):
    """`application/merge-patch+json` (RFC 7396), read exactly like plain JSON."""

    media_type = "application/merge-patch+json"


def _check_coding(meta: Mapping[str, Any]) -> None:
    coding = str(meta.get("HTTP_CONTENT_ENCODING", "")).strip().lower()
    if coding not in {"", "identity"}:
        raise UnsupportedMediaType(coding, detail="The body must not carry a Content-Encoding.")


def _check_length(meta: Mapping[str, Any], body: bytes) -> None:
    """A body that its sender did not finish is none (RFC 9112, 8), even if it can be read."""
    declared = str(meta.get("CONTENT_LENGTH") or "")
    if declared.isascii() and declared.isdigit() and len(body) < int(declared[:19]):
        raise ParseError(BROKE_OFF, code="unreadable_body")


def read_limited(stream: IO[Any]) -> bytes:
    """All of `stream`; `BodyTooLarge` past `AEVON_MAX_BODY_BYTES`, `ParseError` if it breaks off.

    Content-Length is not asked: a chunked body has none.
    """
    limit: int = settings.AEVON_MAX_BODY_BYTES
    try:
        body = _read_up_to(stream, limit + 1)
    except UnreadablePostError:
        raise ParseError(BROKE_OFF, code="unreadable_body") from None
    if len(body) > limit:
        raise BodyTooLarge(limit)
    return body


def _read_up_to(stream: IO[Any], size: int) -> bytes:
    """`size` bytes unless the stream ends first; one `read` of a socket may return fewer."""
    body = bytearray()
    while len(body) < size and (chunk := stream.read(size - len(body))):
        body += chunk
    return bytes(body)
