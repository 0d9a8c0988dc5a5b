"""What `manage.py check --database default` says about the cache server, by asking it.

Canvases that are not yet in PostgreSQL live there, so it must keep what it was given, and give it
to nobody else. Each web process logs the same when it starts (`tell_once`).
"""

import logging
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from django.core.checks import WARNING, CheckMessage, Info, Tags, register
from django.core.checks import Warning as CheckWarning
from django.core.exceptions import ImproperlyConfigured

from aevon.cache import conf
from aevon.cache.connection import CacheUnavailable, Statement, statement

logger = logging.getLogger(__name__)

TAG: Final = "aevon_cache_server"
HINT: Final = "docs/deployment.md, What the check finds, tells what to do."
OLDEST_DRAGONFLY: Final = (1, 40)
OLDEST_REDIS: Final = (6, 2)


@register(Tags.database, TAG)
def server_is_safe(*, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """W010 to W019, I020. Asks the server only where servers may be asked: a plain `check` works
    without a network."""
    return found() if databases else []


def found() -> list[CheckMessage]:
    """What the server in force says of itself that is unsafe."""
    try:
        url = conf.current().url
        told = statement()
    except (ImproperlyConfigured, TypeError):
        return []  # E001
    except CacheUnavailable as error:
        return [_warning(10, f"The cache server cannot be asked ({error}).")]
    return [*_address(url), *unsafe(told)]


def tell_once() -> None:
    """Log the warnings, in a thread: nobody waits for the server at a start."""
    threading.Thread(target=_tell, name="cache-server-checks", daemon=True).start()


def _tell() -> None:
    for message in found():
        if message.level >= WARNING and not message.is_silenced():
            logger.warning("%s: %s", message.id, message.msg)


def unsafe(told: Statement) -> Iterator[CheckMessage]:
    """What of these facts loses data, or shows it."""
    yield from _eviction(told.info)
    if told.open:
        yield _warning(12, "The cache server answers without a password.")
    yield from _version(told.info)
    if "dragonfly_version" not in told.info and not int(told.info.get("maxmemory", 0)):
        yield _warning(14, "The cache server has no maxmemory: it grows until it is killed.")
    yield from _snapshots(told)
    if told.settings.get("stop-writes-on-bgsave-error") == "yes":
        yield _warning(16, "stop-writes-on-bgsave-error: a full disk would end all writing.")
    if "allow-undeclared-keys" in told.settings.get("default_lua_flags", ""):
        yield _warning(17, "default_lua_flags allows undeclared keys: every script locks all keys.")
    if told.info.get("role", "master") != "master":
        yield _warning(18, "The cache server is a replica: the cache is not used.")
    if told.refused:
        names = ", ".join(told.refused)
        yield Info(
            f"The user may not ask for the cache server's settings ({names}), and need not: ask"
            " as another one, with its URL in DRAGONFLY_URL.",
            id="aevon_cache.I020",
        )


def _eviction(info: Mapping[str, Any]) -> Iterator[CheckMessage]:
    # Dragonfly tells its mode; its policy is there for others to read.
    if info.get("cache_mode") == "cache":
        yield _warning(11, "cache_mode: the cache server evicts unsaved canvases and queues.")
    elif (policy := info.get("maxmemory_policy", "noeviction")) not in ("noeviction", "eviction"):
        yield _warning(11, f"maxmemory-policy {policy}: the cache server evicts unsaved canvases.")


def _version(info: Mapping[str, Any]) -> Iterator[CheckMessage]:
    dragonfly = info.get("dragonfly_version")
    name, oldest = ("Dragonfly", OLDEST_DRAGONFLY) if dragonfly else ("Redis", OLDEST_REDIS)
    version = str(dragonfly or info.get("redis_version", ""))
    numbers = re.search(r"(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) < oldest:
        wanted = ".".join(map(str, oldest))
        yield _warning(13, f"{name} {version} is older than {wanted}, the oldest that is tried.")


def _snapshots(told: Statement) -> Iterator[CheckMessage]:
    if told.info.get("rdb_last_bgsave_status", "ok") != "ok":
        yield _warning(15, "The cache server's last snapshot failed.")
    names = ("dbfilename", "snapshot_cron", "save")
    known = {name: told.settings[name] for name in names if name in told.settings}
    without = known.get("dbfilename") == "" or known.get("snapshot_cron") == ""
    if without or (known.get("save") == "" and not told.info.get("aof_enabled")):
        yield _warning(
            15, "The cache server takes no snapshots while it runs: unsaved canvases end with it."
        )


def _address(url: str) -> Iterator[CheckMessage]:
    host = urlsplit(url).hostname or ""
    if url.startswith("redis://") and not _is_local(host):
        yield _warning(19, "The cache server is on another host, and redis:// is without TLS.")


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _warning(number: int, text: str) -> CheckMessage:
    return CheckWarning(text, hint=HINT, id=f"aevon_cache.W{number:03}")
