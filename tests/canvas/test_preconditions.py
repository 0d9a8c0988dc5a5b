"""`If-Match` and `If-None-Match`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.exceptions import ParseError

from canvas.preconditions import names, strong


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("*", None),
        (" * ", None),
        ('"7"', {"7"}),
        ('"7", "8"', {"7", "8"}),
        ('"7","8"', {"7", "8"}),
        ('W/"7", "8"', {"8"}),
        ('W/"7"', set()),
        ('""', {""}),
        ('"a,b"', {"a,b"}),
    ],
)
def test_if_match_gives_the_tags_that_may_match(header: str | None, expected: object) -> None:
    """Weak ones never do (RFC 9110, 13.1.1)."""
    assert strong(header) == expected


@pytest.mark.parametrize(
    "header", ["", "7", '"7', '7"', '"7" "8"', '"7",', 'w/"7"', '"7", *', '"7\n"', "W/", '"7";']
)
def test_a_malformed_header_is_refused(header: str) -> None:
    """Guessing would change what the client meant to protect."""
    with pytest.raises(ParseError):
        strong(header)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, False),
        ("*", True),
        ('"7"', True),
        ('W/"7"', True),
        ('"6", "7"', True),
        ('"70"', False),
    ],
)
def test_if_none_match_compares_weakly(header: str | None, expected: bool) -> None:
    """RFC 9110, 13.1.2."""
    assert names(header, "7") is expected


@given(st.text(st.sampled_from('W/"*, \t7x\xff\x00')) | st.text())
def test_any_text_is_a_condition_or_refused(header: str) -> None:
    """Both headers take the same lists, and a tag is found again as it was sent."""
    try:
        tags = strong(header)
    except ParseError:
        with pytest.raises(ParseError):
            names(header, "7")
        return
    assert tags is None or all(f'"{tag}"' in header and names(header, tag) for tag in tags)
