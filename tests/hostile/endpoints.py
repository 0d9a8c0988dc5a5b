"""Every endpoint that takes a body, and a right one for it."""

from typing import Any, Final

from tests.faults.bench.api import window
from tests.klepsydra.rows import SLUG

PAGE: Final = {"X-Aevon-Page": "1"}
WINDOWS: Final = {"microApps": {"note": window(1)}}
Body = dict[str, Any]
BODIES: Final[dict[tuple[str, str], Body]] = {
    ("POST", "/api/v1/auth/token/"): {"username": "nobody", "password": "wrong"},
    ("POST", "/api/v1/auth/token/refresh/"): {"refresh": "x.y.z"},
    ("POST", "/api/v1/auth/browser/"): {"username": "nobody", "password": "wrong"},
    ("POST", "/api/v1/auth/logout/"): {"everywhere": True},
    ("POST", "/api/v1/auth/password/"): {"currentPassword": "a", "newPassword": "b"},
    ("POST", "/api/v1/klepsydra/interactions/"): {"instrument": SLUG, "stake": 1},
    ("PUT", "/api/v1/canvas/"): WINDOWS,
    ("PATCH", "/api/v1/canvas/"): WINDOWS,
    ("PUT", "/api/v1/canvas/notes/note/"): {"text": "Buy glass."},
    ("POST", "/api/v1/beep/commands/"): {"text": "help"},
}
PROTECTED: Final = [
    ("GET", "/api/v1/auth/validate/"),
    ("GET", "/api/v1/auth/sessions/"),
    ("DELETE", "/api/v1/auth/sessions/0d5ce2a4-2d0c-4a43-a2a9-5ac7d1d53c0c/"),
    ("GET", "/api/v1/klepsydra/psyche/"),
    ("GET", "/api/v1/klepsydra/instruments/"),
    ("GET", "/api/v1/canvas/"),
    ("GET", "/api/v1/canvas/notes/note/"),
    ("GET", "/api/v1/beep/history/"),
    ("DELETE", "/api/v1/beep/history/"),
    *(each for each in BODIES if not each[1].endswith(("token/", "refresh/", "browser/"))),
]
