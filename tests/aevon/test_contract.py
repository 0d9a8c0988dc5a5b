"""What the outside relies on exists; that it is documented is held by tests/docs."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command, get_commands
from django.test import Client

from aevon.celery import app

PATHS = {
    "/api/v1/auth/token/": {"post"},
    "/api/v1/auth/token/refresh/": {"post"},
    "/api/v1/auth/browser/": {"post", "delete"},
    "/api/v1/auth/browser/access/": {"post"},
    "/api/v1/auth/logout/": {"post"},
    "/api/v1/auth/password/": {"post"},
    "/api/v1/auth/sessions/": {"get"},
    "/api/v1/auth/sessions/{sid}/": {"delete"},
    "/api/v1/auth/validate/": {"get"},
    "/.well-known/jwks.json": {"get"},
    "/api/v1/klepsydra/psyche/": {"get"},
    "/api/v1/klepsydra/instruments/": {"get"},
    "/api/v1/klepsydra/interactions/": {"post"},
    "/api/v1/canvas/": {"get", "put", "patch"},
    "/api/v1/canvas/notes/{appId}/": {"get", "put"},
    "/api/v1/beep/commands/": {"post"},
    "/api/v1/beep/history/": {"get", "delete"},
}
COMMANDS = (
    "cache_warmup",
    "cache_flush",
    "cache_audit",
    "cache_inspect",
    "cache_stats",
    "canvas_persist",
    "create_demo_users",
)


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """The served OpenAPI document."""
    response = Client().get("/api/schema/", headers={"Accept": "application/json"})
    content: dict[str, Any] = response.json()
    return content


def test_the_schema_is_valid_without_warnings(tmp_path: Path) -> None:
    """drf-spectacular's own validation, warnings counted as failures."""
    target = tmp_path / "schema.yaml"
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(target))
    assert target.stat().st_size > 10_000


def test_the_schema_has_every_path_of_the_contract(schema: dict[str, Any]) -> None:
    """Exactly these paths and methods."""
    found = {
        path: {method for method in methods if method != "parameters"}
        for path, methods in schema["paths"].items()
    }
    assert found == PATHS


def test_every_operation_has_a_summary_and_a_problem(schema: dict[str, Any]) -> None:
    """A reader of the docs learns what it does and what it answers when it fails."""
    for methods in schema["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            assert any(code.startswith("4") or code == "default" for code in operation["responses"])


def test_the_documentation_needs_nothing_from_the_internet() -> None:
    """The page's scripts and styles come from this server."""
    page = Client().get("/api/docs/").content.decode()
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert sources
    assert all(source.startswith("/") for source in sources)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_contract_exists(command: str) -> None:
    """By its name."""
    assert command in get_commands()


def test_celery_leaves_a_lost_message_to_the_next_tick() -> None:
    """Acknowledged late, one at a time, with limits below the visibility time-out."""
    conf = app.conf
    assert conf.task_acks_late
    assert conf.worker_prefetch_multiplier == 1
    assert conf.task_soft_time_limit < conf.task_time_limit
    assert conf.task_time_limit < conf.broker_transport_options["visibility_timeout"]
    assert conf.broker_transport_options["global_keyprefix"] == "celery:broker:"
