"""The settings of the cache layer."""

from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured

from aevon.cache import conf


def change(settings: Any, **values: Any) -> None:
    """Override entries of `AEVON_CACHE`."""
    settings.AEVON_CACHE = {**settings.AEVON_CACHE, **values}


def test_settings_read_at_call_time(settings: Any) -> None:
    """A change is seen at once."""
    change(settings, POOL_SIZE=3)
    assert conf.current().pool_size == 3


@pytest.mark.parametrize("value", [0, -1, "5", None, True, float("nan"), float("inf"), [1]])
def test_setting_that_is_not_a_number_above_0(settings: Any, value: Any) -> None:
    """The refusal names the setting."""
    change(settings, READ_TIMEOUT_SECONDS=value)
    with pytest.raises(ImproperlyConfigured, match="READ_TIMEOUT_SECONDS"):
        conf.current()


@pytest.mark.parametrize(
    "url",
    [
        *("", "localhost:6379", "http://localhost", "memcached://x", "redis:/x:1", None, 5),
        *("redis://host:port/0", "redis://host:99999/0", "redis://:p[ss@host:1/0"),
    ],
)
def test_url_that_is_not_a_servers(settings: Any, url: Any) -> None:
    """The refusal names the variable and does not repeat the password."""
    change(settings, URL=url)
    with pytest.raises(ImproperlyConfigured, match="DRAGONFLY_URL") as refusal:
        conf.current()
    assert "p[ss" not in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    ["redis://h", "redis://h:1/0", "rediss://u:p%40@h:1", "unix:///run/df.sock", "redis://[::1]:1"],
)
def test_url_that_is_a_servers(settings: Any, url: str) -> None:
    """All forms of the contract are taken."""
    change(settings, URL=url)
    assert conf.current().url == url


def test_setting_that_nobody_knows(settings: Any) -> None:
    """A misspelt name is found."""
    change(settings, POOL_SICE=3)
    with pytest.raises(ImproperlyConfigured, match="pool_sice"):
        conf.current()


def test_check_with_a_wrong_setting(settings: Any) -> None:
    """`manage.py check` finds it."""
    change(settings, POOL_SIZE=0)
    assert [error.id for error in run_checks(tags=["caches"])] == ["aevon_cache.E001"]


def test_check_without_an_address(settings: Any) -> None:
    """A missing entry is found, too."""
    settings.AEVON_CACHE = {}
    assert [error.id for error in run_checks(tags=["caches"])] == ["aevon_cache.E001"]


def test_check_with_sound_settings() -> None:
    """Nothing to say."""
    assert run_checks(tags=["caches"]) == []
