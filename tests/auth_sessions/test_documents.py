"""What Dragonfly holds under `session:{userId}`."""

import pytest

from aevon.cache import CorruptValue
from aevon.cache.codec import decode, encode
from auth_sessions.documents import SessionDocument

SID = "0d5ce2a4-2d0c-4a43-a2a9-5ac7d1d53c0c"
DOCUMENT = SessionDocument(
    user_id=7,
    username="ada",
    status="active",
    sovereignty_class="SOVEREIGN",
    permissions=["canvas.change_canvas"],
    sessions={SID: 1_800_000_000},
    version=3,
    expires_at=1_800_000_000,
)
BYTES = (
    b'{"userId":7,"username":"ada","status":"active","sovereigntyClass":"SOVEREIGN",'
    b'"permissions":["canvas.change_canvas"],'
    b'"sessions":{"0d5ce2a4-2d0c-4a43-a2a9-5ac7d1d53c0c":1800000000},'
    b'"version":3,"expiresAt":1800000000}'
)


def test_golden_bytes() -> None:
    """Gateways in other languages read these; a change needs a migration path."""
    assert encode(DOCUMENT) == BYTES
    assert decode(BYTES, SessionDocument) == DOCUMENT


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"active"', b'"root"'),
        (b'"SOVEREIGN"', b'"GOD\\r\\nX-User-Id: 1"'),
        (b'"SOVEREIGN"', b"null"),
        (b"1800000000}", b'"never"}'),
        (b'"permissions":["canvas.change_canvas"],', b""),
        (b'["canvas.change_canvas"]', b'"*"'),
    ],
)
def test_document_edited_by_hand(old: bytes, new: bytes) -> None:
    """What no row could say is corrupt."""
    with pytest.raises(CorruptValue):
        decode(BYTES.replace(old, new, 1), SessionDocument)
