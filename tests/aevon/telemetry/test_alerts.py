"""Every alert fires for what it is there for: in a real Prometheus that scrapes a real site, whose
servers and processes are stopped and whose keys are spoilt by hand."""

import contextlib
import json
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import redis

from aevon.ports import free_port
from tests.aevon.programs import make_run
from tests.aevon.telemetry.prometheus import RULES, Prometheus, prometheus
from tests.gateway.hands import Hands
from tests.servers import ROOT
from tests.waiting import eventually

PATIENT = 60
WINDOW = {
    "type": "note",
    "title": "n",
    "position": {"x": 1, "y": 2},
    "size": {"width": 100, "height": 100},
    "zIndex": 1,
}
LAYOUT = {"microApps": {"a": WINDOW}}
MORE = {"microApps": {"b": WINDOW}}
FILLING = 40 * 2**20
PLAY = {"instrument": "spinforge", "stake": 1}
LONG_AGO = 1_000.0


class Site:
    """A site of `make run`, and what somebody with bad intentions and a shell can do to it."""

    def __init__(self, told: dict[str, Any], folder: Path) -> None:
        self.told, self.url = told, told["url"]
        self.shared = {"PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics")}
        self.cache = redis.Redis.from_url(told["dragonflyUrl"], protocol=2)
        self.frozen: list[psutil.Process] = []

    def asked(self, method: str, path: str, body: Any = None, token: str = "") -> Any:
        """The answer's JSON, or its status where it is no success."""
        headers = {"Content-Type": "application/json"}
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code

    def token(self, name: str) -> str:
        """An access token of the demo user or of the administrator."""
        answer = self.asked("POST", "/api/v1/auth/token/", self.told[name])
        return str(answer["access"])

    def sql(self, statement: str, *values: Any) -> Any:
        """By psql, so to speak: the first row, if there is one."""
        with psycopg.connect(self.told["databaseUrl"], autocommit=True) as connection:
            cursor = connection.execute(statement, values)  # type: ignore[call-overload]
            return cursor.fetchone() if cursor.description else None

    def user_id(self, name: str) -> int:
        """By the user's name."""
        (found,) = self.sql(
            "SELECT id FROM auth_sessions_user WHERE username = %s", self.told[name]["username"]
        )
        return int(found)

    def changed(self, key: str, change: Any) -> None:
        """Set a document's key to what `change` makes of it, as somebody who knows the format."""
        document = json.loads(self.cache.get(key) or b"")
        change(document)
        self.cache.set(key, json.dumps(document, separators=(",", ":")))

    def freeze(self, *names: str) -> None:
        """Stop processes where they are, and their children."""
        for name in names:
            leader = psutil.Process(self.told["pids"][name])
            for process in (leader, *leader.children(recursive=True)):
                process.suspend()
                self.frozen.append(process)

    def thaw(self) -> None:
        """Let all of them go on."""
        while self.frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                self.frozen.pop().resume()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Prometheus]]:
    """One of each for all; Prometheus first, which looks again and again."""
    folder, web, worker = tmp_path_factory.mktemp("alerts"), free_port(), free_port()
    settings = {
        "AEVON_PORT": str(web),
        "AEVON_WORKER_METRICS_PORT": str(worker),
        "CANVAS_PERSIST_SECONDS": "5",
        "AEVON_CACHE_CONNECT_TIMEOUT_SECONDS": "1",
        "AEVON_CACHE_READ_TIMEOUT_SECONDS": "1",
    }
    targets = {"web:8000": f"127.0.0.1:{web}", "worker:9100": f"127.0.0.1:{worker}"}
    with (
        prometheus(folder, targets) as watching,
        make_run(folder / "site", **settings) as (process, told),
    ):
        site = Site(told, folder / "site")
        try:
            yield site, watching
        finally:
            site.thaw()
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)


@pytest.fixture(scope="module")
def site(started: tuple[Site, Prometheus]) -> Site:
    """The site."""
    return started[0]


@pytest.fixture(scope="module")
def watching(started: tuple[Site, Prometheus]) -> Prometheus:
    """Prometheus, once nothing is amiss."""
    running = started[1]
    assert eventually(lambda: len(running.value("aevon_processes > 0")) == 4, PATIENT)
    assert eventually(lambda: not running.firing(), PATIENT), running.firing()
    return running


def fire(watching: Prometheus, *names: str) -> None:
    """All of them, sooner or later: of what has happened once an alert tells for a while only."""
    fired: set[str] = set()

    def all_of_them() -> bool:
        fired.update(watching.firing())
        return fired.issuperset(names)

    assert eventually(all_of_them, PATIENT), set(names) - fired
    seen.update(names)


seen: set[str] = set()


def test_nothing_fires_where_nothing_is_amiss(watching: Prometheus) -> None:
    """Every rule can be evaluated, and both targets are scraped."""
    [group] = watching.asked("rules")["groups"]
    assert [rule["name"] for rule in group["rules"]] == [rule["alert"] for rule in RULES]
    assert {(rule["health"], rule["state"]) for rule in group["rules"]} == {("ok", "inactive")}
    jobs = {labels["job"] for labels, up in watching.value("up") if up}
    assert jobs == {"aevon", "aevon-worker"}


def test_the_dashboard_asks_what_prometheus_can_answer(watching: Prometheus) -> None:
    """Each of its queries, with Grafana's variables filled in."""
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "reflex-arc.json").read_text())
    queries = [each["expr"] for panel in dashboard["panels"] for each in panel.get("targets", ())]
    assert len(queries) > 30
    for query in queries:
        watching.value(query.replace("$__rate_interval", "15s").replace("$job", "aevon.*"))


LONELY = """
import contextlib
from aevon.cache import CacheError
from aevon.cache.connection import store
with contextlib.suppress(CacheError):
    store().command("PING")
"""


def test_what_is_spoilt_is_told(watching: Prometheus, site: Site) -> None:
    """By hand: a stale key, one that is no document, canvases that PostgreSQL refuses and that are
    gone, a task that fails, a cache that is nearly full, and a process that cannot reach it."""
    demo, admin = site.user_id("demo"), site.user_id("admin")
    tokens = site.token("demo"), site.token("admin")
    for token in tokens:
        assert "lossStreak" in site.asked("GET", "/api/v1/klepsydra/psyche/", token=token)
        assert "layout" in site.asked("PATCH", "/api/v1/canvas/", LAYOUT, token)
    site.changed(f"psyche:{demo}", lambda document: document.update(lossStreak=77))
    for _ in range(5):  # a machine under load may take the cache for away, and not look
        site.cache.set(f"psyche:{admin}", "rubbish")
        assert "lossStreak" in site.asked("GET", "/api/v1/klepsydra/psyche/", token=tokens[1])
    site.changed(f"canvas:{demo}", _with_a_nul)
    assert "layout" in site.asked("PATCH", "/api/v1/canvas/", MORE, tokens[0])
    assert "layout" in site.asked("PATCH", "/api/v1/canvas/", MORE, tokens[1])
    site.cache.delete(f"canvas:{admin}")
    # Nearly full, with some megabytes left for all that goes on. (What the server uses just after
    # it took a large value is more than that.)
    used = site.cache.info("memory")["used_memory"] + FILLING
    site.cache.set("somebody:elses", bytes(FILLING))
    site.cache.config_set("maxmemory", int(used * 1.12))
    nowhere = {**site.told, "dragonflyUrl": "redis://127.0.0.1:1/0"}
    with Hands(site.told, site.shared) as hands, Hands(nowhere, site.shared) as lonely:
        lonely.do(LONELY)
        hands.do("from aevon.celery import app")
        hands.do("app.send_task('cache.audit'); app.send_task('canvas.persist_shard', ('x', 1))")
        fire(
            watching,
            *("EntriesStale", "EntriesCorrupt", "CanvasesRefused", "CanvasesLost", "TasksFailing"),
            *("CacheMemoryHigh", "CacheDistrusted"),
        )
        site.cache.config_set("maxmemory", 0)
        site.cache.delete("somebody:elses")
    assert eventually(lambda: not watching.firing() & {"CacheDistrusted", "CacheMemoryHigh"})


def _with_a_nul(document: dict[str, Any]) -> None:
    document["layout"]["microApps"]["a"]["title"] = "\0"


def test_what_stands_still_is_told(watching: Prometheus, site: Site) -> None:
    """Worker, beat and listener are frozen; what then ages is moved back in time. Somebody holds
    a table that every play needs."""
    token = site.token("demo")
    site.freeze("worker", "beat", "listener")
    _age_the_processes(site)
    _age_the_flush(site)
    site.sql(
        "INSERT INTO cache_outbox (keyspace, user_id, added_at)"
        " VALUES ('psyche', %s, now() - interval '1000 seconds')",
        site.user_id("demo"),
    )
    playing = threading.Event()
    with psycopg.connect(site.told["databaseUrl"]) as holder:
        holder.execute("LOCK TABLE klepsydra_psychestate")
        players = [
            threading.Thread(target=_play, args=(site, token, playing), daemon=True)
            for _ in range(3)
        ]
        for player in players:
            player.start()
        try:
            fire(
                watching,
                *("WorkerAway", "BeatAway", "ListenerAway", "OutboxNotDrained", "TargetDown"),
                *("CanvasesNotPersisted", "FlushLate", "FlushSlow"),
                *("RequestsFailing", "RequestsSlow"),
            )
        finally:
            playing.set()
    for player in players:
        player.join(60)
    site.thaw()


def _age_the_processes(site: Site) -> None:
    """One of each kind: silent, off the list, at nothing any more."""
    key = "cache:processes:seen"
    for field, raw in site.cache.hgetall(key).items():
        told = json.loads(raw)
        if told["role"] == "beat":
            site.cache.hdel(key, field)
        elif told["role"] != "web":
            told["seenAt" if told["role"] == "listener" else "workedAt"] = time.time() - LONG_AGO
            site.cache.hset(key, field, json.dumps(told, separators=(",", ":")))


def _age_the_flush(site: Site) -> None:
    key = "canvas:flush:recent"
    told = json.loads(site.cache.lindex(key, 0) or b"")
    told |= {"began": repr(time.time() - LONG_AGO), "ended": repr(time.time() - LONG_AGO + 99)}
    site.cache.lset(key, 0, json.dumps(told))


def _play(site: Site, token: str, enough: threading.Event) -> None:
    while not enough.is_set():
        site.asked("POST", "/api/v1/klepsydra/interactions/", PLAY, token)


def test_servers_that_are_away_are_told(watching: Prometheus, site: Site) -> None:
    """Frozen: they take connections and answer nothing. The scrape goes on."""
    site.freeze("cache", "postgres")
    try:
        fire(watching, "CacheAway", "BrokerAway", "PostgresqlAway")
        assert watching.value('up{job="aevon"} == 1')
    finally:
        site.thaw()
    away = {"CacheAway", "BrokerAway", "PostgresqlAway"}
    assert eventually(lambda: not watching.firing() & away, PATIENT)


def test_every_alert_has_fired(watching: Prometheus) -> None:
    """In this file, for its own reason."""
    assert seen == {rule["alert"] for rule in RULES}
