"""Value <-> bytes."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aevon.cache import CorruptValue, rfc3339
from aevon.cache.codec import MISS, decode, encode
from tests.cache.ledgers import Note

NOTE = Note(user_id=7, text="ü", version=2)
BYTES = '{"userId":7,"text":"ü","version":2}'.encode()


def test_document_golden_bytes() -> None:
    """UTF-8, camelCase, members in the order declared, no spaces."""
    assert encode(NOTE) == BYTES
    assert decode(BYTES, Note) == NOTE


@given(st.builds(Note, user_id=st.integers(1, 2**63 - 1), text=st.text(), version=st.integers(1)))
def test_document_round_trip(note: Note) -> None:
    """Whatever a document holds comes back equal."""
    assert decode(encode(note), Note) == note


@pytest.mark.parametrize("raw", [b'{"_lease":"x"}', b'{"_fence":["a"],"_floor":7}', b'{"_a":{}}'])
def test_entry_without_state(raw: bytes) -> None:
    """Members of the cache layer alone are a miss."""
    assert decode(raw, Note) is MISS
    assert repr(MISS) == "MISS"


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"{}", b"null", b"[]", b"1", b'"text"', b"{", b"\xff\xfe", b"\x80\x04pickle"),
        b'{"userId":7,"text":"a"}',  # an older format: a member is missing
        b'{"userId":"7","text":"a","version":1}',
        b'{"userId":7,"text":1,"version":1}',
        b'{"userId":7,"text":"a","version":1} x',
        b'{"userId":7,"text":"\xff","version":1}',
        b'{"_lease":"x","userId":7}',
        b"[" * 100_000,
        b'{"userId":' * 100_000,
        b'{"other":' + b"[" * 100_000 + b"]" * 100_000 + b',"userId":7,"text":"a","version":1}',
    ],
)
def test_bytes_that_are_not_the_document(raw: bytes) -> None:
    """Everything else is corrupt, however it is broken."""
    with pytest.raises(CorruptValue):
        decode(raw, Note)


def test_document_of_a_newer_format() -> None:
    """Members that this version does not know are skipped."""
    assert decode(BYTES[:-1] + b',"more":[1,{"a":2}],"_fence":[]}', Note) == NOTE


def test_time_in_another_zone() -> None:
    """Times are UTC with six digits of microseconds and a Z."""
    moment = datetime(2026, 11, 24, 12, 0, 0, 5, tzinfo=timezone(timedelta(hours=2)))
    assert rfc3339(moment) == "2026-11-24T10:00:00.000005Z"
    assert rfc3339(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00.000000Z"
