"""Members and types are taken as documented or not at all."""

from typing import Any

import pytest
from django.test import Client
from rest_framework import serializers

from aevon.api.serializers import (
    StrictBooleanField,
    StrictCharField,
    StrictIntegerField,
    StrictSerializer,
)

pytestmark = pytest.mark.urls("tests.aevon.api.views")


class Point(StrictSerializer):
    x = StrictIntegerField(max_value=10)
    owner = serializers.HiddenField(default="me")


class Document(StrictSerializer):
    points = Point(many=True)
    userId = StrictIntegerField(read_only=True)  # noqa: N815 - the API is camelCase


def codes(data: Any) -> Any:
    """The error codes for `data` as a `Document`."""
    document = Document(data=data)
    assert not document.is_valid()
    return serializers.ValidationError(document.errors).get_codes()


def test_unknown_and_read_only_members() -> None:
    """Each is named, beside the errors of the known ones."""
    assert codes({"userId": 1, "isStaff": True}) == {
        "points": ["required"],
        "userId": ["read_only"],
        "isStaff": ["unknown_member"],
    }
    assert codes({"points": [], "isStaff": True}) == {"isStaff": ["unknown_member"]}


def test_unknown_member_in_a_list() -> None:
    """Nested serializers are strict too; a hidden field is not a member."""
    points = [{"x": 1}, {"x": 11, "z": 0}, {"x": 1, "owner": "you"}]
    assert codes({"points": points})["points"] == {
        1: {"x": ["max_value"], "z": ["unknown_member"]},
        2: {"owner": ["unknown_member"]},
    }


@pytest.mark.parametrize("data", [[], "a", 1, None])
def test_not_an_object(data: Any) -> None:
    """What is no object at all fails as a whole."""
    assert "non_field_errors" in codes(data)


def test_valid_document() -> None:
    """The documented members pass, hidden defaults included."""
    document = Document(data={"points": [{"x": 1}]})
    assert document.is_valid(), document.errors
    assert document.validated_data == {"points": [{"x": 1, "owner": "me"}]}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((StrictIntegerField(), value) for value in (True, "1", 1.0, 1.5, [], {})),
        *((StrictCharField(), value) for value in (True, 1, 1.5, [], {}, "\x00", "\ud800", "")),
        *((StrictBooleanField(), value) for value in ("true", "on", 1, 0, 1.0, [], {})),
        *((field(), None) for field in (StrictIntegerField, StrictCharField)),
        (StrictBooleanField(), None),
    ],
)
def test_wrong_type(field: Any, value: Any) -> None:
    """No value is converted from another JSON type."""
    with pytest.raises(serializers.ValidationError):
        field.run_validation(value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (StrictIntegerField(), 2**63 - 1),
        (StrictCharField(), "  a  "),
        (StrictBooleanField(), False),
        (StrictBooleanField(allow_null=True), None),
    ],
)
def test_right_type(field: Any, value: Any) -> None:
    """The value itself comes back, untrimmed."""
    assert field.run_validation(value) == value


def test_refusal_over_http(api: Client) -> None:
    """Table B: the 400 names each member."""
    body = {"stake": "1", "version": 3, "isStaff": True}
    response = api.post("/api/stake/", body, content_type="application/json")
    assert response.status_code == 400
    assert {(error["field"], error["code"]) for error in response.json()["errors"]} == {
        ("stake", "invalid"),
        ("version", "read_only"),
        ("isStaff", "unknown_member"),
    }


def test_long_member_name(api: Client) -> None:
    """A name of any length is echoed only in part."""
    response = api.post("/api/stake/", {"x" * 100_000: 1}, content_type="application/json")
    assert response.status_code == 400
    assert len(response.content) < 2000
