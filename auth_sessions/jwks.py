"""The public keys, for whoever verifies tokens without asking."""

from typing import Any, Final

from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import cache_control
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from auth_sessions import keys

PATH: Final = "/.well-known/jwks.json"
CONTENT_TYPE: Final = "application/jwk-set+json"  # RFC 7517, 8.5.2
MAX_AGE_SECONDS: Final = 300


@csrf_exempt
@require_safe
@cache_control(public=True, max_age=MAX_AGE_SECONDS)
def jwks(_: HttpRequest) -> JsonResponse:
    """A JWK Set (RFC 7517): no key where all are secrets. As old as five minutes in a cache, so a
    new key is published before it signs."""
    return JsonResponse({"keys": keys.ring().jwks()}, content_type=CONTENT_TYPE)


def document(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add it to OpenAPI, whose generator finds no plain view."""
    key = {
        "type": "object",
        "properties": {
            name: {"type": "string"} for name in ("kty", "kid", "alg", "use", "crv", "x", "n", "e")
        },
        "required": ["kty", "kid", "alg", "use"],
    }
    jwk_set = {
        "type": "object",
        "properties": {"keys": {"type": "array", "items": key}},
        "required": ["keys"],
    }
    result["paths"][PATH] = {
        "get": {
            "operationId": "jwks_retrieve",
            "summary": "The public keys that tokens are signed with",
            "description": "A JWK Set (RFC 7517): Ed25519 and RSA keys by `kid`, the accepted ones "
            "too. Empty where tokens are signed with a secret (HS256).",
            "tags": ["auth"],
            "security": [],
            "responses": {
                "200": {"description": "The keys.", "content": {CONTENT_TYPE: {"schema": jwk_set}}},
                "405": {"description": "Another method than GET and HEAD."},
            },
        }
    }
    return result
