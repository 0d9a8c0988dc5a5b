"""Liveness and readiness: plain views, open to probes, that tell no address or secret."""

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import psycopg
from django.db import Error as DjangoDatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from kombu.exceptions import OperationalError as BrokerError

from aevon.cache import CacheError, processes
from aevon.cache.connection import store
from aevon.celery import app
from aevon.deadline import Call, Overdue, started
from aevon.postgresql import watch
from aevon.telemetry.outages import DRAGONFLY, over
from aevon.telemetry.routes import LIVE, READY
from canvas import services as canvas

# PostgreSQL decides, so it is given time. The others must not make a probe that gives up after a
# second, as Kubernetes' do, take their outage for one of this process.
DEADLINE_SECONDS: Final = 2.5
DEGRADED_AFTER_SECONDS: Final = 0.8
BROKER_CONNECT_SECONDS: Final = 1
NEEDED: Final = "postgresql"
# They say through the cache that they work; what nobody can read says nothing of them.
REPORTED: Final = ("beat", "worker")
LATE_SECONDS: Final = 60.0
# The pool raises the driver's own errors, unwrapped.
AWAY: Final = (
    DjangoDatabaseError, psycopg.Error, CacheError, BrokerError, OSError, Overdue,
)  # fmt: skip


logger = logging.getLogger(__name__)


def probe_view(view: Callable[[HttpRequest], HttpResponse]) -> Callable[..., Any]:
    """A view for GET and HEAD, 405 for others, that nobody may answer from memory."""
    return never_cache(require_safe(view))


class ProbesMiddleware:
    """Answers probes before anything else looks at the request.

    They come from inside, by address and without TLS: neither the Host header nor the scheme is
    what the site's own visitors send.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """The probe's answer, or that of the site."""
        view: Callable[..., HttpResponseBase] = PROBES.get(request.path_info, self.get_response)
        return view(request)


@probe_view
def live(request: HttpRequest) -> HttpResponse:  # noqa: ARG001  a view's shape
    """The process answers. Asks no server: restarting it would not bring one back."""
    return JsonResponse({"status": "ok"})


@probe_view
def ready(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    """What each dependency does, in at most 2.5 s: `ok`, `degraded` or `down`.

    503 without PostgreSQL, which everything needs. Without the cache, the broker, Celery's beat or
    a worker it is 200 and `degraded`: requests are served, slower, and background work waits. So it
    is while a canvas has been unsaved for more than two periods: the flush does not keep up, or
    does not run. Beat and workers report through the cache: without it they are `unknown`.
    """
    found = _found()
    away = {name for name, entry in found.items() if entry["status"] != "ok"}
    status = "down" if NEEDED in away else "degraded" if away else "ok"
    body = {"status": status, "canvas": found.pop("canvas"), "dependencies": found}
    return JsonResponse(body, status=503 if status == "down" else 200)


def _found() -> dict[str, dict[str, Any]]:
    probes: dict[str, Callable[[], dict[str, Any]]] = {
        NEEDED: ask_postgresql,
        "dragonfly": ask_dragonfly,
        "broker": ask_broker,
        **{role: partial(_ask_for_work, role) for role in REPORTED},
        "canvas": _ask_for_unsaved,
    }
    # All at once, so that the slowest counts and not their sum.
    calls = {name: started(f"ready:{name}", _timed(probe)) for name, probe in probes.items()}
    needed_by = time.monotonic() + DEADLINE_SECONDS
    others_by = time.monotonic() + DEGRADED_AFTER_SECONDS
    return {
        name: _entry(name, call, needed_by if name == NEEDED else others_by)
        for name, call in calls.items()
    }


def _timed(probe: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    def run() -> dict[str, Any]:
        start = time.perf_counter()
        found = probe()
        latency_ms = round((time.perf_counter() - start) * 1000, 2)
        return {"status": "ok", "latencyMs": latency_ms, **found}

    return run


def _entry(name: str, call: Call, deadline: float) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        entry: dict[str, Any] = call.result(max(0.0, deadline - time.monotonic()))
    except AWAY as error:
        # The error's own text may name hosts and users.
        outage = DRAGONFLY if isinstance(error, CacheError) else name
        logger.warning("%s is away (%s)", name, type(error).__name__, extra={"outage": outage})
        waited_ms = round((time.perf_counter() - start) * 1000, 2)
        return {"status": "unknown" if name in REPORTED else "down", "latencyMs": waited_ms}
    # A server may answer this and be of no use: the breaker says when the cache is back.
    if name != DRAGONFLY or store().breaker.state == "closed":
        over(name)
    return entry


def ask_postgresql() -> dict[str, Any]:
    """A connection of its own: a busy pool is no outage, and a broken one no delay."""
    watch.ask()
    return {}


def ask_dragonfly() -> dict[str, Any]:
    """Through the breaker, as requests see it. PING fails while the server loads, INFO does not."""
    _, info = store().pipeline([("PING",), ("INFO", "server")], idempotent=True)
    dragonfly = info.get("dragonfly_version")
    return {"server": f"Dragonfly {dragonfly}" if dragonfly else f"Redis {info['redis_version']}"}


def ask_broker() -> dict[str, Any]:
    with app.connection_for_write(connect_timeout=BROKER_CONNECT_SECONDS) as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=DEADLINE_SECONDS)
    return {}


def _ask_for_work(role: str) -> dict[str, Any]:
    """`late`: there are such processes, and none of them has done anything for a minute."""
    there = [each for each in processes.processes() if each.role == role]
    if not there:
        return {"status": "down", "processes": 0}
    seconds_ago = time.time() - max(each.worked_at or each.started_at for each in there)
    told = {"processes": len(there), "secondsAgo": round(max(0.0, seconds_ago), 1)}
    return told if seconds_ago < LATE_SECONDS else {**told, "status": "late"}


def _ask_for_unsaved() -> dict[str, Any]:
    exposure = canvas.unsaved()
    age = exposure.oldest_seconds()
    shown = {"unsaved": exposure.unsaved, "oldestSeconds": age, "refused": exposure.refused}
    return {"status": "degraded", **shown} if canvas.is_late(age) else shown


PROBES: Final[dict[str, Callable[..., HttpResponseBase]]] = {
    LIVE: live,
    READY: ready,
}
