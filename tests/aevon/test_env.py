"""The environment's values: typed, bounded, and named when wrong."""

import os
import re
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from kombu import Connection

from aevon import env

STRONG = "x9Fq2-unguessable-and-long-enough-1234567890"


def test_an_unset_integer_takes_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable counts as unset."""
    monkeypatch.setenv("AEVON_X", "")
    assert env.integer("AEVON_X", 7, minimum=1, maximum=9) == 7


@pytest.mark.parametrize("value", ["ten", "1.5", "0", "10", "nan"])
def test_a_wrong_integer_names_its_variable(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Not a number, a fraction, or outside the bounds."""
    monkeypatch.setenv("AEVON_X", value)
    with pytest.raises(ImproperlyConfigured, match="AEVON_X"):
        env.integer("AEVON_X", 7, minimum=1, maximum=9)


@pytest.mark.parametrize("value", ["fast", "nan", "inf", "-1"])
def test_a_wrong_number_names_its_variable(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """NaN and infinities are outside every bound."""
    monkeypatch.setenv("AEVON_X", value)
    with pytest.raises(ImproperlyConfigured, match="AEVON_X"):
        env.number("AEVON_X", 0.5, minimum=0, maximum=1)


def test_a_choice_outside_the_list_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """`AEVON_ENV=staging` must not silently be development."""
    monkeypatch.setenv("AEVON_ENV", "staging")
    with pytest.raises(ImproperlyConfigured, match="development, production"):
        env.choice("AEVON_ENV", "development", ("development", "production"))


@pytest.mark.parametrize("value", ["desk", "back-room/Desk_7", "apiary"])
def test_a_path(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """One part, or several."""
    monkeypatch.setenv("AEVON_X", value)
    assert env.path("AEVON_X", "admin") == value


@pytest.mark.parametrize(
    "value",
    ["/desk", "desk/", "a//b", ".", "a b", "ä", "a?b", "<int:x>", "api", "api/v1", "health"],
)
def test_a_wrong_path_names_its_variable(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """An empty part, other characters, or what the site's own paths begin with."""
    monkeypatch.setenv("AEVON_X", value)
    with pytest.raises(ImproperlyConfigured, match="AEVON_X"):
        env.path("AEVON_X", "admin")


def test_what_is_derived_of_a_secret() -> None:
    """The same each time, another for another purpose or secret."""
    first = env.derived(STRONG, "one")
    assert re.fullmatch("[0-9a-f]{16}", first)
    assert first == env.derived(STRONG, "one")
    assert len({first, env.derived(STRONG, "two"), env.derived(STRONG[::-1], "one")}) == 3


def test_a_development_secret_is_made_once_and_private(tmp_path: Path) -> None:
    """The second start signs with the same key, which only its owner reads."""
    first = env.secret("AEVON_TEST_KEY", data_dir=tmp_path / "new", development=True)
    assert env.secret("AEVON_TEST_KEY", data_dir=tmp_path / "new", development=True) == first
    mode = (tmp_path / "new" / "aevon_test_key.txt").stat().st_mode
    assert len(first) >= 32
    assert stat.S_IMODE(mode) == 0o600


@pytest.mark.parametrize("value", ["", "short", "a" * 40, "changeme" * 8, "django-insecure-" * 3])
def test_a_weak_secret_is_refused_in_production(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str
) -> None:
    """Missing, short, monotonous, or a common word."""
    monkeypatch.setenv("AEVON_TEST_KEY", value)
    with pytest.raises(ImproperlyConfigured, match="AEVON_TEST_KEY"):
        env.secret("AEVON_TEST_KEY", data_dir=tmp_path, development=False)


def test_a_strong_secret_is_taken_in_production(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And nothing is written."""
    monkeypatch.setenv("AEVON_TEST_KEY", STRONG)
    assert env.secret("AEVON_TEST_KEY", data_dir=tmp_path, development=False) == STRONG
    assert list(tmp_path.iterdir()) == []


def test_a_secret_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the line end that editors leave; its lines stay. A weak one is weak there too."""
    path = tmp_path / "key"
    path.write_text(f"{STRONG}\nline two\n")
    monkeypatch.setenv("AEVON_TEST_KEY_FILE", str(path))
    assert env.confidential("AEVON_TEST_KEY") == f"{STRONG}\nline two"
    taken = env.secret("AEVON_TEST_KEY", data_dir=tmp_path, development=True)
    assert taken == f"{STRONG}\nline two"
    path.write_text("short")
    with pytest.raises(ImproperlyConfigured, match="AEVON_TEST_KEY"):
        env.secret("AEVON_TEST_KEY", data_dir=tmp_path, development=False)


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe"])
def test_a_secrets_file_that_holds_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    """Missing, empty, or no text: named with its variable, and nothing is made up instead."""
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("AEVON_TEST_KEY_FILE", str(path))
    with pytest.raises(ImproperlyConfigured, match=r"^AEVON_TEST_KEY_FILE: '/.*/key' "):
        env.secret("AEVON_TEST_KEY", data_dir=tmp_path, development=True)
    monkeypatch.setenv("AEVON_TEST_KEY_FILE", str(tmp_path))
    with pytest.raises(ImproperlyConfigured, match="Is a directory"):
        env.confidential("AEVON_TEST_KEY")


def test_a_secret_in_two_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody would know which is in force."""
    (tmp_path / "key").write_text(STRONG)
    monkeypatch.setenv("AEVON_TEST_KEY", STRONG[::-1])
    monkeypatch.setenv("AEVON_TEST_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(ImproperlyConfigured, match="AEVON_TEST_KEY_FILE are both set"):
        env.confidential("AEVON_TEST_KEY")


def test_a_secret_is_measured_in_bytes() -> None:
    """As RFC 7518 has it; a key in PEM is no secret, whatever words its letters make."""
    letters = "äöüßéèàçñøåž"
    assert not env.is_weak(letters + "Fq2x9Kp3")
    assert env.is_weak(letters + "Fq2x9Kp")
    assert not env.is_weak("-----BEGIN PRIVATE KEY-----\nsecretpassword")


@pytest.mark.parametrize("content", ["", "not json", "[]"])
def test_an_unreadable_run_file_counts_as_nothing_running(tmp_path: Path, content: str) -> None:
    """A half-written or foreign `run.json` breaks no command."""
    (tmp_path / "run.json").write_text(content)
    assert env.running(tmp_path) == {}


@pytest.mark.parametrize("missing", ["DJANGO_SECRET_KEY", "JWT_SIGNING_KEY"])
def test_production_without_a_secret_is_one_line(missing: str, tmp_path: Path) -> None:
    """The command line says which variable is missing, without a traceback."""
    secrets = {"DJANGO_SECRET_KEY": STRONG, "JWT_SIGNING_KEY": STRONG, missing: ""}
    environment = {**os.environ, **secrets, "AEVON_ENV": "production"}
    command = [sys.executable, "manage.py", "check"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert missing in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://u:p%40@h:1/2", "redis://u:p%40@h:1/2"),
        ("unix:///run/df.sock", "redis+socket:///run/df.sock"),
        ("unix://u:p@/run/df.sock?db=3", "redis+socket://u:p@/run/df.sock?virtual_host=3"),
        ("rediss://:p@h:1/0", "rediss://:p@h:1/0?ssl_cert_reqs=required"),
        ("rediss://h/0?ssl_cert_reqs=none", "rediss://h/0?ssl_cert_reqs=none"),
    ],
)
def test_the_broker_is_where_the_cache_is(url: str, expected: str) -> None:
    """The same server and database, written as kombu wants them."""
    assert env.broker_url(url) == expected


def test_the_brokers_certificate_is_checked() -> None:
    """kombu itself would not, and would send the password to anybody."""
    assert Connection(env.broker_url("rediss://:p@h:1/0")).ssl == {
        "ssl_cert_reqs": ssl.CERT_REQUIRED
    }


def test_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers by a word; nothing at all is none."""
    assert env.counts("COUNTS", maximum=9) == {}
    monkeypatch.setenv("COUNTS", " psyche=3, session = 9,")
    assert env.counts("COUNTS", maximum=9) == {"psyche": 3, "session": 9}


@pytest.mark.parametrize("value", ["a", "a=", "=1", "a=0", "a=10", "a=-1", "a=1.5", "a=1,a=2"])
def test_wrong_counts_name_their_variable(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """The message says where to look."""
    monkeypatch.setenv("COUNTS", value)
    with pytest.raises(ImproperlyConfigured, match="COUNTS"):
        env.counts("COUNTS", maximum=9)
