"""`make demo USERS=1000`: the same story by many users at once, with throughput and latencies."""

import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from rich.progress import Progress
from rich.table import Table

from aevon.demo.story import CANVAS_ROW, PSYCHE_ROW, Story, manage, window

AT_ONCE: Final = 32
PREFIX: Final = "crowd"
PLAYS: Final = 3
PATCHES: Final = 5


@dataclass
class Crowd:
    """What the users did, how long it took, and what went wrong."""

    story: Story
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)
    layouts: dict[int, Any] = field(default_factory=dict)

    def call(self, what: str, send: Callable[[], httpx.Response], expected: int = 200) -> Any:
        """One timed request; its JSON."""
        started = time.perf_counter()
        answer = send()
        self.seconds[what].append(time.perf_counter() - started)
        if answer.status_code != expected:
            self.errors.append(f"{what}: {answer.status_code} {answer.text[:200]}")
        return answer.json() if answer.content else {}

    def visit(self, name: str, client: httpx.Client) -> None:
        """One user's story."""
        client.headers.pop("Authorization", None)
        account = {"username": name, "password": self.story.run["demo"]["password"]}
        tokens = self.call("log in", lambda: client.post("/api/v1/auth/token/", json=account))
        client.headers["Authorization"] = f"Bearer {tokens.get('access', '')}"
        stake = {"instrument": "spinforge", "stake": 1}
        for _ in range(PLAYS):
            self.call("play", lambda: client.post("/api/v1/klepsydra/interactions/", json=stake))
        for n in range(PATCHES):
            patch = {"microApps": {"a": window(n)}}
            canvas = self.call("patch", lambda: client.patch("/api/v1/canvas/", json=patch))  # noqa: B023
        text = {"text": "what is open"}
        self.call("command", lambda: client.post("/api/v1/beep/commands/", json=text))
        validate = "/api/v1/auth/validate/"
        self.call("validate", lambda: client.get(validate), 204)
        self.call("log out", lambda: client.post("/api/v1/auth/logout/", json={}), 204)
        self.layouts[canvas.get("userId", 0)] = canvas.get("layout")


def of_crowd(users: int, password: str) -> list[str]:
    """The options that make it. A password may begin with a dash, and is no option then."""
    return [f"--count={users}", f"--password={password}", f"--prefix={PREFIX}"]


def crowd(story: Story, users: int) -> None:
    """Make the users, let them all come, and compare both stores for every one of them."""
    story.step(f"{users} users, {AT_ONCE} at a time")
    manage(story, "create_demo_users", *of_crowd(users, story.run["demo"]["password"]))
    group = Crowd(story)
    took = _run(group, [f"{PREFIX}{n}" for n in range(1, users + 1)])
    _report(group, took)
    story.check("no request failed", not group.errors, group.errors[:5])
    story.check("every user was served", len(group.layouts) == users, len(group.layouts))
    _compare(group)


def _run(group: Crowd, names: list[str]) -> float:
    """Seconds that the whole took."""
    queue = iter(names)
    with Progress(console=group.story.console, transient=True) as progress:
        task = progress.add_task("visiting", total=len(names))

        def work() -> None:
            with httpx.Client(base_url=group.story.url, timeout=60) as client:
                # A list iterator hands out each name once, also to several threads.
                for name in queue:
                    group.visit(name, client)
                    progress.advance(task)

        started = time.perf_counter()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for future in [pool.submit(work) for _ in range(AT_ONCE)]:
                future.result()
        return time.perf_counter() - started


def _report(group: Crowd, took: float) -> None:
    total = sum(len(times) for times in group.seconds.values())
    table = Table(title=f"{total} requests in {took:.1f} s: {total / took:.0f} a second")
    for column in ("request", "count", "p50 ms", "p95 ms", "p99 ms"):
        table.add_column(column, justify="left" if column == "request" else "right")
    for what, times in group.seconds.items():
        ordered = sorted(times)
        ranks = [ordered[min(len(ordered) - 1, int(len(ordered) * q))] for q in (0.5, 0.95, 0.99)]
        table.add_row(what, str(len(times)), *(f"{rank * 1000:.1f}" for rank in ranks))
    group.story.console.print(table)


def _compare(group: Crowd) -> None:
    story, wrong = group.story, []
    for user_id, layout in group.layouts.items():
        row = story.database.execute(CANVAS_ROW, [user_id]).fetchone() or {}
        psyche = story.database.execute(PSYCHE_ROW, [user_id]).fetchone() or {}
        held = story.cache.get(f"psyche:{user_id}") or b""
        if row.get("layout") != layout:
            wrong.append(f"canvas of {user_id}")
        if f'"version":{psyche.get("version")},'.encode() not in held:
            wrong.append(f"psyche of {user_id}")
        if b'"sessions"' in (story.cache.get(f"session:{user_id}") or b""):
            wrong.append(f"session of {user_id}")
    story.check("sessions gone, canvases and psyches as in PostgreSQL", not wrong, wrong[:5])
