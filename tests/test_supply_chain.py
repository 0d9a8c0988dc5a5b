"""What is not ours, or should not be here: pickles, secrets, packages, rules that were silenced."""

import ast
import math
import os
import pickle
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from django.conf import settings
from django.core.cache import cache
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rest_framework.test import APIClient

from aevon.cache.backend import StrictJSONSerializer
from aevon.cache.connection import store
from aevon.cache.metrics import LOADS
from aevon.celery import app
from auth_sessions.models import User
from canvas import services as canvas
from klepsydra import services as klepsydra
from tests.cache.conftest import counted
from tests.servers import ROOT

PRODUCT: Final = ("aevon", "auth_sessions", "beep", "canvas", "klepsydra", "manage.py")


# --- Pickles -------------------------------------------------------------------------------------


class Bomb:
    """Makes a file where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._trace),)


@pytest.fixture
def bomb(tmp_path: Path) -> Iterator[bytes]:
    """A pickle that works, as the fixture makes sure of; at the end it has not gone off."""
    trace = tmp_path / "unpickled"
    raw = pickle.dumps(Bomb(trace))
    pickle.loads(raw)
    trace.rmdir()
    yield raw
    assert not trace.exists()


SERVED: Final = {
    "psyche": "/api/v1/klepsydra/psyche/",
    "canvas": "/api/v1/canvas/",
    "session": "/api/v1/auth/sessions/",
    "convo_history": "/api/v1/beep/history/",
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", SERVED)
def test_a_pickle_in_the_cache_is_not_opened(
    client: APIClient, user: User, bomb: bytes, name: str
) -> None:
    """PostgreSQL serves, the entry is replaced, and it is counted."""
    _have_something_of_each(client, user)
    key, before = f"{name}:{user.pk}", client.get(SERVED[name]).json()
    store().command("DEL", key)
    store().command("RPUSH" if name == "convo_history" else "SET", key, bomb)
    with counted(LOADS, name, "corrupt") as more:
        answer = client.get(SERVED[name])
    assert (answer.status_code, _lasting(answer.json())) == (200, _lasting(before))
    assert more() == 1
    assert bomb not in _bytes(key)


def _have_something_of_each(client: APIClient, user: User) -> None:
    klepsydra.begin([user.pk])
    assert client.patch(SERVED["canvas"], {"microApps": {}}).status_code == 200
    canvas.persist_now([user.pk])
    assert client.post("/api/v1/beep/commands/", {"text": "status"}).status_code == 200


def _lasting(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "persistedRevision"}


def _bytes(key: str) -> list[bytes]:
    command = ("LRANGE", key, 0, -1) if store().command("TYPE", key) == b"list" else ("GET", key)
    held = store().command(*command)
    assert held, "nothing is cached"
    return held if isinstance(held, list) else [held]


@pytest.mark.django_db
def test_a_pickle_in_djangos_cache_is_not_opened(bomb: bytes) -> None:
    """It is as if nothing were there."""
    store().command("SET", "django:1:x", bomb)
    with counted(LOADS, "django", "corrupt") as more:
        assert cache.get("x", "absent") == "absent"
        assert more() == 1
    assert cache.get_or_set("x", 1) == 1


UNSAFE: Final = {
    *("pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle"),
    *("joblib", "yaml"),
}


def _imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.Constant) and node.value in UNSAFE:
            found.add(node.value)  # for import_module, or for a setting
    return found


def _product() -> list[Path]:
    files = [path for name in PRODUCT for path in (ROOT / name).rglob("*.py")]
    return [*files, ROOT / "manage.py"]


def test_no_code_of_ours_opens_pickles() -> None:
    """Nor anything else that runs what it reads."""
    paths = _product()
    assert len(paths) > 100
    found = {path.name: unsafe for path in paths if (unsafe := _imported(path) & UNSAFE)}
    assert found == {}


def test_neither_djangos_cache_nor_celery_takes_pickles() -> None:
    """JSON alone."""
    assert isinstance(cache.client._serializer, StrictJSONSerializer)
    assert set(app.conf.accept_content) == {"json"}
    assert app.conf.result_accept_content in (None, ["json"])
    assert (app.conf.task_serializer, app.conf.result_serializer) == ("json", "json")
    assert settings.SESSION_SERIALIZER == "django.contrib.sessions.serializers.JSONSerializer"


# --- Secrets -------------------------------------------------------------------------------------

# What looks like a secret, and is none, by file: why.
NO_SECRETS: Final = {
    "tests/aevon/telemetry/test_redaction.py": "a token whose signature says `signature`",
    "tests/aevon/test_production.py": "of settings that no server ever has",
    "tests/browser/people.py": "of people of the test's own server",
    "tests/deploy/test_runbooks.py": "of settings that no server ever has",
    "tests/gateway/conftest.py": "of the test's own server",
    "tests/gateway/test_revocation.py": "of people of the test's own server",
    "tests/operations/test_xray.py": "a token whose signature says `signature`",
}
_NAMED: Final = re.compile(
    r"""(?ix) \b [\w-]* (?:secret|passwd|password|token|api_?key|private_?key|signing_?key) [\w-]*
    ["']? \s* [:=] \s* ["']? (?P<value> [A-Za-z0-9+/_=-]{20,} )"""
)
_KNOWN: Final = {
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=\s]{40}"),
    "an AWS key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a JWT": re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"),
    "a token of a forge": re.compile(r"\b(?:gh[pousr]_\w{36}|github_pat_\w{60,}|glpat-[\w-]{20})"),
    "a URL with a password": re.compile(r"\b\w+://[^\s:/@]+:(?P<value>[A-Za-z0-9_-]{20,})@"),
}
RANDOM_BITS: Final = 3.7  # per character: names and words have less


class Secret(NamedTuple):
    """Something in a file that should be nowhere."""

    path: str
    line: int
    what: str


def _secrets(path: str, text: str) -> Iterator[Secret]:
    for what, pattern in _KNOWN.items():
        for found in pattern.finditer(text):
            yield Secret(path, text.count("\n", 0, found.start()) + 1, what)
    for found in _NAMED.finditer(text):
        if _is_random(found["value"]):
            yield Secret(path, text.count("\n", 0, found.start()) + 1, "a random value")


def _is_random(value: str) -> bool:
    """Digits among letters, and few characters that come twice."""
    mixed = any(each.isdigit() for each in value) and any(each.isalpha() for each in value)
    counts = Counter(value).values()
    bits = -sum(n / len(value) * math.log2(n / len(value)) for n in counts)
    return mixed and bits >= RANDOM_BITS


def _tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git clone")
    return [name for name in listed.stdout.split("\0") if name]


def test_no_secret_is_in_a_file() -> None:
    """Of all that git knows."""
    found = []
    for name in _tracked():
        content = (ROOT / name).read_bytes()
        if b"\0" not in content:
            found += _secrets(name, content.decode())
    assert [each for each in found if each.path not in NO_SECRETS] == []
    assert NO_SECRETS.keys() <= {each.path for each in found}, "an exception for nothing"


PLANTED: Final = {
    "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA" * 4,
    "an AWS key": "id = " + "AKIA" + "IOSFODNN7EXAMPLE",
    "a JWT": ".".join(["eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiI3NyJ9abc", "c2lnbmF0dXJlMTIz"]),
    "a token of a forge": "ghp_" + "a1B2" * 9,
    "a URL with a password": "redis://default:" + "Zk3v9QmX2bT7rLw8yN4c" + "@h:6379",
    "a random value": "DJANGO_SECRET_KEY=" + "q8Vn3Zk1Xw7Lr5Tb9Yd2Mc6Hj4",
}


@pytest.mark.parametrize("what", PLANTED)
def test_a_secret_would_be_found(what: str) -> None:
    """One of each kind."""
    text = f"# a file\n{PLANTED[what]}\n"
    assert Secret("f", 2, what) in [*_secrets("f", text)]


# --- Rules that were silenced --------------------------------------------------------------------

_SILENCED: Final = re.compile(r"# noqa: (?P<rules>[A-Z0-9, ]*\bS\d{3}[A-Z0-9, ]*?)(?P<why>\s.*)?$")


def test_every_rule_of_safety_that_is_silenced_says_why() -> None:
    """In the same line; and none is silenced for a whole file."""
    unexplained = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in _product()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (found := _SILENCED.search(line)) and not (found["why"] or "").strip("# ")
    ]
    assert unexplained == []
    assert [path.name for path in _product() if "ruff: noqa" in path.read_text()] == []
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    lenient = {glob for glob, rules in lint["per-file-ignores"].items() if "S" in rules}
    assert lenient <= {"tests/**", "benchmarks/**"}
    assert not [rule for rule in lint["ignore"] if re.fullmatch(r"S\d*", rule)]


def test_rules_of_safety_are_on_for_all_code_of_ours() -> None:
    """ruff's S, which are bandit's."""
    ruff = str(Path(sys.executable).with_name("ruff"))
    command = [ruff, "check", "--select", "S", "--no-cache", *PRODUCT]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert found.returncode == 0, found.stdout.decode()


# --- Packages ------------------------------------------------------------------------------------

_PIN: Final = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[A-Za-z0-9.!+]+)")
LISTS: Final = ("requirements.txt", "requirements-tracing.txt", "tests/requirements.txt")


def _lines(name: str) -> list[str]:
    lines = (line.strip() for line in (ROOT / name).read_text().splitlines())
    return [line for line in lines if line and not line.startswith(("#", "-r "))]


def _pinned(*names: str) -> dict[str, str]:
    found = [_PIN.fullmatch(line) for name in names for line in _lines(name)]
    return {canonicalize_name(each["name"]): each["version"] for each in found if each}


@pytest.mark.parametrize("name", [*LISTS, "benchmarks/requirements.txt"])
def test_every_package_has_one_exact_version(name: str) -> None:
    """No range, no marker, no address; nothing twice."""
    lines = _lines(name)
    assert [line for line in lines if not _PIN.fullmatch(line)] == []
    assert len(_pinned(name)) == len(lines)


@pytest.mark.parametrize("names", [LISTS[:1], LISTS[:2], LISTS])
def test_whatever_a_package_needs_is_pinned_too(names: tuple[str, ...]) -> None:
    """So that the same comes every time."""
    pinned = _pinned(*names)
    needed = {need for name in pinned for need in _needs(name)}
    assert needed - pinned.keys() == set()


def _needs(name: str) -> Iterator[str]:
    for text in distribution(name).requires or []:
        need = Requirement(text)
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            yield canonicalize_name(need.name)


def test_what_is_installed_is_what_is_pinned() -> None:
    """A test of anything else would say nothing."""
    pinned = _pinned(*LISTS)
    installed = {name: distribution(name).version for name in pinned}
    assert installed == pinned
