"""What BEEP can tell of sessions: where a user is signed in."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from django.utils import timezone

from aevon import intents
from aevon.intents import Done
from auth_sessions import selectors
from auth_sessions.devices import device_of
from auth_sessions.models import Session

# One in use is seen as often as its access token ends: of less there is nothing to say.
_IDLE: Final = timedelta(minutes=20)


def connect() -> None:
    """Register the handler."""
    intents.register("auth_sessions.list", list_sessions)


def list_sessions(user_id: int, _: Mapping[str, Any]) -> Done:
    """The user's own live sessions, the newest first: the program, since when, when last seen."""
    now = timezone.now()
    items = [_item(session, now) for session in selectors.sessions_of(user_id)]
    if not items:
        return Done("You are signed in nowhere.")
    count = "1 session" if len(items) == 1 else f"{len(items)} sessions"
    return Done(f"You have {count}: {intents.remarked(items)}.")


def _item(session: Session, now: datetime) -> tuple[str, str]:
    remark = f"signed in {_ago(session.created_at, now)}"
    if now - session.last_seen_at > _IDLE:
        remark += f", last seen {_ago(session.last_seen_at, now)}"
    return device_of(session.user_agent), remark


def _ago(then: datetime, now: datetime) -> str:
    """As the page says it; after a day, the date."""
    minutes = int((now - then).total_seconds() // 60)
    if minutes < 1:
        return "just now"
    if minutes < 60:
        return f"{minutes} min ago"
    if minutes < 24 * 60:
        return f"{minutes // 60} h ago"
    return f"on {then.day} {then:%B %Y}"
