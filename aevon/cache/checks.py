"""What `manage.py check` says about the cache layer's settings."""

from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register
from django.core.exceptions import ImproperlyConfigured

from aevon.cache import conf


@register(Tags.caches)
def settings_are_sound(**_: Any) -> list[CheckMessage]:
    """E001: a setting of the cache layer is wrong."""
    try:
        conf.current()
    except (ImproperlyConfigured, TypeError) as error:
        return [Error(str(error), id="aevon_cache.E001")]
    return []
