"""What `/metrics` tells: by which names, of which requests, and of all processes together."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as site_settings
from django.db import connection
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from aevon import __version__
from aevon.cache import metrics, shared_metrics
from aevon.cache.connection import store
from aevon.cache.metrics import CONFLICTS
from aevon.celery import app
from aevon.telemetry import scrape
from auth_sessions import selectors, services
from auth_sessions.models import Session, User
from canvas import services as canvas
from klepsydra import services as klepsydra
from tests.aevon.telemetry.prometheus import RULES
from tests.aevon.telemetry.test_metrics_rules import DEPLOYED
from tests.servers import ROOT
from tests.waiting import eventually

REFERENCE = (ROOT / "docs" / "reference" / "metrics.md").read_text()
DASHBOARD = (ROOT / "deploy" / "grafana" / "reflex-arc.json").read_text()
NAME = re.compile(r"\baevon_[a-z_]+")
SUFFIXES = re.compile(r"_(bucket|count|sum)$")
SECRETS = ("user_id", "username", "email", "token", "sid", "path")


def scraped() -> list[Any]:
    """The families of a scrape, by Prometheus' own parser."""
    response = Client().get("/metrics")
    assert response.status_code == 200
    return list(text_string_to_metric_families(response.content.decode()))


def value(name: str, **labels: str) -> float | None:
    """Of one sample."""
    for family in scraped():
        for sample in family.samples:
            if (sample.name, sample.labels) == (name, labels):
                return float(sample.value)
    return None


@pytest.fixture
def limited() -> Iterator[None]:
    """The cache server may not use all memory there is."""
    store().command("CONFIG", "SET", "maxmemory", "1000000000")
    yield
    store().command("CONFIG", "SET", "maxmemory", "0")


def names() -> set[str]:
    """As queries name them: a counter by its total, a histogram by its stem."""
    found = {
        f"{family.name}_total" if family.type == "counter" else family.name for family in scraped()
    }
    return {name for name in found if name.startswith("aevon_")}


@pytest.mark.django_db(transaction=True)
def test_every_metric_is_documented_and_nothing_else_is(limited: None) -> None:
    """In docs/reference/metrics.md; and rules and dashboard ask for no other."""
    from aevon.cache import task_metrics  # noqa: PLC0415  these count only where they are used
    from beep import llm  # noqa: PLC0415

    assert llm.RESOLVED
    assert task_metrics.TASKS
    canvas.persist_now()  # there is a last one
    there = names()
    assert len(there) > 30
    documented = set(NAME.findall(REFERENCE))
    assert there - documented == set()
    assert documented - there == set()
    asked = {SUFFIXES.sub("", name) for name in NAME.findall(DASHBOARD)}
    asked |= {SUFFIXES.sub("", n) for rule in RULES for n in NAME.findall(rule["expr"])}
    assert asked - there == set()
    assert there - {SUFFIXES.sub("", name) for name in NAME.findall(DASHBOARD)} == set()


@pytest.mark.django_db(transaction=True)
def test_no_label_names_a_user(user: User, client: Any) -> None:
    """Labels have few values."""
    client.get("/api/v1/klepsydra/psyche/")
    for family in scraped():
        for sample in family.samples:
            assert not set(SECRETS) & sample.labels.keys()
            assert user.username not in sample.labels.values()
    assert value("aevon_build_info", **_versions()) == 1
    assert __version__ in (ROOT / "pyproject.toml").read_text()


def _versions() -> dict[str, str]:
    [family] = [each for each in scraped() if each.name == "aevon_build_info"]
    labels: dict[str, str] = family.samples[0].labels
    assert labels["version"] == __version__
    return labels


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("method", "path", "labels"),
    [
        ("GET", "/api/v1/klepsydra/psyche/", ("GET", "/api/v1/klepsydra/psyche/", "4xx")),
        ("GET", "/api/v1/canvas/notes/abc/", ("GET", "/api/v1/canvas/notes/<str:appId>/", "4xx")),
        ("GET", "/nobody/knows/1234/", ("GET", "other", "4xx")),
        ("BREW", "/nobody/knows/1234/", ("other", "other", "4xx")),
        ("GET", f"/{site_settings.AEVON_ADMIN_PATH}/login/", ("GET", "admin", "2xx")),
    ],
    ids=["route", "template", "unknown", "method", "admin"],
)
def test_requests_are_counted_by_their_route(
    method: str, path: str, labels: tuple[str, str, str]
) -> None:
    """Never by their path, of which there are as many as somebody asks for."""
    child = scrape.REQUESTS.labels(*labels)
    before = child._sum.get()
    Client().generic(method, path)
    assert child._sum.get() > before
    assert (
        path.split("/")[-2] not in {"abc", "1234"}
        or path not in Client().get("/metrics").content.decode()
    )


@pytest.mark.django_db(transaction=True)
def test_probes_are_not_counted() -> None:
    """They come all the time, and would make every rate look good."""
    before = sum(
        s.value for f in scraped() for s in f.samples if s.name.endswith("request_seconds_count")
    )
    for path in ("/metrics", "/health/live"):
        Client().get(path)
    after = sum(
        s.value for f in scraped() for s in f.samples if s.name.endswith("request_seconds_count")
    )
    assert before == after


@pytest.mark.django_db(transaction=True)
def test_sessions_are_counted_by_an_index_and_up_to_a_limit(
    user: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that have neither ended nor run out."""
    for _ in range(5):
        services.open_session(user)
    ended, old, *_ = Session.objects.filter(user=user)
    Session.objects.filter(pk=ended.pk).update(ended_at=timezone.now(), end_reason="logout")
    past = timezone.now() - timezone.timedelta(days=1)
    Session.objects.filter(pk=old.pk).update(access_expires_at=past, refresh_expires_at=past)
    assert value("aevon_sessions_live") == 3
    assert scrape.SESSIONS_COUNTED_TO == 100_000
    monkeypatch.setattr(scrape, "SESSIONS_COUNTED_TO", 2)
    assert (value("aevon_sessions_live") or 0) <= 2
    assert selectors.live_count(at_most=2) <= 2
    with connection.cursor() as cursor, connection.execute_wrapper(_explained):
        cursor.execute("SET enable_seqscan = off")
        selectors.live_count(at_most=100)
        cursor.execute("RESET enable_seqscan")
    assert "session_by_its_end" in plans[-1]


plans: list[str] = []


def _explained(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    if "auth_sessions_session" in sql:
        with connection.connection.cursor() as cursor:
            plans.append(str(cursor.execute(f"EXPLAIN {sql}", params).fetchall()))
    return execute(sql, params, many, context)


@pytest.mark.django_db(transaction=True)
def test_a_play_from_a_state_that_was_none_is_counted(user: User) -> None:
    """The row is not what the cache holds: the play is computed again."""
    klepsydra.begin([user.pk])
    held = klepsydra.psyche(user.pk)
    key = f"psyche:{user.pk}"
    raw = store().command("GET", key)
    store().command("SET", key, raw.replace(b'"lossStreak":0', b'"lossStreak":7'))
    child = CONFLICTS.labels("psyche", "guard")
    before = child._value.get()
    klepsydra.play(user.pk, "spinforge", 1)
    assert child._value.get() == before + 1
    klepsydra.play(user.pk, "spinforge", 1)
    assert child._value.get() == before + 1
    assert held.loss_streak == 0


def test_what_alerts_wait_for_begins_with_zero() -> None:
    """A series that begins with its first event has not risen."""
    metrics.begin("tests", buffered=True)
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for counter in (metrics.AUDITED, metrics.FLUSHED, metrics.LOADS)
        for family in counter.collect()
        for sample in family.samples
        if sample.labels["keyspace"] == "tests"
    }
    names = {(name.removeprefix("aevon_cache_"), label) for name, _, label in samples}
    assert names == {
        ("audited_total", "stale"), ("audited_total", "corrupt"), ("loads_total", "corrupt"),
        ("flushed_total", "lost"), ("flushed_total", "refused"),
    }  # fmt: skip
    assert set(samples.values()) == {0}


def test_tasks_are_counted_by_what_they_come_to() -> None:
    """A task that raises is a failure."""
    from aevon.cache.task_metrics import TASK_SECONDS, TASKS  # noqa: PLC0415

    outcomes = {}
    for outcome, arguments in (("success", (1,)), ("failure", ("x",))):
        child = TASKS.labels(_halved.name, outcome)
        before = child._value.get()
        _halved.apply(arguments)
        outcomes[outcome] = child._value.get() - before
    assert outcomes == {"success": 1, "failure": 1}
    assert TASK_SECONDS.labels(_halved.name)._sum.get() > 0


@app.task(name="tests.halved")
def _halved(number: float) -> float:
    return number / 2


@pytest.mark.django_db(transaction=True)
def test_who_does_not_answer_is_told(settings: Any) -> None:
    """0, not silence; and the scrape is served."""
    assert value("aevon_dependency_up", dependency="dragonfly") == 1
    settings.AEVON_CACHE = {**settings.AEVON_CACHE, "URL": "redis://127.0.0.1:1/0"}
    assert value("aevon_dependency_up", dependency="dragonfly") == 0
    assert value("aevon_dependency_up", dependency="postgresql") == 1
    assert value("aevon_cache_memory_bytes") is None


# --- Several processes -------------------------------------------------------------------------

COUNTING = """
import sys
from aevon.cache.connection import store
from aevon.cache.metrics import CONFLICTS
from aevon.cache.metrics import LOADS
LOADS.labels("convo_history", "hit").inc(2)
if sys.argv[1] == "open":
    store().breaker.failed()
else:
    store()
print(flush=True)
sys.stdin.read()
"""
FORKING = """
import os, sys
from aevon.cache import shared_metrics
from aevon.cache.connection import store
from aevon.cache.metrics import CONFLICTS
store()
child = os.fork()
if not child:
    store().breaker.failed()
    print(shared_metrics.identity(), flush=True)
    sys.stdin.read()
    os._exit(0)
os.waitpid(child, 0)
print(shared_metrics.identity(), flush=True)
sys.stdin.read()
"""


DYING = """
import os, sys
from aevon.cache.metrics import CONSISTENCY, LOADS, ROUND_TRIPS
for number in range(30):
    if not os.fork():
        LOADS.labels("convo_history", "hit").inc(2)
        ROUND_TRIPS.labels("command").observe(0.002)
        CONSISTENCY.labels("convo_history").set(number / 30)
        os._exit(0)
    os.wait()
LOADS.labels("convo_history", "hit").inc()
print(flush=True)
sys.stdin.read()
"""


class Together:
    """Processes that share a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "aevon.settings"}
        self.started: list[subprocess.Popen[str]] = []

    def start(self, code: str, *arguments: str) -> subprocess.Popen[str]:
        """A process that has counted, and waits."""
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code, *arguments],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def scrape(self) -> dict[tuple[str, ...], float]:
        """Values by name and labels, as this process reads them."""
        samples = [sample for family in shared_metrics.collected() for sample in family.samples]
        return {(s.name, *(s.labels[n] for n in sorted(s.labels))): s.value for s in samples}

    def end(self) -> None:
        """All of them."""
        for process in self.started:
            process.kill()
            process.communicate()


@pytest.fixture
def together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Together]:
    """None yet."""
    monkeypatch.setenv(shared_metrics.VARIABLE, str(tmp_path))
    them = Together(tmp_path)
    yield them
    them.end()


def _open(samples: dict[tuple[str, ...], float]) -> int:
    return sum(
        int(value) for (name, *labels), value in samples.items()
        if name == "aevon_cache_breaker_state" and "open" in labels
    )  # fmt: skip


def test_the_killed_are_missing_and_what_they_counted_is_not(together: Together) -> None:
    """Three processes, one killed where it stands: sums stay, its breaker's state goes away. A file
    that is just being made disturbs nobody."""
    processes = [together.start(COUNTING, state) for state in ("open", "open", "closed")]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    (together.folder / "counter_new-1.db").touch()
    loads = ("aevon_cache_loads_total", "convo_history", "hit")
    before = together.scrape()
    assert (before[loads], _open(before)) == (6, 2)
    os.kill(processes[0].pid, signal.SIGKILL)
    # Not waited for: what is left of it has still its number.
    assert eventually(lambda: _ended(processes[0]))
    after = together.scrape()
    assert (after[loads], _open(after)) == (6, 1)
    assert len([key for key in after if key[0] == "aevon_cache_breaker_state"]) == 6


def _ended(process: subprocess.Popen[str]) -> bool:
    return "\nState:\tZ" in Path(f"/proc/{process.pid}/status").read_text()


def test_a_forked_child_stands_for_itself(together: Together) -> None:
    """As Celery's do: its parent's name and state are not its own, and end with neither."""
    parent = together.start(FORKING)
    assert parent.stdout is not None
    child = parent.stdout.readline().strip()
    samples = together.scrape()
    assert samples["aevon_cache_breaker_state", child, "open"] == 1
    assert _open(samples) == 1
    os.kill(int(child.rpartition("-")[2]), signal.SIGKILL)
    name = parent.stdout.readline().strip()
    assert name != child
    assert _open(together.scrape()) == 0
    assert together.scrape()["aevon_cache_breaker_state", name, "closed"] == 1


def test_many_dead_are_put_together(together: Together) -> None:
    """What thirty processes have counted fits in the files of one, and is told as before: once
    another process begins, and at a scrape."""
    for files in (31, 1 + 1 + 31):  # the second has found thirty dead
        process = together.start(DYING)
        assert process.stdout is not None
        process.stdout.readline()
        assert len(list(together.folder.glob("counter_*.db"))) == files
    for _ in range(2):
        samples = together.scrape()
        assert samples["aevon_cache_loads_total", "convo_history", "hit"] == 122
        assert samples["aevon_cache_round_trip_seconds_count", "command"] == 60
        assert samples["aevon_cache_round_trip_seconds_bucket", "command", "0.001"] == 0
        assert samples["aevon_cache_round_trip_seconds_bucket", "command", "0.0025"] == 60
        assert samples["aevon_cache_consistency_ratio", "convo_history"] == pytest.approx(29 / 30)
    assert len(list(together.folder.glob("counter_*.db"))) == 3
    assert len(list(together.folder.glob("*.alive"))) == 2


def test_a_scrape_does_not_wait_for_one_that_hangs(together: Together) -> None:
    """Which holds the folder."""
    process = together.start(COUNTING, "closed")
    assert process.stdout is not None
    process.stdout.readline()
    with (together.folder / "reading").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert together.scrape()["aevon_cache_loads_total", "convo_history", "hit"] == 2


def test_a_folder_without_a_name_is_none(tmp_path: Path) -> None:
    """Set and empty: each process counts for itself, and not where it happens to stand."""
    variables = {"DJANGO_SETTINGS_MODULE": "aevon.settings", "PYTHONPATH": str(ROOT)}
    alone = {**os.environ, **variables, shared_metrics.VARIABLE: ""}
    code = 'from aevon.cache.metrics import FAILURES; FAILURES.labels("timeout").inc()'
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=alone, check=True)
    assert list(tmp_path.iterdir()) == []


def test_a_dashboard_is_what_grafana_takes() -> None:
    """Panels with numbers of their own, that do not lie over each other, for one data source."""
    dashboard = json.loads(DASHBOARD)
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    taken = [
        (x, y)
        for each in places
        for x in range(each["x"], each["x"] + each["w"])
        for y in range(each["y"], each["y"] + each["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24
    assert DEPLOYED.is_dir()
