"""Child processes that never outlive the process that started them, however it ends.

Linux's parent-death signal is tied to the *thread* that forked and is missing elsewhere, so a
pipe does the work: a watchdog in a session of its own reads it, and the kernel closes the other
end when the owner dies, SIGKILL included. A child writes its own process id into that pipe
before it becomes the server; until then it holds the pipe open, so no instant is unguarded.

This file also runs as a script, isolated from the project: `watch` and `launch` below. It
therefore imports nothing outside the standard library.
"""

import atexit
import contextlib
import os
import pwd
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

WATCHDOG_PATIENCE_SECONDS = 8.0
SELF = [sys.executable, "-I", "-S", __file__]


class Watchdog:
    """The guard of this process's children; started with the first of them."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = -1
        self._lock = threading.Lock()
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def launch(
        self, command: Sequence[str], *, last_signal: signal.Signals, user: str, log: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        """Start `command` as a direct child in a session of its own.

        `last_signal` is what the watchdog sends it should this process die. `user` is the
        account to become, which only root can; empty keeps the present one.
        """
        with self._lock:
            self._ensure_running()
            child = subprocess.Popen(  # noqa: S603  # our own command lines, no shell
                [*SELF, "launch", str(self._pipe), str(int(last_signal)), user, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(self._pipe,),
                start_new_session=True,
            )
            self._children[child.pid] = child
            return child

    def forget(self, pid: int) -> None:
        """Stop guarding a child that has been reaped: its number may be another's by now."""
        self._children.pop(pid, None)
        with contextlib.suppress(OSError):
            os.write(self._pipe, f"-{pid}\n".encode())

    def _ensure_running(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self._drop_pipe()
        reader, self._pipe = os.pipe()
        self._process = subprocess.Popen(  # noqa: S603  our own file, no shell
            [*SELF, "watch"],
            stdin=reader,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        os.close(reader)

    def close(self) -> None:
        """Let the watchdog go; it ends whatever it still guards."""
        if self._process is None:
            return
        self._drop_pipe()
        while self._process.poll() is None:
            for child in self._children.values():
                child.poll()  # unreaped, it would look alive to the watchdog
            time.sleep(0.01)
        self._process = None

    def after_fork(self) -> None:
        """In a forked copy: it owns none of the children, and must not hold the pipe open."""
        self._drop_pipe()
        if self._process is not None:
            self._process.returncode = 0  # not this process's child: nothing to wait for
        self._process = None
        self._lock = threading.Lock()

    def _drop_pipe(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
        self._pipe = -1


def watch() -> None:
    """Until the owner's end of the pipe closes, note who is alive; then end those."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    guarded: dict[int, int] = {}
    for line in sys.stdin.buffer:
        pid, *last_signal = (int(part) for part in line.split())
        if pid < 0:
            guarded.pop(-pid, None)
        else:
            guarded[pid] = last_signal[0]
    end(guarded)


def end(guarded: dict[int, int]) -> None:
    """Send every process its last signal, wait a while, then kill the process groups."""
    for pid, last_signal in guarded.items():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, last_signal)
            os.kill(pid, signal.SIGCONT)  # a paused process takes no signal but SIGKILL
    deadline = time.monotonic() + WATCHDOG_PATIENCE_SECONDS
    while any(map(is_alive, guarded)) and time.monotonic() < deadline:
        time.sleep(0.02)
    for pid in guarded:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    """Whether a process (or its unreaped remains) has this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def launch(pipe: int, last_signal: int, user: str, command: list[str]) -> None:
    """Announce this process to the watchdog, then become `command`, as `user` if one is given."""
    os.write(pipe, f"{os.getpid()} {last_signal}\n".encode())
    os.close(pipe)
    try:
        if user:
            become(user)
        os.execv(command[0], command)  # noqa: S606  # no shell: the arguments are a list
    except OSError as error:
        sys.exit(f"{Path(command[0]).name} cannot be run: {error.strerror}: {error.filename}")


def become(user: str) -> None:
    """Give up root for `user`, for good."""
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    # The folder of the caller may be closed to this account; PostgreSQL asks where it stands.
    os.chdir("/")


watchdog = Watchdog()

if __name__ == "__main__":
    if sys.argv[1] == "watch":
        watch()
    else:
        launch(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5:])
else:
    os.register_at_fork(after_in_child=watchdog.after_fork)
    atexit.register(watchdog.close)
