"""How OpenAPI names the bearer token."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """`Authorization: Bearer …`."""

    target_class = "auth_sessions.authentication.SessionTokenAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:  # noqa: ARG002
        """The security scheme object (OpenAPI 3.0.3, 4.8.27)."""
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
