"""Which resolver BEEP uses: the one that `AEVON_BEEP_RESOLVER` names."""

from functools import lru_cache

from django.conf import settings
from django.utils.module_loading import import_string

from beep.resolution import Resolver


def current() -> Resolver:
    """The resolver of the settings; raises ImportError where there is none of this path."""
    return _imported(settings.AEVON_BEEP_RESOLVER)


@lru_cache(maxsize=8)
def _imported(path: str) -> Resolver:
    resolver: Resolver = import_string(path)
    return resolver
