"""Servers of the tests' own: a pytest plugin, loaded before pytest-django reads the settings.

`-p tests.servers` (pyproject.toml) starts an embedded PostgreSQL and cache server in a temporary
folder and points the environment at them. Whatever the environment named before is dropped:
tests must not touch anybody's data. AEVON_TEST_DATABASE_URL and AEVON_TEST_DRAGONFLY_URL name
servers that may be used, and filled, instead, by one process alone.
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
    if {"AEVON_TEST_DATABASE_URL", "AEVON_TEST_DRAGONFLY_URL"} & os.environ.keys():
        raise pytest.UsageError("One process alone can use the servers of AEVON_TEST_*: -n 0.")
    if os.geteuid() == 0:
        ensure_account(POSTGRES_ACCOUNT)
    _clear_environment()


def _start() -> None:
    global CACHE, POSTGRES  # tests reach the servers by these names
    # A worker whose parent has been killed ends without unconfigure.
    atexit.register(_running.close)
    postgres = os.environ.get("AEVON_TEST_DATABASE_URL")
    cache = os.environ.get("AEVON_TEST_DRAGONFLY_URL")
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
    _running.callback(shutil.rmtree, folder, ignore_errors=True)
    endpoints = _running.enter_context(
        embedded_servers(folder, postgres=not postgres, cache=not cache, durable=False)
    )
    POSTGRES, CACHE = endpoints.postgres, endpoints.cache
    _clear_environment()
    os.environ["DATABASE_URL"] = postgres or endpoints.database_url or ""
    os.environ["DRAGONFLY_URL"] = cache or endpoints.dragonfly_url or ""
    os.environ["AEVON_DATA_DIR"] = str(folder)
    os.environ.update(PATIENCE)


def _clear_environment() -> None:
    for name in list(os.environ):
        if name.startswith(PROJECT_PREFIXES) and name != "DJANGO_SETTINGS_MODULE":
            del os.environ[name]


def _remove_leftovers() -> None:
    """Folders of test runs that were killed; a live run holds its folder's lock."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        with contextlib.suppress(EmbeddedServerError, FileNotFoundError):
            if time.time() - folder.stat().st_mtime < YOUNG_SECONDS:
                continue  # just made: its owner may not have the lock yet
            with folder_lock(folder):
                shutil.rmtree(folder, ignore_errors=True)
