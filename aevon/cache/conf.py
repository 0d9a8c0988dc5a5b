"""The cache layer's settings: typed, read at call time from `settings.AEVON_CACHE`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

SCHEMES = ("redis://", "rediss://", "unix://")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """`AEVON_CACHE`, checked. Seconds unless the name says otherwise.

    Raises `ImproperlyConfigured` naming the setting.
    """

    url: str
    connect_timeout_seconds: float = 0.1
    read_timeout_seconds: float = 0.3
    pool_size: int = 32
    pool_wait_seconds: float = 0.25
    breaker_open_seconds: float = 1.0
    lease_seconds: float = 5.0
    lease_wait_seconds: float = 0.5
    fence_seconds: float = 5.0
    gone_ttl_seconds: int = 60
    psyche_ttl_seconds: int = 86_400
    canvas_idle_ttl_seconds: int = 86_400
    convo_history_ttl_seconds: int = 86_400
    # How many entries of a keyspace each process keeps for itself (`near_cache`).
    near_cache: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_url(self.url)
        _check_near_cache(self.near_cache)
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name not in ("url", "near_cache") and not _is_positive(value):
                raise ImproperlyConfigured(
                    f"AEVON_CACHE[{each.name.upper()!r}] must be a number above 0, not {value!r}."
                )


def _check_url(url: Any) -> None:
    if not isinstance(url, str) or not url.startswith(SCHEMES):
        raise ImproperlyConfigured(f"DRAGONFLY_URL must begin with {', '.join(SCHEMES)}.")
    try:
        _ = urlsplit(url).port
    except ValueError:
        # Not the error's own text: it may quote the password.
        raise ImproperlyConfigured(
            "DRAGONFLY_URL cannot be read: its port must be a number up to 65535, and special "
            "characters of the password must be percent-encoded."
        ) from None


def _check_near_cache(limits: Any) -> None:
    if not isinstance(limits, dict) or not all(
        isinstance(name, str) and isinstance(limit, int) and _is_positive(limit)
        for name, limit in limits.items()
    ):
        raise ImproperlyConfigured(
            "AEVON_CACHE['NEAR_CACHE'] must be whole numbers above 0 by the names of keyspaces,"
            f" not {limits!r}."
        )


def _is_positive(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return math.isfinite(value) and value > 0


def current() -> CacheSettings:
    """The settings in force now; tests may put another dict in the place of `AEVON_CACHE` at any
    time."""
    global _last  # noqa: PLW0603  checked again only where it is another: every write asks
    values = settings.AEVON_CACHE
    known = _last
    if known is None or known[0] is not values:
        known = _last = values, _checked(values)
    return known[1]


_last: tuple[dict[str, Any], CacheSettings] | None = None


def _checked(given: dict[str, Any]) -> CacheSettings:
    values: dict[str, Any] = {name.lower(): value for name, value in given.items()}
    unknown = values.keys() - {each.name for each in fields(CacheSettings)}
    if unknown:
        raise ImproperlyConfigured(f"AEVON_CACHE has unknown entries: {', '.join(sorted(unknown))}")
    return CacheSettings(**values)
