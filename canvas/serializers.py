"""What the endpoints take and give. Of a layout for the documentation: `layout.py` checks it."""

from typing import Any

from rest_framework import serializers

from aevon.api.serializers import StrictCharField, StrictSerializer
from canvas import layout
from canvas.models import NOTE_TEXT_MAX


class PositionSerializer(StrictSerializer):
    """The upper left corner, in pixels."""

    x = serializers.FloatField(min_value=-layout.COORDINATE_MAX, max_value=layout.COORDINATE_MAX)
    y = serializers.FloatField(min_value=-layout.COORDINATE_MAX, max_value=layout.COORDINATE_MAX)


class SizeSerializer(StrictSerializer):
    """In pixels."""

    width = serializers.FloatField(min_value=1, max_value=layout.SIDE_MAX)
    height = serializers.FloatField(min_value=1, max_value=layout.SIDE_MAX)


class MicroAppSerializer(StrictSerializer):
    """One window. A higher `zIndex` is nearer to the user."""

    type = serializers.CharField(max_length=layout.TYPE_MAX)
    title = serializers.CharField(max_length=layout.TITLE_MAX, allow_blank=True)
    position = PositionSerializer()
    size = SizeSerializer()
    zIndex = serializers.IntegerField(min_value=-layout.Z_INDEX_MAX, max_value=layout.Z_INDEX_MAX)


class LayoutSerializer(StrictSerializer):
    """All micro-apps by id (1 to 64 of `A-Za-z0-9_.-`), at most 500."""

    microApps = serializers.DictField(child=MicroAppSerializer())


class PositionPatchSerializer(PositionSerializer):
    """The members to change."""

    x = serializers.FloatField(required=False)
    y = serializers.FloatField(required=False)


class SizePatchSerializer(SizeSerializer):
    """The members to change."""

    width = serializers.FloatField(required=False)
    height = serializers.FloatField(required=False)


class MicroAppPatchSerializer(MicroAppSerializer):
    """The members to change; a new micro-app needs all of them."""

    type = serializers.CharField(required=False, max_length=layout.TYPE_MAX)
    title = serializers.CharField(required=False, max_length=layout.TITLE_MAX, allow_blank=True)
    position = PositionPatchSerializer(required=False)
    size = SizePatchSerializer(required=False)
    zIndex = serializers.IntegerField(required=False)


class LayoutPatchSerializer(StrictSerializer):
    """A JSON Merge Patch (RFC 7396): the micro-apps to change; null removes one."""

    microApps = serializers.DictField(
        child=MicroAppPatchSerializer(allow_null=True), required=False
    )


class CanvasSerializer(serializers.Serializer[Any]):
    """The live canvas."""

    userId = serializers.IntegerField()
    layout = LayoutSerializer()
    revision = serializers.IntegerField(min_value=0, help_text="Rises with every change.")
    updatedAt = serializers.DateTimeField(
        allow_null=True, help_text="Null on a canvas that was never changed."
    )
    persistedRevision = serializers.IntegerField(
        min_value=0, help_text="The highest revision that is known to be in PostgreSQL."
    )
    persistedAt = serializers.DateTimeField(
        allow_null=True, help_text="Since when; null while nothing is."
    )


class NoteSerializer(StrictSerializer):
    """A micro-app's text."""

    text = StrictCharField(allow_blank=True, max_length=NOTE_TEXT_MAX)
    version = serializers.IntegerField(
        read_only=True, min_value=0, help_text="Rises with every change."
    )
    updatedAt = serializers.DateTimeField(
        source="updated_at",
        read_only=True,
        allow_null=True,
        help_text="Null on a note that was never written.",
    )
