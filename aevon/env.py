"""The environment, read once and typed: a bad value names its variable.

Every function raises `django.core.exceptions.ImproperlyConfigured` with the variable's name.
"""

import hmac
import json
import os
import re
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from django.core.exceptions import ImproperlyConfigured

WEAK_SECRETS = frozenset({"secret", "changeme", "change-me", "insecure", "password"})
PATH = r"(?!(api|health|metrics|static)(/|$))[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*"
SECRET_MIN_BYTES = 32
LOG_FORMATS = ("console", "json")
PEM_MARK = "-----BEGIN"


def text(name: str, default: str = "") -> str:
    """Value of `name`, or `default` when unset or empty."""
    return os.environ.get(name, "").strip() or default


def log_format() -> str:
    """`AEVON_LOG_FORMAT`. Objects in production, where programs read."""
    development = text("AEVON_ENV", "development") == "development"
    return choice("AEVON_LOG_FORMAT", "console" if development else "json", LOG_FORMATS)


def choice(name: str, default: str, allowed: tuple[str, ...]) -> str:
    """Value of `name`, which must be one of `allowed`."""
    value = text(name, default)
    if value not in allowed:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(allowed)}, not {value!r}.")
    return value


def integer(name: str, default: int, *, minimum: int, maximum: int) -> int:
    """Value of `name` as an integer within `minimum` … `maximum`."""
    raw = text(name, str(default))
    try:
        value = int(raw)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a whole number, not {raw!r}.") from None
    if not minimum <= value <= maximum:
        raise ImproperlyConfigured(f"{name} must be {minimum} to {maximum}, not {value}.")
    return value


def number(name: str, default: float, *, minimum: float, maximum: float) -> float:
    """Value of `name` as a number within `minimum` … `maximum`."""
    raw = text(name, str(default))
    try:
        value = float(raw)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a number, not {raw!r}.") from None
    if not minimum <= value <= maximum:
        raise ImproperlyConfigured(f"{name} must be {minimum} to {maximum}, not {value}.")
    return value


def names(name: str, default: str) -> list[str]:
    """Value of `name` as a comma-separated list."""
    return [part.strip() for part in text(name, default).split(",") if part.strip()]


def counts(name: str, *, maximum: int) -> dict[str, int]:
    """Value of `name` as whole numbers of 1 … `maximum` by a word: `psyche=10000,session=50000`."""
    found: dict[str, int] = {}
    for part in names(name, ""):
        word, _, number = (piece.strip() for piece in part.partition("="))
        sound = word and word not in found and number.isdecimal() and number.isascii()
        if not sound or not 1 <= int(number[:20]) <= maximum:
            raise ImproperlyConfigured(
                f"{name} must be like psyche=10000,session=50000, each name once, with whole"
                f" numbers of 1 to {maximum}, not {part!r}."
            )
        found[word] = int(number)
    return found


def path(name: str, default: str) -> str:
    """Value of `name` as a path that is still free below the root, without slashes around it."""
    value = text(name, default)
    if not re.fullmatch(PATH, value):
        raise ImproperlyConfigured(
            f"{name} must be letters, digits, - and _ in parts between single slashes, and"
            f" nothing that is there already, not {value!r}."
        )
    return value


def derived(secret: str, purpose: str) -> str:
    """16 hexadecimal digits that stay the same for as long as the secret does, and tell nothing
    of it."""
    return hmac.new(secret.encode(), f"aevon.{purpose}".encode(), "sha256").hexdigest()[:16]


def confidential(name: str) -> str:
    """Value of `name`, or the content of the file that `{name}_FILE` names; "" when unset.

    A file is what containers and orchestrators hand secrets in.
    """
    file = text(f"{name}_FILE")
    if not file:
        return text(name)
    if text(name):
        raise ImproperlyConfigured(f"{name} and {name}_FILE are both set: set one of them.")
    return _content(f"{name}_FILE", Path(file))


def _content(name: str, path: Path) -> str:
    try:
        content = path.read_text("utf-8").strip()
    except OSError as error:
        raise ImproperlyConfigured(
            f"{name}: {str(path)!r} cannot be read: {error.strerror}."
        ) from None
    except ValueError:  # also a NUL in the path
        raise ImproperlyConfigured(f"{name}: {str(path)!r} is no file of text.") from None
    if not content:
        raise ImproperlyConfigured(f"{name}: {str(path)!r} is empty.")
    return content


def secret(name: str, *, data_dir: Path, development: bool) -> str:
    """A secret of at least 32 bytes, or a key in PEM, from `name` or `{name}_FILE`.

    Made once in `data_dir` (mode 600) in development.
    """
    value = confidential(name)
    if not value and development:
        return _generated(data_dir / f"{name.lower()}.txt")
    if not value:
        raise ImproperlyConfigured(f"{name} (or {name}_FILE) must be set outside development.")
    if not development and is_weak(value):
        raise ImproperlyConfigured(
            f"{name} is too weak: at least {SECRET_MIN_BYTES} bytes, and not a common word."
        )
    return value


def is_weak(value: str) -> bool:
    """Whether a secret is short, monotonous or made of a common word, as the letters of a key in
    PEM may seem to be."""
    common = any(word in value.lower() for word in WEAK_SECRETS) and PEM_MARK not in value
    return length_in_bytes(value) < SECRET_MIN_BYTES or len(set(value)) < 8 or common


def length_in_bytes(value: str) -> int:
    """What counts for a key; the environment's undecodable bytes included."""
    return len(value.encode("utf-8", "surrogateescape"))


def _generated(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    value = secrets.token_urlsafe(48)
    with os.fdopen(descriptor, "w") as file:
        file.write(value)
    return value


def broker_url(url: str) -> str:
    """A Dragonfly URL as Celery's broker library understands it: with the same database behind a
    socket, and with the same checking of certificates, which it leaves out unless it is told."""
    address, _, options = url.partition("?")
    query = dict(parse_qsl(options))
    if address.startswith("unix://"):
        address = address.replace("unix", "redis+socket", 1)
        query = {"virtual_host" if name == "db" else name: value for name, value in query.items()}
    if address.startswith("rediss://"):
        query = {"ssl_cert_reqs": "required", **query}
    return f"{address}?{urlencode(query)}" if query else address


def running(data_dir: Path) -> dict[str, Any]:
    """What a running `make run` wrote to `run.json`; empty when none runs."""
    try:
        content = json.loads((data_dir / "run.json").read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
