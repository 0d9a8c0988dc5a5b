"""What the API is asked, and what its answers tell; for clients who know nothing of Django."""

import re
import time
import zlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from .line import NOBODY, Reply

SLUG: Final = "sisyphus-ascent"
PLAY: Final = {"instrument": SLUG, "stake": 1}


class Request(NamedTuple):
    """What is sent: the token goes in between."""

    head: bytes
    rest: bytes = b"\r\n"


def request(method: str, path: str, body: Any = None, **headers: str) -> Request:
    """A request of the API, as a proxy passes it on; underscores in the names of headers are
    hyphens."""
    headers = {"Host": "127.0.0.1", "X-Forwarded-Proto": "https", **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"{method} /api/v1/{path} HTTP/1.1", *lines, ""]).encode()
    if body is None:
        return Request(head)
    content = msgspec.json.encode(body)
    more = f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    return Request(head, more + content)


READINGS: Final = {
    "validate": request("GET", "auth/validate/"),
    "psyche": request("GET", "klepsydra/psyche/"),
    "canvas": request("GET", "canvas/"),
    "history": request("GET", "beep/history/"),
}
FORGETTING: Final = request("DELETE", "beep/history/")
LOGOUT: Final = request("POST", "auth/logout/", {})


def play(key: str) -> Request:
    """One interaction."""
    return request("POST", "klepsydra/interactions/", PLAY, Idempotency_Key=key)


def window(number: int) -> dict[str, Any]:
    """A micro-app that shows a number."""
    return {
        "type": "note",
        "title": str(number),
        "position": {"x": number % 1000, "y": 0},
        "size": {"width": 320, "height": 200},
        "zIndex": 1,
    }


def bearer(access: str) -> bytes:
    """The header of a token."""
    return f"Authorization: Bearer {access}\r\n".encode()


# --- what was asked, and told ------------------------------------------------------------------


class Operation(NamedTuple):
    """One request. Times are nanoseconds by CLOCK_MONOTONIC; `status` is `NOBODY` where no answer
    came; `asked` and `told` are what the kind says, `told` None but for an answer of success.

    | kind | asked | told |
    |---|---|---|
    | validate | sid | user id |
    | psyche | | version |
    | play | idempotency key | version |
    | canvas | | revision, {app: number} |
    | patch | app, number, app that was closed, revision of If-Match | revision, {app: number} |
    | command | text | seq |
    | history | | [(seq, text), …], oldest first |
    | forget | | |
    | login | | sid |
    | logout | sid | |

    `foreign`: the answer was another user's. `sid`: the session that asked. `away`: the answer says
    that the cache is. `content`: of the state that was shown, equal for equal ones.
    """

    kind: str
    user: int
    start: int
    end: int
    status: int
    asked: Any = None
    told: Any = None
    foreign: bool = False
    sid: str = ""
    away: bool = False
    content: int = 0

    @property
    def is_acknowledged(self) -> bool:
        """Whether it was answered with success."""
        return 200 <= self.status < 300

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end - self.start) / 1e9


class Answerer(Protocol):
    """Who sends bytes and gives the answer: a line, or several."""

    async def ask(self, request: bytes) -> Reply:
        """The answer, or `NO_REPLY`."""


async def ask(
    line: Answerer,
    kind: str,
    user: int,
    what: Request,
    *,
    token: bytes = b"",
    asked: Any = None,
    sid: str = "",
) -> tuple[Operation, Reply]:
    """A request of that kind by a user, noted, and its answer as it came."""
    start = time.monotonic_ns()
    reply = await line.ask(what.head + token + what.rest)
    end = time.monotonic_ns()
    told = _TOLD[kind](reply) if 200 <= reply.status < 300 else _NOTHING
    foreign, away = told.whose not in (None, user), b"detail=away" in reply.head
    operation = Operation(
        *(kind, user, start, end, reply.status, asked, told.value, foreign),
        *(sid, away, told.content),
    )
    return operation, reply


def is_doubtful(status: int) -> bool:
    """Whether nobody knows if it has been done."""
    return status == NOBODY or status >= 500


class Pair(msgspec.Struct):
    """The tokens of a session; `sid` when it was opened."""

    access: str
    refresh: str
    sid: str = ""


class _Told(NamedTuple):
    value: Any = None
    whose: int | None = None
    content: int = 0


_NOTHING: Final = _Told()


class _App(msgspec.Struct):
    title: str


class _Layout(msgspec.Struct, rename="camel"):
    micro_apps: dict[str, _App]


class _Canvas(msgspec.Struct, rename="camel"):
    user_id: int
    revision: int
    layout: _Layout


class _Psyche(msgspec.Struct, rename="camel"):
    user_id: int
    version: int


class _Played(msgspec.Struct):
    psyche: msgspec.Raw


class _Turn(msgspec.Struct):
    seq: int
    command: str


class _Turns(msgspec.Struct):
    turns: list[_Turn]


class _Answer(msgspec.Struct):
    seq: int


_WHOSE: Final = re.compile(rb"\r\nx-user-id: *([0-9]+)", re.IGNORECASE)


def _validated(reply: Reply) -> _Told:
    found = _WHOSE.search(reply.head)
    user_id = int(found[1]) if found else 0
    return _Told(user_id, user_id)


def numbers(layout: dict[str, Any]) -> dict[str, int]:
    """What the windows of clients show, by their names."""
    return _numbers(msgspec.convert(layout, _Layout))


def _numbers(layout: _Layout) -> dict[str, int]:
    apps = layout.micro_apps.items()
    return {name: int(app.title) for name, app in apps if app.title.isdecimal()}


def _shown(reply: Reply) -> _Told:
    body = msgspec.json.decode(reply.body, type=_Canvas)
    return _Told((body.revision, _numbers(body.layout)), body.user_id)


def _state(content: bytes) -> _Told:
    body = msgspec.json.decode(content, type=_Psyche)
    return _Told(body.version, body.user_id, zlib.crc32(content))


def _played(reply: Reply) -> _Told:
    return _state(bytes(msgspec.json.decode(reply.body, type=_Played).psyche))


def _turns(reply: Reply) -> _Told:
    turns = msgspec.json.decode(reply.body, type=_Turns).turns
    return _Told([(turn.seq, turn.command) for turn in turns])


_TOLD: Final[dict[str, Callable[[Reply], _Told]]] = {
    "validate": _validated,
    "psyche": lambda reply: _state(reply.body),
    "canvas": _shown,
    "history": _turns,
    "patch": _shown,
    "play": _played,
    "command": lambda reply: _Told(msgspec.json.decode(reply.body, type=_Answer).seq),
    "login": lambda reply: _Told(msgspec.json.decode(reply.body, type=Pair).sid),
    **dict.fromkeys(("refresh", "forget", "logout", "logout_everywhere"), lambda _: _NOTHING),
}
