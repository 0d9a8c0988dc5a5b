"""People of the tests' own, and what the server knows of them, asked past the page."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.aevon.programs import environment
from tests.servers import ROOT

PASSWORD = "a-long-enough-Password-9"


@dataclass
class Person:
    """Somebody with an account; `call` has a session beside the browser's."""

    url: str
    username: str
    password: str = PASSWORD
    _headers: dict[str, str] = field(default_factory=dict)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request to the API; the JSON of the answer."""
        if not self._headers:
            login = {"username": self.username, "password": self.password}
            pair = request("POST", f"{self.url}/api/v1/auth/token/", login, {})
            self._headers = {"Authorization": f"Bearer {pair['access']}"}
        return request(method, f"{self.url}/api/v1{path}", body, self._headers)

    @property
    def windows(self) -> dict[str, Any]:
        """The micro-apps as the server has them."""
        apps: dict[str, Any] = self.call("GET", "/canvas/")["layout"]["microApps"]
        return apps

    def place(self, **windows: Mapping[str, Any]) -> None:
        """Put these windows, and no others, on the canvas."""
        self.call("PUT", "/canvas/", {"microApps": windows})


def window(kind: str, x: int, y: int, *, level: int = 1, **changes: Any) -> dict[str, Any]:
    """A window as the contract has it."""
    return {
        "type": kind,
        "title": kind.capitalize(),
        "position": {"x": x, "y": y},
        "size": {"width": 320, "height": 240},
        "zIndex": level,
    } | changes


def people(folder: Path, url: str, number: int) -> Iterator[Person]:
    """So many accounts on the site that runs in `folder`, made at once."""
    command = (sys.executable, "manage.py", "create_demo_users", "--prefix", "person")
    options = ("--count", str(number), "--password", PASSWORD, "--json")
    variables = environment(AEVON_DATA_DIR=str(folder))
    subprocess.run([*command, *options], cwd=ROOT, env=variables, check=True, capture_output=True)
    return (Person(url, f"person{each}") for each in range(1, number + 1))


def request(method: str, url: str, body: Any, headers: Mapping[str, str]) -> Any:
    """Sent as JSON; raises for anything but a success."""
    data = None if body is None else json.dumps(body).encode()
    sent = urllib.request.Request(
        url, data, {"Content-Type": "application/json", **headers}, method=method
    )
    with urllib.request.urlopen(sent, timeout=10) as response:
        content = response.read()
    return json.loads(content) if content else None
