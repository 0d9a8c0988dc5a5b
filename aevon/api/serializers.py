"""Serializers that take exactly what they document, where REST framework would guess."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError

UNKNOWN = "This member is not known."
READ_ONLY = "This member is read-only."


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses unknown (`unknown_member`) and read-only (`read_only`) members, naming each.

    REST framework ignores both, so that `{"isStaff": true}` would look accepted.
    """

    def to_internal_value(self, data: Any) -> Any:
        """Validated members; `ValidationError` with the errors of all members at once."""
        refused = self._refused(data) if isinstance(data, Mapping) else {}
        try:
            value = super().to_internal_value(data)
        except ValidationError as error:
            if not isinstance(error.detail, dict):
                raise
            raise ValidationError({**error.detail, **refused}) from None
        if refused:
            raise ValidationError(refused)
        return value

    def _refused(self, data: Mapping[str, Any]) -> dict[str, list[ErrorDetail]]:
        refused = {}
        for name in data:
            field = self.fields.get(name)
            if field is None or isinstance(field, serializers.HiddenField):
                refused[name] = [ErrorDetail(UNKNOWN, code="unknown_member")]
            elif field.read_only:
                refused[name] = [ErrorDetail(READ_ONLY, code="read_only")]
        return refused


class StrictIntegerField(serializers.IntegerField):
    """A JSON integer: no string, no boolean, and no `1.0`."""

    def to_internal_value(self, data: Any) -> int:
        """`data` itself, or a `ValidationError` with the code `invalid`."""
        if type(data) is not int:  # a bool is an int to isinstance
            self.fail("invalid")
        return data


class StrictCharField(serializers.CharField):
    """A JSON string, kept as it is: no number, no boolean, no trimming.

    REST framework's own validators refuse NUL and half a surrogate pair.
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("trim_whitespace", False)
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> str:
        """`data` itself, or a `ValidationError` with the code `invalid`."""
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class StrictBooleanField(serializers.BooleanField):
    """A JSON boolean: not `"true"`, `"on"` or `1`."""

    def to_internal_value(self, data: Any) -> bool:
        """`data` itself, or a `ValidationError` with the code `invalid`."""
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data
