"""deploy/dragonfly/users.acl: each user may do what it has to, and nothing else."""

import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import redis
from django.core.cache import cache
from django.core.management import call_command
from redis.backoff import NoBackoff
from redis.retry import Retry
from rest_framework.test import APIClient

from aevon import env
from aevon.cache import keyspace, outbox, resources
from aevon.cache.connection import reset, store
from aevon.cache.tasks import audit, drain_outbox
from aevon.celery import app as celery
from auth_sessions.models import User
from canvas.models import Canvas
from klepsydra.models import PsycheState
from tests.deploy.guarded import (
    RENDER,
    SERVERS,
    USERS,
    GuardedServer,
    as_user,
    denials,
    digest,
    rendered,
    users,
)
from tests.klepsydra.rows import PSYCHES
from tests.servers import ROOT, environment
from tests.waiting import eventually

PASSWORDS = {f"{user.upper()}_PASSWORD": f"of {user}" for user in USERS}
# Celery's client library names itself on each connection, and goes on where that is refused:
# CLIENT as a whole, with KILL and PAUSE, is what Dragonfly could allow.
HARMLESS = ("aevon", "command", "client")
WINDOW = {
    "type": "note",
    "title": "Notes",
    "position": {"x": 0, "y": 0},
    "size": {"width": 300, "height": 200},
    "zIndex": 1,
}


# --- the file ----------------------------------------------------------------------------------


def test_both_kinds_of_server_have_the_same_users() -> None:
    """Redis' file lacks what Redis does not know, and allows two parts of SCRIPT."""
    dragonfly, plain = (
        users(rendered(kind, **PASSWORDS).stdout) for kind in ("dragonfly", "redis")
    )
    assert list(dragonfly) == list(plain) == ["default", *USERS]
    assert {name: set(dragonfly[name]) ^ set(plain[name]) for name in dragonfly} == {
        **{name: set() for name in dragonfly},
        "aevon": {"+cl.throttle", "+stick", "+script", "+script|load", "+script|exists"},
    }


def test_the_words_are_those_that_dragonfly_reads() -> None:
    """It has no parts of commands and no selectors, takes no comment, opens `default` to everybody
    in a file that does not name it, and goes by what `default` may do until somebody has said who
    they are: without AUTH nobody could."""
    for name, words in users(rendered(**PASSWORDS).stdout).items():
        assert name not in ("", "user")
        assert words[0] in ("on", "off")
        assert [word for word in words if re.search(r"[|()]", word)] == []
    default = users(rendered(**PASSWORDS).stdout)["default"]
    assert default[0] == "off"
    assert default[-3:] == ["-@all", "+auth", "+hello"]


def test_passwords_are_in_it_as_digests() -> None:
    """Two of a user while one is exchanged; a user without one is left out."""
    passwords = {"ADMIN_PASSWORD": "a", "AEVON_PASSWORD": "new & |/", "AEVON_PASSWORD_OLD": "old"}
    found = users(rendered(**passwords).stdout)
    assert list(found) == ["default", "admin", "aevon"]
    assert found["aevon"][1:3] == [digest("new & |/"), digest("old")]


@pytest.mark.parametrize("kind", ["dragonfly", "memcached"])
def test_what_is_missing_or_wrong_is_said(kind: str) -> None:
    """A file without the application would be a server that nobody can use."""
    given = {} if kind == "dragonfly" else PASSWORDS
    result = rendered(kind, **given)
    assert result.returncode != 0
    assert result.stderr
    assert result.stdout == ""


def allowed(user: str = "aevon") -> set[str]:
    """The commands that a user may use on Dragonfly."""
    return {word[1:] for word in users(RENDER.with_name("users.acl").read_text())[user][1:]
            if word[0] == "+"}  # fmt: skip


def test_every_key_of_ours_is_covered() -> None:
    """Whatever is registered."""
    words = users(RENDER.with_name("users.acl").read_text())["aevon"]
    patterns = [word[1:] for word in words if word[0] == "~"]
    keys = [space.key(1) for space in (*keyspace.REGISTRY.values(), *keyspace.INTERNAL)]
    keys += ["django:1:k", f"{celery.conf.broker_transport_options['global_keyprefix']}celery"]
    for key in keys:
        assert [pattern for pattern in patterns if fnmatchcase(key, pattern)], key
    assert "*" not in patterns


def test_every_command_of_the_code_is_allowed() -> None:
    """In scripts and in Python."""
    known = {"STICK", "CL.THROTTLE", *map(str.upper, store().client.command())}
    lua = [path.read_text() for path in (ROOT / "aevon" / "cache" / "lua").glob("*.lua")]
    python = [path.read_text() for path in (ROOT / "aevon" / "cache").rglob("*.py")]
    used = {name for text in lua for name in re.findall(r"p?call\(\s*'([A-Z.]+)'", text)}
    used |= {name for text in python for name in re.findall(r'\(\s*"([A-Z.]+)"', text)} & known
    assert used >= {"GET", "SET", "EVALSHA", "RANDOMKEY", "CL.THROTTLE", "STICK", "ZADD"}
    # For the near cache alone, which is off (docs/deployment.md says what it needs).
    assert used - {name.upper() for name in allowed()} == {"CLIENT"}


# --- the application ---------------------------------------------------------------------------


@pytest.fixture(params=sorted(SERVERS), scope="module")
def server(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[GuardedServer]:
    """A server with these users, of each version that is installed."""
    binary = SERVERS[request.param]
    if binary is None:
        pytest.skip("no redis-server from Debian")
    guarded = GuardedServer(tmp_path_factory.mktemp("guarded"), binary=binary)
    guarded.start()
    yield guarded
    guarded.kill()


@pytest.fixture
def guarded(server: GuardedServer, settings: Any) -> Iterator[GuardedServer]:
    """This process's cache, too, and emptied."""
    with as_user(server, "admin") as admin:
        admin.flushall()
        admin.execute_command("ACL", "LOG", "RESET")
    settings.AEVON_CACHE = {**settings.AEVON_CACHE, "URL": server.url}
    yield server
    reset()


@pytest.mark.django_db(transaction=True)
def test_the_application_is_refused_nothing(guarded: GuardedServer, make_user: Any) -> None:
    """The services over HTTP, the commands, the tasks, Django's cache and a worker."""
    ada = make_user(username="ada", password="lovelace-1815")
    use_the_site(ada)
    use_djangos_cache()
    use_the_commands(ada)
    use_a_worker(guarded, ada)
    assert set(denials(guarded)) <= {HARMLESS}


def use_the_site(ada: User) -> None:
    """As a page and a gateway do, with a wrong password among it."""
    anybody = APIClient()
    for password in ("wrong", "lovelace-1815"):
        given = {"username": "ada", "password": password}
        pair = anybody.post("/api/v1/auth/token/", given)
    assert pair.status_code == 200, pair.content
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {pair.json()['access']}")
    play = {"instrument": "sisyphus-ascent", "stake": 1}
    asked = [
        client.get("/api/v1/auth/validate/"),
        client.get("/api/v1/klepsydra/psyche/"),
        client.post("/api/v1/klepsydra/interactions/", play, HTTP_IDEMPOTENCY_KEY="k"),
        client.patch("/api/v1/canvas/", {"microApps": {"a": WINDOW}},
                     content_type="application/merge-patch+json"),
        client.put("/api/v1/canvas/notes/a/", {"text": "a"}),
        client.post("/api/v1/beep/commands/", {"text": "move Notes right"}),
        client.post("/api/v1/beep/commands/", {"text": "undo that"}),
        client.get("/api/v1/beep/history/"),
        client.get("/api/v1/auth/sessions/"),
        client.post("/api/v1/auth/token/refresh/", {"refresh": pair.json()["refresh"]}),
        client.delete("/api/v1/beep/history/"),
        client.get("/health/ready"),
        client.get("/metrics"),
    ]  # fmt: skip
    assert [each.status_code for each in asked if each.status_code >= 400] == []
    assert store().breaker.state == "closed"
    PsycheState.objects.get(pk=ada.pk).save()
    ada.email = "a@example.org"
    ada.save()


def use_djangos_cache() -> None:
    """All of Django's API, and what of django-redis' the documents name."""
    cache.set("a", 1, 60)
    cache.set_many({"b": 2, "c": 3})
    assert cache.get_many(["a", "b"]) == {"a": 1, "b": 2}
    assert (cache.incr("a"), cache.decr("a"), cache.add("a", 9)) == (2, 1, False)
    assert cache.get_or_set("d", 4) == 4
    assert (cache.touch("a", 9), cache.has_key("a"), cache.incr_version("a")) == (True, True, 2)
    assert cache.ttl("a", version=2) <= 9
    assert sorted(cache.iter_keys("*")) == ["b", "c", "d"]
    with cache.lock("door", timeout=1):
        pass
    cache.delete("b")
    cache.delete_many(["c"])
    assert cache.delete_pattern("d*") == 1
    cache.clear()


def use_the_commands(ada: User) -> None:
    """Those of the reference, and what beat asks for."""
    outbox.add(PSYCHES.keyspace, [ada.pk])
    for line in (
        "cache_stats --keys", f"cache_inspect {ada.pk}", "cache_audit", "cache_audit --repair",
        "cache_audit --sample 5", "canvas_persist", "cache_listen --once", "cache_warmup",
        "cache_flush", "cache_warmup",
    ):  # fmt: skip
        call_command(*line.split(), stdout=StringIO(), stderr=StringIO())
    drain_outbox()
    audit()
    resources.repair_waiting()
    assert outbox.depth() == 0
    assert Canvas.objects.get(pk=ada.pk).layout["microApps"]


def use_a_worker(server: GuardedServer, ada: User) -> None:
    """Its queue, its answer to `celery inspect`, and its end."""
    program = (sys.executable, "-W", "ignore", "-m", "celery", "--quiet", "-A", "aevon")
    where: Any = {"cwd": ROOT, "env": environment(server.url), "text": True}
    command = (*program, "worker", "--concurrency=1", "--hostname=one@here")
    with subprocess.Popen(command, stderr=subprocess.PIPE, **where) as worker:
        try:
            outbox.add(PSYCHES.keyspace, [ada.pk])
            with celery.connection_for_write(env.broker_url(server.url)) as broker:
                drain_outbox.apply_async(connection=broker)
            assert eventually(lambda: outbox.depth() == 0, 60)
            ask = (*program, "inspect", "--destination=one@here", "--timeout=20", "ping")
            asked = subprocess.run(ask, capture_output=True, check=False, **where)
            assert "pong" in asked.stdout, asked
        finally:
            worker.terminate()
            said = worker.communicate()[1]
    assert "NoPermission" not in said


@pytest.mark.parametrize(
    "command",
    [
        "FLUSHALL", "FLUSHDB", "KEYS *", "CONFIG GET *", "CONFIG SET maxmemory 1", "DEBUG SLEEP 0",
        "SHUTDOWN NOSAVE", "SAVE", "BGSAVE", "REPLICAOF NO ONE", "ACL LIST", "MONITOR",
        "CLIENT KILL TYPE normal", "CLIENT PAUSE 1000", "SWAPDB 0 1", "MIGRATE h 1 k 0 1",
        "SCRIPT FLUSH", "GET others:1", "SET others:1 x", "DEL others:1", "RENAME psyche:1 x",
        "GET psyches:1", "EVAL return(redis.call('get','others:1')) 0", "SUBSCRIBE news",
        "PUBLISH news x", "SORT psyche:1", "OBJECT ENCODING psyche:1", "LATENCY DOCTOR",
    ],
)  # fmt: skip
def test_the_application_is_refused_all_else(server: GuardedServer, command: str) -> None:
    """Also from inside a script."""
    with as_user(server, "aevon") as client, pytest.raises(redis.ResponseError) as refusal:
        client.execute_command(*command.split())
    refused = re.search(
        "executing the script can't access|DEBUG command not allowed", str(refusal.value)
    )
    assert refused or isinstance(refusal.value, redis.exceptions.NoPermissionError)


def test_the_other_users(server: GuardedServer) -> None:
    """A gateway reads sessions, metrics read INFO, a backup saves; `default` is nobody."""
    with as_user(server, "admin") as admin, as_user(server, "gateway") as gateway:
        admin.set("session:1", "{}")
        assert gateway.get("session:1") == b"{}"
        assert gateway.info("replication")["role"] == "master"
        for call in ("SET session:1 x", "GET psyche:1", "DEL session:1", "SCAN 0", "DBSIZE"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                gateway.execute_command(*call.split())
    with as_user(server, "metrics") as metrics:
        assert metrics.dbsize() > 0
        with pytest.raises(redis.exceptions.NoPermissionError):
            metrics.get("session:1")
    with as_user(server, "backup") as backup:
        assert backup.save()
        with pytest.raises(redis.exceptions.NoPermissionError):
            backup.get("session:1")
    once = Retry(NoBackoff(), 0)
    with redis.Redis(port=server.port, driver_info=None, protocol=2, retry=once) as nobody:
        for call in ("PING", "GET session:1", "INFO"):
            with pytest.raises(redis.AuthenticationError):
                nobody.execute_command(*call.split())


def test_the_file_is_read_by_nobody_but_its_owner(server: GuardedServer) -> None:
    """As the embedded server writes it; a digest can be tried against words."""
    assert Path(server.folder / "users.acl").stat().st_mode & 0o077 == 0
