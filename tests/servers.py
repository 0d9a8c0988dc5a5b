"""Servers of the tests' own: a pytest plugin, loaded before pytest-django reads the settings.

`-p tests.servers` (pyproject.toml) starts an embedded PostgreSQL and cache server in a temporary
folder and points the environment at them. Whatever the environment named before is dropped:
tests must not touch anybody's data. AEVON_TEST_DATABASE_URL and AEVON_TEST_DRAGONFLY_URL name
servers that may be used, and filled, instead.
"""

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

from aevon.embedded import CacheServer, PostgresServer, embedded_servers
from aevon.server import EmbeddedServerError, folder_lock

POSTGRES: PostgresServer | None = None
CACHE: CacheServer | None = None

ROOT = Path(__file__).resolve().parents[1]
FOLDER_PREFIX = "aevon-tests-"
YOUNG_SECONDS = 60
PROJECT_PREFIXES = ("AEVON_", "DJANGO_", "JWT_", "AUTH_", "CANVAS_", "CELERY_")
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
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    # A shell that starts this in the background has it, and all that it starts, ignore Ctrl-C.
    signal.signal(signal.SIGINT, _leave_to_others if is_worker else signal.default_int_handler)
    # With `-n` the tests are run by workers, each of which has servers of its own.
    only_hands_out = options.numprocesses and not is_worker
    try:
        if not (options.help or options.version or only_hands_out):
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


def _start() -> None:
    global CACHE, POSTGRES  # tests reach the servers by these names
    _remove_leftovers()
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


def _leave_to_others(*_: object) -> None:
    """Ctrl-C in a worker: who hands out the tests ends it. Programs inherit what is ignored, but no
    handler."""


def _clear_environment() -> None:
    for name in list(os.environ):
        if name.startswith(PROJECT_PREFIXES) and name != "DJANGO_SETTINGS_MODULE":
            del os.environ[name]


def _remove_leftovers() -> None:
    """Folders of test runs that were killed; a live run holds its folder's lock."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        if time.time() - folder.stat().st_mtime < YOUNG_SECONDS:
            continue  # just made: its owner may not have the lock yet
        with contextlib.suppress(EmbeddedServerError), folder_lock(folder):
            shutil.rmtree(folder, ignore_errors=True)
