"""`/metrics` in Prometheus' text format: what was counted, and what is the case now.

Open to probes as those of `health.py` are, and answered in time whatever is away: what cannot be
asked has no series then, because no number is better than a wrong one.
"""

import contextlib
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from aevon import __version__, health
from aevon.cache import outbox, processes, shared_metrics
from aevon.cache.connection import store
from aevon.deadline import started
from aevon.telemetry import routes
from auth_sessions import selectors as sessions
from canvas import services as canvas

SESSIONS_COUNTED_TO: Final = 100_000
OTHER: Final = "other"

REQUESTS = Histogram(
    "aevon_http_request_seconds",
    "Requests by method, route (the template, never the path; admin: all of its pages; other: no "
    "view, as for a static file) and class of status. Probes are not counted.",
    ["method", "route", "status"],
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.75, 2.5, 10),
)


class MetricsMiddleware:
    """Answers `/metrics`, and measures all other requests."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """The metrics, or the site's response."""
        if request.path_info == routes.METRICS:
            answer: HttpResponse = metrics(request)
            return answer
        began = time.perf_counter()
        response = self.get_response(request)
        labels = (routes.method(request), _route(request), f"{response.status_code // 100}xx")
        REQUESTS.labels(*labels).observe(time.perf_counter() - began)
        return response


def _route(request: HttpRequest) -> str:
    """Nobody learns from it where the admin is."""
    match = request.resolver_match
    if match is None or match.route is None:
        return OTHER
    is_admin = match.route.startswith(f"{settings.AEVON_ADMIN_PATH}/")
    return "admin" if is_admin else f"/{match.route}"


@health.probe_view
def metrics(request: HttpRequest) -> HttpResponse:  # noqa: ARG001  a view's shape
    """Everything, of all processes that share PROMETHEUS_MULTIPROC_DIR."""
    registry = CollectorRegistry()
    registry.register(Everything())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class Everything:
    """The counters and the gauges of one scrape."""

    def collect(self) -> Iterable[Metric]:
        """All of them, as Prometheus' registry asks."""
        store()  # its breaker has a state before it is first asked
        yield from shared_metrics.collected()
        yield _build()
        yield from _asked()


def _build() -> Metric:
    labels = {"version": __version__, "python": platform.python_version()}
    labels["django"] = django.get_version()
    build = GaugeMetricFamily("aevon_build_info", "What runs here; always 1.", labels=[*labels])
    build.add_metric([*labels.values()], 1)
    return build


def _asked() -> Iterable[Metric]:
    """What must be asked for, as far as it answers in time."""
    calls = [started(f"metrics:{ask.__name__}", ask) for ask in ASKED]
    probes = {name: started(f"metrics:{name}", ask) for name, ask in DEPENDENCIES.items()}
    deadline = time.monotonic() + health.DEADLINE_SECONDS

    def left() -> float:
        return max(0.0, deadline - time.monotonic())

    up = {}
    for name, probe in probes.items():
        up[name] = 0
        with contextlib.suppress(*health.AWAY):
            probe.result(left())
            up[name] = 1
    text = "Whether a server that this site needs answers (postgresql, dragonfly, broker)."
    yield _by("dependency", up, "aevon_dependency_up", text)
    for call in calls:
        with contextlib.suppress(*health.AWAY):
            yield from call.result(left())


def _gauge(name: str, value: float, text: str) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _by(label: str, values: Mapping[str, float], name: str, text: str) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _of_the_outbox() -> list[Metric]:
    name, waiting = "aevon_cache_outbox", outbox.backlog()
    return [
        _gauge(f"{name}_depth", waiting.entries, "Entries that wait to be looked at."),
        _gauge(f"{name}_oldest_seconds", waiting.oldest_seconds, "For how long the first."),
    ]


def _of_sessions() -> list[Metric]:
    """By an index, and no more than so many: a scrape must not become a burden."""
    live = sessions.live_count(at_most=SESSIONS_COUNTED_TO)
    text = f"Sessions that have not ended; of the first {SESSIONS_COUNTED_TO} looked at."
    return [_gauge("aevon_sessions_live", live, text)]


def _of_the_server() -> list[Metric]:
    told = store().info()
    used, limit = int(told["used_memory"]), int(told.get("maxmemory") or 0)
    gauges = [
        _gauge("aevon_cache_memory_bytes", used, "Memory that the cache server uses."),
        _gauge("aevon_cache_clients", int(told["connected_clients"]), "Connections that it has."),
    ]
    text = "Memory that it may use; missing where there is no limit."
    return [*gauges, _gauge("aevon_cache_memory_limit_bytes", limit, text)] if limit else gauges


def _of_processes() -> list[Metric]:
    now, there = time.time(), processes.processes()
    heard_of = [each for each in there if now - each.seen_at <= processes.SILENT_SECONDS]
    counts = {
        role: sum(each.role == role for each in heard_of) for role in map(str, processes.ROLES)
    }
    worked: dict[str, float] = {each.role: 0.0 for each in there}
    for each in there:
        worked[each.role] = max(worked[each.role], each.worked_at or each.started_at)
    name = "aevon_processes"
    text = "Processes heard of in the last half minute, by role (web, worker, beat, listener)."
    late = "When one of the role last did what it is there for, or was started, in Unix time."
    worked.pop("web", None)  # only answers requests
    return [
        _by("role", counts, name, text),
        _by("role", worked, f"{name}_last_worked_timestamp_seconds", late),
    ]


def _of_canvases() -> list[Metric]:
    exposure, last = canvas.unsaved(), canvas.last_flush()
    name, period = "aevon_canvas", settings.CANVAS_PERSIST_SECONDS
    gauges = [
        _gauge(f"{name}_unsaved", exposure.unsaved, "Canvases that are not yet in PostgreSQL."),
        _gauge(
            f"{name}_oldest_unsaved_seconds",
            exposure.oldest_seconds() or 0,
            "For how long the first of them.",
        ),
        _gauge(f"{name}_refused", exposure.refused, "Of them: PostgreSQL does not take these."),
        _gauge(f"{name}_persist_period_seconds", period, "The period of the flush."),
    ]
    if last is None:
        return gauges
    began, failures = last.began, last.counts["refused"] + last.counts["lost"] + last.failed
    name += "_last_flush"
    return [
        *gauges,
        _gauge(f"{name}_timestamp_seconds", began, "When the last flush began, in Unix time."),
        _gauge(f"{name}_seconds", last.ended - began, "How long it took."),
        _gauge(f"{name}_rows", last.counts["persisted"], "How many canvases it persisted."),
        _gauge(
            f"{name}_failures",
            failures,
            "Canvases refused by PostgreSQL or lost by the cache, and parts ended by an outage.",
        ),
    ]


ASKED: Final[tuple[Callable[[], list[Metric]], ...]] = (
    _of_the_outbox,
    _of_sessions,
    _of_the_server,
    _of_processes,
    _of_canvases,
)
DEPENDENCIES: Final[dict[str, Callable[[], Any]]] = {
    "postgresql": health.ask_postgresql,
    "dragonfly": health.ask_dragonfly,
    "broker": health.ask_broker,
}
