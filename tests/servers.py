"""Servers of the tests' own: a pytest plugin, loaded before pytest-django reads the settings.

`-p tests.servers` (pyproject.toml) starts an embedded PostgreSQL and cache server in a temporary
folder and points the environment at them. What else the environment says of the project is dropped.
DATABASE_URL and DRAGONFLY_URL name servers that are used instead, by one process alone. Tests touch
nobody's data there: they make a database of their own, and refuse a cache that is not empty.
AEVON_TEST_REDIS_SERVER is the path of the `redis-server` that is started instead of the wheel's.
"""

import atexit
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings
from django.db import connection

from aevon.embedded import (
    POSTGRES_ACCOUNT,
    CacheServer,
    PostgresServer,
    embedded_servers,
    ensure_account,
)
from aevon.server import EmbeddedServerError, folder_lock

POSTGRES: PostgresServer | None = None
CACHE: CacheServer | None = None

ROOT = Path(__file__).resolve().parents[1]
REDIS_SERVER = "AEVON_TEST_REDIS_SERVER"
FOLDER_PREFIX = "aevon-tests-"
YOUNG_SECONDS = 60
PROJECT_PREFIXES = (
    "AEVON_",
    "AUTH_",
    "CANVAS_",
    "CELERY_",
    "DATABASE_",
    "DJANGO_",
    "DRAGONFLY_",
    "JWT_",
)
# A machine under load must not look like an outage; tests of outages set the site's time-outs.
PATIENCE = {
    "AEVON_CACHE_CONNECT_TIMEOUT_SECONDS": "2",
    "AEVON_CACHE_READ_TIMEOUT_SECONDS": "2",
}
_running = contextlib.ExitStack()


def database_url() -> str:
    """Of the test's database, for a program or a connection that knows nothing of Django."""
    return "postgres://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**connection.settings_dict)


def environment(cache_url: str) -> dict[str, str]:
    """For a process of the project that works on the test's database, and on this cache."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(PROJECT_PREFIXES)}
    return (
        kept
        | PATIENCE
        | {
            "DJANGO_SETTINGS_MODULE": "aevon.settings",
            "DATABASE_URL": database_url(),
            "DRAGONFLY_URL": cache_url,
        }
    )


def without_cache() -> dict[str, Any]:
    """`AEVON_CACHE` where nothing listens."""
    return {**settings.AEVON_CACHE, "URL": "redis://127.0.0.1:1/0"}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Iterator[None]:
    """Start the servers; a wrapper runs before pytest-django's own hook."""
    options = early_config.known_args_namespace
    # A shell that starts this in the background has it, and all that it starts, ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if not (options.help or options.version):
            if "PYTEST_XDIST_WORKER" not in os.environ:
                _remove_leftovers()
            if _only_hands_out(options):
                _prepare_for_workers(options)
            else:
                _start()
        return (yield)
    except EmbeddedServerError as error:
        _running.close()
        raise pytest.UsageError(str(error)) from error
    except BaseException:
        _running.close()  # a conftest that cannot be loaded: there will be no unconfigure
        raise


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Stop the servers and remove their folder; pytest calls this on Ctrl-C, too."""
    _running.close()


def _only_hands_out(options: Any) -> bool:
    """Whether other processes run the tests (`pytest -n 2`), each with servers of its own."""
    asked_for = getattr(options, "numprocesses", None)  # `-p no:xdist` knows no such option
    return bool(asked_for) and "PYTEST_XDIST_WORKER" not in os.environ


def _prepare_for_workers(options: Any) -> None:
    """What one process can say or do better than two at once.

    `-n auto` may turn out to be none, and then this process would run the tests.
    """
    if not isinstance(options.numprocesses, int):
        raise pytest.UsageError("Say how many processes: -n 2.")
    if any(os.environ.get(name) for name in ("DATABASE_URL", "DRAGONFLY_URL")):
        raise pytest.UsageError(
            "One process alone can use the servers of DATABASE_URL and DRAGONFLY_URL: -n 0."
        )
    if os.geteuid() == 0:
        ensure_account(POSTGRES_ACCOUNT)
    _clear_environment()


def _start() -> None:
    global CACHE, POSTGRES  # tests reach the servers by these names
    # A worker whose parent has been killed ends without unconfigure.
    atexit.register(_running.close)
    postgres, cache = os.environ.get("DATABASE_URL"), os.environ.get("DRAGONFLY_URL")
    if cache:
        _claim(cache)
    _clear_environment()
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
    _running.callback(shutil.rmtree, folder, ignore_errors=True)
    endpoints = _running.enter_context(
        embedded_servers(folder, postgres=not postgres, cache=not cache, durable=False)
    )
    POSTGRES, CACHE = endpoints.postgres, endpoints.cache
    os.environ["DATABASE_URL"] = postgres or endpoints.database_url or ""
    os.environ["DRAGONFLY_URL"] = cache or endpoints.dragonfly_url or ""
    os.environ["AEVON_DATA_DIR"] = str(folder)
    os.environ.update(PATIENCE)


def _claim(url: str) -> None:
    """Tests empty the cache again and again, and in the end: nobody may keep anything in it."""
    try:
        with redis.Redis.from_url(url, protocol=2, socket_timeout=5) as client:
            keys = client.dbsize()
    except (redis.RedisError, ValueError) as error:
        raise pytest.UsageError(f"DRAGONFLY_URL cannot be used: {error}") from None
    if keys:
        raise pytest.UsageError(
            f"The cache at DRAGONFLY_URL holds {keys} keys, and tests empty it: name one that is "
            "empty, or another database of the same server (…/15)."
        )
    _running.callback(_empty, url)


def _empty(url: str) -> None:
    with redis.Redis.from_url(url, protocol=2, socket_timeout=5) as client:
        client.flushdb()


def _clear_environment() -> None:
    if binary := os.environ.get(REDIS_SERVER):
        CacheServer.binary = Path(binary)
    kept = ("DJANGO_SETTINGS_MODULE", REDIS_SERVER)  # the latter for the processes of `-n 2`
    for name in list(os.environ):
        if name.startswith(PROJECT_PREFIXES) and name not in kept:
            del os.environ[name]


def _remove_leftovers() -> None:
    """Folders of test runs that were killed; a live run holds its folder's lock."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        with contextlib.suppress(EmbeddedServerError, FileNotFoundError):
            if time.time() - folder.stat().st_mtime < YOUNG_SECONDS:
                continue  # just made: its owner may not have the lock yet
            with folder_lock(folder):
                shutil.rmtree(folder, ignore_errors=True)
