"""What the check says of cache servers with unsafe settings: real ones, where there is one here."""

import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.core.checks import CheckMessage, run_checks
from django.core.management import call_command
from django.db import connections

from aevon.cache import server_checks
from aevon.cache.connection import Statement, reset
from aevon.embedded import CacheServer
from aevon.ports import free_port
from tests.deploy.guarded import GuardedServer
from tests.servers import ROOT
from tests.waiting import eventually

DOCUMENT = (ROOT / "docs" / "deployment.md").read_text()


def numbers(messages: "list[CheckMessage]") -> list[str]:
    """Their ids, without what is common to them."""
    return [str(message.id).removeprefix("aevon_cache.") for message in messages]


@pytest.fixture(scope="module")
def server(tmp_path_factory: Any) -> Iterator[CacheServer]:
    """An embedded server, as `make run` starts it."""
    made = CacheServer(tmp_path_factory.mktemp("checked"), durable=True)
    made.start()
    yield made
    made.kill()


@pytest.fixture
def use(settings: Any) -> Iterator[Callable[[str], None]]:
    """`use(url)`: the server in force."""

    def change(url: str) -> None:
        settings.AEVON_CACHE = {**settings.AEVON_CACHE, "URL": url}

    yield change
    reset()


@pytest.fixture
def configured(server: CacheServer, use: Any) -> Iterator[Callable[..., list[str]]]:
    """`configured(name, value)`: what is found with that setting, which is undone."""
    use(server.url)
    client = redis.Redis.from_url(server.url, protocol=2)
    before = client.config_get("*")

    def set_to(name: str, value: str) -> list[str]:
        client.config_set(name, value)
        return numbers(server_checks.found())

    yield set_to
    for name in ("maxmemory", "maxmemory-policy", "save", "appendonly",
                 "stop-writes-on-bgsave-error", "requirepass"):  # fmt: skip
        client.config_set(name, before[name])
    client.close()


def test_the_embedded_server_is_safe(server: CacheServer, use: Any) -> None:
    """Nothing to say."""
    use(server.url)
    assert server_checks.found() == []


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("maxmemory-policy", "allkeys-lru", ["W011"]),
        ("maxmemory-policy", "volatile-ttl", ["W011"]),
        ("requirepass", "", ["W012"]),
        ("maxmemory", "0", ["W014"]),
        ("save", "", ["W015"]),
        ("stop-writes-on-bgsave-error", "yes", ["W016"]),
    ],
)
def test_an_unsafe_setting(configured: Any, name: str, value: str, expected: list[str]) -> None:
    """Is told, and nothing else."""
    assert configured(name, value) == expected


def test_a_log_of_all_commands_is_as_good_as_snapshots(configured: Any) -> None:
    """Redis' appendonly; what Dragonfly does not have."""
    configured("appendonly", "yes")
    assert configured("save", "") == []


@pytest.fixture
def homeless(tmp_path: Path) -> Iterator[CacheServer]:
    """A server whose folder is gone."""
    made = CacheServer(tmp_path, durable=True)
    made.start()
    shutil.rmtree(made.folder)
    yield made
    made.kill()


def test_a_snapshot_that_failed(homeless: CacheServer, use: Any) -> None:
    """W015: the disk is full, say. Here there is none."""
    use(homeless.url)
    with redis.Redis.from_url(homeless.url, protocol=2) as client:
        client.bgsave()
        assert eventually(lambda: client.info()["rdb_last_bgsave_status"] == "err")
        assert numbers(server_checks.found()) == ["W015"]


def test_a_replica(server: CacheServer, use: Any) -> None:
    """W018; the cache itself would not so much as talk to it."""
    use(server.url)
    with redis.Redis.from_url(server.url, protocol=2) as client:
        client.replicaof("127.0.0.1", free_port())
        try:
            assert numbers(server_checks.found()) == ["W018"]
        finally:
            client.execute_command("REPLICAOF", "NO", "ONE")


def test_a_server_that_does_not_answer(use: Any, server: CacheServer) -> None:
    """W010, also for a wrong password, which is not repeated."""
    use(f"redis://127.0.0.1:{free_port()}/0")
    assert numbers(server_checks.found()) == ["W010"]
    use(server.url.replace(server.password, "mistaken"))
    [message] = server_checks.found()
    assert message.id == "aevon_cache.W010"
    assert "mistaken" not in message.msg


def test_a_user_who_may_not_ask(tmp_path: Path, use: Any) -> None:
    """I020: no warning, because the application's own user is one. What INFO tells is found; the
    rest, by the administrator."""
    guarded = GuardedServer(tmp_path, durable=True)
    guarded.start()
    try:
        use(guarded.url)
        assert numbers(server_checks.found()) == ["I020"]
        with redis.Redis.from_url(guarded.url_of("admin"), protocol=2) as admin:
            admin.config_set("maxmemory-policy", "allkeys-lru")
        assert numbers(server_checks.found()) == ["W011", "I020"]
        use(guarded.url_of("admin"))
        assert numbers(server_checks.found()) == ["W011"]
    finally:
        guarded.kill()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://127.0.0.1:1/0", False),
        ("redis://[::1]:1/0", False),
        ("redis://localhost:1/0", False),
        ("unix:///nowhere", False),
        ("rediss://dragonfly.example.org:1/0", False),
        ("redis://dragonfly:1/0", True),
        ("redis://10.0.0.7:1/0", True),
    ],
)
def test_what_goes_over_a_network_in_the_clear(url: str, expected: bool) -> None:
    """W019."""
    assert numbers(list(server_checks._address(url))) == (["W019"] if expected else [])


# What Dragonfly tells (its server_family.cc, 1.40): there is none here to start.
DRAGONFLY = {
    "dragonfly_version": "df-v1.40.1",
    "redis_version": "7.4.0",
    "maxmemory": 0,
    "maxmemory_policy": "noeviction",
    "cache_mode": "store",
    "role": "master",
}
KEPT = {"dbfilename": "aevon-{timestamp}", "snapshot_cron": "*/5 * * * *"}


@pytest.mark.parametrize(
    ("info", "settings", "expected"),
    [
        ({}, {}, []),
        ({"cache_mode": "cache", "maxmemory_policy": "eviction"}, {}, ["W011"]),
        ({"dragonfly_version": "df-v1.39.0"}, {}, ["W013"]),
        ({"dragonfly_version": "df-v1.9.0"}, {}, ["W013"]),
        ({"dragonfly_version": "df-v2.0.0"}, {}, []),
        ({}, {"dbfilename": ""}, ["W015"]),
        ({}, {"snapshot_cron": ""}, ["W015"]),
        ({}, {"default_lua_flags": "allow-undeclared-keys"}, ["W017"]),
        ({"role": "slave"}, {}, ["W018"]),
    ],
)
def test_dragonfly(info: dict[str, Any], settings: dict[str, str], expected: list[str]) -> None:
    """What it calls things; its maxmemory is never without an end."""
    told = Statement({**DRAGONFLY, **info}, {**KEPT, **settings}, [], open=False)
    assert numbers(list(server_checks.unsafe(told))) == expected


def test_an_old_redis() -> None:
    """W013."""
    told = Statement({"redis_version": "6.0.16", "maxmemory": 1}, {"save": "60 1"}, [], open=False)
    assert numbers(list(server_checks.unsafe(told))) == ["W013"]


@pytest.mark.django_db
def test_a_plain_check_asks_nobody(
    configured: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """`--database` asks the servers; the tag is for the cache server alone."""
    assert configured("maxmemory", "0") == ["W014"]
    [tagged] = run_checks(tags=[server_checks.TAG], databases=["default"])
    assert tagged.id == "aevon_cache.W014"
    assert "W014" in numbers(run_checks(databases=["default"]))
    monkeypatch.setattr(server_checks, "statement", lambda: pytest.fail("asked"))
    call_command("check")
    assert run_checks(tags=[server_checks.TAG]) == []


def test_a_process_tells_it_once(configured: Any, caplog: Any, settings: Any) -> None:
    """What the operator has silenced is not told."""
    configured("maxmemory", "0")
    with caplog.at_level(logging.INFO):
        server_checks.tell_once()
        assert eventually(lambda: "aevon_cache.W014: The cache server has no max" in caplog.text)
    caplog.clear()
    settings.SILENCED_SYSTEM_CHECKS = ["aevon_cache.W014"]
    server_checks.tell_once()
    for thread in threading.enumerate():
        if thread.name == "cache-server-checks":
            thread.join(30)
    assert caplog.text == ""
    connections.close_all()


def test_every_finding_is_documented() -> None:
    """In the section that the hint names."""
    section = DOCUMENT.partition("\n## What the check finds\n")[2].partition("\n## ")[0]
    for number in (*(f"W{n:03}" for n in range(10, 20)), "I020"):
        assert f"`aevon_cache.{number}`" in section, number
