"""What the endpoints of sessions take and give."""

from rest_framework import serializers

from aevon.api.serializers import StrictBooleanField, StrictCharField, StrictSerializer
from auth_sessions.models import SovereigntyClass


class LoginSerializer(StrictSerializer):
    """A user's name and password, and what becomes of their other sessions."""

    username = StrictCharField(max_length=150)
    password = StrictCharField(max_length=4096)
    endOthers = StrictBooleanField(
        default=False, help_text="End all of the user's other sessions first."
    )


class RefreshSerializer(StrictSerializer):
    """A refresh token."""

    refresh = StrictCharField(max_length=4096)


class LogoutSerializer(StrictSerializer):
    """How far a logout goes."""

    everywhere = StrictBooleanField(default=False, help_text="End all of the user's sessions.")


class PasswordSerializer(StrictSerializer):
    """A password and the one to take its place."""

    currentPassword = StrictCharField(max_length=4096)
    newPassword = StrictCharField(max_length=4096)


class TokenPairSerializer(serializers.Serializer[object]):
    """A new pair of tokens."""

    access = serializers.CharField()
    refresh = serializers.CharField()
    expiresAt = serializers.IntegerField(help_text="End of the access token, Unix seconds.")


class LoginResponseSerializer(TokenPairSerializer):
    """A new pair of tokens and the session that they belong to."""

    sid = serializers.UUIDField()


class BrowserSessionSerializer(serializers.Serializer[object]):
    """A page's session: its access token, and who the user is."""

    access = serializers.CharField()
    sid = serializers.UUIDField()
    expiresAt = serializers.IntegerField(help_text="End of the access token, Unix seconds.")
    userId = serializers.IntegerField()
    username = serializers.CharField()
    sovereigntyClass = serializers.ChoiceField(SovereigntyClass.choices)


class SessionSerializer(serializers.Serializer[object]):
    """One of the user's live sessions."""

    sid = serializers.UUIDField()
    createdAt = serializers.DateTimeField(source="created_at")
    lastSeenAt = serializers.DateTimeField(
        source="last_seen_at", help_text="To within the lifetime of an access token."
    )
    expiresAt = serializers.DateTimeField(
        source="refresh_expires_at", help_text="When it ends unless it is refreshed."
    )
    userAgent = serializers.CharField(source="user_agent")
    address = serializers.CharField(help_text="The network that it was opened from.")
    current = serializers.BooleanField(
        default=False, help_text="Whether this very request belongs to it."
    )


class SessionListSerializer(serializers.Serializer[object]):
    """All of them."""

    sessions = SessionSerializer(many=True)
