"""The continuous audit: what it counts, what it says, and what it leaves alone."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from aevon.cache import resources
from aevon.cache.metrics import AUDITED, CONSISTENCY
from aevon.cache.tasks import audit
from tests.cache import ledgers
from tests.cache.conftest import counted
from tests.cache.entry_states import got, note, put
from tests.cache.ledgers import add_lines, add_notes
from tests.servers import ROOT, database_url

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("services")]


@pytest.fixture
def services(tables: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own rows stand behind the keys."""
    registry = {resource.keyspace.name: resource for resource in ledgers.ALL}
    monkeypatch.setattr(resources, "_registry", registry)


def consistency(keyspace: str) -> float:
    """The gauge as it stands."""
    return float(CONSISTENCY.labels(keyspace)._value.get())


def put_wrong(count: int) -> None:
    """So many stale notes, and one that is right."""
    add_notes(*range(1, count + 2))
    for user_id in range(1, count + 1):
        put(f"psyche:{user_id}", note(user_id, "by hand"))
    put(f"psyche:{count + 1}", note(count + 1))


def test_verdicts_are_counted() -> None:
    """Per keyspace, with the consistency of what is cached."""
    put_wrong(3)
    add_lines(1, 2)
    with (
        counted(AUDITED, "psyche", "stale") as stale,
        counted(AUDITED, "psyche", "in sync") as in_sync,
        counted(AUDITED, "convo_history", "missing") as missing,
    ):
        audit()
        assert (stale(), in_sync(), missing()) == (3, 1, 1)
    assert (consistency("psyche"), consistency("convo_history")) == (0.25, 1.0)


def test_a_sound_cache_is_not_worth_a_word(caplog: pytest.LogCaptureFixture) -> None:
    """Missing entries are no fault."""
    add_notes(1, 2)
    put("psyche:1", note(1))
    audit()
    assert caplog.text == ""
    assert consistency("psyche") == 1.0


def test_what_is_wrong_is_said_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """How many, five users at the most, and never a value."""
    put_wrong(7)
    audit()
    [record] = caplog.records
    said = record.getMessage()
    assert record.levelname == "WARNING"
    head, _, users = said.partition(", of users ")
    assert head == "7 of 8 psyche entries looked at are stale or corrupt"
    assert users.endswith(" …")
    assert len({int(user) for user in users.removesuffix(" …").split(", ")} & set(range(1, 8))) == 5
    assert "by hand" not in caplog.text


def test_what_is_wrong_stays_as_it_is() -> None:
    """Or nobody could look for the cause."""
    put_wrong(1)
    audit()
    assert got("psyche:1") == note(1, "by hand")


def test_nothing_is_audited_while_the_cache_is_away(
    away: None, caplog: pytest.LogCaptureFixture
) -> None:
    """One line, which belongs to the outage."""
    add_notes(1)
    audit()
    assert sum("Skipped, the cache is away" in record.message for record in caplog.records) == 1


def test_nothing_is_audited_while_postgresql_is_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Likewise."""

    def refuse() -> None:
        raise OperationalError("the connection is closed")

    monkeypatch.setattr(connection, "cursor", refuse)
    audit()
    assert ["Skipped, PostgreSQL is away" in record.message for record in caplog.records] == [True]


WORKER = "import django; django.setup(); from aevon.cache.tasks import audit; audit()"


@pytest.mark.django_db(transaction=True)
def test_what_the_worker_has_found_is_scraped_from_the_web_server(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """They share a folder."""
    shared = {
        **os.environ,
        "DATABASE_URL": database_url(),
        "DJANGO_SETTINGS_MODULE": "aevon.settings",
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
    }
    put("psyche:7", note(7))
    subprocess.run([sys.executable, "-c", WORKER], env=shared, cwd=ROOT, check=True)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    families = text_string_to_metric_families(Client().get("/metrics").content.decode())
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }
    # The user has no row, and what was put is no PsycheState of the real service.
    assert samples["aevon_cache_audited_total", "corrupt", "psyche"] == 1
    assert samples["aevon_cache_consistency_ratio", "psyche"] == 0
    assert samples["aevon_cache_consistency_ratio", "canvas"] == 1
