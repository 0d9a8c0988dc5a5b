"""The embedded servers, for real: started, stopped, killed, frozen, and refused."""

import os
import signal
import threading
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from aevon import server as server_module
from aevon.embedded import CacheServer, Endpoints, PostgresServer, embedded_servers, keep_alive
from aevon.server import (
    BinaryMissingError,
    DiskFullError,
    EmbeddedServerError,
    FolderInUseError,
    FolderNotWritableError,
    OtherVersionError,
    PortTakenError,
    Server,
    folder_lock,
    plain_errors,
    wheel_folder,
)
from tests.waiting import eventually

from .programs import program, running_in

HOLDER = """
import sys, time
from pathlib import Path
from aevon.embedded import embedded_servers
with embedded_servers(Path(sys.argv[1]), durable=True) as endpoints:
    print(endpoints.dragonfly_url, flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data folder that holds a cluster already."""
    folder = tmp_path_factory.mktemp("data")
    with embedded_servers(folder, durable=False):
        pass
    return folder


@pytest.fixture
def servers(folder):
    """Both servers, running."""
    with embedded_servers(folder, durable=False) as endpoints:
        yield endpoints


def rows(url, statement, *parameters):
    with psycopg.connect(url, autocommit=True) as db:
        cursor = db.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def cache_client(url, **options):
    return redis.Redis.from_url(url, protocol=2, decode_responses=True, **options)


def test_servers_answer(servers):
    """Both servers take connections at the URLs they announce, in UTC and with room enough."""
    assert rows(servers.database_url, "SELECT current_database(), current_user") == [
        ("aevon", "aevon")
    ]
    assert rows(servers.database_url, "SHOW max_connections") == [("200",)]
    with cache_client(servers.dragonfly_url) as client:
        assert client.ping()
    assert servers.pids == {"postgres": servers.postgres.pid, "cache": servers.cache.pid}


def test_servers_listen_on_loopback_only(servers):
    """Nothing but this machine reaches them, and no unix socket is left about."""
    assert rows(servers.database_url, "SHOW listen_addresses") == [("127.0.0.1",)]
    assert rows(servers.database_url, "SHOW unix_socket_directories") == [("",)]
    with cache_client(servers.dragonfly_url) as client:
        assert client.config_get("bind") == {"bind": "127.0.0.1"}


def test_wrong_passwords_are_refused(servers):
    """Neither server lets a stranger in, with a wrong password or with none."""
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        rows(servers.database_url.replace(servers.postgres.password, "wrong"), "SELECT 1")
    stranger = cache_client(f"redis://127.0.0.1:{servers.cache.port}")
    with stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_passwords_are_in_private_files_only(servers, folder):
    """Passwords are in files of mode 600, never on a command line."""
    assert (folder / "postgres.password").stat().st_mode & 0o777 == 0o600
    assert (folder / "cache" / "redis.conf").stat().st_mode & 0o777 == 0o600
    for pid in servers.pids.values():
        command_line = Path(f"/proc/{pid}/cmdline")
        if command_line.exists():
            assert servers.cache.password not in command_line.read_text()
            assert servers.postgres.password not in command_line.read_text()


def test_data_survives_a_restart(tmp_path):
    """A second run on the folder finds the rows and the snapshot of the first."""
    with embedded_servers(tmp_path) as first, cache_client(first.dragonfly_url) as client:
        rows(first.database_url, "CREATE TABLE kept AS SELECT 42 AS answer")
        client.set("psyche:1", "kept")
    with embedded_servers(tmp_path) as second, cache_client(second.dragonfly_url) as client:
        assert rows(second.database_url, "SELECT answer FROM kept") == [(42,)]
        assert client.get("psyche:1") == "kept"


def test_killed_server_starts_again_at_the_same_url(servers):
    """After SIGKILL a start brings the same port, password and (PostgreSQL) data back."""
    urls = servers.database_url, servers.dragonfly_url
    rows(urls[0], "CREATE TABLE IF NOT EXISTS survivor ()")
    for one in servers.servers:
        one.kill()
        assert one.pid is None
        one.start()
    assert urls == (servers.database_url, servers.dragonfly_url)
    assert rows(urls[0], "SELECT FROM survivor") == []


def test_server_started_in_a_thread_outlives_the_thread(servers):
    """A server belongs to the process, not to the thread that happened to start it."""
    servers.cache.stop()
    thread = threading.Thread(target=servers.cache.start)
    thread.start()
    thread.join()
    with cache_client(servers.dragonfly_url) as client:
        assert client.ping()


@pytest.mark.parametrize("name", ["postgres", "cache"])
def test_paused_server_hangs_until_resumed(servers, name):
    """A paused server is there and answers nothing; then it goes on."""
    one: Server = getattr(servers, name)
    one.pause()
    assert one.pid
    assert not one.answers()
    one.resume()
    assert one.answers()


def test_stop_ends_a_paused_server(servers):
    """A frozen server can be stopped in good order."""
    servers.cache.pause()
    servers.cache.stop()
    assert servers.cache.pid is None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_servers_end_with_their_parent(tmp_path, number):
    """However the parent ends, no server outlives it, and the next start finds the data."""
    with program("-c", HOLDER, str(tmp_path)) as parent:
        with cache_client(parent.stdout.readline().strip()) as client:
            client.set("canvas:1", "unsaved")
        assert running_in(tmp_path)
        parent.send_signal(number)
        parent.wait()
        assert eventually(lambda: not running_in(tmp_path))
    with embedded_servers(tmp_path) as again, cache_client(again.dragonfly_url) as client:
        assert again.postgres.answers()
        assert client.get("canvas:1") == "unsaved"


@pytest.mark.parametrize("seconds", [0.1, 0.4, 0.8])
def test_parent_killed_while_starting(tmp_path, seconds):
    """SIGKILL at any moment of the first start leaves no process and no half-made cluster."""
    with program("-c", HOLDER, str(tmp_path)) as parent:
        threading.Event().wait(seconds)
        parent.kill()
        parent.wait()
        assert eventually(lambda: not running_in(tmp_path))
    with embedded_servers(tmp_path) as again:
        assert again.postgres.answers()


def kill_with_its_watchdog(parent):
    """Nothing is left that would end the children of `parent`."""
    parent.send_signal(signal.SIGSTOP)
    for child in psutil.Process(parent.pid).children():
        if child.cmdline()[-1] == "watch":
            child.kill()
    parent.kill()
    parent.wait()


def test_stray_servers_are_ended_by_the_next_start(tmp_path):
    """Servers whose parent and watchdog were both killed do not stop the next start."""
    with program("-c", HOLDER, str(tmp_path)) as parent:
        parent.stdout.readline()
        kill_with_its_watchdog(parent)
        assert running_in(tmp_path)
    with embedded_servers(tmp_path) as again:
        assert again.postgres.answers()
    assert not running_in(tmp_path)


def test_stray_initdb_is_ended_by_the_next_start(tmp_path):
    """A first start whose initdb still works in the folder is not in the way of the second."""

    def initdb():
        return [
            process
            for process in psutil.process_iter(["name", "cmdline"])
            if process.info["name"] == "initdb"
            and any(part.startswith(str(tmp_path)) for part in process.info["cmdline"])
        ]

    with program("-c", HOLDER, str(tmp_path)) as parent:
        assert eventually(initdb)
        assert eventually((tmp_path / "postgres.new" / "data" / "PG_VERSION").exists)
        kill_with_its_watchdog(parent)
        [stray] = initdb()
        with embedded_servers(tmp_path) as again:
            assert again.postgres.answers()
        assert not stray.is_running()


def test_forked_child_does_not_hold_the_servers(servers):
    """A fork that ends leaves its parent's servers and watchdog alone."""
    if os.fork() == 0:
        os._exit(0)
    os.wait()
    assert servers.cache.answers()


def test_keeper_starts_a_dead_server_again(servers, monkeypatch):
    """Under `make run` a server that dies comes back at the same URL, and it is said."""
    monkeypatch.setattr("aevon.embedded.RESTART_SECONDS", 0.05)
    ending, back, said = threading.Event(), threading.Event(), []
    keeper = threading.Thread(
        target=keep_alive,
        args=(servers, ending),
        kwargs={"report": said.append, "restarted": back.set, "failed": said.append},
    )
    keeper.start()
    os.kill(servers.cache.pid, signal.SIGKILL)
    assert back.wait(10)
    ending.set()
    keeper.join()
    assert servers.cache.answers()
    assert [line.split(" has ")[0] for line in said] == [
        "The cache server",
        "The cache server runs again.",
    ]


def test_keeper_reports_a_server_that_cannot_come_back(tmp_path, monkeypatch):
    """A server that cannot be started again is a failure with the reason."""
    monkeypatch.setattr("aevon.embedded.RESTART_SECONDS", 0.0)
    (tmp_path / "cache").write_text("in the way")
    failures: list[str] = []
    keep_alive(
        Endpoints(None, CacheServer(tmp_path)),
        threading.Event(),
        report=lambda _: None,
        restarted=lambda: None,
        failed=failures.append,
    )
    assert failures == [f"{tmp_path / 'cache'} is not a folder."]


def test_folder_in_use_is_said(tmp_path):
    """Two owners of one folder: the second is told, in one sentence."""
    second = embedded_servers(tmp_path, postgres=False, cache=False)
    with folder_lock(tmp_path), pytest.raises(FolderInUseError, match="is using"):
        second.__enter__()


def test_unwritable_folder_is_said(tmp_path):
    """Without permission to write the folder the message names it; no traceback."""
    if os.geteuid():
        tmp_path.chmod(0o500)
    with program(
        "-c",
        "import os, sys; from pathlib import Path; from aevon.server import *\n"
        "os.geteuid() or os.setuid(65534)\n"
        "try:\n    folder_lock(Path(sys.argv[1])).__enter__()\n"
        "except FolderNotWritableError as error:\n    print(error)",
        str(tmp_path / "data"),
    ) as other:
        said, _ = other.communicate(timeout=20)
    assert said.startswith("No permission to write ")
    assert len(said.splitlines()) == 1


def test_folder_that_is_a_file_is_said(tmp_path):
    """A file where the folder should be is named."""
    (tmp_path / "data").write_text("")
    servers = embedded_servers(tmp_path / "data")
    with pytest.raises(FolderNotWritableError, match="is not a folder"):
        servers.__enter__()


def test_full_disk_is_said_by_the_operating_system():
    """ENOSPC from any file operation becomes one sentence."""
    with (
        pytest.raises(DiskFullError, match="disk is full"),
        plain_errors(Path("/data")),
        Path("/dev/full").open("w") as full,
    ):
        full.write("x")


def test_full_disk_is_found_in_the_log(tmp_path):
    """A server that dies of a full disk says so in its log, and we say it plainly."""
    one = CacheServer(tmp_path)
    with pytest.raises(DiskFullError, match="cache server cannot write"):
        one.run_tool(["/bin/sh", "-c", "echo 'write: No space left on device'; exit 1"])


def test_other_failures_quote_the_log(tmp_path):
    """An unknown reason is quoted from the log's last line, with where to read on."""
    one = CacheServer(tmp_path)
    with pytest.raises(EmbeddedServerError, match=r"did not start \(the reason\).*cache\.log"):
        one.run_tool(["/bin/sh", "-c", "echo a line; echo the reason; exit 1"])


def test_taken_port_is_said_when_it_must_be_that_one(servers, tmp_path):
    """A restart needs the old port; when another program took it, the message says so."""
    one = CacheServer(tmp_path)
    one.port = servers.cache.port
    with pytest.raises(PortTakenError, match=f"port {one.port}"):
        one.start()


def test_other_postgres_version_is_said(tmp_path):
    """A folder of another major version is left alone, and named."""
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("17\n")
    (tmp_path / "postgres.password").write_text("x")
    with pytest.raises(OtherVersionError, match="made by PostgreSQL 17"):
        PostgresServer(tmp_path).start()


def test_lost_password_file_is_said(tmp_path):
    """A cluster without its password cannot be used; the message says what to do."""
    (tmp_path / "postgres").mkdir()
    with pytest.raises(EmbeddedServerError, match="is missing: put it back"):
        PostgresServer(tmp_path).start()


def test_wrong_password_file_is_said(tmp_path, monkeypatch):
    """A password that is not the cluster's ends the start at once, not after a minute."""
    one = PostgresServer(tmp_path, durable=False)
    one.start()
    one.stop()
    (tmp_path / "postgres.password").write_text("another")
    with pytest.raises(EmbeddedServerError, match="is not that of"):
        one.start()
    assert one.pid is None


def test_missing_wheel_is_said(tmp_path):
    """Without the package that carries a server, the message names it."""
    with pytest.raises(BinaryMissingError, match="package no_such_wheel is missing"):
        wheel_folder("no_such_wheel")
    with pytest.raises(BinaryMissingError, match="/no/such/binary is missing"):
        CacheServer(tmp_path).run_tool(["/no/such/binary"])


def test_server_that_never_answers_is_given_up(tmp_path, monkeypatch):
    """A server that starts but stays silent is ended after the time allowed."""
    monkeypatch.setattr(server_module, "START_SECONDS", 0.2)
    monkeypatch.setattr(CacheServer, "answers", lambda _: False)
    one = CacheServer(tmp_path)
    with pytest.raises(EmbeddedServerError, match="did not answer within"):
        one.start()
    assert one.pid is None
