"""`Idempotency-Key`, where it is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from aevon.api.idempotency import HEADER, KEY_MAX, headers, key_of
from beep.models import Turn
from klepsydra.models import Interaction


def request(key: str | None) -> Request:
    """A request with this key."""
    sent = {} if key is None else {HEADER: key}
    return Request(APIRequestFactory().post("/", headers=sent))


@pytest.mark.parametrize("key", [None, "7f3c", "!~", "x" * KEY_MAX])
def test_a_key_comes_as_it_was_sent(key: str | None) -> None:
    """Visible ASCII, or none at all."""
    assert key_of(request(key)) == key


@pytest.mark.parametrize("key", ["", " ", "a b", "é", "a\x7f", "x" * (KEY_MAX + 1)])
def test_what_is_no_key_is_refused_by_name(key: str) -> None:
    """400 with the header named."""
    with pytest.raises(ValidationError) as refusal:
        key_of(request(key))
    assert list(refusal.value.get_codes()) == [HEADER]


@pytest.mark.parametrize("model", [Turn, Interaction])
def test_the_longest_key_fits_its_column(model: type[Turn | Interaction]) -> None:
    """Or PostgreSQL would refuse what the API took."""
    assert model._meta.get_field("idempotency_key").max_length == KEY_MAX


def test_an_answer_that_was_given_before_says_so() -> None:
    """And only that one."""
    assert headers(replayed=True) == {"Idempotency-Replayed": "true"}
    assert headers(replayed=False) == {}


@given(st.text(st.characters(max_codepoint=255)) | st.text("ab~! \x7f\x00", max_size=KEY_MAX + 9))
def test_any_text_is_a_key_or_refused(text: str) -> None:
    """A key is what it was sent as, visible, and fits."""
    try:
        key = key_of(request(text))
    except ValidationError:
        key = None
    visible = text.isascii() and text.isprintable() and " " not in text
    assert key == (text if visible and 1 <= len(text) <= KEY_MAX else None)
