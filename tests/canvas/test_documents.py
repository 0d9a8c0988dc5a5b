"""The bytes under `canvas:{userId}`."""

import msgspec
import pytest

from aevon.cache.codec import CorruptValue, decode, encode
from canvas.documents import CanvasDocument, empty, public
from tests.canvas.helpers import window

DOCUMENT = CanvasDocument(
    user_id=7,
    layout={"microApps": {"notes": window(position={"x": 10, "y": 20.5})}},  # type: ignore[dict-item]
    revision=42,
    updated_at="2026-11-24T10:00:00.000000Z",
    dirty_since=1764000000.25,
)
GOLDEN = (
    b'{"userId":7,"layout":{"microApps":{"notes":{"type":"note","title":"Notes",'
    b'"position":{"x":10,"y":20.5},"size":{"width":320,"height":200},"zIndex":1}}},'
    b'"revision":42,"updatedAt":"2026-11-24T10:00:00.000000Z","_dirtySince":1764000000.25}'
)
GOLDEN_EMPTY = b'{"userId":7,"layout":{"microApps":{}},"revision":0,"updatedAt":null}'


def test_the_bytes_are_as_they_have_always_been() -> None:
    """Changing them needs a way for the documents that are in the cache."""
    assert encode(DOCUMENT) == GOLDEN
    assert decode(GOLDEN, CanvasDocument) == DOCUMENT


def test_the_times_of_changes_stand_before_what_the_layer_notes() -> None:
    """They belong to what compare-and-set compares."""
    changed = msgspec.structs.replace(DOCUMENT, changed_at={"notes": {"zIndex": 1764000000000000}})
    noted = b',"_changedAt":{"notes":{"zIndex":1764000000000000}},"_dirtySince"'
    assert encode(changed) == GOLDEN.replace(b',"_dirtySince"', noted)
    assert decode(encode(changed), CanvasDocument) == changed


def test_a_saved_document_does_not_say_that_it_is_unsaved() -> None:
    """`_dirtySince` is left out, not null."""
    assert encode(empty(7)) == GOLDEN_EMPTY
    assert decode(GOLDEN_EMPTY, CanvasDocument) == empty(7)


def test_clients_do_not_see_the_cache_layers_members() -> None:
    """What begins with `_` is nobody else's business, but for what is persisted."""
    told = ["persistedRevision", "persistedAt"]
    assert list(public(DOCUMENT)) == ["userId", "layout", "revision", "updatedAt", *told]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"microApps"', b'"apps"'),
        (b'"x":10', b'"x":"10"'),
        (b'"title":"Notes",', b""),
        (b'"revision":42', b'"revision":-1'),
        (b'"zIndex":1', b'"zIndex":1.5'),
    ],
)
def test_a_document_of_another_shape_is_corrupt(old: bytes, new: bytes) -> None:
    """It is then read from PostgreSQL; no reader meets half a window."""
    with pytest.raises(CorruptValue):
        decode(GOLDEN.replace(old, new), CanvasDocument)


def test_numbers_come_back_as_they_were_written() -> None:
    """10 stays 10 and 10.0 stays 10.0."""
    layout = decode(GOLDEN.replace(b'"x":10', b'"x":10.0'), CanvasDocument)
    assert b'"x":10.0' in msgspec.json.encode(layout)
