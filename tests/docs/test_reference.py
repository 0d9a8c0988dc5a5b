"""What is there is in the reference, and what the reference names is there."""

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import get_commands
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from prometheus_client.parser import text_string_to_metric_families

from aevon.cache import keyspace
from aevon.cache.conf import CacheSettings
from tests.docs import api_page
from tests.docs.pages import DOCS, pages
from tests.servers import ROOT

REFERENCE = DOCS / "reference"
README = (ROOT / "README.md").read_text()
APPLICATIONS = ("aevon", "auth_sessions", "beep", "canvas", "klepsydra")
FOLDERS = (*APPLICATIONS, "benchmarks", "deploy", "docs", "tests")
API = (REFERENCE / "api.md").read_text()
KEYS = (REFERENCE / "keys.md").read_text()
SETTINGS = (REFERENCE / "settings.md").read_text()
# Django's, and Python's.
OTHERS = {"DJANGO_SETTINGS_MODULE", "PYTHONUNBUFFERED"}
VARIABLE = r'(?:env\.(?!running)(\w+)\(|os\.environ(?:\.get\(|\[))(?:\s|#[^\n]*\n)*"([A-Z][A-Z_]+)"'


def sources() -> Iterator[Path]:
    """The application's own Python, without migrations."""
    for name in APPLICATIONS:
        for path in sorted((ROOT / name).rglob("*.py")):
            if "migrations" not in path.parts:
                yield path


def project_commands() -> list[str]:
    """Those of this project."""
    return sorted(name for name, app in get_commands().items() if app.startswith(APPLICATIONS))


def test_every_variable_is_documented() -> None:
    """That anything reads from the environment; `…_FILE`, too, where a file may hold the value."""
    read = [found for path in sources() for found in re.findall(VARIABLE, path.read_text())]
    names = {name for _, name in read}
    names |= {f"{name}_FILE" for how, name in read if how in ("secret", "confidential")}
    assert len(names) > 40
    assert sorted(name for name in names - OTHERS if f"`{name}`" not in SETTINGS) == []


def test_every_entry_of_the_cache_settings_is_documented() -> None:
    """With its default."""
    for field in fields(CacheSettings):
        row = re.search(rf"^\| `{field.name.upper()}` \|.*\| ([^|]+) \|$", SETTINGS, re.MULTILINE)
        assert row, field.name
        if field.name not in ("url", "near_cache"):
            assert float(row.group(1)) == field.default, field.name


@pytest.mark.parametrize("name", [*keyspace.REGISTRY, *(s.name for s in keyspace.INTERNAL)])
def test_every_keyspace_is_documented(name: str) -> None:
    """docs/reference/keys.md lists every key."""
    assert re.search(rf"`(?:\w+:)?{name}:\{{", KEYS)


def test_every_command_is_documented() -> None:
    """In the reference; the README names it, too."""
    commands = (REFERENCE / "commands.md").read_text()
    names = project_commands()
    assert len(names) >= 8
    assert [name for name in names if f"`{name}" not in commands] == []
    assert [name for name in names if f"`{name}" not in README] == []


@pytest.mark.django_db(transaction=True)
def test_every_metric_is_documented() -> None:
    """That a scrape shows, by its whole name."""
    metrics = (REFERENCE / "metrics.md").read_text()
    scrape = Client().get("/metrics").content.decode()
    families = [f for f in text_string_to_metric_families(scrape) if f.name.startswith("aevon_")]
    # When a counter began is told beside it.
    ours = [f for f in families if not f.name.endswith("_created")]
    assert len(ours) > 10
    names = sorted(f.name + ("_total" if f.type == "counter" else "") for f in ours)
    assert [name for name in names if not re.search(rf"`{name}[`{{]", metrics)] == []


def check_ids() -> set[str]:
    """Of every check's message in the source."""
    found = set()
    for path in sources():
        text = path.read_text()
        labels = re.findall(r'id="(\w+\.[EWI]\d{3})"', text)
        numbers = re.findall(r"_error\(\s*(\d+),", text)
        warnings = re.findall(r"_warning\(\s*(\d+),", text)
        short = re.findall(r'_error\([^\n]*"([EW]\d{3})"\)', text)
        found |= {*labels, *(f"aevon_cache.E{int(number):03}" for number in numbers)}
        found |= {f"aevon_cache.W{int(number):03}" for number in warnings}
        found |= {f"{path.parent.name}.{number}" for number in short}
    return found


def test_every_check_is_documented() -> None:
    """By its id."""
    text = "".join((DOCS / name).read_text() for name in ("reference/checks.md", "deployment.md"))
    assert len(check_ids()) > 9
    assert sorted(name for name in check_ids() if f"`{name}`" not in text) == []


def routes(patterns: Any, before: str = "/") -> Iterator[str]:
    """Every path that something answers; of the admin where it begins."""
    for each in patterns:
        path = before + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", str(each.pattern))
        if isinstance(each, URLResolver) and not path.startswith(f"/{settings.AEVON_ADMIN_PATH}"):
            yield from routes(each.url_patterns, path)
        elif isinstance(each, URLPattern | URLResolver):
            yield path.replace(f"/{settings.AEVON_ADMIN_PATH}/", "/{AEVON_ADMIN_PATH}/")


def test_every_route_is_documented() -> None:
    """In the page on the API, the probes included."""
    found = {*routes(get_resolver().url_patterns), "/health/live", "/health/ready", "/metrics"}
    assert len(found) > 25
    known = "{AEVON_ADMIN_PATH}/"
    shown = [path for path in found if path.rpartition(known)[2] not in API or path == "/"]
    assert shown == ["/"]
    assert "| `/` |" in API


def test_the_operations_are_those_of_the_schema() -> None:
    """`python -m tests.docs.api_page` writes them anew."""
    assert api_page.page(api_page.schema(), API) == API


def test_every_problem_has_its_type() -> None:
    """That the source names: what a client may compare."""
    text = "".join(path.read_text() for path in sources())
    raised = re.findall(r'ParseError\([^)]*?code="(\w+)"', text, re.DOTALL)
    codes = {*raised, *re.findall(r'default_code = "(\w+)"', text)}
    assert len(codes) > 15
    missing = [code for code in codes if f"`/problems/{code.replace('_', '-')}`" not in API]
    assert missing == []


@pytest.mark.parametrize(
    "page", [p.relative_to(ROOT) for p in [ROOT / "README.md", *pages()]], ids=str
)
def test_every_file_that_is_named_exists(page: Path) -> None:
    """A path in code that begins with a folder of this project."""
    named = re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]+)`", (ROOT / page).read_text())
    # What begins with a dot is made by whoever reads it: `.env`.
    ours = [name for name in named if not Path(name).name.startswith(".")]
    assert [name for name in ours if not (ROOT / name).exists()] == []
