"""The real Prometheus (Debian: prometheus), beside a site of the tests'."""

import contextlib
import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from aevon.ports import free_port
from tests.servers import ROOT
from tests.waiting import eventually

DEPLOYED = ROOT / "deploy" / "prometheus"
RULES = yaml.safe_load((DEPLOYED / "alerts.yml").read_text())["groups"][0]["rules"]
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
# A scrape takes 2.5 s at most, and must be over before the next.
SCRAPE = "3s"
# Two scrapes at least, or there is no rate.
WINDOW = "15s"


def needed(program: str | None) -> str:
    """Its path; the test is skipped where it is not installed."""
    if program is None:
        pytest.skip("Debian's package prometheus is not installed")
    return program


def promtool(*arguments: str) -> str:
    """What it says; it must be content."""
    command = [needed(PROMTOOL), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def hurried(rules: str) -> str:
    """The rules as they are but for their patience: no `for`, and short ranges."""
    without = re.sub(r"^ +for: .*\n", "", rules, flags=re.MULTILINE)
    return re.sub(r"\[\d+m\]", f"[{WINDOW}]", without)


def _configuration(targets: Mapping[str, str]) -> str:
    text = (DEPLOYED / "prometheus.yml").read_text()
    # There is no name server here that knows the deployment's names.
    text = re.sub(
        r"dns_sd_configs:\n +- names: \[(\w+)\]\n +type: A\n( +)port: (\d+)\n",
        r'static_configs:\n      - targets: ["\1:\3"]\n',
        text,
    )
    for theirs, ours in targets.items():
        assert theirs in text, theirs
        text = text.replace(theirs, ours)
    text = re.sub(r"(scrape_interval|scrape_timeout): .*", rf"\1: {SCRAPE}", text)
    # Nobody is told.
    text = re.sub(r"^alerting:\n(?: .*\n)+", "", text, flags=re.MULTILINE)
    return text.replace("evaluation_interval: 15s", "evaluation_interval: 1s")


class Prometheus:
    """A running one."""

    def __init__(self, url: str) -> None:
        self.url = url

    def asked(self, path: str, **query: str) -> Any:
        """The data of an answer of its API."""
        address = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=10) as response:
            return json.load(response)["data"]

    def value(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """What an expression is now: labels and value of each series."""
        result = self.asked("query", query=expression)["result"]
        return [(each["metric"], float(each["value"][1])) for each in result]

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        alerts = self.asked("alerts")["alerts"]
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}


@contextlib.contextmanager
def prometheus(folder: Path, targets: Mapping[str, str]) -> Iterator[Prometheus]:
    """It scrapes `targets` in place of those of the deployment, with its rules in a hurry."""
    program, port = needed(PROMETHEUS), free_port()
    (folder / "prometheus.yml").write_text(_configuration(targets))
    (folder / "alerts.yml").write_text(hurried((DEPLOYED / "alerts.yml").read_text()))
    command = [
        *(program, f"--config.file={folder / 'prometheus.yml'}", "--log.level=warn"),
        *(f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"),
    ]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        running = Prometheus(f"http://127.0.0.1:{port}")
        try:
            assert eventually(lambda: _is_ready(running) or process.poll() is not None)
            assert process.poll() is None, (folder / "log").read_text()
            yield running
        finally:
            process.terminate()


def _is_ready(running: Prometheus) -> bool:
    try:
        with urllib.request.urlopen(f"{running.url}/-/ready", timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False
