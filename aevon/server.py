"""The life of one embedded server process, and the sentences for what can go wrong with it."""

import contextlib
import errno
import fcntl
import importlib.util
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, ClassVar

import psutil  # type: ignore[import-untyped]

from aevon.ports import free_port
from aevon.process import watchdog

START_SECONDS = 60.0
STOP_SECONDS = 15.0
PORT_ATTEMPTS = 5
LOG_MAX_BYTES = 5_000_000


class EmbeddedServerError(Exception):
    """An embedded server cannot run; the message says why, in one sentence."""


class FolderInUseError(EmbeddedServerError):
    """Another `make run` holds the data folder."""


class FolderNotWritableError(EmbeddedServerError):
    """The data folder, or something in it, cannot be written."""


class DiskFullError(EmbeddedServerError):
    """No space is left where the data folder is."""


class OtherVersionError(EmbeddedServerError):
    """The data folder was made by another major version of PostgreSQL."""


class BinaryMissingError(EmbeddedServerError):
    """A wheel that carries a server is not installed."""


class ServerStartError(EmbeddedServerError):
    """A server ended, or did not answer in time; its log tells why."""


class PortTakenError(ServerStartError):
    """Something else listens on the server's port."""


@contextlib.contextmanager
def plain_errors(folder: Path) -> Iterator[None]:
    """Translate the operating system's refusals into sentences about `folder`."""
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise FolderNotWritableError(f"No permission to write {where}.") from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(f"The disk is full: {where} cannot be written.") from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            raise FolderNotWritableError(f"{where} is not a folder.") from error
        raise


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process; the kernel lets go when the process ends, however."""
    with plain_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("a")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUseError(
                f"Another `make run` is using {folder}; stop it, or set AEVON_DATA_DIR."
            ) from None
        yield


class Server:
    """One server process: start, stop, kill, pause, and start again on the same port.

    Whoever starts one owns its folder (`folder_lock`): a process found running there is a
    stray of an earlier owner, and is ended.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    executable: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]
    orphan_signal: ClassVar[signal.Signals]
    account = ""

    def __init__(self, data_dir: Path, *, durable: bool = True) -> None:
        self.data_dir = data_dir.resolve()
        self.folder = self.data_dir / self.name
        self.log = self.data_dir / f"{self.name}.log"
        self.durable = durable
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Make the folder ready for the first start, and check it on later ones."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """The command line that serves `self.port`, its configuration written."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether the server takes requests now."""
        raise NotImplementedError

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start and wait until it answers; harmless when it runs already."""
        if self.pid:
            return
        self.kill()  # the remains of one that ended by itself
        with plain_errors(self.data_dir):
            self.data_dir.mkdir(parents=True, exist_ok=True)
            end_strays(self.executable, self.folder, self.stop_signal)
            self.prepare()
            if self.port:
                self._start()
            else:
                self._start_on_free_port()

    def stop(self) -> None:
        """Stop in good order, keeping the data; by force if that takes too long."""
        if self._process is None:
            return
        self.resume()
        self._process.send_signal(self.stop_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End at once, as a crash or a power cut would."""
        self._signal_all(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            watchdog.forget(self._process.pid)
        self._process = None

    def pause(self) -> None:
        """Freeze: connections open but nothing answers, as with a hung server."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        self._signal_all(signal.SIGCONT)

    def run_tool(self, command: list[str]) -> None:
        """Run a helper program as the server's account, its output in the log."""
        with self._open_log() as log:
            start = log.tell()
            tool = self._launch(command, log)
            failed = tool.wait()
            watchdog.forget(tool.pid)
        if failed:
            raise self._reason(start)

    def _start_on_free_port(self) -> None:
        # Another program can take the port before the server gets to it.
        for _ in range(PORT_ATTEMPTS):
            self.port = free_port()
            try:
                self._start()
            except PortTakenError:
                continue
            return
        raise PortTakenError(f"{self.title} found no free port.")

    def _start(self) -> None:
        try:
            with self._open_log() as log:
                start = log.tell()
                self._process = self._launch(self.command(), log)
            self._wait_until_ready(start)
        except BaseException:
            self.kill()
            raise

    def _launch(self, command: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        if not Path(command[0]).is_file():
            raise BinaryMissingError(
                f"{command[0]} is missing: run `pip install -r requirements.txt`."
            )
        return watchdog.launch(command, last_signal=self.orphan_signal, user=self.account, log=log)

    def _wait_until_ready(self, log_start: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if self.pid is None:
                raise self._reason(log_start)
            if time.monotonic() > deadline:
                raise ServerStartError(
                    f"{self.title} did not answer within {START_SECONDS:.0f} s; see {self.log}."
                )
            time.sleep(0.02)

    def _open_log(self) -> IO[bytes]:
        log = self.log.open("ab")
        self.log.chmod(0o600)
        if log.tell() > LOG_MAX_BYTES:
            log.truncate(0)
            log.seek(0)
        return log

    def _reason(self, log_start: int) -> EmbeddedServerError:
        with self.log.open("rb") as log:
            log.seek(log_start)
            said = log.read().decode(errors="replace")
        if "No space left on device" in said:
            return DiskFullError(f"The disk is full: {self.title} cannot write {self.data_dir}.")
        if "Permission denied" in said or "wrong ownership" in said:
            return FolderNotWritableError(f"{self.title} has no permission to use {self.folder}.")
        if "Address already in use" in said:
            return PortTakenError(f"{self.title} cannot listen on port {self.port}: it is taken.")
        last_line = (said.strip().splitlines() or ["it said nothing"])[-1]
        return ServerStartError(f"{self.title} did not start ({last_line}); see {self.log}.")

    def _signal_all(self, number: signal.Signals) -> None:
        # PostgreSQL's backends lead sessions of their own: the process group is not enough.
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _family(self) -> list[psutil.Process]:
        if self.pid is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.pid)
            return [parent, *parent.children(recursive=True)]
        return []


def end_strays(executable: str, folder: Path, stop_signal: signal.Signals) -> None:
    """End servers that still stand in `folder`, left by an owner that could not end them.

    A process stands there by its working folder or by the `-D` of its command line: `initdb`
    works on a folder from outside it.
    """
    strays = [
        process
        for process in psutil.process_iter(["name", "cwd", "cmdline"])
        if process.info["name"] == executable
        and str(folder) in (process.info["cwd"], *(process.info["cmdline"] or ()))
    ]
    for process in strays:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(stop_signal)
    _, alive = psutil.wait_procs(strays, STOP_SECONDS if strays else 0)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, 5)


def wheel_folder(package: str) -> Path:
    """Where a wheel is installed, without importing it: both have side effects on import."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise BinaryMissingError(
            f"The package {package} is missing: run `pip install -r requirements.txt`."
        )
    return Path(spec.origin).parent


def write_private(path: Path, content: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    temporary = path.with_name(f"{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
    temporary.replace(path)
