"""deploy/kubernetes against Kubernetes' own schemas, and against what the code wants."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.test_compose import SERVICES
from tests.servers import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
SETTINGS = (ROOT / "docs" / "reference" / "settings.md").read_text()
Manifest = dict[str, Any]


def manifests(path: Path) -> list[Manifest]:
    """Those of a file."""
    return list(yaml.safe_load_all(path.read_text()))


FILES = {path.name: manifests(path) for path in sorted(FOLDER.glob("*.yaml"))}
KUSTOMIZATION = FILES["kustomization.yaml"][0]
ALL = {
    (each["kind"], each["metadata"]["name"]): each
    for name, found in FILES.items()
    if name != "kustomization.yaml"
    for each in found
}
# What the operator's resource may hold (its api/v1alpha1/dragonfly_types.go, 2025).
DRAGONFLY_SPEC = {
    "replicas", "image", "imagePullPolicy", "imagePullSecrets", "args", "aclFromSecret",
    "annotations", "labels", "env", "additionalContainers", "additionalVolumes", "resources",
    "affinity", "nodeSelector", "memcachedPort", "tolerations", "topologySpreadConstraints",
    "authentication", "containerSecurityContext", "podSecurityContext", "serviceAccountName",
    "priorityClassName", "tlsSecretRef", "tiering", "snapshot", "skipFSGroup", "serviceSpec",
    "initContainers", "ownedObjectsMetadata", "pdb",
}  # fmt: skip
SNAPSHOT = {
    "dir", "cron", "enableOnMasterOnly", "persistentVolumeClaimSpec",
    "existingPersistentVolumeClaimName",
}  # fmt: skip
STANDARD = [key for key in ALL if key[0] != "Dragonfly"]
PODS = {
    name: each["spec"]["template"]
    for (kind, name), each in ALL.items()
    if kind in ("Deployment", "Job")
}


@pytest.mark.parametrize("key", STANDARD, ids="-".join)
def test_a_manifest_is_one_that_kubernetes_takes(key: tuple[str, str]) -> None:
    """Nothing in it is unknown, and nothing of the wrong kind."""
    kubernetes_validate.validate(ALL[key], kubernetes_validate.latest_version(), strict=True)


def test_a_misspelt_field_would_be_found() -> None:
    """The schemas are strict."""
    web = yaml.safe_load(
        yaml.safe_dump(ALL["Deployment", "web"]).replace("readinessProbe", "ready")
    )
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(web, kubernetes_validate.latest_version(), strict=True)


def test_everything_is_applied_but_the_example() -> None:
    """Every file is named, and no secret is in the repository."""
    others = {"kustomization.yaml", "secret.example.yaml"}
    assert set(KUSTOMIZATION["resources"]) == FILES.keys() - others
    assert [kind for kind, _ in ALL if kind == "Secret"] == ["Secret", "Secret"]
    for each in FILES["secret.example.yaml"]:
        for value in each["stringData"].values():
            assert re.search(r"PASSWORD|LEAST|PRIVATE-KEY|default off", value), value


@pytest.mark.parametrize("name", PODS)
def test_a_pod_has_no_rights(name: str) -> None:
    """As the namespace's rules want it, and a file system that is read-only."""
    pod = PODS[name]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    assert f"\nUSER {pod['securityContext']['runAsUser']}\n" in dockerfile
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    assert container["image"] == KUSTOMIZATION["images"][0]["name"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.parametrize("name", PODS)
def test_a_pod_is_told_what_the_settings_read(name: str) -> None:
    """The secrets and the map exist, and hold settings."""
    [container] = PODS[name]["spec"]["containers"]
    assert container["envFrom"] == [
        {"configMapRef": {"name": "aevon"}},
        {"secretRef": {"name": "aevon"}},
    ]
    given = {
        *ALL["ConfigMap", "aevon"]["data"],
        *ALL["Secret", "aevon"]["stringData"],
        *(each["name"] for each in container.get("env", ())),
    }
    known = {"PROMETHEUS_MULTIPROC_DIR"}
    assert [each for each in given - known if f"`{each}`" not in SETTINGS] == []


@pytest.mark.parametrize("name", PODS)
def test_a_pod_runs_what_compose_runs(name: str) -> None:
    """One command line in both."""
    [container] = PODS[name]["spec"]["containers"]
    assert container["command"] == SERVICES[name]["command"]


def test_selectors_find_their_pods() -> None:
    """Deployments, services, budgets and the rules of the network."""
    labels = {name: pod["metadata"]["labels"] for name, pod in PODS.items()}
    for (kind, name), each in ALL.items():
        if kind in ("Deployment", "PodDisruptionBudget"):
            assert each["spec"]["selector"]["matchLabels"].items() == labels[name].items()
    assert ALL["Service", "web"]["spec"]["selector"] == labels["web"]
    for name, found in (("aevon", "web"), ("web", "web"), ("worker", "worker")):
        wanted = ALL["NetworkPolicy", name]["spec"]["podSelector"]["matchLabels"]
        assert wanted.items() <= labels[found].items()
    target = ALL["HorizontalPodAutoscaler", "web"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", "web")


def test_each_is_as_many_as_it_may_be() -> None:
    """Beat is one, at any time; web is as many as the autoscaler says."""
    deployments = {name: each["spec"] for (kind, name), each in ALL.items() if kind == "Deployment"}
    assert deployments["beat"]["replicas"] == 1
    assert deployments["beat"]["strategy"] == {"type": "Recreate"}
    assert "replicas" not in deployments["web"]
    assert deployments["listener"]["replicas"] == 2


def test_probes_and_ends() -> None:
    """Ports and paths are those of the server; a pod ends after its load balancers know."""
    [web] = PODS["web"]["spec"]["containers"]
    ports = {each["name"]: each["containerPort"] for each in web["ports"]}
    assert f"--port={ports['http']}" in web["command"]
    paths = {probe: web[probe]["httpGet"] for probe in web if probe.endswith("Probe")}
    assert {probe: each["path"] for probe, each in paths.items()} == {
        "startupProbe": "/health/live",
        "livenessProbe": "/health/live",
        "readinessProbe": "/health/ready",
    }
    assert {each["port"] for each in paths.values()} == {"http"}
    assert ALL["Service", "web"]["spec"]["ports"][0]["targetPort"] == "http"
    assert ALL["NetworkPolicy", "web"]["spec"]["ingress"][0]["ports"][0]["port"] == ports["http"]
    # The answer takes at most 2.5 s.
    assert web["readinessProbe"]["timeoutSeconds"] >= 3
    [kill] = re.findall(r"--workers-kill-timeout=(\d+)", " ".join(web["command"]))
    sleep = web["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert PODS["web"]["spec"]["terminationGracePeriodSeconds"] > sleep + int(kill)
    for name in ("worker", "beat", "listener"):
        [container] = PODS[name]["spec"]["containers"]
        command = container["livenessProbe"]["exec"]["command"]
        assert command == SERVICES[name]["healthcheck"]["test"][1:]


def test_the_operators_resource() -> None:
    """Names that the operator knows; secrets that are there; no eviction; room above maxmemory."""
    dragonfly = ALL["Dragonfly", "dragonfly"]
    spec = dragonfly["spec"]
    assert dragonfly["apiVersion"] == "dragonflydb.io/v1alpha1"
    assert spec.keys() <= DRAGONFLY_SPEC
    assert spec["snapshot"].keys() <= SNAPSHOT
    secret = ALL["Secret", "dragonfly"]["stringData"]
    for wanted in (spec["aclFromSecret"], spec["authentication"]["passwordFromSecret"]):
        assert wanted["name"] == "dragonfly"
        assert wanted["key"] in secret
    flags = dict(flag.removeprefix("--").partition("=")[::2] for flag in spec["args"])
    assert flags.keys() == {"maxmemory", "proactor_threads", "dbfilename", "version_check"}
    assert (flags["maxmemory"], spec["resources"]["limits"]["memory"]) == ("3gb", "4Gi")
    assert spec["image"] == SERVICES["dragonfly"]["image"]
    # The Service has the resource's name, and is what the URL leads to, with TLS.
    url = ALL["Secret", "aevon"]["stringData"]["DRAGONFLY_URL"]
    assert url.startswith("rediss://aevon:PASSWORD@dragonfly:6379/0?ssl_ca_certs=")
    mounts = {each["mountPath"] for each in PODS["web"]["spec"]["containers"][0]["volumeMounts"]}
    assert str(Path(url.partition("ssl_ca_certs=")[2]).parent) in mounts


def test_prometheus_asks_each_pod_that_counts() -> None:
    """By the labels and the names of ports that the pods have."""
    told = yaml.safe_load((ROOT / "deploy" / "prometheus" / "kubernetes.yml").read_text())
    for job in told["scrape_configs"]:
        [keep] = job["relabel_configs"]
        component, port = keep["regex"].split(";")
        template = ALL["Deployment", component]["spec"]["template"]
        assert template["metadata"]["labels"]["app.kubernetes.io/component"] == component
        [container] = template["spec"]["containers"]
        assert port in [each["name"] for each in container["ports"]]
        [found] = job["kubernetes_sd_configs"]
        assert (keep["action"], found["role"]) == ("keep", "pod")
        assert found["namespaces"]["names"] == [ALL["Namespace", "aevon"]["metadata"]["name"]]
