"""A TCP proxy in a process of its own: it delays, swallows, refuses, cuts, resets and holds.

In a process of its own because the load of a test would otherwise wait for it, and it for the load.
It is told what to do by lines of JSON on stdin, and answers each with what it counts.
"""

import asyncio
import contextlib
import json
import random
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER of no time: close() sends RST


class _Line:
    """The proxy itself, in its process."""

    def __init__(self, to: int) -> None:
        self.to = to
        self.delay = (0.0, 0.0)
        self.swallow = self.refuse = False
        self.cut = 0.0
        self.hold = b""
        self.counts = {"accepted": 0, "cut": 0, "held": 0, "holding": 0}
        self._released = asyncio.Event()
        self._open: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client."""
        self.counts["accepted"] += 1
        if self.refuse:
            _reset(writer)
            return
        try:
            upstream, outward = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:
            _reset(writer)
            return
        self._open |= {writer, outward}
        try:
            await asyncio.gather(self._requests(reader, outward), self._replies(upstream, writer))
        finally:
            self._open -= {writer, outward}
            for each in (writer, outward):
                each.close()

    async def _requests(self, reader: asyncio.StreamReader, outward: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if self.hold and self.hold in data:
                    await self._held()
                if not self.swallow:
                    outward.write(data)
                    await outward.drain()
        outward.close()

    async def _held(self) -> None:
        self.counts["held"] += 1
        self.counts["holding"] += 1
        await self._released.wait()
        self.counts["holding"] -= 1

    async def _replies(self, upstream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await upstream.read(65_536):
                if self.cut and random.random() < self.cut:
                    self.counts["cut"] += 1
                    writer.write(data[: len(data) // 2])
                    await writer.drain()
                    _reset(writer)
                    return
                if self.delay[1]:
                    await asyncio.sleep(random.uniform(*self.delay))
                if not self.swallow:
                    writer.write(data)
                    await writer.drain()
        writer.close()

    def told(self, order: dict[str, Any]) -> None:
        """Do what a line of stdin says."""
        if order.pop("release", False):
            self.hold = b""
            self._released.set()
        if order.pop("reset", False):
            for writer in [*self._open]:
                _reset(writer)
        if "hold" in order:
            self.hold = order.pop("hold").encode("latin-1")
            self._released = asyncio.Event()
        for name, value in order.items():
            setattr(self, name, value)


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


async def _main(to: int) -> None:
    line = _Line(to)
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0, backlog=512)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while order := await orders.readline():
        line.told(json.loads(order))
        print(json.dumps(line.counts), flush=True)


class Proxy:
    """`with Proxy(port) as proxy:` whoever connects to `proxy.port` reaches `port`.

    `set(delay=(low, high))` keeps each reply back for so many seconds; `swallow=True` takes what
    either side sends and forwards nothing, as a link that is half open; `refuse=True` resets new
    connections; `cut=0.01` sends half of each hundredth reply, then resets; `to=port` is for new
    connections. `hold="text"` keeps back what a client sends and has this text in it, until
    `release()`. `reset()` ends every connection.
    """

    def __init__(self, to: int) -> None:
        self._to = to

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__)), str(self._to)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.port: int = self._answer()["port"]
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.__exit__(None, None, None)

    def _answer(self) -> dict[str, int]:
        assert self._process.stdout is not None
        answer: dict[str, int] = json.loads(self._process.stdout.readline())
        return answer

    def set(self, **order: Any) -> dict[str, int]:
        """Change what it does from now on; what it has counted: connections `accepted`, replies
        `cut`, requests `held` in all and `holding` now."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def counts(self) -> dict[str, int]:
        """What it has counted."""
        return self.set()

    def release(self) -> None:
        """What is held goes on, and nothing is held any more."""
        self.set(release=True)

    def reset(self) -> None:
        """Every connection is reset."""
        self.set(reset=True)

    @contextlib.contextmanager
    def doing(self, **order: Any) -> Iterator[None]:
        """For a while."""
        before = {"delay": (0, 0), "swallow": False, "refuse": False, "cut": 0.0, "hold": ""}
        self.set(**order)
        try:
            yield
        finally:
            self.set(**{name: before[name] for name in order})


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
