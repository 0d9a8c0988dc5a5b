"""The hook that draws the sequence diagrams."""

import xml.etree.ElementTree as ET

import pytest
import sequences

SOURCE = """
sequenceDiagram
    participant R as Reader
    participant D as Dragonfly
    R->>D: GET "a" < b
    D-->>R: nothing
    R->>R: waits
    Note over D: a note that is long enough to need a second line of its own
"""


def test_a_diagram_is_well_formed_and_can_be_read() -> None:
    """What stands in it is text, to the eye and to a screen reader."""
    svg = ET.fromstring(sequences.draw(SOURCE))[0]
    assert svg.get("aria-label", "").startswith('Reader to Dragonfly: GET "a" < b. Dragonfly to')
    texts = [each.text for each in svg.iter("text")]
    assert texts[:4] == ["Reader", "Dragonfly", 'GET "a" < b', "nothing"]
    assert len(texts) == 7  # the note has two lines
    assert [each.get("class") for each in svg.iter("path")].count("tip") == 3


def test_nothing_is_drawn_outside() -> None:
    """Every line and box lies within the picture."""
    svg = ET.fromstring(sequences.draw(SOURCE))[0]
    _, _, width, height = map(int, svg.get("viewBox", "").split())
    for box in svg.iter("rect"):
        assert 0 <= int(box.get("x", "")) <= width - int(box.get("width", ""))
        assert 0 <= int(box.get("y", "")) <= height - int(box.get("height", ""))


@pytest.mark.parametrize("line", ["A->>B: who is that", "loop forever", "R-)D: asynchronous"])
def test_what_cannot_be_drawn_is_an_error(line: str) -> None:
    """The build stops, instead of leaving something out."""
    with pytest.raises(sequences.NotUnderstood):
        sequences.draw(SOURCE + line)
