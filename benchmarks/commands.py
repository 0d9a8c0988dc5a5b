"""What a command to BEEP takes over HTTP, for several users at once.

Prints a table: what half of them, 95 and 99 in a hundred stay below, as who asks sees it. The
web server and the listener are those of `make run`, on servers of their own.
"""

import logging
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Final

import httpx
from rich.console import Console
from rich.table import Table

from aevon import run
from aevon.ports import HOST, free_port
from benchmarks.site import site

USERS: Final = (1, 8, 32)
COMMANDS_OF_A_USER: Final = 60
TARGET_MS: Final = 750  # of nineteen in twenty
SAID: Final = (
    "open Notes",
    "open the clock",
    "move it right by 40",
    "again",
    "list windows",
    "close the second one",
    "play SpinForge",
    "status",
    "help",
    "close Notes",
)


@contextmanager
def served() -> Iterator[str]:
    """The address of a site."""
    with site(), ExitStack() as stack:
        port = free_port()
        programs = run.commands(port)
        for name in ("web", "listener"):
            program = subprocess.Popen(programs[name], stdout=subprocess.DEVNULL)
            stack.callback(program.wait)
            stack.callback(program.terminate)
        url = f"http://{HOST}:{port}"
        if not run.wait_until_live(f"{url}/health/live"):
            sys.exit("The site does not answer.")
        yield url


def tokens(count: int) -> list[str]:
    """Access tokens of so many new users."""
    from auth_sessions import services
    from auth_sessions.models import User

    first = User.objects.count()
    users = [User.objects.create_user(f"talker{first + number}") for number in range(count)]
    return [services.open_session(user)[1].access for user in users]


def talked(url: str, token: str) -> list[float]:
    """Milliseconds of each of a user's commands, one after the other; the first does not count."""
    taken: list[float] = []
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=30) as client:
        for number in range(COMMANDS_OF_A_USER + 1):
            started = time.perf_counter()
            body = {"text": SAID[number % len(SAID)]}
            key = {"Idempotency-Key": f"k{number}"}
            client.post("/api/v1/beep/commands/", json=body, headers=key).raise_for_status()
            taken.append((time.perf_counter() - started) * 1000)
    return taken[1:]


def row(url: str, users: int) -> Sequence[str]:
    """One line of the table."""
    with ThreadPoolExecutor(users) as pool:
        started = time.perf_counter()
        talks = list(pool.map(partial(talked, url), tokens(users)))
        seconds = time.perf_counter() - started
    taken = [each for talk in talks for each in talk]
    cuts = statistics.quantiles(taken, n=100, method="inclusive")
    rate = len(taken) / seconds
    return [str(users), *(f"{cuts[n - 1]:.1f}" for n in (50, 95, 99)), f"{rate:,.0f}"]


def main() -> None:
    """Run and print."""
    with served() as url:
        logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each request
        target = f"p95 ms (target < {TARGET_MS})"
        table = Table("users at once", "p50 ms", target, "p99 ms", "commands/s")
        for users in USERS:
            table.add_row(*row(url, users))
        Console().print(table)


if __name__ == "__main__":
    main()
