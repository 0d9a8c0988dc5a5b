"""honcho, made sure of: its processes end with the supervisor, and as whole groups.

honcho gives every process a middleman that relays its output. The middleman watches the
supervisor (through multiprocessing's sentinel, which the kernel closes) and takes its process
group down when the supervisor is gone; it does the same when the process itself dies and leaves
workers behind, which would otherwise hold the output open and hide the death.
"""

import contextlib
import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from types import FrameType
from typing import Any

from honcho.manager import Manager
from honcho.printer import Message, Printer
from honcho.process import Popen, Process

STOP_SECONDS = 10.0


class Middleman(Process):  # type: ignore[misc]  # honcho has no types
    """Runs one command in its process group, out of reach of the terminal's Ctrl-C."""

    def run(self, events: Any = None, ignore_signals: bool = False) -> None:
        """Start the command and relay its output until it ends."""
        os.setsid()
        self._spawned = threading.Event()
        self._child_ctor = self._spawn
        threading.Thread(target=self._end_with_supervisor, daemon=True).start()
        super().run(events, ignore_signals)

    def _spawn(self, command: str, **options: Any) -> "subprocess.Popen[bytes]":
        child = Popen(command, **options)
        self._group = child.pid
        self._spawned.set()
        threading.Thread(target=self._end_leftovers, args=(child,), daemon=True).start()
        return child  # type: ignore[no-any-return]

    def _end_leftovers(self, child: "subprocess.Popen[bytes]") -> None:
        child.wait()
        kill_group(self._group)

    def _end_with_supervisor(self) -> None:
        supervisor = multiprocessing.parent_process()
        if supervisor is not None:
            wait([supervisor.sentinel])
            self._spawned.wait(timeout=5)
            kill_group(self._group)
            os._exit(1)


class GentleSignals:
    """honcho signals groups; SIGTERM is for the leader, who stops its own workers in order."""

    def terminate(self, pid: int) -> None:
        """Ask the process to stop."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)

    def kill(self, pid: int) -> None:
        """End the process and its workers."""
        kill_group(pid)


class SteadyPrinter(Printer):  # type: ignore[misc]  # honcho has no types
    """Prints until nobody reads any more, and then lets the work end in order."""

    def write(self, message: Message) -> None:
        """Print a line, or drop it when the terminal or pipe is gone."""
        with contextlib.suppress(OSError):
            super().write(message)


class Supervisor(Manager):  # type: ignore[misc]  # honcho has no types
    """Runs the processes until one ends or a signal comes, then stops them all."""

    def __init__(self) -> None:
        super().__init__(SteadyPrinter(sys.stdout))
        self._process_ctor = Middleman
        self._procmgr = GentleSignals()
        self.failure = ""
        self._asked_to_stop = False

    def add(self, name: str, command: Sequence[str]) -> None:
        """Run `command` under `name`; `exec` spares the shell between."""
        self.add_process(name, f"exec {shlex.join(command)}", env=dict(os.environ))

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name, of those that have started."""
        return {name: entry["pid"] for name, entry in self._processes.items() if "pid" in entry}

    def run(self, when_started: Callable[[], None]) -> str:
        """Run until the end; returns why it ended, empty when a signal asked for it.

        `when_started` is called in a thread of its own; it may set `failure` and `ask_to_stop`.
        """
        threading.Thread(target=when_started, daemon=True).start()
        try:
            self.loop()
        finally:
            for pid in self.pids.values():
                kill_group(pid)
        return self.failure

    def fail(self, reason: str) -> None:
        """Stop everything because of `reason`; from any thread."""
        self.failure = self.failure or reason
        os.kill(os.getpid(), signal.SIGTERM)

    def terminate(self) -> None:
        """Stop all processes; remember which one ended by itself, if that is why."""
        ended = [name for name, entry in self._processes.items() if "returncode" in entry]
        if ended and not self._terminating and self.returncode not in (130, 143):
            code = self._processes[ended[0]]["returncode"]
            self.failure = f"The {ended[0]} process ended by itself (exit code {code})."
        # A signal can come before every process has told its number: try again from the loop.
        self._asked_to_stop = True
        self._all_started()

    def _all_started(self) -> bool:
        started: bool = super()._all_started()
        if started and self._asked_to_stop and not self._terminating:
            super().terminate()
            # honcho's own patience begins only when the first process has ended.
            deadline = threading.Timer(STOP_SECONDS, self.kill)
            deadline.daemon = True
            deadline.start()
        return started

    def _any_stopped(self) -> bool:
        for entry in self._processes.values():
            code = entry["process"].exitcode
            if code and "returncode" not in entry:  # the middleman itself was killed
                entry["returncode"] = code
                kill_group(entry["pid"])
        return bool(super()._any_stopped())


def kill_group(group: int) -> None:
    """SIGKILL a process group, if it is still there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def stop_requested(_number: int, _frame: FrameType | None) -> None:
    """Signal handler for the time before the supervisor runs: as if Ctrl-C had been pressed."""
    raise KeyboardInterrupt
