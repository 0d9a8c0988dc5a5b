"""What `manage.py check` says about the keys of tokens."""

from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register
from django.core.exceptions import ImproperlyConfigured

from auth_sessions import keys


@register(Tags.security)
def keys_are_sound(**_: Any) -> list[CheckMessage]:
    """E001: a key cannot be read, or is too weak to sign tokens with."""
    try:
        keys.ring()
    except ImproperlyConfigured as error:
        hint = "docs/deployment.md, Keys of tokens, says what a key may be."
        return [Error(str(error), hint=hint, id="auth_sessions.E001")]
    return []
