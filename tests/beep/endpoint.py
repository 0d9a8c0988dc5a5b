"""An OpenAI-compatible endpoint on this machine, which says what a test tells it to."""

import contextlib
import gzip
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["Handler"], None]


@dataclass
class Asked:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def data(self) -> dict[str, Any]:
        """What the user's message holds."""
        (message,) = [each for each in self.body["messages"] if each["role"] == "user"]
        data: dict[str, Any] = json.loads(message["content"])
        return data


class Handler(BaseHTTPRequestHandler):
    """Notes the request, and answers as its server was told."""

    server: "Endpoint"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(Asked(self.path, dict(self.headers), body))
        # Whoever asked has not always waited.
        with contextlib.suppress(ConnectionError):
            self.server.answer(self)

    def reply(self, content: bytes, status: int = 200) -> None:
        """Send a whole response."""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Endpoint(ThreadingHTTPServer):
    """The server; `released` ends whatever keeps somebody waiting."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[Asked] = []
        self.released = threading.Event()
        self.answer: Answer = silent

    @property
    def url(self) -> str:
        """The base that the settings name."""
        return f"http://127.0.0.1:{self.server_port}/v1"

    def says(self, reply: Any) -> None:
        """From now on the model says this: an object is written as JSON, text as it is."""
        text = reply if isinstance(reply, str) else json.dumps(reply)
        self.answers(json.dumps(completion(text)).encode())

    def answers(self, content: bytes, status: int = 200) -> None:
        """From now on the endpoint sends this."""
        self.answer = lambda handler: handler.reply(content, status)


def completion(text: str) -> dict[str, Any]:
    """OpenAI's wire format of one answer."""
    message = {"role": "assistant", "content": text, "refusal": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1796119200,
        "model": "small",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


def silent(handler: Handler) -> None:
    """Takes the request and never answers."""
    handler.server.released.wait()


def dribbling(handler: Handler) -> None:
    """Never ends, and never lets anybody wait long for the next byte."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not handler.server.released.wait(0.02):
        handler.wfile.write(b"a")


def dripping(handler: Handler) -> None:
    """Begins to answer, and goes on a byte at a time."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while not handler.server.released.wait(0.02):
        handler.wfile.write(b" ")


def zipped(handler: Handler) -> None:
    """Sends what would be a good answer, compressed."""
    content = gzip.compress(json.dumps(completion("{}")).encode())
    handler.send_response(200)
    handler.send_header("Content-Encoding", "gzip")
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


@contextlib.contextmanager
def running() -> Iterator[Endpoint]:
    """An endpoint, for as long as the block lasts."""
    with Endpoint() as endpoint:
        thread = threading.Thread(target=endpoint.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield endpoint
        finally:
            endpoint.released.set()
            endpoint.shutdown()
            thread.join()
