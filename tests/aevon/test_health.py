"""Liveness, readiness and metrics, with real servers that are there, away or frozen."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from aevon import deadline, health
from aevon.cache import CANVAS_INDEX, CONVO_HISTORY, CacheUnavailable, add_to_outbox
from aevon.cache.connection import store
from aevon.cache.keyspace import PROCESSES
from aevon.cache.processes import Reporter
from aevon.celery import app
from aevon.deadline import started
from aevon.telemetry import scrape
from aevon.telemetry.outages import DRAGONFLY
from auth_sessions.models import User
from canvas import services as canvas
from tests import servers
from tests.canvas.helpers import patch, poison, window
from tests.servers import ROOT

NOWHERE = "redis://:secret-word@127.0.0.1:1/0"
LAST_WORKED = "aevon_processes_last_worked_timestamp_seconds"
PATHS = ("/health/live", "/health/ready", "/metrics")


@pytest.fixture
def cache_away(settings: LazySettings) -> None:
    """Nothing listens where the cache should be."""
    settings.AEVON_CACHE = {**settings.AEVON_CACHE, "URL": NOWHERE}


@pytest.fixture
def broker_away() -> Iterator[None]:
    """Nothing listens where the broker should be."""
    there = app.conf.broker_url
    app.conf.broker_url = NOWHERE
    app.pool.force_close_all()
    yield
    app.conf.broker_url = there


@pytest.fixture
def postgresql_away() -> Iterator[None]:
    """Nothing listens where PostgreSQL should be; new connections only."""
    there = connection.settings_dict.copy()
    connection.settings_dict |= {"HOST": "127.0.0.1", "PORT": "1", "PASSWORD": "secret-word"}
    yield
    connection.settings_dict.update(there)


@pytest.fixture
def celery_at_work() -> None:
    """A beat and a worker that have just done something."""
    for role in ("beat", "worker"):
        report(role)


def report(role: Any, *, ago: float | None = 0) -> None:
    """What such a process would report, from this one."""
    reporter = Reporter(role)
    reporter.worked_at = None if ago is None else time.time() - ago
    reporter.report()


def own(server: Any) -> Any:
    """A server of this test run, to be frozen."""
    if server is None:
        pytest.skip("the server is not this test run's own")
    return server


def scraped() -> dict[str, Any]:
    """The samples of a scrape that have no labels, by name."""
    response = Client().get("/metrics")
    assert response.status_code == 200
    families = text_string_to_metric_families(response.content.decode())
    return {s.name: s.value for family in families for s in family.samples if not s.labels}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", PATHS)
def test_probes_come_by_address_and_without_tls(path: str, settings: Any) -> None:
    """As an orchestrator sends them, in production too."""
    settings.SECURE_SSL_REDIRECT = True
    settings.ALLOWED_HOSTS = ["aevon.example.org"]
    assert Client(headers={"Host": "10.1.2.3:8000"}).get(path).status_code == 200


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options"])
def test_only_get_and_head_are_answered(path: str, method: str) -> None:
    """405 with the methods that are; no form token is asked for."""
    response = getattr(Client(enforce_csrf_checks=True), method)(path)
    assert response.status_code == 405
    assert response["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.django_db(transaction=True)
def test_a_probe_may_use_head(path: str) -> None:
    """The status without the body, never from a cache on the way."""
    response = Client().head(path)
    assert (response.status_code, response.content) == (200, b"")
    assert "no-store" in response["Cache-Control"]


def test_liveness_asks_no_server(cache_away: None, postgresql_away: None) -> None:
    """A restart of this process would not bring one back."""
    response = Client().get("/health/live")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


@pytest.mark.django_db(transaction=True)
def test_readiness_has_an_entry_for_each_dependency(celery_at_work: None) -> None:
    """With what it took, and what the cache server is."""
    response = Client().get("/health/ready")
    body = response.json()
    assert response.status_code == 200
    assert body["status"] == "ok"
    assert body["dependencies"].keys() == {
        "postgresql", "dragonfly", "broker", "beat", "worker",
    }  # fmt: skip
    assert {each["status"] for each in body["dependencies"].values()} == {"ok"}
    assert all(0 < each["latencyMs"] < 2_500 for each in body["dependencies"].values())
    assert body["dependencies"]["dragonfly"]["server"].startswith(("Redis ", "Dragonfly "))


@pytest.mark.django_db(transaction=True)
def test_with_a_canvas_that_waits_too_long_it_is_degraded(
    user: User, settings: Any, celery_at_work: None
) -> None:
    """Longer than two periods: the flush does not run, or does not keep up."""
    patch(user.pk, a=window())
    key = CANVAS_INDEX.since.key(user.pk % 8)
    for periods, status in ((1.9, "ok"), (2.1, "degraded")):
        since = time.time() - periods * settings.CANVAS_PERSIST_SECONDS
        store().command("ZADD", key, since, user.pk)
        response = Client().get("/health/ready")
        told = response.json()
        assert (response.status_code, told["status"], told["canvas"]["status"]) == (
            *(200, status, status),
        )
        assert (told["canvas"]["unsaved"], told["canvas"]["refused"]) == (1, 0)
        assert told["canvas"]["oldestSeconds"] == pytest.approx(time.time() - since, abs=10)
        assert {each["status"] for each in told["dependencies"].values()} == {"ok"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("role", ["beat", "worker"])
def test_without_celery_it_is_degraded(celery_at_work: None, role: str) -> None:
    """Nobody there; there, but idle for a minute; just started."""
    other = {"beat": "worker", "worker": "beat"}[role]
    for prepare, status in (
        (lambda: None, "ok"),
        (lambda: report(role, ago=100), "late"),
        (lambda: report(role, ago=None), "ok"),
        (lambda: processes_gone(role), "down"),
    ):
        prepare()
        response = Client().get("/health/ready")
        found = response.json()["dependencies"]
        assert (response.status_code, found[other]["status"]) == (200, "ok")
        assert found[role]["status"] == status
        assert response.json()["status"] == ("ok" if status == "ok" else "degraded")
    assert found[role]["processes"] == 0


def processes_gone(role: Any) -> None:
    """As if every process of this role had ended well."""
    Reporter(role).end()


@pytest.mark.django_db(transaction=True)
def test_without_the_cache_it_is_degraded(cache_away: None) -> None:
    """Requests are served from PostgreSQL: 200."""
    response = Client().get("/health/ready")
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    found = {name: each["status"] for name, each in response.json()["dependencies"].items()}
    assert (found["dragonfly"], found["postgresql"]) == ("down", "ok")
    assert (found["beat"], found["worker"]) == ("unknown", "unknown")


@pytest.mark.django_db(transaction=True)
def test_a_cache_that_answers_is_back_once_the_breaker_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """Until then it may answer and be of no use. What is away is told aloud."""
    told: list[str] = []
    monkeypatch.setattr(health, "over", told.append)
    answering = started("answer", lambda: {"status": "ok"})
    store().breaker.failed()
    health._entry(DRAGONFLY, answering, time.monotonic() + 30)
    assert told == []
    away = started("none", _cache_away)
    assert health._entry("beat", away, time.monotonic() + 30)["status"] == "unknown"
    [record] = [each for each in caplog.records if "beat is away" in each.getMessage()]
    assert (record.levelname, record.outage, told) == ("WARNING", DRAGONFLY, [])
    health._entry("postgresql", answering, time.monotonic() + 30)
    assert told == ["postgresql"]


def _cache_away() -> None:
    raise CacheUnavailable("away")


@pytest.mark.django_db(transaction=True)
def test_of_several_workers_the_last_to_work_counts(celery_at_work: None) -> None:
    """One that has nothing to do makes nobody late."""
    _of_another_process("worker", ago=100)
    assert health._ask_for_work("worker") == {
        "processes": 2,
        "secondsAgo": pytest.approx(0, abs=50),
    }
    assert "status" not in health._ask_for_work("worker")


def _of_another_process(role: Any, *, ago: float) -> bytes:
    """What a process of this role would report that last worked so long ago; its field."""
    key = PROCESSES.key("seen")
    told = store().command("HGETALL", key)
    [own] = [each for each in told if each.startswith(role.encode())]
    process = json.loads(told[own]) | {"pid": 1, "workedAt": time.time() - ago}
    field = own.replace(str(os.getpid()).encode(), b"1")
    store().command("HSET", key, field, json.dumps(process, separators=(",", ":")))
    return field


@pytest.mark.django_db(transaction=True)
def test_without_the_broker_it_is_degraded(broker_away: None) -> None:
    """Requests are served; what the worker does has to wait."""
    response = Client().get("/health/ready")
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    assert response.json()["dependencies"]["broker"]["status"] == "down"


@pytest.mark.django_db(transaction=True)
def test_without_postgresql_it_is_down(postgresql_away: None) -> None:
    """503, and the cache's entry still says how that is."""
    response = Client().get("/health/ready")
    assert (response.status_code, response.json()["status"]) == (503, "down")
    assert response.json()["dependencies"]["postgresql"]["status"] == "down"
    assert response.json()["dependencies"]["dragonfly"]["status"] == "ok"


@pytest.mark.django_db(transaction=True)
def test_an_outage_tells_no_address_and_no_secret(
    cache_away: None, broker_away: None, postgresql_away: None, caplog: Any
) -> None:
    """Neither to the probe nor to the log."""
    response = Client().get("/health/ready")
    assert response.status_code == 503
    told = response.content.decode() + caplog.text
    assert "is away" in told
    assert not [word for word in ("secret-word", "127.0.0.1", "redis://") if word in told]


@pytest.mark.parametrize(
    ("frozen", "status", "seconds"), [("POSTGRES", "down", 3.5), ("CACHE", "degraded", 2.0)]
)
@pytest.mark.django_db(transaction=True)
def test_a_frozen_server_is_told_in_time(frozen: str, status: str, seconds: float) -> None:
    """It takes connections and answers nothing; a second probe does not wait behind the first."""
    server = own(getattr(servers, frozen))
    server.pause()
    try:
        for _ in range(2):
            start = time.monotonic()
            told = Client().get("/health/ready").json()["status"]
            assert time.monotonic() - start < seconds
            assert told == status
    finally:
        server.resume()


def test_a_hanging_probe_holds_one_thread_however_often_it_is_asked() -> None:
    """Those who ask meanwhile share it, and get its answer."""
    go_on, asked = threading.Event(), []

    def hang() -> str:
        asked.append(1)
        go_on.wait(10)
        return "answer"

    calls = [deadline.started("test", hang) for _ in range(5)]
    with pytest.raises(deadline.Overdue):
        calls[0].result(0.01)
    go_on.set()
    assert [call.result(5) for call in calls] == ["answer"] * 5
    assert len(asked) == 1


def test_a_call_is_made_anew_once_the_last_has_ended() -> None:
    """Nothing is remembered; its exception is its waiter's."""
    assert deadline.started("test", lambda: 1).result(5) == 1
    with pytest.raises(TimeoutError, match="its own"):
        deadline.started("test", _fail).result(5)
    assert deadline.started("test", lambda: 2).result(5) == 2


def _fail() -> None:
    raise TimeoutError("its own")


FORKED = """
import os, threading
from aevon import deadline
deadline.started("test", lambda: threading.Event().wait())
if os.fork() == 0:
    os._exit(deadline.started("test", lambda: 42).result(5))
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_a_forked_child_does_not_wait_for_its_parents_calls() -> None:
    """The thread that would end them is not in the child."""
    command = [sys.executable, "-W", "ignore", "-c", FORKED]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "42\n"


@pytest.mark.django_db(transaction=True)
def test_metrics_tell_what_waits_and_what_is_unsaved() -> None:
    """Asked at the scrape: the outbox in PostgreSQL, the marks in the cache."""
    add_to_outbox(CONVO_HISTORY, [1, 2])
    for user_id in (1, 2, 3):
        store().command("ZADD", CANVAS_INDEX.dirty.key(user_id % 2), 1, user_id)
    store().command("ZADD", CANVAS_INDEX.since.key(1), time.time() - 100, 1)
    samples = scraped()
    assert samples["aevon_cache_outbox_depth"] == 2
    assert samples["aevon_canvas_unsaved"] == 3
    assert 99 < samples["aevon_canvas_oldest_unsaved_seconds"] < 130
    assert "aevon_canvas_last_flush_rows" not in samples


@pytest.mark.django_db(transaction=True)
def test_metrics_tell_of_the_last_flush(user: User) -> None:
    """Whichever process ran it: they are asked of the cache."""
    patch(user.pk, a=window())
    canvas.persist_now()
    samples = scraped()
    flush = {name: samples[f"aevon_canvas_last_flush_{name}"] for name in ("rows", "failures")}
    assert flush == {"rows": 1, "failures": 0}
    assert time.time() - samples["aevon_canvas_last_flush_timestamp_seconds"] < 30
    assert 0 < samples["aevon_canvas_last_flush_seconds"] < 30
    poison(user.pk)
    patch(user.pk, b=window())
    canvas.persist_now()
    samples = scraped()
    assert (samples["aevon_canvas_last_flush_failures"], samples["aevon_canvas_refused"]) == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_metrics_hold_what_the_cache_layer_counts() -> None:
    """And the process's own."""
    text = Client().get("/metrics").content.decode()
    assert "# TYPE aevon_cache_loads_total counter" in text
    assert "process_resident_memory_bytes" in text


@pytest.mark.django_db(transaction=True)
def test_without_the_cache_its_gauge_is_missing(cache_away: None) -> None:
    """No number is better than a wrong one; the others are there."""
    samples = scraped()
    assert "aevon_canvas_unsaved" not in samples
    assert samples["aevon_cache_outbox_depth"] == 0


@pytest.mark.django_db(transaction=True)
def test_with_postgresql_frozen_its_gauge_is_missing() -> None:
    """The scrape is answered before a scraper gives up."""
    server = own(servers.POSTGRES)
    server.pause()
    try:
        start = time.monotonic()
        samples = scraped()
        assert time.monotonic() - start < 3.5
    finally:
        server.resume()
    assert "aevon_cache_outbox_depth" not in samples
    assert samples["aevon_canvas_unsaved"] == 0


def breaker_states() -> dict[str, float]:
    """The breaker's state as scraped."""
    families = text_string_to_metric_families(Client().get("/metrics").content.decode())
    family = next(each for each in families if each.name == "aevon_cache_breaker_state")
    return {sample.labels["state"]: sample.value for sample in family.samples}


@pytest.mark.django_db(transaction=True)
def test_metrics_tell_the_state_of_the_breaker(cache_away: None) -> None:
    """One of three is 1."""
    assert breaker_states() == {"closed": 1, "half-open": 0, "open": 0}
    for _ in range(3):
        store().breaker.failed()
    assert breaker_states() == {"closed": 0, "half-open": 0, "open": 1}


@pytest.mark.django_db(transaction=True)
def test_a_process_that_is_silent_is_not_counted() -> None:
    """Heard of half a minute ago at the longest; when it last worked is told all the same."""
    report("worker", ago=100)
    key = PROCESSES.key("seen")
    told = store().command("HGETALL", key)
    [field] = [each for each in told if each.startswith(b"worker")]
    process = json.loads(told[field])
    for seen, count in ((time.time() + 60, 1), (time.time() - 40, 0)):
        process["seenAt"] = seen
        store().command("HSET", key, field, json.dumps(process, separators=(",", ":")))
        families = {family.name: family for family in scrape._of_processes()}
        counts = {s.labels["role"]: s.value for s in families["aevon_processes"].samples}
        assert counts["worker"] == count
        [worked] = [s.value for s in families[LAST_WORKED].samples if s.labels["role"] == "worker"]
        assert worked == process["workedAt"]
