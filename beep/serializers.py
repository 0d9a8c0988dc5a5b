"""What BEEP's endpoints take and give."""

from typing import Any, get_args

from rest_framework import serializers

from aevon.api.serializers import StrictCharField, StrictSerializer
from beep.models import COMMAND_MAX
from beep.resolution import Why


class CommandTextField(StrictCharField):
    """1 to 4,000 characters, kept as they are; white space alone is blank."""

    pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_length=1, max_length=COMMAND_MAX, **kwargs)

    def run_validation(self, data: Any = serializers.empty) -> Any:
        """The text, or a `ValidationError`."""
        if isinstance(data, str) and not data.strip():
            self.fail("blank")
        return super().run_validation(data)


class CommandSerializer(StrictSerializer):
    """A command to BEEP."""

    text = CommandTextField()


class ReferenceSerializer(serializers.Serializer[object]):
    """A phrase of the command and what it meant."""

    phrase = serializers.CharField()
    value = serializers.CharField()
    why = serializers.ChoiceField(choices=get_args(Why), help_text="The rule (docs/beep.md).")
    seq = serializers.IntegerField(
        allow_null=True, help_text="The turn that says so; null: the canvas does."
    )


class ResolvedSerializer(serializers.Serializer[object]):
    """What the command was understood as: an intent, or a question back."""

    intent = serializers.CharField(allow_null=True)
    arguments = serializers.DictField()
    references = ReferenceSerializer(many=True)
    question = serializers.CharField(allow_null=True)
    candidates = serializers.ListField(
        child=serializers.CharField(), help_text="What the question names."
    )
    takesBack = serializers.IntegerField(
        allow_null=True, help_text="The turn that was taken back first."
    )


class CommandAnswerSerializer(serializers.Serializer[object]):
    """BEEP's answer."""

    seq = serializers.IntegerField(help_text="The turn's number: rises by one, never reused.")
    response = serializers.CharField()
    resolved = ResolvedSerializer()
    at = serializers.CharField(help_text="RFC 3339, UTC, microseconds.")


class TurnSerializer(serializers.Serializer[object]):
    """One turn, as the cached list holds it."""

    seq = serializers.IntegerField()
    command = serializers.CharField()
    response = serializers.CharField()
    at = serializers.CharField(help_text="RFC 3339, UTC, microseconds.")


class HistorySerializer(serializers.Serializer[object]):
    """The last turns, oldest first, at most five."""

    turns = TurnSerializer(many=True)
