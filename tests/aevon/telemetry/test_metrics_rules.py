"""Prometheus' own tool on the rules: what it takes for each alert to fire, and what does not."""

import re
from pathlib import Path
from typing import NamedTuple

import yaml

from tests.aevon.telemetry.prometheus import DEPLOYED, RULES, promtool
from tests.servers import ROOT

Series = dict[str, str]
STEP_SECONDS = 15
HEADING = "### "


class Case(NamedTuple):
    """The series that make an alert's expression true from `since` seconds on, and others like
    them, as near as can be, that do not."""

    since: int
    true: Series
    false: Series


def _dependency(name: str) -> Case:
    series = f'aevon_dependency_up{{job="aevon",instance="w",dependency="{name}"}}'
    return Case(0, {series: "0x100"}, {series: "1x100"})


def _role(role: str) -> Case:
    """Nothing done since the epoch, which a promtool test begins at."""
    worked = f'aevon_processes_last_worked_timestamp_seconds{{job="aevon",role="{role}"}}'
    there = f'aevon_processes{{job="aevon",role="{role}"}}'
    # As old as may be: a minute.
    working = " ".join(str(max(0, at - 60)) for at in range(0, 1500, STEP_SECONDS))
    return Case(75, {worked: "0x100", there: "1x100"}, {worked: working, there: "1x100"})


def _counter(series: str) -> Case:
    """It rises once, a minute from the beginning."""
    return Case(60, {series: "0x3 1x100"}, {series: "1x100"})


def _breaker(dependency: int) -> Series:
    return {
        'aevon_cache_breaker_state{job="aevon",instance="w",state="open",pid="h-1"}': "1x100",
        'aevon_dependency_up{job="aevon",instance="w",dependency="dragonfly"}': f"{dependency}x100",
    }


def _of_canvases(name: str, value: str) -> Series:
    labels = '{job="aevon",instance="w"}'
    period = f"aevon_canvas_persist_period_seconds{labels}"
    return {f"aevon_canvas_{name}{labels}": value, period: "300x100"}


def _requests(failing: int) -> Series:
    series = 'aevon_http_request_seconds_count{job="aevon",instance="w",status="%s"}'
    return {series % "5xx": f"0+{failing}x100", series % "2xx": f"0+{1000 - failing}x100"}


def _latency(fast: int) -> Series:
    counts = {"0.75": fast, "2.5": 1000, "+Inf": 1000}
    series = 'aevon_http_request_seconds_bucket{job="aevon",instance="w",le="%s"}'
    return {series % le: f"0+{count}x100" for le, count in counts.items()}


def _memory(used: int) -> Series:
    labels = '{job="aevon",instance="w"}'
    name = "aevon_cache_memory"
    return {f"{name}_bytes{labels}": f"{used}x100", f"{name}_limit_bytes{labels}": "100x100"}


def _gauge(series: str, true: str, false: str) -> Case:
    return Case(0, {series: f"{true}x100"}, {series: f"{false}x100"})


_KEYSPACE = 'job="aevon",instance="w",keyspace="psyche"'
_AGES = " ".join(str(max(0, at - 750)) for at in range(0, 1500, STEP_SECONDS))
CASES = {
    "TargetDown": _gauge('up{job="aevon-worker",instance="w"}', "0", "1"),
    "PostgresqlAway": _dependency("postgresql"),
    "CacheAway": _dependency("dragonfly"),
    "CacheDistrusted": Case(0, _breaker(1), _breaker(0)),
    "BrokerAway": _dependency("broker"),
    "BeatAway": _role("beat"),
    "WorkerAway": _role("worker"),
    "ListenerAway": _role("listener"),
    "TasksFailing": _counter('aevon_celery_tasks_total{job="aevon",task="t",outcome="failure"}'),
    "OutboxNotDrained": _gauge('aevon_cache_outbox_oldest_seconds{job="aevon"}', "31", "30"),
    "CanvasesNotPersisted": Case(
        0, _of_canvases("oldest_unsaved_seconds", "601x100"),
        _of_canvases("oldest_unsaved_seconds", "600x100"),
    ),
    "CanvasesLost": _counter('aevon_cache_flushed_total{job="aevon",result="lost"}'),
    "CanvasesRefused": _gauge('aevon_canvas_refused{job="aevon"}', "1", "0"),
    "FlushLate": Case(
        765, _of_canvases("last_flush_timestamp_seconds", "0x100"),
        _of_canvases("last_flush_timestamp_seconds", _AGES),
    ),
    "FlushSlow": Case(
        0, _of_canvases("last_flush_seconds", "241x100"),
        _of_canvases("last_flush_seconds", "240x100"),
    ),
    "EntriesStale": _counter(f'aevon_cache_audited_total{{{_KEYSPACE},verdict="stale"}}'),
    "EntriesCorrupt": _counter(f'aevon_cache_loads_total{{{_KEYSPACE},result="corrupt"}}'),
    "CacheMemoryHigh": Case(0, _memory(86), _memory(85)),
    "RequestsFailing": Case(15, _requests(21), _requests(20)),
    "RequestsSlow": Case(15, _latency(949), _latency(950)),
}  # fmt: skip


# How long, in seconds, an expression must have been true.
PATIENCE = {
    0: ["TasksFailing", "CanvasesLost", "EntriesStale", "EntriesCorrupt"],
    30: ["PostgresqlAway"],
    60: [
        "TargetDown",
        "CacheAway",
        "BrokerAway",
        "BeatAway",
        "WorkerAway",
        "OutboxNotDrained",
        "CanvasesNotPersisted",
        "FlushLate",
    ],
    120: ["ListenerAway"],
    300: ["CacheDistrusted", "CanvasesRefused", "CacheMemoryHigh", "RequestsFailing"],
    600: ["FlushSlow", "RequestsSlow"],
}


def _stops(steps: int, *series: str) -> tuple[int, Series]:
    """They rise so many times, and no more; when they last did."""
    values = f"0+100x{steps} {steps * 100}x100"
    return steps * STEP_SECONDS, dict.fromkeys(series, values)


_FAILED = 'aevon_http_request_seconds_count{job="aevon",instance="w",status="5xx"}'
_SLOW = 'aevon_http_request_seconds_bucket{job="aevon",instance="w",le="%s"}'
# For how long, in seconds, an alert looks back: after what has made it fire last.
RANGES: dict[str, tuple[int, tuple[int, Series]]] = {
    "TasksFailing": (900, (60, CASES["TasksFailing"].true)),
    "CanvasesLost": (900, (60, CASES["CanvasesLost"].true)),
    "EntriesStale": (180, (60, CASES["EntriesStale"].true)),
    "EntriesCorrupt": (900, (60, CASES["EntriesCorrupt"].true)),
    "RequestsFailing": (300, _stops(30, _FAILED)),
    "RequestsSlow": (300, _stops(60, _SLOW % "2.5", _SLOW % "+Inf")),
}


def _expects(name: str, at: int, firing: int) -> dict[str, object]:
    return {
        "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)',
        "eval_time": f"{at}s",
        "exp_samples": [{"labels": "{}", "value": firing}],
    }


def _test(series: Series, checks: list[dict[str, object]]) -> dict[str, object]:
    given = [{"series": name, "values": values} for name, values in series.items()]
    step = f"{STEP_SECONDS}s"
    return {"interval": step, "input_series": given, "promql_expr_test": checks}


def test_each_alert_fires_after_its_time_and_not_before(tmp_path: Path) -> None:
    """At the durations and limits that the file has; and what just does not reach them is quiet."""
    tests = []
    assert CASES.keys() == {rule["alert"] for rule in RULES}
    patience = {name: seconds for seconds, names in PATIENCE.items() for name in names}
    for rule in RULES:
        name, case = rule["alert"], CASES[rule["alert"]]
        fires = case.since + patience[name]
        checks = [_expects(name, fires, 1)]
        if fires >= STEP_SECONDS:
            checks.insert(0, _expects(name, fires - STEP_SECONDS, 0))
        tests.append(_test(case.true, checks))
        tests.append(_test(case.false, [_expects(name, at, 0) for at in (fires, 1485)]))
    file = tmp_path / "tests.yml"
    rules = [str(DEPLOYED / "alerts.yml")]
    told = {"rule_files": rules, "evaluation_interval": f"{STEP_SECONDS}s", "tests": tests}
    file.write_text(yaml.safe_dump(told))
    assert "SUCCESS" in promtool("test", "rules", str(file))


def test_an_alert_looks_back_so_far_and_no_farther(tmp_path: Path) -> None:
    """Who looks a quarter of an hour later finds what is lost; what is over ends."""
    ranged = {rule["alert"] for rule in RULES if re.search(r"\[\d+\w\]", rule["expr"])}
    assert RANGES.keys() == ranged
    tests = []
    for name, (seconds, (last, series)) in RANGES.items():
        ends = last + seconds
        checks = [_expects(name, ends - 2 * STEP_SECONDS, 1), _expects(name, ends, 0)]
        tests.append(_test(series, checks))
    file = tmp_path / "tests.yml"
    rules = [str(DEPLOYED / "alerts.yml")]
    told = {"rule_files": rules, "evaluation_interval": f"{STEP_SECONDS}s", "tests": tests}
    file.write_text(yaml.safe_dump(told))
    assert "SUCCESS" in promtool("test", "rules", str(file))


def test_a_role_that_has_no_process_is_away(tmp_path: Path) -> None:
    """Not late: there is nobody who could be."""
    tests = []
    for name, role in (
        ("BeatAway", "beat"),
        ("WorkerAway", "worker"),
        ("ListenerAway", "listener"),
    ):
        series = {f'aevon_processes{{job="aevon",role="{role}"}}': "0x100"}
        tests.append(_test(series, [_expects(name, 120, 1)]))
    file = tmp_path / "tests.yml"
    rules = [str(DEPLOYED / "alerts.yml")]
    file.write_text(yaml.safe_dump({"rule_files": rules, "tests": tests}))
    assert "SUCCESS" in promtool("test", "rules", str(file))


def test_prometheus_accepts_what_is_deployed(tmp_path: Path) -> None:
    """The configurations, and the rules that they name."""
    found = promtool("check", "config", str(DEPLOYED / "prometheus.yml"))
    assert f"{len(RULES)} rules found" in found
    # Debian's is built without Kubernetes: all but how the pods are found.
    text = (DEPLOYED / "kubernetes.yml").read_text()
    text = re.sub(r"kubernetes_sd_configs:\n.*\n.*\n", "static_configs: []\n", text)
    file = tmp_path / "kubernetes.yml"
    file.write_text(text.replace("alerts.yml", str(DEPLOYED / "alerts.yml")))
    assert f"{len(RULES)} rules found" in promtool("check", "config", str(file))


def test_each_alert_tells_what_to_do() -> None:
    """A severity, two texts, and a section of the runbook that says four things."""
    runbook = (ROOT / "docs" / "operations.md").read_text()
    alerts = runbook.partition("\n## Alerts\n")[2].partition("\n## ")[0]
    sections = {part.split("\n", 1)[0]: part for part in alerts.split(f"\n{HEADING}")[1:]}
    assert [*sections] == [rule["alert"] for rule in RULES]
    for rule in RULES:
        name, told = rule["alert"], rule["annotations"]
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert told["summary"]
        assert told["description"]
        assert told["runbook_url"] == f"docs/operations.md#{name.lower()}"
        said = re.findall(r"\*(means|impact|diagnose|mend)\*", sections[name].lower())
        assert set(said) == {"means", "impact", "diagnose", "mend"}, name
