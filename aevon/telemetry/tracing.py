"""Traces: what a request or a task waited for, sent to an OpenTelemetry collector (OTLP/HTTP).

Imported only where `AEVON_OTLP_ENDPOINT` is set. The spans are made here and not by OpenTelemetry's
instrumentations, which tell too much: the one of Django notes the query string (and refuses probes,
which come by address), those of psycopg and Celery note an error's own words, in which PostgreSQL
tells rows; that of redis does not see how the connection manager sends. A span here has names and
numbers: no parameter, no key of a user, no header, no text of an error.

Spans are sent by a thread of their own; a collector that is away or slow costs spans and no time.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from celery import signals
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db.backends.signals import connection_created
from django.http import HttpRequest, HttpResponseBase

try:
    from opentelemetry import context as contexts
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise ImproperlyConfigured(
        "AEVON_OTLP_ENDPOINT is set and OpenTelemetry is missing:"
        f" pip install -r requirements-tracing.txt ({error})."
    ) from error

from aevon.cache import connection as cache
from aevon.telemetry import logs, outages
from aevon.telemetry.routes import PROBES, method, route

SHOWN_CHARACTERS: Final = 2000

_propagator: Final = TraceContextTextMapPropagator()
_tasks: Final[dict[str, tuple[trace.Span, Any]]] = {}


class _Exporter(OTLPSpanExporter):
    """Says when the collector is back; that it is away the library says, more than once."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        if result is SpanExportResult.SUCCESS:
            outages.over(outages.COLLECTOR)
        return result


def _provider() -> TracerProvider:
    """With what the OTEL_* variables say: service name, sampler, headers, time-outs, limits."""
    resource = Resource.create()
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "aevon"}))
    url = settings.AEVON_OTLP_ENDPOINT.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ImproperlyConfigured("AEVON_OTLP_ENDPOINT must begin with http:// or https://.")
    endpoint = url if url.endswith("/v1/traces") else f"{url}/v1/traces"
    os.environ.setdefault("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "5")
    # What is unsent when a process ends is lost: sending it could wait for half a minute.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_Exporter(endpoint=endpoint)))
    return provider


provider: Final = _provider()
tracer: Final = trace.get_tracer("aevon", tracer_provider=provider)


# --- Requests -------------------------------------------------------------------------------


class TracingMiddleware:
    """One span per request, named by its route; a part of the caller's trace, if it says so."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """The answer."""
        if request.path_info in PROBES:
            return self.get_response(request)
        with tracer.start_as_current_span(
            method(request),
            _from_headers(request),
            kind=trace.SpanKind.SERVER,
            attributes={"http.request.method": method(request)},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            logs.know(traceId=trace.format_trace_id(span.get_span_context().trace_id))
            response = self.get_response(request)
            _finish(span, request, response)
            return response


def _from_headers(request: HttpRequest) -> contexts.Context:
    names = ("traceparent", "tracestate")
    return _extracted({name: request.META.get(f"HTTP_{name.upper()}") for name in names})


def _extracted(headers: dict[str, Any]) -> contexts.Context:
    told = {name: value for name, value in headers.items() if isinstance(value, str)}
    return _propagator.extract(told, context=contexts.Context())


def _finish(span: trace.Span, request: HttpRequest, response: HttpResponseBase) -> None:
    if not span.is_recording():
        return
    template = route(request)
    span.update_name(f"{method(request)} {template}")
    span.set_attribute("http.route", template)
    span.set_attribute("http.response.status_code", response.status_code)
    if request_id := logs.known("requestId"):
        span.set_attribute("aevon.request_id", request_id)
    if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        span.set_status(trace.StatusCode.ERROR)


# --- The cache ------------------------------------------------------------------------------


def _round_trip(send: Callable[..., Any]) -> Callable[..., Any]:
    """A span around what sends commands to the cache: one round trip."""

    def sent(store: Any, commands: Sequence[cache.Command], *how: Any, **options: Any) -> Any:
        call = partial(send, store, commands, *how, **options)
        if not trace.get_current_span().is_recording():
            return call()  # a loop of the listener's, or not sampled
        names = [_name(command) for command in commands]
        operation = names[0] if len(names) == 1 else "PIPELINE"
        attributes = {
            "db.system.name": "redis",
            "db.operation.name": operation,
            "db.operation.batch.size": len(names),
            "aevon.cache.commands": _distinct(names),
            "aevon.cache.keyspaces": _distinct(_keyspace(command) for command in commands),
        }
        return _timed(operation, attributes, call)

    return sent


def _timed(name: str, attributes: dict[str, Any], call: Callable[..., Any], *args: Any) -> Any:
    """The call in a span, which tells an error's type and nothing that it says."""
    with tracer.start_as_current_span(
        name,
        kind=trace.SpanKind.CLIENT,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            return call(*args)
        except Exception as error:
            _failed(span, error)
            raise


def _failed(span: trace.Span, error: BaseException) -> None:
    span.set_attribute("error.type", type(error).__qualname__)
    span.set_status(trace.StatusCode.ERROR)


def _name(command: cache.Command) -> str:
    """A script's own name, or the command's."""
    if isinstance(command, cache.ScriptCall):
        return f"EVALSHA {command.script.name}"
    return str(command[0])


def _keyspace(command: cache.Command) -> str:
    """A key without what is behind the last colon: a user, a name, an address."""
    key = command.key if isinstance(command, cache.ScriptCall) else command[1:2]
    text = key if isinstance(key, str) else str(key[0]) if key else ""
    return text.rpartition(":")[0]


def _distinct(texts: Any) -> list[str]:
    return sorted({text for text in texts if text})


# --- PostgreSQL -----------------------------------------------------------------------------


def _statement(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
    """Django's hook around each statement; the parameters are not looked at."""
    if not trace.get_current_span().is_recording():
        return execute(sql, params, many, context)
    # What psycopg composed has its values in it.
    text = " ".join(sql.split()) if isinstance(sql, str) else ""
    operation = (text.split(" ", 1)[0] or "SQL").upper()
    attributes = {
        "db.system.name": "postgresql",
        "db.operation.name": operation,
        "db.query.text": text[:SHOWN_CHARACTERS],
    }
    return _timed(operation, attributes, execute, sql, params, many, context)


def _watch(connection: Any, **_: Any) -> None:
    if _statement not in connection.execute_wrappers:
        connection.execute_wrappers.append(_statement)


# --- Celery ---------------------------------------------------------------------------------


def _sent(sender: str, headers: dict[str, Any] | None = None, **_: Any) -> None:
    """A span of no length where the message leaves; the task's own is its child."""
    if headers is None:
        return
    with tracer.start_as_current_span(f"publish {sender}", kind=trace.SpanKind.PRODUCER):
        _propagator.inject(headers)


def _begins(task_id: str, task: Any, **_: Any) -> None:
    told = {name: task.request.get(name) for name in ("traceparent", "tracestate")}
    span = tracer.start_span(
        task.name,
        _extracted(told),
        kind=trace.SpanKind.CONSUMER,
        attributes={"messaging.system": "celery", "messaging.message.id": task_id},
    )
    _tasks[task_id] = span, contexts.attach(trace.set_span_in_context(span))
    logs.know(traceId=trace.format_trace_id(span.get_span_context().trace_id))


def _task_failed(task_id: str, exception: BaseException, **_: Any) -> None:
    if task_id in _tasks:
        _failed(_tasks[task_id][0], exception)


def _ended(task_id: str, **_: Any) -> None:
    if task_id in _tasks:
        span, token = _tasks.pop(task_id)
        contexts.detach(token)
        span.end()


cache.around_round_trips(_round_trip)
connection_created.connect(_watch)
signals.before_task_publish.connect(_sent)
signals.task_prerun.connect(_begins)
signals.task_failure.connect(_task_failed)
signals.task_postrun.connect(_ended)
