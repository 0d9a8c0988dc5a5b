"""`validate/`: what an API gateway asks on every request (docs/gateway.md)."""

from typing import Any, Final
from urllib.parse import quote, unquote

from django.core.exceptions import TooManyFieldsSent
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.views.decorators.csrf import csrf_exempt
from rest_framework import status
from rest_framework.exceptions import (
    APIException,
    AuthenticationFailed,
    ParseError,
    PermissionDenied,
)

from aevon.api.problems import CONTENT_TYPE, from_exception
from auth_sessions.authentication import BEARER, Principal, authenticate
from auth_sessions.models import SovereigntyClass

# As the documentation has it.
_NAME: Final = r"[A-Za-z0-9_]+\.[A-Za-z0-9_.%~-]+"


@csrf_exempt
def validate(request: HttpRequest) -> HttpResponseBase:
    """For an API gateway: 204 with the caller in headers, 401, or 403 where the route asks for more
    (`require`). With `?ok=200` it is 200 in place of 204: Envoy takes nothing else for a yes.

    Any method, because some gateways keep that of the request they ask about. A plain view: a
    gateway asks on every request, and REST framework would be most of the cost.
    """
    try:
        principal = authenticate(request)
        if principal is None:
            raise AuthenticationFailed("No bearer token.")
        require(request, principal)
    except APIException as refusal:
        return _refused(refusal)
    response = HttpResponse(status=200 if _values(request, "ok") == ["200"] else 204)
    response["X-User-Id"] = str(principal.pk)
    response["X-Session-Id"] = principal.sid
    response["X-Sovereignty-Class"] = principal.sovereignty_class
    # A codename is free text: what a header cannot hold is percent-encoded.
    names = sorted(principal.permissions)
    response["X-Permissions"] = ",".join(quote(name, safe=".") for name in names)
    response["Cache-Control"] = "no-store"
    return response


def require(request: HttpRequest, principal: Principal) -> None:
    """Hold the caller to what the route asks for, in the query or in headers: `?class=SOVEREIGN` or
    `X-Require-Class` (that class or a higher one), `?permission=canvas.change_canvas` or
    `X-Require-Permission` (by commas or repeated, all of them, spelled as in `X-Permissions`).

    Raises `PermissionDenied`; `ParseError` for what no caller could meet, a slip of the gateway's.
    """
    for needed in _asked(request, "class", "HTTP_X_REQUIRE_CLASS"):
        if needed not in SovereigntyClass.values:
            raise ParseError(f"class: one of {', '.join(SovereigntyClass.values)}.")
        if not principal.has_class(needed):
            raise PermissionDenied(f"This needs the class {needed} or a higher one.")
    for needed in _asked(request, "permission", "HTTP_X_REQUIRE_PERMISSION"):
        if not all(needed.partition(".")):
            raise ParseError("permission: app.codename, several separated by commas.")
        if not principal.has_perm(unquote(needed)):
            raise PermissionDenied(f"This needs the permission {needed}.")


def _values(request: HttpRequest, name: str) -> list[str]:
    try:
        return request.GET.getlist(name) if request.META.get("QUERY_STRING") else []
    except TooManyFieldsSent:
        raise ParseError("The query has too many parameters.") from None


def _asked(request: HttpRequest, parameter: str, header: str) -> list[str]:
    texts = _values(request, parameter)
    if (text := request.META.get(header)) is not None:
        texts = [*texts, text]
    return [each.strip() for text in texts for each in text.split(",")]


def _refused(refusal: APIException) -> HttpResponseBase:
    response = from_exception(refusal)
    if response.status_code == status.HTTP_401_UNAUTHORIZED:
        response["WWW-Authenticate"] = BEARER
    response["Cache-Control"] = "no-store"
    return response


def document(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add it to OpenAPI, whose generator finds no plain view."""
    problem = {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    header = {"schema": {"type": "string"}}
    names = ("X-User-Id", "X-Session-Id", "X-Sovereignty-Class", "X-Permissions")
    one = {"type": "string", "enum": SovereigntyClass.values}
    text = {"type": "string", "pattern": rf"^{_NAME}(,{_NAME})*$"}
    yes = {"type": "string", "enum": ["200"]}
    needed = "Every one of them is needed, as `X-Permissions` spells it; may be repeated."
    admitted = {
        "description": "The caller is in the headers.",
        "headers": dict.fromkeys(names, header),
    }
    result["paths"]["/api/v1/auth/validate/"] = {
        "get": {
            "operationId": "auth_validate_retrieve",
            "summary": "Validate a token for an API gateway",
            "description": "For nginx `auth_request`, forward auth of Traefik or Caddy, Envoy "
            "`ext_authz` over HTTP. `X-Permissions` is comma-separated.",
            "tags": ["auth"],
            "security": [{"bearer": []}],
            "parameters": [
                _described("class", "query", one, "Needed: this class or a higher one."),
                _described("X-Require-Class", "header", one, "As `class`; both count."),
                _described("permission", "query", text, f"By commas. {needed}"),
                _described("X-Require-Permission", "header", text, "As `permission`."),
                _described("ok", "query", yes, "Answer 200 in place of 204 (Envoy)."),
            ],
            "responses": {
                "204": admitted,
                "200": admitted,
                "401": {
                    "description": "No valid access token of a live session.",
                    "content": problem,
                },
                "403": {"description": "Not what the route needs.", "content": problem},
                "400": {"description": "Nobody could meet such a need.", "content": problem},
                "503": {
                    "description": "Neither the cache nor PostgreSQL answers: nobody is let in.",
                    "content": problem,
                },
            },
        }
    }
    return result


def _described(name: str, place: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": place, "schema": schema, "description": description}
