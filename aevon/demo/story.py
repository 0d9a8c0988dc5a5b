"""What a client of `make demo` stands on: lines to the server and to both stores, and checks.

After each step it reads Dragonfly and PostgreSQL directly, prints what they hold, and compares
that with the contract.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg
import redis
from psycopg.rows import dict_row
from rich.console import Console

BASE_DIR: Final = Path(__file__).resolve().parents[2]
PSYCHE_ROW: Final = "SELECT version, loss_streak FROM klepsydra_psychestate WHERE user_id = %s"
CANVAS_ROW: Final = "SELECT revision, layout FROM canvas_canvas WHERE user_id = %s"


class NotRunning(Exception):
    """There is no server to talk to."""


@dataclass
class Story:
    """The server's whereabouts, direct lines to both stores, and what was found wrong."""

    url: str
    cache: redis.Redis
    database: psycopg.Connection[dict[str, Any]]
    run: dict[str, Any]
    console: Console
    problems: list[str] = field(default_factory=list)

    def check(self, what: str, ok: bool, found: Any = "") -> None:
        """Print one comparison and remember a failed one."""
        mark = "[green]✓[/]" if ok else "[red]✗[/]"
        self.console.print(f"    {mark} {what}", highlight=False)
        if not ok:
            self.problems.append(f"{what}: {found}")
            self.console.print(f"      found: {found}", markup=False)

    def step(self, title: str) -> None:
        """Begin a step."""
        self.console.print(f"\n[bold]{title}[/]")

    def held(self, key: str) -> Any:
        """What Dragonfly holds under `key`, printed."""
        kind = str(self.cache.type(key), "ascii")  # type: ignore[arg-type]
        value: Any = None
        if kind == "string":
            value = json.loads(self.cache.get(key) or b"null")
        elif kind == "list":
            value = [json.loads(raw) for raw in self.cache.lrange(key, 0, -1)]
        ttl = self.cache.ttl(key)
        lifetime = {-2: "", -1: ", no expiry"}.get(ttl, f", {ttl} s left")
        self._print("Dragonfly ", f"{key} ({kind}{lifetime}) {short(value)}")
        return value

    def row(self, title: str, query: str, *args: Any) -> dict[str, Any]:
        """The one row that PostgreSQL holds, printed; empty when there is none."""
        row = self.database.execute(query, args).fetchone() or {}
        self._print("PostgreSQL", f"{title} {short(row) if row else 'no row'}")
        return row

    def _print(self, store: str, text: str) -> None:
        self.console.print(f"    {store}  {text}", style="dim", markup=False, highlight=False)


def short(value: Any) -> str:
    """JSON, cut for a terminal."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 160 else f"{text[:157]}…"


def running() -> dict[str, Any]:
    """What `make run` wrote; raises `NotRunning`."""
    data_dir = Path(os.environ.get("AEVON_DATA_DIR") or BASE_DIR / ".aevon")
    try:
        run: dict[str, Any] = json.loads((data_dir / "run.json").read_text())
    except (OSError, ValueError):
        raise NotRunning("Nothing is running here. Start `make run` in another terminal.") from None
    return run


@contextmanager
def opened(run: dict[str, Any], console: Console) -> Iterator[Story]:
    """A story with its connections."""
    with (
        psycopg.connect(run["databaseUrl"], autocommit=True, row_factory=dict_row) as database,
        redis.Redis.from_url(run["dragonflyUrl"]) as cache,
    ):
        yield Story(run["url"].rstrip("/"), cache, database, run, console)


def manage(story: Story, *arguments: str) -> None:
    """Run a management command against the same servers."""
    environment = os.environ | {
        "DATABASE_URL": story.run["databaseUrl"],
        "DRAGONFLY_URL": story.run["dragonflyUrl"],
    }
    command = [sys.executable, str(BASE_DIR / "manage.py"), *arguments]
    done = subprocess.run(  # noqa: S603  our own command
        command, env=environment, capture_output=True, text=True, check=False
    )
    story.check(f"manage.py {arguments[0]} succeeds", done.returncode == 0, done.stderr[-500:])


def window(number: int) -> dict[str, Any]:
    """A micro-app of the demo."""
    return {
        "type": "note",
        "title": f"Demo {number}",
        "position": {"x": 0, "y": 0},
        "size": {"width": 320, "height": 200},
        "zIndex": number,
    }
