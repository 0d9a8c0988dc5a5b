"""The one page, and the rules that the browser is to hold it to."""

from pathlib import Path
from typing import Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

STATIC: Final = Path(__file__).parent / "static"
# Told to the browser beforehand: it need not find them by reading one after the other.
MODULES: Final = sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*.js"))
# Nothing runs or loads but this site's own files, and no string can become script or markup.
POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-cache",
}


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """The same for everybody: who is there, and what they have, the scripts ask the API."""
    response = render(request, "page/index.html", {"modules": MODULES})
    for name, value in HEADERS.items():
        response[name] = value
    return response
