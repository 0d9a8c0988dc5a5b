"""A collector of traces: it takes OTLP over HTTP, as a real one does, and keeps the spans."""

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass
class Span:
    """What was sent of one."""

    service: str
    trace: str
    id: str
    parent: str
    name: str
    kind: int
    failed: bool
    attributes: dict[str, str] = field(default_factory=dict)


class Collector:
    """`with Collector() as collector:` its `url`, and the `spans` that came.

    `hold()`: from now on nothing is answered, as by one that is overloaded.
    """

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.raw: list[bytes] = []
        self.answering = threading.Event()
        self.answering.set()
        self.asked = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """For `AEVON_OTLP_ENDPOINT`."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def hold(self) -> None:
        """Read what comes, and leave it without an answer."""
        self.asked.clear()
        self.answering.clear()

    def __enter__(self) -> "Collector":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.answering.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.asked.set()
                collector.answering.wait()
                assert self.path == "/v1/traces"
                collector.keep(body)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.end_headers()
                self.wfile.write(ExportTraceServiceResponse().SerializeToString())

            def log_request(self, *_: Any) -> None:
                pass

        return Handler

    def keep(self, body: bytes) -> None:
        """The spans of one message."""
        self.raw.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            facts = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [_span(facts["service.name"], span) for span in scope.spans]


def _span(service: str, span: Any) -> Span:
    return Span(
        service=service,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        name=span.name,
        kind=span.kind,
        failed=span.status.code == 2,
        attributes={each.key: _text(each.value) for each in span.attributes},
    )


def _text(value: Any) -> str:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return ",".join(_text(each) for each in value.array_value.values)
    return str(getattr(value, kind))
