"""Clients of one user who use all four services, and note what they ask for and are told."""

import asyncio
import itertools
import random
import time
from collections import deque
from typing import Any, Final, Protocol

import msgspec

from . import api
from .api import Operation, Request
from .line import Line, Reply

SESSIONS: Final = 2  # of each user, that are kept open
REFRESH_SECONDS: Final = 240.0
ACCESS_SECONDS: Final = 700.0  # access tokens last for 900
WEIGHTS: Final = {
    "validate": 3300,
    "psyche": 2300,
    "canvas": 1500,
    "history": 1300,
    "patch": 800,
    "play": 500,
    "command": 220,
    "refresh": 30,
    "forget": 15,
    "logout": 12,
    "logout_everywhere": 4,
}
PAUSE_SECONDS: Final = 0.25  # after no answer, and after one of 500 and above
# After a login that was refused: of ten in a minute even somebody who is enabled again is told 429.
REFUSED_SECONDS: Final = 1.0
PROBES: Final = 0.02  # of the readings: by a session that has ended
CONDITIONAL: Final = 0.2  # of the patches: by the revision that was seen last


class Account(msgspec.Struct):
    """A user who can log in."""

    user_id: int
    username: str
    password: str
    sessions: list[tuple[str, str, str]]  # id, access token, refresh token


class Journal(Protocol):
    """Who takes the notes."""

    is_over: bool

    def add(self, operation: Operation) -> None:
        """One more."""


class Session:
    """One that a user has, and what is sent with each request of it."""

    def __init__(self, sid: str, access: str, refresh: str) -> None:
        self.sid, self.is_refreshing = sid, False
        self.renew(access, refresh)

    def renew(self, access: str, refresh: str) -> None:
        """New tokens."""
        self.refresh, self._since = refresh, time.monotonic()
        self.header = api.bearer(access)

    @property
    def age_seconds(self) -> float:
        """Of the access token."""
        return time.monotonic() - self._since


class Player:
    """A user, and the sessions that all clients of this user share: one client logs out while
    others are using that very session."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.live = [Session(*each) for each in account.sessions]
        self.ended: deque[Session] = deque(maxlen=4)
        self.logging_in = 0

    def needs_session(self) -> bool:
        """Whether there are too few; those that nobody has refreshed in time are let go."""
        self.live = [each for each in self.live if each.age_seconds < ACCESS_SECONDS]
        return len(self.live) + self.logging_in < SESSIONS

    def end(self, session: Session) -> None:
        """It has ended, or a client was told so."""
        if session in self.live:
            self.live.remove(session)
            self.ended.append(session)

    def let_go(self, session: Session) -> None:
        """Nobody uses it any more."""
        if session in self.live:
            self.live.remove(session)


class Client:
    """One client of a user, one request at a time, with windows of its own on the user's canvas.

    After a patch of which nobody can say whether it has been made, or will be, it closes that
    window and goes on in another: so a window only ever shows higher numbers. A play and a command
    are repeated under their key until they are answered.
    """

    _numbers = itertools.count(1)

    def __init__(
        self, name: str, player: Player, line: Line, journal: Journal, rng: random.Random
    ) -> None:
        self._name, self._player, self._line = name, player, line
        self._journal, self._random = journal, rng
        self._revision = self._drawn = 0
        self._window, self._closed = self._unique(), ""
        self._unanswered = {"play": "", "command": ""}

    def _unique(self) -> str:
        return f"{self._name}n{next(self._numbers)}"

    async def visit(self) -> None:
        """One thing after another."""
        kinds, shares = [*WEIGHTS], [*itertools.accumulate(WEIGHTS.values())]
        while not self._journal.is_over:
            session = await self._session()
            if session is not None:
                await self._do(self._random.choices(kinds, cum_weights=shares)[0], session)
        self._line.close()

    async def _session(self) -> Session | None:
        if self._player.needs_session():
            await self._log_in()
        if self._player.live:
            return self._random.choice(self._player.live)
        await asyncio.sleep(0.05)
        return None

    async def _do(self, kind: str, session: Session) -> None:
        if session.age_seconds > REFRESH_SECONDS and not session.is_refreshing:
            kind = "refresh"
        if kind not in api.READINGS:
            await getattr(self, kind)(session)
            return
        if self._player.ended and self._random.random() < PROBES:
            session = self._random.choice(self._player.ended)
        await self._ask(kind, session, api.READINGS[kind])

    async def _log_in(self) -> None:
        account = self._player.account
        body = {"username": account.username, "password": account.password}
        self._player.logging_in += 1
        reply = await self._ask("login", None, api.request("POST", "auth/token/", body))
        if reply.status != 200:
            await asyncio.sleep(REFUSED_SECONDS)
        self._player.logging_in -= 1

    async def refresh(self, session: Session) -> None:
        """Whoever got no answer lets the session go: its token may have been spent."""
        if session.is_refreshing:
            return
        session.is_refreshing = True
        body = {"refresh": session.refresh}
        asked = api.request("POST", "auth/token/refresh/", body)
        reply = await self._ask("refresh", session, asked)
        session.is_refreshing = False
        if reply.status != 200:
            self._player.let_go(session)

    async def logout(self, session: Session) -> None:
        """Of this session."""
        await self._ask("logout", session, api.LOGOUT, session.sid)

    async def logout_everywhere(self, session: Session) -> None:
        """Of all of the user's."""
        asked = api.request("POST", "auth/logout/", {"everywhere": True})
        await self._ask("logout_everywhere", session, asked)

    async def play(self, session: Session) -> None:
        """One interaction."""
        key = self._unanswered["play"] or self._unique()
        await self._under_key("play", session, api.play(key), key, key)

    async def command(self, session: Session) -> None:
        """One for BEEP, whose text nobody else says."""
        key = self._unanswered["command"] or self._unique()
        text = f"status {key}"
        asked = api.request("POST", "beep/commands/", {"text": text}, Idempotency_Key=key)
        await self._under_key("command", session, asked, key, text)

    async def _under_key(
        self, kind: str, session: Session, asked: Request, key: str, what: str
    ) -> None:
        reply = await self._ask(kind, session, asked, what)
        again = api.is_doubtful(reply.status) or reply.status == 401
        self._unanswered[kind] = key if again else ""

    async def forget(self, session: Session) -> None:
        """All turns."""
        await self._ask("forget", session, api.FORGETTING)

    async def patch(self, session: Session) -> None:
        """This client's window shows the next number; at times only if nobody else has drawn."""
        self._drawn += 1
        headers = {}
        seen = self._revision if self._random.random() < CONDITIONAL else None
        if seen is not None:
            headers["If_Match"] = f'"{seen}"'
        apps: dict[str, Any] = {self._window: api.window(self._drawn)}
        if self._closed:
            apps[self._closed] = None
        body, what = {"microApps": apps}, (self._window, self._drawn, self._closed, seen)
        asked = api.request("PATCH", "canvas/", body, **headers)
        reply = await self._ask("patch", session, asked, what)
        if api.is_doubtful(reply.status):
            self._closed, self._window = self._window, self._unique()
        elif reply.status == 200:
            self._closed = ""

    async def _ask(
        self, kind: str, session: Session | None, asked: Request, what: Any = None
    ) -> Reply:
        operation, reply = await api.ask(
            *(self._line, kind, self._player.account.user_id, asked),
            token=b"" if session is None or kind == "refresh" else session.header,
            asked=what,
            sid=session.sid if session else "",
        )
        if operation.is_acknowledged:
            self._learn(kind, session, operation.told, reply)
        elif reply.status == 401 and session is not None:
            self._player.end(session)
        if session is None:
            operation = operation._replace(sid=operation.told or "")
        self._journal.add(operation)
        if api.is_doubtful(reply.status):
            await asyncio.sleep(PAUSE_SECONDS)
        return reply

    def _learn(self, kind: str, session: Session | None, told: Any, reply: Reply) -> None:
        match kind:
            case "canvas" | "patch":
                self._revision = told[0]
            case "login":
                pair = msgspec.json.decode(reply.body, type=api.Pair)
                self._player.live.append(Session(pair.sid, pair.access, pair.refresh))
            case "refresh" if session is not None:
                pair = msgspec.json.decode(reply.body, type=api.Pair)
                session.renew(pair.access, pair.refresh)
            case "logout" | "logout_everywhere" if session is not None:
                self._player.end(session)
