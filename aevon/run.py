"""`make run`: servers, migrations, demo users, then web, worker, beat and listener until Ctrl-C."""

import contextlib
import json
import os
import resource
import shutil
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from aevon import env
from aevon.embedded import Endpoints, embedded_servers, keep_alive
from aevon.ports import HOST, NoPortError, reserved_port
from aevon.server import EmbeddedServerError, plain_errors, write_private
from aevon.supervisor import Supervisor, stop_requested

BASE_DIR = Path(__file__).resolve().parent.parent
LIVE_SECONDS = 60.0
WEB_THREADS = 2 * (os.cpu_count() or 1) + 1  # per worker; granian warns of more
# Per worker, idle ones that are kept too: granian's own bound is 1,024 in all, and whoever comes
# after that many waits until one of them leaves.
WEB_CONNECTIONS = 4096
OPEN_FILES = WEB_CONNECTIONS + 1024  # of one process; many a shell allows 1,024

Login = dict[str, str]


class CannotRunError(Exception):
    """`make run` cannot go on; the message says why, in one sentence."""


@dataclass(frozen=True, slots=True)
class Site:
    """Everything that a user, or `run.json`, is told about the running system."""

    url: str
    data_dir: Path
    database_url: str
    dragonfly_url: str
    logins: dict[str, Login]
    endpoints: Endpoints

    @property
    def run_file(self) -> Path:
        """Where other programs look."""
        return self.data_dir / "run.json"

    def write(self, pids: dict[str, int]) -> None:
        """Tell other programs where everything is (mode 600: it holds passwords)."""
        content = {
            "url": self.url,
            "databaseUrl": self.database_url,
            "dragonflyUrl": self.dragonfly_url,
            **self.logins,
            "pids": {**pids, **self.endpoints.pids},
        }
        write_private(self.run_file, json.dumps(content, indent=2))

    def describe(self) -> str:
        """What the user sees once the web server answers."""
        demo, admin = self.logins["demo"], self.logins["admin"]
        return (
            "\n"
            f"  ΛΞVON runs at  {self.url}/\n"
            f"  API docs       {self.url}/api/docs/\n"
            f"  Demo login     {demo['username']} / {demo['password']}\n"
            f"  Admin          {self.url}/{settings.AEVON_ADMIN_PATH}/"
            f"  {admin['username']} / {admin['password']}\n"
            "\n"
            "  Try `make demo` in another terminal. Ctrl-C stops everything.\n"
        )


def main() -> int:
    """Run until Ctrl-C or SIGTERM (0) or until something fails (1)."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop_requested)
    try:
        run()
    except KeyboardInterrupt:
        say("Stopped.")
        return 0
    except (CannotRunError, EmbeddedServerError, NoPortError) as error:
        say(str(error), to_stderr=True)
        return 1
    except ImproperlyConfigured as error:
        say(f"Wrong setting: {error}", to_stderr=True)
        return 1
    say("Stopped.")
    return 0


def run() -> None:
    """The whole life of `make run`; raises when something prevents it."""
    data_dir = Path(env.text("AEVON_DATA_DIR", str(BASE_DIR / ".aevon"))).resolve()
    port_wanted = env.integer("AEVON_PORT", 8000, minimum=0, maximum=65_535)
    outside_database, outside_dragonfly = env.text("DATABASE_URL"), env.text("DRAGONFLY_URL")
    say(f"Starting (data in {data_dir}) …")
    allow_open_files()
    with (
        embedded_servers(
            data_dir, postgres=not outside_database, cache=not outside_dragonfly
        ) as endpoints,
        undisturbed_end(),
        reserved_port(port_wanted) as port,
    ):
        if port_wanted not in (0, port):
            say(f"Port {port_wanted} is taken; using {port}.")
        check_outside_servers(outside_database, outside_dragonfly)
        configure(data_dir, endpoints, port)
        with plain_errors(data_dir):
            # What a run that was killed left behind tells lies by now.
            (data_dir / "run.json").unlink(missing_ok=True)
            logins = prepare_database(data_dir, ours=not outside_database)
        site = Site(
            url=f"http://{HOST}:{port}",
            data_dir=data_dir,
            database_url=os.environ["DATABASE_URL"],
            dragonfly_url=os.environ["DRAGONFLY_URL"],
            logins=logins,
            endpoints=endpoints,
        )
        supervise(site, port)


def allow_open_files() -> None:
    """As many for each process as a web worker keeps connections, or as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def check_outside_servers(database_url: str, dragonfly_url: str) -> None:
    """Refuse to start against servers that do not answer; never repeat a URL: it has passwords."""
    if database_url:
        try:
            psycopg.connect(database_url, connect_timeout=3).close()
        except psycopg.OperationalError as error:
            reason = first_line(error)
            raise CannotRunError(f"DATABASE_URL cannot be reached: {reason}") from None
        except psycopg.Error:
            raise CannotRunError("DATABASE_URL is not a PostgreSQL URL.") from None
    if dragonfly_url:
        try:
            with redis.Redis.from_url(
                dragonfly_url, protocol=2, socket_connect_timeout=3, socket_timeout=3
            ) as client:
                client.ping()
        except redis.RedisError as error:
            reason = first_line(error)
            raise CannotRunError(f"DRAGONFLY_URL cannot be reached: {reason}") from None
        except ValueError:
            raise CannotRunError(
                "DRAGONFLY_URL must begin with redis://, rediss:// or unix://."
            ) from None


def configure(data_dir: Path, endpoints: Endpoints, port: int) -> None:
    """Put into the environment what the settings, here and in every child, read from it."""
    os.environ["AEVON_DATA_DIR"] = str(data_dir)
    os.environ["AEVON_PORT"] = str(port)
    os.environ["PYTHONUNBUFFERED"] = "1"
    if not env.text("PROMETHEUS_MULTIPROC_DIR"):
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = shared_counters(data_dir)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aevon.settings")
    if endpoints.database_url:
        os.environ["DATABASE_URL"] = endpoints.database_url
    if endpoints.dragonfly_url:
        os.environ["DRAGONFLY_URL"] = endpoints.dragonfly_url
    os.chdir(BASE_DIR)


def shared_counters(data_dir: Path) -> str:
    """An empty folder through which all processes count together, the worker's too."""
    folder = data_dir / "metrics"
    with plain_errors(data_dir):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
    return str(folder)


def prepare_database(data_dir: Path, *, ours: bool) -> dict[str, Login]:
    """Migrate and make the demo data; returns the log-ins by name. `ours`: an embedded one."""
    import django  # noqa: PLC0415  # the settings read the environment that was only now set

    django.setup()
    from django.core.checks import run_checks  # noqa: PLC0415
    from django.core.management import call_command  # noqa: PLC0415
    from django.db import DatabaseError, connections  # noqa: PLC0415

    from aevon.demo import data  # noqa: PLC0415

    if wrong := [found.msg for found in run_checks() if found.is_serious()]:
        raise CannotRunError("\n".join(wrong))
    say("Migrating the database …")
    try:
        call_command("migrate", verbosity=0, interactive=False)
        return data.prepare(data_dir, ours=ours)
    except data.SomebodyElsesUserError as error:
        raise CannotRunError(str(error)) from error
    except DatabaseError as error:
        raise CannotRunError(f"PostgreSQL refused: {first_line(error)}") from error
    finally:
        # The processes that follow are forked: no connection, no pool thread may be shared.
        for connection in connections.all():
            connection.close()
            close_pool = getattr(connection, "close_pool", None)
            if close_pool:
                close_pool()


def supervise(site: Site, port: int) -> None:
    """Run the processes until the end; announce the site once it answers."""
    supervisor = Supervisor()
    ending = threading.Event()
    for name, command in commands(port).items():
        supervisor.add(name, command)

    def announce() -> None:
        if not wait_until_live(f"{site.url}/health/live"):
            supervisor.fail(f"The web server did not answer within {LIVE_SECONDS:.0f} s.")
        elif publish():
            say(site.describe())

    def publish() -> bool:
        try:
            site.write(supervisor.pids)
        except OSError as error:
            supervisor.fail(f"{site.run_file} cannot be written: {error.strerror}.")
        if ending.is_set():  # the end overtook this thread
            site.run_file.unlink(missing_ok=True)
        return not (supervisor.failure or ending.is_set())

    # The terminal is gone: end as for SIGTERM, which honcho handles from here on.
    signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    keeper = threading.Thread(
        target=keep_alive,
        args=(site.endpoints, ending),
        kwargs={"report": say, "restarted": publish, "failed": supervisor.fail},
        daemon=True,
    )
    keeper.start()
    try:
        failure = supervisor.run(announce)
    finally:
        ending.set()
        keeper.join()
        site.run_file.unlink(missing_ok=True)
    if failure:
        raise CannotRunError(failure)


def commands(port: int) -> dict[str, Sequence[str]]:
    """The processes by name."""
    python = sys.executable
    # Everything runs under one account here, in a container as root: the user knows.
    calm = ("-W", "ignore:You're running the worker with superuser")
    celery = (python, *calm, "-m", "celery", "--quiet", "-A", "aevon")
    return {
        "web": (
            *(python, "-m", "granian", "--interface", "wsgi", "--no-ws", "--host", HOST),
            *("--port", str(port), "--workers", "2", "--blocking-threads", str(WEB_THREADS)),
            *("--backpressure", str(WEB_CONNECTIONS)),
            # One that is killed is replaced while the others serve; granian would end them all.
            "--respawn-failed-workers",
            # Its HTTP/2 without TLS is for nobody here: what is in front speaks HTTP/1.1.
            *("--http", "1"),
            *("--log-config", str(BASE_DIR / "aevon" / "telemetry" / "granian.json")),
            *("--workers-kill-timeout", "3", "aevon.wsgi:application"),
        ),
        "worker": (
            *(*celery, "worker", "--concurrency", "2", "--without-mingle", "--without-gossip"),
            *("--loglevel", "WARNING", "--hostname", f"run-{os.getpid()}@%h"),
        ),
        "beat": (*celery, "beat", "--pidfile=", "--loglevel", "WARNING"),
        "listener": (python, "manage.py", "cache_listen"),
    }


def wait_until_live(url: str) -> bool:
    """Whether `url` answers 200 within `LIVE_SECONDS`."""
    # A proxy from the environment has no business with this machine's own address.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + LIVE_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), opener.open(url, timeout=2) as response:
            return bool(response.status == 200)
        time.sleep(0.1)
    return False


@contextlib.contextmanager
def undisturbed_end() -> Iterator[None]:
    """After this block further signals are ignored: what is outside it stops in good order."""
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)


def first_line(error: Exception) -> str:
    """The first line of a driver's message, without a trailing dot."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".") + "."


def say(text: str, *, to_stderr: bool = False) -> None:
    """Print at once; nobody may be reading any more."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr if to_stderr else sys.stdout, flush=True)


if __name__ == "__main__":
    sys.exit(main())
