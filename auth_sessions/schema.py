"""How OpenAPI names the bearer token."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension

from aevon.api.schema import CONTENT_TYPE
from auth_sessions.models import SovereigntyClass


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """`Authorization: Bearer …`."""

    target_class = "auth_sessions.authentication.SessionTokenAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:  # noqa: ARG002
        """The security scheme object (OpenAPI 3.0.3, 4.8.27)."""
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}


def document_validate(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add `validate/`, which is a plain view and so not found by the generator."""
    problem = {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    header = {"schema": {"type": "string"}}
    names = ("X-User-Id", "X-Session-Id", "X-Sovereignty-Class", "X-Permissions")
    one = {"type": "string", "enum": SovereigntyClass.values}
    text = {"type": "string"}
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
                _parameter("class", "query", one, "Needed: this class or a higher one."),
                _parameter("X-Require-Class", "header", one, "As `class`; both count."),
                _parameter("permission", "query", text, f"By commas. {needed}"),
                _parameter("X-Require-Permission", "header", text, "As `permission`."),
                _parameter(
                    "ok", "query", {**text, "enum": ["200"]}, "Answer 200 in place of 204 (Envoy)."
                ),
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


def _parameter(name: str, place: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": place, "schema": schema, "description": description}
