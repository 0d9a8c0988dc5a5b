"""Table B: what a JSON body may hold."""

import json
from io import BytesIO
from typing import Any

import pytest
from django.http import UnreadablePostError
from django.test import Client
from hypothesis import example, given
from hypothesis import strategies as st
from rest_framework.exceptions import ParseError

from aevon.api.exceptions import BodyTooLarge
from aevon.api.parsers import MAX_DEPTH, MAX_INTEGER, MIN_INTEGER, parse, read_limited

pytestmark = pytest.mark.urls("tests.aevon.api.views")

REFUSED = {
    "not_a_number": [b'{"a": NaN}', b'{"a": Infinity}', b'{"a": [-Infinity]}'],
    "number_out_of_range": [
        b'{"a": 1e999}',
        b'{"a": -1e999}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": ' + b"1" * 400 + b".5}",
    ],
    "nul_character": [rb'{"a": "x\u0000"}', rb'{"\u0000": 1}', rb'{"a": [{"b": "\u0000"}]}'],
    "lone_surrogate": [rb'{"a": "\ud800"}', rb'{"\udfff": 1}', rb'{"a": ["\ude00\ud83d"]}'],
    "invalid_utf8": [b'{"a": "\xff"}', b'{"a": "\xed\xa0\x80"}', b'{"a": "\xc0\x80"}'],
    "byte_order_mark": [b'\xef\xbb\xbf{"a": 1}'],
    "empty_body": [b"", b" \n\t\r"],
    "not_an_object": [b"[]", b'[{"a": 1}]', b"null", b"1", b'"a"', b"true"],
    "duplicate_member": [b'{"a": 1, "a": 1}', b'{"b": {"a": 1, "c": 2, "a": null}}'],
    "invalid_json": [
        b'{"a": 1} x',
        b'{"a": 1}{}',
        b'{"a": 1}\x00',
        b"{'a': 1}",
        b'{"a": 1,}',
        b'{"a": 01}',
        b'{"a": "\x00"}',
        b'{"a": "\n"}',
        b'{"a": "',
        b'{"a": "\\',
        b"]}",
        b'\x00{"a": 1}',
        '{"a": 1}'.encode("utf-16-le"),
    ],
    "nested_too_deeply": [
        b'{"a":' * 2000 + b"1" + b"}" * 2000,
        b'{"a":' + b"[" * 2000 + b"]" * 2000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 40_000,
    ],
}
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(MIN_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    # Brackets, quotes and backslashes are what the depth check could count wrongly.
    | st.text(
        st.sampled_from('[]{}"\\u0') | st.characters(exclude_characters="\x00", codec="utf-8")
    )
)
NAMES = st.text(st.characters(exclude_characters="\x00", codec="utf-8"))
OBJECTS = st.dictionaries(
    NAMES,
    st.recursive(
        SCALARS, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=20
    ),
)


def nested(depth: int) -> bytes:
    """An object of `depth` levels, itself the first."""
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


@pytest.mark.parametrize(
    ("code", "body"), [(code, body) for code, bodies in REFUSED.items() for body in bodies]
)
def test_refused_body(code: str, body: bytes) -> None:
    """Each is refused for its own reason, with a message that a response can carry."""
    with pytest.raises(ParseError) as refusal:
        parse(body)
    assert refusal.value.get_codes() == code
    assert str(refusal.value.detail).isascii()
    assert len(str(refusal.value.detail)) < 200


@given(value=OBJECTS, ascii_only=st.booleans(), indent=st.none() | st.just(2))
@example(value={"a": "\\u0000 \\ud800"}, ascii_only=True, indent=None)
def test_any_object_within_the_limits(value: dict[str, Any], ascii_only: bool, indent: Any) -> None:
    """It is read exactly as Python's own reader reads it."""
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert parse(body) == json.loads(body) == value


@given(body=st.binary() | st.text(st.sampled_from('{}[]":,\\u0d8 1e9-NaN')).map(str.encode))
def test_any_bytes(body: bytes) -> None:
    """Any bytes at all are an object or a `ParseError`."""
    try:
        value = parse(body)
    except ParseError:
        return
    assert value == json.loads(body)


def test_depth_boundary() -> None:
    """32 levels are read, 33 are not; brackets inside strings do not count."""
    assert parse(nested(MAX_DEPTH))
    with pytest.raises(ParseError, match="nested too deeply"):
        parse(nested(MAX_DEPTH + 1))
    assert parse(b'{"a": "' + b"[" * 100 + b'\\"' + b"{" * 100 + b'"}')


@pytest.mark.parametrize("value", [MIN_INTEGER, MAX_INTEGER, 0])
def test_integer_boundary(value: int) -> None:
    """Every signed 64-bit integer is read exactly."""
    assert parse(b'{"a": %d}' % value) == {"a": value}


@pytest.mark.parametrize("value", [MIN_INTEGER - 1, MAX_INTEGER + 1])
def test_integer_past_the_boundary(value: int) -> None:
    """One further is refused."""
    with pytest.raises(ParseError, match="64-bit"):
        parse(b'{"a": %d}' % value)


def test_duplicate_is_named() -> None:
    """The message names the member, escaped and cut to a length that fits a log line."""
    with pytest.raises(ParseError, match='"userId" occurs twice'):
        parse(b'{"a": {"userId": 1, "userId": 2}}')
    with pytest.raises(ParseError, match=r'^The member "\\u26a1+'):
        parse('{"⚡": 1, "⚡": 2}'.encode())


def test_escaped_pair() -> None:
    """Both halves of a pair together are one character."""
    assert parse(rb'{"a": "\ud83d\ude00"}') == {"a": "😀"}


@pytest.mark.parametrize("body", [b'"\\' * 130_000, b'\\"' * 130_000, b'"a' * 130_000])
def test_worst_strings_are_read_in_linear_time(body: bytes) -> None:
    """Unfinished and escaped quotes do not make the depth check backtrack (hours, if quadratic)."""
    with pytest.raises(ParseError):
        parse(body)


class Trickle(BytesIO):
    """A socket that hands out a few bytes at a time."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size or 0, 1000))


def test_limit_boundary(settings: Any) -> None:
    """The limit itself is read, however it trickles in; one byte more is a 413."""
    limit = settings.AEVON_MAX_BODY_BYTES
    assert len(read_limited(Trickle(b"x" * limit))) == limit
    endless = Trickle(b"x" * (3 * limit))
    with pytest.raises(BodyTooLarge):
        read_limited(endless)
    assert endless.tell() == limit + 1


def test_body_that_breaks_off() -> None:
    """A client that leaves in mid-body is at fault, not the server."""

    class Broken(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise UnreadablePostError("reset")

    with pytest.raises(ParseError, match="broke off"):
        read_limited(Broken())


def test_body_that_ends_before_its_length(api: Client) -> None:
    """What has arrived of it can be read, and was not all."""
    broken: dict[str, Any] = {"wsgi.input": BytesIO(b"{}"), "CONTENT_LENGTH": "20"}
    response = api.post("/api/echo/", content_type="application/json", **broken)
    assert response.status_code == 400
    assert response.json()["type"] == "/problems/unreadable-body"


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        'Application/JSON; charset="UTF-8"',
        "application/merge-patch+json",
    ],
)
def test_content_type_accepted(api: Client, content_type: str) -> None:
    """JSON and merge patch, in UTF-8 by name or by default."""
    response = api.patch("/api/echo/", b'{"a": "\xc3\xa9"}', content_type=content_type)
    assert (response.status_code, response.json()) == (200, {"a": "é"})


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "*/*",
        "application/*",
        "",
        "application/json; charset=utf-16",
        "application/json; charset=bz2",
        "application/json; charset=latin-1",
        "application/" + "x" * 100_000,
    ],
)
def test_content_type_refused(api: Client, content_type: str) -> None:
    """Anything else is a 415 problem."""
    response = api.generic("POST", "/api/echo/", b'{"a": 1}', content_type=content_type)
    assert response.status_code == 415
    assert response["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(("coding", "status"), [("gzip", 415), ("br", 415), ("identity", 200)])
def test_content_encoding(api: Client, coding: str, status: int) -> None:
    """A coded body could expand past the limit: only `identity` is read."""
    headers = {"Content-Encoding": coding}
    response = api.post("/api/echo/", {"a": 1}, content_type="application/json", headers=headers)
    assert response.status_code == status


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_body_where_none_is_read(api: Client, method: str) -> None:
    """What nobody reads is not refused either."""
    response = api.generic(method, "/api/echo/", b"\xff[", content_type="application/json")
    assert response.status_code in {200, 204}


def test_deep_body_over_http(api: Client) -> None:
    """The row of table B that plain REST framework answers with a 500."""
    body = REFUSED["nested_too_deeply"][0]
    response = api.post("/api/echo/", body, content_type="application/json")
    assert response.status_code == 400
    assert "nested too deeply" in response.json()["detail"]
