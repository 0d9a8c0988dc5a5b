"""A site of a test's own, as in production."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from aevon.cache.connection import reset
from aevon.embedded import CacheServer
from tests.servers import database_url

from .production import APPLICATION, Production
from .proxy import Proxy


@pytest.fixture
def start(
    server: CacheServer, transactional_db: None, tmp_path: Path
) -> Iterator[Callable[..., Production]]:
    """`start()`: a site on the test's database and on `server`, this process's cache too.
    `through` is a proxy before the cache; what else is given are settings in its environment,
    `names` of its processes, the `application` of web with its `threads`, and what it is `ready_as`
    where it lacks something."""
    with ExitStack() as stack:
        folders = (tmp_path / f"site{number}" for number in itertools.count(1))

        def make(
            *,
            through: Proxy | None = None,
            names: tuple[str, ...] = (),
            ready_as: str = "ok",
            application: str = APPLICATION,
            threads: int = 0,
            **variables: str,
        ) -> Production:
            url = server.url
            if through is not None:
                url = url.replace(f":{server.port}/", f":{through.port}/")
            site = Production(next(folders), database_url(), url, variables)
            site.application, site.threads = application, threads
            if names:
                site.names = names
            site.ready_as = ready_as
            return stack.enter_context(site)

        yield make
    reset()


@pytest.fixture
def site(start: Callable[..., Production]) -> Production:
    """One that is ready."""
    return start()


@pytest.fixture
def proxy(server: CacheServer) -> Iterator[Proxy]:
    """Before the cache server, for who is told to go through it."""
    with Proxy(server.port) as opened:
        yield opened
