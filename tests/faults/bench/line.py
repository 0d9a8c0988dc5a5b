"""HTTP/1.1 over a bare socket, for clients that share the machine with the site they load.

A tenth of what aiohttp costs a request, because it knows just what the site answers: bodies with
their length, one request at a time.
"""

import asyncio
import contextlib
import re
from typing import Any, Final, NamedTuple

NOBODY: Final = 0  # the status where no answer came
ANSWER_SECONDS: Final = 60.0  # a machine that is busy otherwise is no fault of the site
# Of a line that nothing is asked on: the web server's own patience is 30.
KEPT_SECONDS: Final = 25.0
# … and of one that much is asked on, so that it is not one worker's for ever.
ASKED_MAX: Final = 100
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


class Reply(NamedTuple):
    """What came back."""

    status: int
    head: bytes
    body: bytes


NO_REPLY: Final = Reply(NOBODY, b"", b"")


class _Socket(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.waiting: asyncio.Future[Reply] | None = None
        self._received = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        self.transport = None
        self._answer(NO_REPLY)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(b"\r\n\r\n") + 4
        if head < 4:
            return
        length = _LENGTH.search(self._received, 0, head)
        end = head + (int(length[1]) if length else 0)
        if len(self._received) >= end:
            reply = Reply(int(self._received[9:12]), self._received[:head], self._received[head:])
            self._received = b""
            self._answer(reply)

    def _answer(self, reply: Reply) -> None:
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(reply)

    def abort(self) -> None:
        """Nobody waits for its answer any more."""
        if self.transport is not None:
            self.transport.abort()


class Line:
    """A connection that is made again when it has broken; each request `ANSWER_SECONDS` at most,
    and never sent twice. Of one loop."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._socket = _Socket()
        self._last, self._asked = 0.0, 0

    async def ask(self, request: bytes) -> Reply:
        """The answer, or `NO_REPLY`."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._last > KEPT_SECONDS or self._asked >= ASKED_MAX:
            self.close()
        if self._socket.transport is None:
            await self._connect()
        socket, self._last = self._socket, loop.time()
        self._asked += 1
        if socket.transport is None:
            return NO_REPLY
        socket.waiting = loop.create_future()
        too_late = loop.call_later(ANSWER_SECONDS, socket.abort)
        socket.transport.write(request)
        try:
            return await socket.waiting
        finally:
            too_late.cancel()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            _, self._socket = await loop.create_connection(_Socket, self._host, self._port)

    def close(self) -> None:
        """End the connection."""
        self._socket.abort()
        self._socket, self._asked = _Socket(), 0


class Lines:
    """As many lines as are asked at once, kept."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._idle: list[Line] = []

    async def ask(self, request: bytes) -> Reply:
        """By one that is idle."""
        line = self._idle.pop() if self._idle else Line(self._host, self._port)
        try:
            return await line.ask(request)
        finally:
            self._idle.append(line)

    def close(self) -> None:
        """End all connections."""
        for line in self._idle:
            line.close()
