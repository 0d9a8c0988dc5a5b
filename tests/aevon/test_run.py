"""`make run`, for real: what it tells, what it leaves behind, and what it refuses."""

import contextlib
import http.client
import os
import signal
import socket
import urllib.request
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
import redis

from aevon.demo.data import stored_logins
from aevon.embedded import embedded_servers
from aevon.ports import HOST, NoPortError, free_port, reserved_port
from aevon.run import OPEN_FILES
from aevon.server import folder_lock
from tests.waiting import eventually

from .programs import make_run, program, running_in

DEMO_DATA = {
    "klepsydra_psychestate": 1,
    "klepsydra_interaction": 1,
    "canvas_canvas": 1,
    "beep_turn": 3,
}


def count(db, table):
    """Rows in a table."""
    return db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def refusal(folder, **variables):
    """What a supervisor that cannot run says last, and its exit code."""
    variables = {"AEVON_DATA_DIR": str(folder), "AEVON_PORT": "0", **variables}
    with program("-m", "aevon.run", **variables) as process:
        said, _ = process.communicate(timeout=60)
        assert "Traceback" not in said
        return said.strip().splitlines()[-1], process.returncode


def get(url):
    with urllib.request.urlopen(url, timeout=5) as response:
        return response.status


def answers(url):
    """Whether somebody does; a worker that has just started may not listen yet."""
    with contextlib.suppress(OSError):
        return get(url) == 200


def headers_of_nothing(url):
    """What the web server itself adds to an answer without content."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
    with contextlib.closing(connection):
        connection.request("DELETE", "/api/v1/auth/browser/", headers={"X-Aevon-Page": "1"})
        answer = connection.getresponse()
        assert answer.status == 204
        return {name.lower() for name, _ in answer.getheaders()}


def test_run_tells_where_everything_is_and_leaves_nothing(tmp_path):
    """While it runs, run.json tells the truth; after Ctrl-C no process and no file is left."""
    with make_run(tmp_path) as (process, told):
        assert (tmp_path / "run.json").stat().st_mode & 0o777 == 0o600
        assert set(told) == {"url", "databaseUrl", "dragonflyUrl", "demo", "admin", "pids"}
        pids = {"web", "worker", "beat", "listener", "cache", "postgres"}
        assert set(told["pids"]) == pids
        assert all(psutil.pid_exists(pid) for pid in told["pids"].values())
        assert get(f"{told['url']}/health/live") == 200
        assert not {"content-length", "transfer-encoding"} & headers_of_nothing(told["url"])
        with psycopg.connect(told["databaseUrl"]) as db:
            users = db.execute("SELECT username, is_superuser FROM auth_sessions_user ORDER BY 1")
            assert users.fetchall() == [("admin", True), ("demo", False)]
            counted = {table: count(db, table) for table in DEMO_DATA}
            assert counted == DEMO_DATA
        with redis.Redis.from_url(told["dragonflyUrl"], protocol=2) as client:
            assert client.ping()
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert f"Demo login     demo / {told['demo']['password']}" in said
    assert not (tmp_path / "run.json").exists()
    assert eventually(lambda: not running_in(tmp_path), seconds=15)


def test_killed_supervisor_leaves_no_process_and_the_next_run_starts(tmp_path):
    """After SIGKILL everything ends by itself; the next run starts, with the same log-ins."""
    with make_run(tmp_path) as (process, first):
        process.kill()
        process.wait()
        assert eventually(lambda: not running_in(tmp_path), seconds=15)
    with make_run(tmp_path) as (process, second):
        assert (second["demo"], second["admin"]) == (first["demo"], first["admin"])
        assert psutil.pid_exists(second["pids"]["web"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_dead_process_stops_everything_and_is_named(tmp_path):
    """When one process dies, the others stop and the last line says which one it was."""
    with make_run(tmp_path) as (process, told):
        os.kill(told["pids"]["worker"], signal.SIGKILL)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said.strip().endswith("The worker process ended by itself (exit code -9).")
    assert eventually(lambda: not running_in(tmp_path), seconds=15)


def test_killed_web_worker_is_replaced_while_the_other_serves(tmp_path):
    """The site goes on: nothing is started anew but that one."""
    with make_run(tmp_path) as (process, told):
        web = psutil.Process(told["pids"]["web"])
        killed, other = web.children()
        killed.kill()
        assert eventually(lambda: killed not in web.children() and len(web.children()) == 2)
        assert other.is_running()
        assert eventually(lambda: answers(f"{told['url']}/health/live"))
        assert process.poll() is None


def test_second_run_on_the_same_folder_is_refused(tmp_path):
    """One folder, one run: the second says so in one sentence."""
    with folder_lock(tmp_path):
        said, code = refusal(tmp_path)
    assert said == f"Another `make run` is using {tmp_path}; stop it, or set AEVON_DATA_DIR."
    assert code == 1


@pytest.mark.parametrize(
    ("name", "url", "sentence"),
    [
        ("DATABASE_URL", "postgres://u:hidden@127.0.0.1:1/x", "DATABASE_URL cannot be reached: "),
        ("DATABASE_URL", "not a url: hidden", "DATABASE_URL is not a PostgreSQL URL."),
        ("DRAGONFLY_URL", "redis://:hidden@127.0.0.1:1", "DRAGONFLY_URL cannot be reached: "),
        ("DRAGONFLY_URL", "http://hidden", "DRAGONFLY_URL must begin with redis://"),
    ],
)
def test_outside_server_that_is_away_is_said(tmp_path, name, url, sentence):
    """A wrong or unreachable URL is named without repeating its password."""
    others = {"DATABASE_URL": "", "DRAGONFLY_URL": "", name: url}
    said, code = refusal(tmp_path, **others)
    assert said.startswith(sentence)
    assert "hidden" not in said
    assert code == 1


def test_somebody_elses_admin_keeps_the_password(tmp_path):
    """In a database from outside a user of that name is not taken over: it is refused."""
    with embedded_servers(tmp_path / "theirs", cache=False, durable=False) as theirs:
        url = theirs.database_url
        with make_run(tmp_path / "first", DATABASE_URL=url):
            pass
        with make_run(tmp_path / "second", DATABASE_URL=url):
            pass  # made by `make run`: another folder's passwords
        with psycopg.connect(url) as db:
            db.execute("UPDATE auth_sessions_user SET email = 'ada@example.org', password = 'x'")
        said, code = refusal(tmp_path / "third", DATABASE_URL=url)
        with psycopg.connect(url) as db:
            passwords = db.execute("SELECT DISTINCT password FROM auth_sessions_user").fetchall()
    assert said.startswith("The database has a user admin that `make run` did not make")
    assert (code, passwords) == (1, [("x",)])


def test_wrong_port_setting_is_said(tmp_path):
    """A port that is no number is a wrong setting, named."""
    said, code = refusal(tmp_path, AEVON_PORT="eighty")
    assert said == "Wrong setting: AEVON_PORT must be a whole number, not 'eighty'."
    assert code == 1


def test_wrong_key_is_said_before_anything_is_done(tmp_path):
    """Instead of a site on which nobody can log in; also in development."""
    servers = {name: os.environ[name] for name in ("DATABASE_URL", "DRAGONFLY_URL")}
    said, code = refusal(tmp_path, JWT_SIGNING_KEY="too short", **servers)
    assert said == "JWT_SIGNING_KEY is too short: a secret has 32 bytes at least."
    assert code == 1


def test_taken_port_gives_the_next():
    """A port that somebody listens on is passed over, and so is one that is only reserved."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        taken = listener.getsockname()[1]
        with reserved_port(taken) as first, reserved_port(taken) as second:
            assert taken < first < second


def test_free_port_is_given_as_wanted():
    """The wanted port is used when it is free."""
    wanted = free_port()
    with reserved_port(wanted) as port:
        assert port == wanted


def test_no_port_at_all_is_said(monkeypatch):
    """When every port is taken the message names the setting."""
    monkeypatch.setattr("aevon.ports.PORT_ATTEMPTS", 1)
    wanted = free_port()
    with (
        reserved_port(wanted),
        pytest.raises(NoPortError, match="set AEVON_PORT"),
        reserved_port(wanted),
    ):
        pass


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"demo": {"password": "x"}}'])
def test_damaged_logins_are_made_anew(tmp_path, content):
    """A damaged demo.json is replaced, not stumbled over; a good one is kept."""
    path = tmp_path / "demo.json"
    path.write_text(content)
    logins = stored_logins(path)
    assert set(logins) == {"demo", "admin"}
    assert stored_logins(path) == logins
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("allowed", [256, OPEN_FILES + 1])
def test_every_process_may_open_a_file_for_each_connection(allowed):
    """Where a shell allows fewer; where it allows more, that stays."""
    code = (
        "import resource as r; from aevon.run import allow_open_files as allow;"
        f"r.setrlimit(r.RLIMIT_NOFILE, ({allowed}, r.getrlimit(r.RLIMIT_NOFILE)[1])); allow();"
        "print(r.getrlimit(r.RLIMIT_NOFILE)[0])"
    )
    with program("-c", code) as process:
        said, _ = process.communicate(timeout=60)
    assert int(said.split()[-1]) == max(allowed, OPEN_FILES)
