"""What a request is called where it is told: never by what a client wrote into it."""

from typing import Final

from django.conf import settings
from django.http import HttpRequest
from django.urls import Resolver404, resolve

METHODS: Final = frozenset(
    ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
)
LIVE: Final = "/health/live"
READY: Final = "/health/ready"
METRICS: Final = "/metrics"
# They come every few seconds and say nothing.
PROBES: Final = (LIVE, READY, METRICS)


def method(request: HttpRequest) -> str:
    """The method; one that nobody knows may be any text."""
    return request.method if request.method in METHODS else "other"


def route(request: HttpRequest) -> str:
    """The template of the path: the path itself has ids in it, or what somebody pasted there."""
    static = settings.STATIC_URL.strip("/")
    if request.path_info in PROBES:
        return request.path_info.strip("/")
    if request.path_info.startswith(f"/{static}/"):
        return f"{static}/<path>"
    try:
        match = request.resolver_match or resolve(request.path_info)
    except Resolver404:
        return "none"
    return str(match.route) or "/"
