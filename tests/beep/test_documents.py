"""The stored format of a turn."""

from aevon.cache.codec import encode
from beep.documents import TurnDocument


def test_an_element_of_the_list_has_its_golden_bytes() -> None:
    """Other languages read these bytes: changing them needs a migration path."""
    turn = TurnDocument(
        seq=7, command="öffne «it»", response='A "b".', at="2026-11-24T10:00:00.000000Z"
    )
    assert (
        encode(turn)
        == (
            '{"seq":7,"command":"öffne «it»","response":"A \\"b\\".",'
            '"at":"2026-11-24T10:00:00.000000Z"}'
        ).encode()
    )
