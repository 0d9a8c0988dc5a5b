"""What `make run` puts into its database: the users `demo` and `admin`, and something to show.

Reads models: import it after `django.setup()`.
"""

import contextlib
import json
import secrets
from pathlib import Path
from typing import Final

from django.contrib.auth import get_user_model

from aevon.cache import CacheUnavailable
from aevon.server import write_private
from beep.services import command
from canvas import notes
from canvas.layout import MicroApp
from canvas.services import change, persist_now

NAMES: Final = ("demo", "admin")
# Marks the accounts that are this program's to give a password.
EMAIL: Final = "made-by-make-run@example.org"
COMMANDS: Final = ("open Notes", "open Psyche", "play SpinForge with stake 5")
# Beside each other on a screen of 1280 pixels and more: BEEP opens its windows in a cascade.
PLACES: Final = {
    "notes": ("notes", "Notes", (40, 64), (360, 512), 1),
    "psyche": ("psyche", "Psyche", (424, 64), (440, 304), 4),
    "clock": ("clock", "Clock", (424, 392), (440, 184), 2),
    "spinforge": ("spinforge", "SpinForge", (888, 64), (360, 512), 3),
}
NOTE: Final = """Drag a window. It is in Dragonfly at once, and in the ledger at the next flush.

Open this page in a second tab, or on your phone: the windows follow.

Stop Dragonfly: everything goes on, straight from PostgreSQL."""

Login = dict[str, str]


class SomebodyElsesUserError(Exception):
    """The database has a user of that name whom `make run` did not make; nothing was changed."""

    def __init__(self, username: str) -> None:
        super().__init__(
            f"The database has a user {username} that `make run` did not make: set DATABASE_URL "
            "to a database of its own."
        )


def prepare(data_dir: Path, *, ours: bool) -> dict[str, Login]:
    """Make the users; returns the log-ins by name. `ours`: the database is an embedded one.

    A new `demo` has spoken to BEEP already, so that every service has something to show. Raises
    `SomebodyElsesUserError`.
    """
    logins = stored_logins(data_dir / "demo.json")
    ensure_user(logins["admin"], ours=ours, is_staff=True, is_superuser=True)
    demo, is_new = ensure_user(logins["demo"], ours=ours)
    if is_new:
        for text in COMMANDS:
            command(demo, text)
        change(demo, {"patch": {"microApps": windows()}})
        notes.write(demo, "notes", NOTE)
        with contextlib.suppress(CacheUnavailable):
            persist_now([demo])
    return logins


def windows() -> dict[str, MicroApp]:
    """The demo user's windows, at their places."""
    return {
        app_id: {
            "type": kind,
            "title": title,
            "position": {"x": x, "y": y},
            "size": {"width": width, "height": height},
            "zIndex": level,
        }
        for app_id, (kind, title, (x, y), (width, height), level) in PLACES.items()
    }


def stored_logins(path: Path) -> dict[str, Login]:
    """The log-ins in `path`; made with new passwords the first time."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        stored = json.loads(path.read_text())
        return {name: {"username": name, "password": stored[name]["password"]} for name in NAMES}
    logins = {name: {"username": name, "password": secrets.token_urlsafe(9)} for name in NAMES}
    write_private(path, json.dumps(logins, indent=2))
    return logins


def ensure_user(login: Login, *, ours: bool, **flags: bool) -> tuple[int, bool]:
    """Make the user, or give an existing one the password that is announced; the user's id, and
    whether it is new. Raises `SomebodyElsesUserError`, in a database that is not `ours`."""
    user, created = get_user_model().objects.get_or_create(
        username=login["username"], defaults={"is_active": True, "email": EMAIL, **flags}
    )
    if not (created or ours or user.email == EMAIL):
        raise SomebodyElsesUserError(user.username)
    if created or not user.check_password(login["password"]):
        user.set_password(login["password"])
        user.save()
    return user.pk, created
