"""The migrations of the whole project, on a database of their own, forwards and back."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.servers import ROOT, database_url

NAME = "aevon_migrations"
SERVICES = ("klepsydra", "canvas", "beep", "admin", "auth_sessions", "cache")
MIGRATE = """
import django, sys
from django.core.management import call_command
django.setup()
for each in sys.argv[1:]:
    call_command("migrate", *each.split(), verbosity=0)
"""
MADE = """
SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT tgname || ' on ' || tgrelid::regclass FROM pg_trigger WHERE NOT tgisinternal
ORDER BY 1
"""


@pytest.fixture
def database(django_db_setup: None) -> Iterator[str]:
    """The URL of an empty database."""
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(NAME))
    with psycopg.connect(database_url(), autocommit=True) as db:
        db.execute(drop)
        db.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(NAME)))
        try:
            yield database_url().rpartition("/")[0] + f"/{NAME}"
        finally:
            db.execute(drop)


@pytest.fixture
def migrate(database: str) -> Callable[..., None]:
    """`migrate("klepsydra 0002", "beep zero")`: one after the other, as the command does."""

    def run(*targets: str) -> None:
        done = subprocess.run(
            [sys.executable, "-c", MIGRATE, *targets],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": database},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")

    return run


@pytest.fixture
def execute(database: str) -> Iterator[Callable[[str], list[Any]]]:
    """The first column of one statement's rows, on that database."""
    with psycopg.connect(database, autocommit=True) as db:

        def run(statement: str) -> list[Any]:
            cursor = db.execute(statement)
            return [row[0] for row in cursor] if cursor.description else []

        yield run


def test_every_migration_can_be_taken_back(migrate: Any, execute: Any) -> None:
    """Nothing of the services is left behind, and they can be made again."""
    migrate("")
    made = execute(MADE)
    migrate(*(f"{service} zero" for service in SERVICES))
    assert [name for name in execute(MADE) if name.startswith(SERVICES)] == []
    migrate("")
    assert execute(MADE) == made


USER = """
INSERT INTO auth_sessions_user (password, is_superuser, username, first_name, last_name, email,
    is_staff, is_active, date_joined, sovereignty_class)
VALUES ('', false, 'ada', '', '', 'ada@example.org', false, true, now(), 'INITIATE')
"""
PSYCHE = """
INSERT INTO klepsydra_psychestate (user_id, sre_wave, loss_streak, frustration_level,
    frustration_at, is_throttled, phase, amplitude, period_seconds)
SELECT id, 0, 0, 0, now(), false, 0.5, 1, 3600 FROM auth_sessions_user RETURNING version
"""
PLAY = "UPDATE klepsydra_psychestate SET loss_streak = loss_streak + 1 RETURNING version"
END = "DELETE FROM klepsydra_psychestate"


def test_versions_go_on_rising_when_a_migration_is_taken_back(migrate: Any, execute: Any) -> None:
    """Otherwise what is cached would outlast what is written afterwards."""
    migrate("")
    execute(USER)
    versions = [*execute(PSYCHE), *execute(PLAY)]
    execute(END)
    versions += [*execute(PSYCHE), *execute(PLAY)]
    for target in ("klepsydra 0002", "klepsydra", "klepsydra 0002"):
        migrate(target)
        versions += execute(PLAY)
        execute(END)
        versions += execute(PSYCHE)
    assert versions == sorted(set(versions))
