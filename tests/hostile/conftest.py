"""One site for all that is sent to it here, as in production, and what it left behind."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from aevon.cache.connection import reset
from aevon.embedded import CacheServer
from tests.faults.bench.production import Production
from tests.faults.bench.visitors import Person, make_people
from tests.servers import database_url

from .wire import Wire


class WebAlone(Production):
    """A site whose worker, beat and listener have nothing to say here."""

    def _is_ready(self) -> bool:
        return self.ready().get("status") in ("ok", "degraded")


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CacheServer]:
    """The site's cache server, this process's too."""
    cache = CacheServer(tmp_path_factory.mktemp("hostile-cache"))
    cache.start()
    patient = {"CONNECT_TIMEOUT_SECONDS": 2, "READ_TIMEOUT_SECONDS": 2}
    from django.conf import settings  # noqa: PLC0415  the plugin sets them first

    with override_settings(AEVON_CACHE={**settings.AEVON_CACHE, **patient, "URL": cache.url}):
        reset()
        yield cache
    reset()
    cache.kill()
    shutil.rmtree(cache.data_dir, ignore_errors=True)


@pytest.fixture(scope="package")
def site(
    server: CacheServer,
    django_db_setup: None,
    django_db_blocker: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Production]:
    """It lets anybody try as many names as they like: all of this comes from one address."""
    with django_db_blocker.unblock():
        url = database_url()
    folder = tmp_path_factory.mktemp("hostile") / "site"
    patient = {"AUTH_LOGIN_ATTEMPTS_PER_ADDRESS": "1000000"}
    with WebAlone(folder, url, server.url, patient, names=("web",)) as started:
        yield started


@pytest.fixture
def people(transactional_db: None) -> list[Person]:
    """The one who sends, and one whose things must not be touched."""
    return make_people(2)


@pytest.fixture
def person(people: list[Person]) -> Person:
    """The one who sends."""
    return people[0]


@pytest.fixture
def other(people: list[Person]) -> Person:
    """Somebody else."""
    return people[1]


@pytest.fixture
def wire(site: Production) -> Wire:
    """Bytes to the site, and its answers."""
    return Wire(site.port)
