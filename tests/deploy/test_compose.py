"""deploy/compose.yaml: what Compose would refuse, and what would be missed at night. There is no
engine here to start it with."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from tests.deploy.guarded import RENDER, digest, users
from tests.servers import ROOT

FOLDER = ROOT / "deploy"
FILE = (FOLDER / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(FILE)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, each in SERVICES.items() if each.get("image") == "aevon"]
ONCE = ("migrate", "dragonfly-users")
SETTINGS = (ROOT / "docs" / "reference" / "settings.md").read_text()


def test_the_file_is_one_that_compose_reads() -> None:
    """Every name is known to the specification, and every value of its kind."""
    PyCompose.from_json(json.dumps(COMPOSE)).to_spec()
    misspelt = json.dumps(COMPOSE).replace('"stop_grace_period"', '"stop_grace_perod"')
    with pytest.raises(ValueError, match="stop_grace_perod"):
        PyCompose.from_json(misspelt)


def test_what_is_named_exists() -> None:
    """Services, volumes and networks; folders that are mounted, but for what belongs to others."""
    for name, each in SERVICES.items():
        assert set(each.get("depends_on", ())) <= SERVICES.keys(), name
        assert set(each.get("networks", ())) <= COMPOSE["networks"].keys(), name
        for source, _, _ in (f"{volume}:".split(":", 2) for volume in each.get("volumes", ())):
            known = (FOLDER / source).is_dir() if source[0] == "." else source in COMPOSE["volumes"]
            assert known or each.get("profiles") == ["metrics"], (name, source)
    assert OURS == ["migrate", "web", "worker", "beat", "listener"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_kept_in_bounds(name: str) -> None:
    """Its memory, its file system, its rights; and it is started again."""
    service = SERVICES[name]
    assert service["restart"] == ("no" if name in ONCE else "unless-stopped")
    if name in ONCE:
        return
    assert service["deploy"]["resources"]["limits"]["memory"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["logging"]["options"]["max-size"]
    if name != "postgres":
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])


@pytest.mark.parametrize("name", [*OURS[1:], "postgres", "dragonfly", "broker"])
def test_a_service_has_its_time_and_its_health_check(name: str) -> None:
    """A worker more time than a flush at its end takes, Dragonfly that of a snapshot."""
    assert SERVICES[name]["healthcheck"]["test"]
    seconds = {"s": 1, "m": 60}
    [(number, unit)] = re.findall(r"(\d+)([sm])", SERVICES[name]["stop_grace_period"])
    least = {"web": 30, "worker": 60, "dragonfly": 60, "broker": 60}.get(name, 20)
    assert int(number) * seconds[unit] >= least


def test_every_variable_is_a_setting() -> None:
    """Of Aevon's containers; nothing is set that nothing reads."""
    for name in OURS:
        known = {"PROMETHEUS_MULTIPROC_DIR"}
        names = set(SERVICES[name]["environment"]) - known
        assert [each for each in names if f"`{each}`" not in SETTINGS] == []


def test_no_secret_has_a_default() -> None:
    """Passwords and keys come from outside; those of users that are not wanted may be missing."""
    secrets = re.findall(r"\$\{(\w*(?:PASSWORD|KEY|KEYS|FALLBACKS)\w*)(:\?[^}]*|:-[^}]*)?\}", FILE)
    assert len(secrets) > 10
    assert [(name, rest) for name, rest in secrets if rest and rest[:2] == ":-" != rest] == []
    wanted = {name for name, rest in secrets if rest.startswith(":?")}
    assert wanted == {
        "POSTGRES_PASSWORD", "DRAGONFLY_PASSWORD", "DRAGONFLY_ADMIN_PASSWORD", "DJANGO_SECRET_KEY",
        "JWT_SIGNING_KEY",
    }  # fmt: skip
    told = FILE.partition("x-hardened")[0]
    assert all(name in told for name in wanted)


def test_dragonfly_keeps_what_it_is_given() -> None:
    """No eviction, snapshots every flush's period, its users; room for what it writes with."""
    flags = dict(
        flag.removeprefix("--").partition("=")[::2]
        for flag in SERVICES["dragonfly"]["command"]
        if flag.startswith("--")
    )
    assert "cache_mode" not in flags
    assert "default_lua_flags" not in flags
    assert flags["snapshot_cron"] == "*/5 * * * *"
    assert flags["dbfilename"]
    assert flags["aclfile"] == "/users/users.acl"
    assert flags["maxmemory"] == "1gb"
    assert SERVICES["dragonfly"]["deploy"]["resources"]["limits"]["memory"] == "1536m"
    # Should the file not be readable, Dragonfly goes by this, or lets everybody in.
    assert SERVICES["dragonfly"]["environment"]["DFLY_requirepass"]


def test_the_file_of_users_is_made_anew(tmp_path: Path) -> None:
    """With what the environment says; the password of the health check stays."""
    [script] = SERVICES["dragonfly-users"]["command"]
    for inside, here in (("/users", tmp_path), ("/deploy", RENDER.parent), ("$$", "$")):
        script = script.replace(str(inside), str(here))
    script = re.sub(r"^chown .*$", "", script, flags=re.MULTILINE)
    given = {"PATH": os.environ["PATH"], "ADMIN_PASSWORD": "a"}
    for password in ("old", "new"):
        subprocess.run(
            ["/bin/sh", "-c", script], env={**given, "AEVON_PASSWORD": password}, check=True
        )
        found = users((tmp_path / "users.acl").read_text())
        assert list(found) == ["default", "admin", "aevon", "metrics"]
        assert found["aevon"][1] == digest(password)
        assert found["metrics"][1] == digest((tmp_path / "metrics.password").read_text().strip())
    assert len((tmp_path / "metrics.password").read_text().strip()) == 64
    assert (tmp_path / "users.acl").stat().st_mode & 0o007 == 0


def test_counters_are_a_containers_own() -> None:
    """Each is asked for its own, wherever it runs; and they are in memory, and have an end."""
    for name in ("web", "worker"):
        assert SERVICES[name]["environment"]["PROMETHEUS_MULTIPROC_DIR"] == "/metrics"
        assert [each for each in SERVICES[name]["tmpfs"] if each.startswith("/metrics:")]


def test_nothing_is_published_but_to_this_host() -> None:
    """A proxy in front ends TLS; Dragonfly answers /metrics without a password."""
    published = [port for each in SERVICES.values() for port in each.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert COMPOSE["networks"]["data"]["internal"]
    assert SERVICES["dragonfly"]["networks"] == SERVICES["postgres"]["networks"] == ["data"]


@pytest.mark.parametrize(
    ("name", "variable", "program", "words"),
    [
        ("grafana", "GF_SECURITY_ADMIN_PASSWORD", "/run.sh", "GRAFANA_PASSWORD is not set."),
        ("alertmanager", "WEBHOOK", "/bin/alertmanager", "ALERTS_WEBHOOK is not set"),
    ],
)
def test_what_watches_is_told_what_it_needs(
    tmp_path: Path, name: str, variable: str, program: str, words: str
) -> None:
    """It does not begin with a password that everybody knows, or with nobody to tell."""
    service = SERVICES[name]
    [script] = service["command"]
    for inside, here in (("$$", "$"), (program, "/bin/echo begins"), ("/tmp", str(tmp_path))):
        script = script.replace(inside, here)
    for given, code in (("", 1), ("given", 0)):
        environment = {"PATH": os.environ["PATH"], variable: given}
        run = subprocess.run(
            [*service["entrypoint"], script],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (run.returncode, run.stdout.startswith("begins")) == (code, not code)
        assert (words in run.stderr) is bool(code)


def test_prometheus_tells_somebody() -> None:
    """The service that its configuration names, which has a receiver."""
    told = yaml.safe_load((FOLDER / "prometheus" / "prometheus.yml").read_text())["alerting"]
    [[target]] = [each["targets"] for each in told["alertmanagers"][0]["static_configs"]]
    assert target.partition(":")[0] in SERVICES
    kept = yaml.safe_load((FOLDER / "prometheus" / "alertmanager.yml").read_text())
    [receiver] = kept["receivers"]
    assert receiver["name"] == kept["route"]["receiver"]
    assert receiver["webhook_configs"][0]["url_file"] == "/tmp/webhook"
    assert "> /tmp/webhook\n" in SERVICES["alertmanager"]["command"][0]
