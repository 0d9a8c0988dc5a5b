"""The settings of production, in a process of their own, without any server."""

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.aevon.programs import environment
from tests.servers import ROOT

SECRET = "x9Fq2-unguessable-and-long-enough-1234567890-also-for-Django"
PRODUCTION = {
    "AEVON_ENV": "production",
    "DJANGO_SECRET_KEY": SECRET,
    "JWT_SIGNING_KEY": SECRET[::-1],
}
LOOK = """
import json, sys, warnings
warnings.simplefilter("ignore", ResourceWarning)
import django
django.setup()
from django.conf import settings
from django.core.management import call_command
from django.test import Client
from auth_sessions import browser
call_command("check", deploy=True, fail_level="WARNING", stdout=sys.stderr)
door = f"/{settings.AEVON_ADMIN_PATH}/login/"
paths = ["/", "/admin", "/admin/", "/admin/login/", "/nowhere/", "/api/docs/", "/api/schema/", door]
def told(path, secure=True):
    answer = Client(headers={"Host": "localhost"}).get(path, secure=secure)
    return {
        "status": answer.status_code,
        "headers": {k: v for k, v in answer.headers.items() if k != "X-Request-ID"},
        "text": answer.content.decode(),
        "cookies": {name: morsel.OutputString() for name, morsel in answer.cookies.items()},
    }
names = [settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME, browser.COOKIE]
plain = ["/", "/api/v1/canvas/", door, "/api/v1/auth/token/", "/api/v1/auth/validate/",
         "/health/live", "/metrics"]
json.dump({
    "admin": settings.AEVON_ADMIN_PATH,
    "names": names,
    "secure": {path: told(path) for path in paths},
    "plain": {path: told(path, secure=False) for path in plain},
}, sys.stdout)
"""


def looked(**variables: str) -> subprocess.CompletedProcess[str]:
    """What a look at production says, with these variables changed."""
    command = (sys.executable, "-W", "ignore::RuntimeWarning", "-c", LOOK)
    settings = {"DJANGO_SETTINGS_MODULE": "aevon.settings", "AEVON_DATA_DIR": "/nowhere"}
    given = environment(**settings, **PRODUCTION, **variables)
    return subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """The look at production as it is by default."""
    look = looked()
    assert look.returncode == 0, look.stderr
    return {**json.loads(look.stdout), "said": look.stderr}


def test_check_deploy_finds_nothing(seen: dict[str, Any]) -> None:
    """Not so much as a warning that is silenced."""
    assert "System check identified no issues (0 silenced)." in seen["said"]


def test_the_admin_is_where_nobody_guesses(seen: dict[str, Any]) -> None:
    """At a path made of the secret; the usual one is as empty as any other."""
    assert re.fullmatch(r"admin-[0-9a-f]{16}", seen["admin"])
    answers = seen["secure"]
    assert answers[f"/{seen['admin']}/login/"]["status"] == 200
    usual = [answers[path] for path in ("/nowhere/", "/admin", "/admin/", "/admin/login/")]
    assert [answer["status"] for answer in usual] == [404] * 4
    assert len({json.dumps(answer) for answer in usual}) == 1


def test_nothing_tells_where_the_admin_is(seen: dict[str, Any]) -> None:
    """Not the page, the documentation, the schema, or what is not there."""
    for path, answer in seen["secure"].items():
        assert (seen["admin"] in json.dumps(answer)) is (seen["admin"] in path)


def test_cookies(seen: dict[str, Any]) -> None:
    """Over TLS only, for this host only, never for scripts, never from other sites."""
    assert seen["names"] == ["__Host-sessionid", "__Host-csrftoken", "__Secure-aevon_refresh"]
    [cookie] = seen["secure"][f"/{seen['admin']}/login/"]["cookies"].values()
    attributes = {each.strip().partition("=")[0].lower() for each in cookie.split(";")[1:]}
    assert attributes >= {"secure", "httponly", "samesite", "path"}
    assert "domain" not in attributes
    assert "Path=/;" in f"{cookie};"
    assert "SameSite=Strict" in cookie
    others = [answer["cookies"] for path, answer in seen["secure"].items() if "login" not in path]
    assert not any(others)


def test_what_is_answered_without_tls(seen: dict[str, Any]) -> None:
    """What gateways and probes ask, inside the network; all else is sent to TLS."""
    statuses = {path: answer["status"] for path, answer in seen["plain"].items()}
    inside = {path: statuses.pop(path) for path in list(statuses)[-3:]}
    assert inside == {"/api/v1/auth/validate/": 401, "/health/live": 200, "/metrics": 200}
    assert set(statuses.values()) == {301}
    hsts = seen["secure"]["/"]["headers"]["Strict-Transport-Security"]
    assert hsts == "max-age=31536000; includeSubDomains; preload"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DJANGO_SECRET_KEY", ""),
        ("DJANGO_SECRET_KEY", "short"),
        ("JWT_SIGNING_KEY", ""),
        ("JWT_SIGNING_KEY", "changeme" * 8),
        ("AEVON_ADMIN_PATH", "a//b"),
    ],
)
def test_production_does_not_start_with_it(name: str, value: str) -> None:
    """What is missing or weak is named."""
    command = (sys.executable, "-c", "import aevon.settings")
    given = environment(**{**PRODUCTION, "AEVON_DATA_DIR": "/nowhere", name: value})
    start = subprocess.run(
        command, cwd=ROOT, env=given, capture_output=True, text=True, check=False
    )
    assert start.returncode == 1
    assert re.search(rf"ImproperlyConfigured: {name} .*(must|too weak)", start.stderr)
    assert name == "AEVON_ADMIN_PATH" or not value or value not in start.stderr


def test_lists_in_variables() -> None:
    """Findings that are silenced, and secrets that are still read."""
    said = "s.SILENCED_SYSTEM_CHECKS, s.SECRET_KEY_FALLBACKS"
    command = (sys.executable, "-c", f"import aevon.settings as s; print({said})")
    lists = {
        "AEVON_SILENCED_CHECKS": "aevon_cache.W019, x.W1",
        "DJANGO_SECRET_KEY_FALLBACKS": "a,b",
    }
    given = environment(**PRODUCTION, AEVON_DATA_DIR="/nowhere", **lists)
    told = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=True)
    assert told.stdout == "['aevon_cache.W019', 'x.W1'] ['a', 'b']\n"
