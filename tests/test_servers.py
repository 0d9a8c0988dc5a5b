"""`DRAGONFLY_URL=… make test`: the tests on a server that somebody names."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from aevon.embedded import CacheServer
from tests import servers
from tests.servers import ROOT

A_TEST = "tests/cache/test_django_cache.py"


@pytest.fixture
def other(tmp_path: Path) -> Iterator[CacheServer]:
    """A cache server that is not this test run's."""
    server = CacheServer(tmp_path / "other", durable=False)
    server.start()
    yield server
    server.kill()


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """pytest, with nothing of this run's."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(servers.PROJECT_PREFIXES)}
    kept = {k: v for k, v in kept.items() if not k.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        env={**kept, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_tests_run_on_the_server_of_dragonfly_url_and_leave_nothing(other: CacheServer) -> None:
    """It has had commands, and holds nothing in the end."""
    done = run(A_TEST, DRAGONFLY_URL=other.url)
    assert done.returncode == 0, done.stdout + done.stderr
    with redis.Redis.from_url(other.url) as client:
        assert client.info("stats")["total_commands_processed"] > 20
        assert client.dbsize() == 0


def test_a_server_that_is_not_empty_is_refused(other: CacheServer) -> None:
    """And left as it is."""
    with redis.Redis.from_url(other.url) as client:
        client.set("somebody's", "data")
        done = run(A_TEST, DRAGONFLY_URL=other.url)
        assert done.returncode == pytest.ExitCode.USAGE_ERROR
        assert "holds 1 keys, and tests empty it" in done.stderr
        assert other.password not in done.stderr
        assert client.get("somebody's") == b"data"


def test_a_server_that_does_not_answer_is_named() -> None:
    """In one sentence."""
    done = run(A_TEST, DRAGONFLY_URL="redis://127.0.0.1:1/0")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "DRAGONFLY_URL cannot be used" in done.stderr


def test_two_processes_cannot_share_a_server(other: CacheServer) -> None:
    """Each would empty what the other has."""
    done = run("-n", "2", A_TEST, DRAGONFLY_URL=other.url)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "One process alone" in done.stderr


def test_another_redis_server_is_started_where_one_is_named() -> None:
    """For everything that the tests start."""
    done = run(A_TEST, AEVON_TEST_REDIS_SERVER="/nowhere/redis-server")
    assert done.returncode != 0
    assert "/nowhere/redis-server" in done.stderr + done.stdout
