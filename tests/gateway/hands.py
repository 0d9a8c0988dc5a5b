"""Somebody with a shell on the site: a process of the project that does what it is told.

It has started Django once; what `manage.py shell` would do takes seconds each time.
"""

import json
import subprocess
import sys
from typing import Any, Self

from tests.aevon.programs import environment
from tests.servers import PATIENCE, ROOT

FLUSH = """
from django.core.management import call_command
call_command("cache_flush", service="session")
"""
WORK = """
import contextlib, io, json, sys
import django
django.setup()
names = {}
for line in sys.stdin:
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            exec(json.loads(line), names)
        answer = {"ok": True, "text": text.getvalue()}
    except Exception as error:
        answer = {"ok": False, "text": repr(error)}
    print(json.dumps(answer), flush=True)
"""


class Hands:
    """`do(code)` runs Python on the site; when it returns the change is acknowledged."""

    def __init__(self, told: dict[str, Any], settings: dict[str, str]) -> None:
        variables = {
            **settings,
            **PATIENCE,
            "DJANGO_SETTINGS_MODULE": "aevon.settings",
            "DATABASE_URL": told["databaseUrl"],
            "DRAGONFLY_URL": told["dragonflyUrl"],
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORK],
            cwd=ROOT,
            env=environment(**variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(self, code: str) -> str:
        """What it printed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(code) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert answer["ok"], answer["text"]
        return str(answer["text"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        with self._process:
            self._process.wait(30)
