"""OpenAPI: every operation also documents its problem documents (RFC 9457)."""

from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent

from aevon.api.serializers import StrictSerializer

CONTENT_TYPE = "application/problem+json"
FIELD_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["field", "code", "detail"],
    "properties": {
        "field": {
            "type": "string",
            "description": 'Dotted path of the member; "" is the whole body.',
            "example": "microApps.a.position.x",
        },
        "code": {"type": "string", "example": "unknown_member"},
        "detail": {"type": "string"},
    },
}
PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "A problem document (RFC 9457); some problems carry members of their own.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {
            "type": "string",
            "format": "uri-reference",
            "description": "A stable name to compare, not a page.",
            "example": "/problems/validation-error",
        },
        "title": {"type": "string", "example": "Bad Request"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "errors": {"type": "array", "items": FIELD_ERROR},
    },
    "additionalProperties": True,
}
RETRY_AFTER: dict[str, Any] = {
    "Retry-After": {"description": "Whole seconds.", "schema": {"type": "integer", "minimum": 1}}
}
WWW_AUTHENTICATE: dict[str, Any] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
HEADERS = {"401": WWW_AUTHENTICATE, "429": RETRY_AFTER, "503": RETRY_AFTER}
DESCRIPTIONS = {
    "400": "The request is malformed or fails validation.",
    "401": "No valid access token.",
    "403": "Not allowed.",
    "404": "Not found.",
    "413": "The body is too large.",
    "415": "The media type, charset or content coding is not supported.",
    "429": "Too many requests.",
    "503": "Something the server needs is away.",
    "default": "Any other error.",
}


# PostgreSQL stores no NUL, in text or in jsonb.
NO_NUL = r"^[^\u0000]*$"


def _is_plain_text(schema: dict[str, Any]) -> bool:
    return schema.get("type") == "string" and not {"enum", "format", "pattern"} & schema.keys()


class ProblemAutoSchema(AutoSchema):
    """Adds the errors that any operation of its kind can give, declared ones win; and what a
    strict body may not hold."""

    def _map_basic_serializer(self, serializer: Any, direction: Any) -> Any:
        schema: dict[str, Any] = super()._map_basic_serializer(  # type: ignore[no-untyped-call]
            serializer, direction
        )
        if direction == "request" and isinstance(serializer, StrictSerializer):
            schema["additionalProperties"] = False
        return schema

    def _map_serializer_field(self, field: Any, direction: Any, *args: Any, **options: Any) -> Any:
        schema: dict[str, Any] = super()._map_serializer_field(  # type: ignore[no-untyped-call]
            field, direction, *args, **options
        )
        if direction == "request" and _is_plain_text(schema):
            schema["pattern"] = getattr(field, "pattern", NO_NUL)
        return schema

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        responses: dict[str, Any] = super()._get_response_bodies(direction)
        for code in self._problem_codes():
            responses.setdefault(code, self._problem_response(code))
        return responses

    def _problem_codes(self) -> list[str]:
        """Status codes to document for this operation."""
        codes = ["429", "503", "default"]
        if self.method in {"POST", "PUT", "PATCH"}:
            codes += ["400", "413", "415"]
        if self.get_auth():
            codes += ["401", "403"]
        if "{" in self.path:
            codes += ["404"]
        return codes

    def _problem_response(self, code: str) -> dict[str, Any]:
        content = {CONTENT_TYPE: {"schema": self._problem_component().ref}}
        response = {"description": DESCRIPTIONS[code], "content": content}
        return response | ({"headers": HEADERS[code]} if code in HEADERS else {})

    def _problem_component(self) -> ResolvedComponent:
        component = ResolvedComponent(  # type: ignore[no-untyped-call]
            name="Problem", type=ResolvedComponent.SCHEMA, schema=PROBLEM, object=ProblemAutoSchema
        )
        self.registry.register_on_missing(component)
        return component
