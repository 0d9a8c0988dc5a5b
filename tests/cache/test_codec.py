"""Value <-> bytes."""

import contextlib
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aevon.cache import CorruptValue, rfc3339
from aevon.cache.codec import (
    MISS,
    decode,
    encode,
    is_stamped,
    members_of_the_layer,
    stamped,
)
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


LIFE = "0123456789ab"
STAMPED = '{"userId":7,"text":"ü","version":2,"_incarnation":"0123456789ab"}'.encode()


def test_stamped_golden_bytes() -> None:
    """The stamp is the last member, and says nothing to who reads the document."""
    assert stamped(BYTES, LIFE) == STAMPED
    assert decode(STAMPED, Note) == NOTE
    assert is_stamped(STAMPED, LIFE)


@pytest.mark.parametrize(
    "raw",
    [
        BYTES,
        STAMPED.replace(b"0123", b"9123"),
        STAMPED[:-1] + b" }",
        STAMPED + b"\n",
        STAMPED.replace(b'":"0', b'": "0'),
        STAMPED[:-1] + b',"more":1}',
        b"",
    ],
)
def test_bytes_that_are_not_stamped_so(raw: bytes) -> None:
    """Compared as bytes: what another program wrote anew is checked first."""
    assert not is_stamped(raw, LIFE)


@given(st.text())
def test_text_that_is_no_stamp(text: str) -> None:
    """What stands in a document's own text cannot end like one: a quote in it is escaped."""
    forged = encode(Note(user_id=7, text=text + f'","_incarnation":"{LIFE}"}}', version=2))
    assert not is_stamped(forged, LIFE)


ENTRIES = {
    b'{"_lease":"x"}': ["_lease"],
    b'{"_fence":{"a":1},"_floor":7}': ["_fence", "_floor"],
    b'{"_gone":6,"_incarnation":"0123456789ab"}': ["_gone", "_incarnation"],
    b'{"_a":{}}': ["_a"],
}


@pytest.mark.parametrize("raw", ENTRIES)
def test_entry_without_state(raw: bytes) -> None:
    """Members of the cache layer alone are a miss."""
    assert decode(raw, Note) is MISS
    assert repr(MISS) == "MISS"
    assert list(members_of_the_layer(raw) or {}) == ENTRIES[raw]


@pytest.mark.parametrize(
    "raw", [b"{}", b"[]", b"1", b"", b"{", b"\xff", STAMPED, b'{"_a":1,"b":2}']
)
def test_bytes_that_are_no_entry_of_the_layer(raw: bytes) -> None:
    """They carry something of their own, or nothing at all."""
    assert members_of_the_layer(raw) is None


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


pieces = st.sampled_from([b"{", b"}", b'"', b",", b":", b"_", b"null", b"1e999", b"\xff", b"\x00"])


@given(st.binary() | st.tuples(st.integers(0, len(STAMPED)), st.integers(0, 9), pieces))
def test_any_bytes_are_a_document_none_or_corrupt(raw: bytes | tuple[int, int, bytes]) -> None:
    """Nothing else is raised; a document is one that gives the same bytes for ever after."""
    if isinstance(raw, tuple):
        at, cut, piece = raw
        raw = STAMPED[:at] + piece + STAMPED[at + cut :]
    with contextlib.suppress(CorruptValue):
        found = decode(raw, Note)
        assert found is MISS or decode(encode(found), Note) == found
    members_of_the_layer(raw)
