"""The whole site as a client meets it: web, worker, beat and both servers."""

from functools import partial
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg.types.json import Jsonb

from aevon.demo.__main__ import main
from aevon.demo.crowd import PREFIX, of_crowd
from aevon.demo.story import window
from auth_sessions.management.commands import create_demo_users
from tests.waiting import eventually

from .programs import make_run, program


def test_the_story_holds_against_a_running_site(tmp_path: Path) -> None:
    """`make demo` finds no difference, for one user and for several at once."""
    with make_run(tmp_path) as (_, _told):
        for users in ("1", "5"):
            with program("-m", "aevon.demo", "--users", users, AEVON_DATA_DIR=str(tmp_path)) as run:
                said, _ = run.communicate(timeout=120)
            assert run.returncode == 0, said
            assert "Everything as the contract says." in said


def test_a_password_that_looks_like_an_option_is_one_all_the_same() -> None:
    """One in sixty-four that `make run` makes begins with a dash."""
    parser = create_demo_users.Command().create_parser("manage.py", "create_demo_users")
    options = parser.parse_args(of_crowd(5, "-Xy9"))
    assert (options.count, options.password, options.prefix) == (5, "-Xy9", PREFIX)


def test_a_layout_reaches_postgresql_by_beat_alone(tmp_path: Path) -> None:
    """Nobody logs out or asks for a flush: beat and worker bring it there."""
    with make_run(tmp_path, CANVAS_PERSIST_SECONDS="1") as (_, told):
        with httpx.Client(base_url=told["url"]) as client:
            tokens = client.post("/api/v1/auth/token/", json=told["demo"]).json()
            client.headers["Authorization"] = f"Bearer {tokens['access']}"
            layout = {"microApps": {"w": window(1)}}
            assert client.patch("/api/v1/canvas/", json=layout).status_code == 200
        with psycopg.connect(told["databaseUrl"], autocommit=True) as database:
            query = "SELECT layout FROM canvas_canvas WHERE layout @> %s"
            found = partial(database.execute, query, [Jsonb(layout)])
            assert eventually(lambda: len(found().fetchall()) == 1, seconds=30)


def test_the_demo_without_a_site_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence, exit code 1."""
    monkeypatch.setenv("AEVON_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["demo"])
    assert main() == 1
    assert "Start `make run`" in capsys.readouterr().out
