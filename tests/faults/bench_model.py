"""Histories that were made up: a site of one user that keeps every promise, and its clients."""

import random
from dataclasses import dataclass, field
from typing import Any, Final

from tests.faults.bench.api import Operation
from tests.faults.bench.check import AtRest
from tests.faults.bench.line import NOBODY
from tests.faults.bench.rules.canvas import Shown

USER: Final = 1
STEP: Final = 10
KINDS: Final = (
    *("psyche", "play", "canvas", "patch", "history", "command", "forget"),
    *("validate", "validate", "login", "logout", "logout_everywhere"),
)
Noted = list[Operation]


@dataclass
class Client:
    """Who does one thing at a time, by a session and in a window of its own."""

    name: str
    sid: str
    free: int = 0  # from when on
    drawn: int = 0
    windows: int = 0
    closing: str = ""

    @property
    def window(self) -> str:
        """The one that it draws in."""
        return f"{self.name}w{self.windows}"


@dataclass
class Site:
    """What is true at a moment: each operation takes effect at one, between beginning and end."""

    versions: dict[str, int] = field(default_factory=dict)
    version: int = 1
    revision: int = 0
    numbers: dict[str, int] = field(default_factory=dict)
    turns: list[tuple[int, str]] = field(default_factory=list)
    seq: int = 0
    ended: set[str] = field(default_factory=set)
    sids: list[str] = field(default_factory=lambda: ["s0", "s1", "s2"])

    def do(self, kind: str, client: Client, unique: int) -> tuple[int, Any, Any]:
        """Its status, what was asked, and what is told."""
        if kind != "login" and client.sid in self.ended:
            return 401, self._refused(kind, client, unique), None
        return getattr(self, f"_{kind}")(client, unique)

    def _refused(self, kind: str, client: Client, unique: int) -> Any:
        client.drawn += kind == "patch"
        asked = {"logout": client.sid, "play": f"k{unique}", "command": f"text {unique}"}
        asked["patch"] = (client.window, client.drawn, client.closing, None)
        return asked.get(kind)

    def _psyche(self, client: Client, unique: int) -> tuple[int, Any, Any]:
        return 200, None, self.version

    def _play(self, client: Client, unique: int) -> tuple[int, Any, Any]:
        self.version += 1
        self.versions[f"k{unique}"] = self.version
        return 200, f"k{unique}", self.version

    def _canvas(self, client: Client, unique: int) -> tuple[int, Any, Any]:
        return 200, None, (self.revision, dict(self.numbers))

    def _patch(self, client: Client, unique: int) -> tuple[int, Any, Any]:
        client.drawn += 1
        self.revision += 1
        self.numbers.pop(client.closing, None)
        self.numbers[client.window] = client.drawn
        asked = (client.window, client.drawn, client.closing, None)
        return 200, asked, (self.revision, dict(self.numbers))

    def _history(self, client: Client, unique: int) -> tuple[int, Any, Any]:
        return 200, None, tuple(self.turns[-5:])

    def _command(self, client: Client, unique: int) -> tuple[int, Any, Any]:
        self.seq += 1
        self.turns.append((self.seq, f"text {unique}"))
        return 200, f"text {unique}", self.seq

    def _forget(self, client: Client, unique: int) -> tuple[int, Any, Any]:
        self.turns.clear()
        return 204, None, None

    def _validate(self, client: Client, unique: int) -> tuple[int, Any, Any]:
        return 204, None, USER

    def _login(self, client: Client, unique: int) -> tuple[int, Any, Any]:
        self.sids.append(f"s{unique + 3}")
        return 200, None, self.sids[-1]

    def _logout(self, client: Client, unique: int) -> tuple[int, Any, Any]:
        self.ended.add(client.sid)
        return 204, client.sid, None

    def _logout_everywhere(self, client: Client, unique: int) -> tuple[int, Any, Any]:
        self.ended |= {*self.sids}
        return 204, None, None

    def at_rest(self) -> AtRest:
        """In the end."""
        shown = {USER: Shown(self.revision, dict(self.numbers))}
        turns = {USER: tuple(self.turns[-5:])}
        return AtRest(dict(self.versions), {USER: self.version}, shown, shown, turns)


def history(rng: random.Random, length: int) -> tuple[Noted, AtRest]:
    """Three clients, one after the other and at once; every tenth answer is lost."""
    site, noted = Site(), Noted()
    clients = [Client(f"c{number}", f"s{number}") for number in range(3)]
    for unique in range(length):
        noted.append(_one(rng, site, rng.choice(clients), (unique + 3) * STEP))
    return sorted(noted, key=lambda each: each.start), site.at_rest()


def _one(rng: random.Random, site: Site, client: Client, moment: int) -> Operation:
    kind = rng.choice([*KINDS, *["login"] * len(KINDS) * (client.sid in site.ended)])
    start = rng.randint(max(client.free + 1, moment - 3 * STEP), moment)
    end = moment + rng.randint(0, STEP - 1)
    client.free = end
    status, asked, told = site.do(kind, client, moment // STEP)
    sid = told if kind == "login" else client.sid
    if is_lost := status < 300 and rng.random() < 0.1:
        status, told = NOBODY, None
        sid = "" if kind == "login" else sid
    if kind == "patch":
        client.closing = client.window if is_lost else "" if status == 200 else client.closing
        client.windows += is_lost
    if kind == "login" and not is_lost:
        client.sid = sid
    return Operation(kind, USER, start, end, status, asked, told, sid=sid)
