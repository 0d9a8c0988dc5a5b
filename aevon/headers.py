"""What every answer tells the browser: who may show, embed, sniff or keep it.

A few fixed policies, without nonces: no library is needed for them.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

ALWAYS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    # For what is no page. A page that is missing here shows nothing, which somebody notices.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
_OWN: Final = (
    "default-src 'none'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none';"
    " script-src 'self'"
)
DOCS_PATH: Final = "/api/docs/"
# The digest is that of Swagger UI's one style sheet within the page.
DOCS: Final = (
    f"{_OWN}; style-src 'self' 'sha256-MMpT0iDxyjALd9PdfepImGX3DBfJPXZ4IlDWdPAgtn0=';"
    " img-src 'self' data:; form-action 'none'"
)
# Alpine, which unfold's pages are made with, compiles the expressions in their attributes. The
# digest is that of Celery beat's one script within the page.
ADMIN: Final = (
    f"{_OWN} 'unsafe-eval' 'sha256-QE3U2xYF7B4J2ro1/9oxiKhaWCGW39gB7ocQ/xlD0bE=';"
    " style-src 'self' 'unsafe-inline'; img-src 'self'; font-src 'self'; form-action 'self'"
)


class HeadersMiddleware:
    """Adds what a view has not said itself; the outermost, so that no answer goes without."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        self.policies = {DOCS_PATH: DOCS, f"/{settings.AEVON_ADMIN_PATH}/": ADMIN}

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """The answer, with its headers."""
        response = self.get_response(request)
        for prefix, policy in self.policies.items():
            if request.path_info.startswith(prefix):
                response.headers.setdefault("Content-Security-Policy", policy)
        for name, value in ALWAYS.items():
            response.headers.setdefault(name, value)
        if request.path_info.startswith("/api/v1/"):
            response.headers.setdefault("Cache-Control", "no-store")
        if response.status_code == HTTPStatus.NO_CONTENT:
            # CommonMiddleware has put one there (RFC 9110, 8.6).
            response.headers.pop("Content-Length", None)
        return response
