"""What BEEP tells of sessions."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from aevon import intents
from auth_sessions import services
from auth_sessions.devices import device_of
from auth_sessions.models import Session, User
from beep.phrases import read_enumeration

pytestmark = pytest.mark.django_db
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"


def told(user: User) -> str:
    """BEEP's answer; there is nothing to take back."""
    done = intents.perform("auth_sessions.list", user.pk, {})
    assert done.undo is None
    return done.answer


def opened(user: User, agent: str, *, ago: timedelta, seen: timedelta) -> Any:
    """A session of this program, opened and last seen so long ago; its id."""
    sid, _ = services.open_session(user, user_agent=agent, address="192.0.2.77")
    now = timezone.now()
    Session.objects.filter(sid=sid).update(created_at=now - ago, last_seen_at=now - seen)
    return sid


def test_sessions_are_listed_by_program_and_time(user: User) -> None:
    """The newest first; an idle one says since when; no address and no token is told."""
    opened(user, FIREFOX, ago=timedelta(hours=5), seen=timedelta(hours=2))
    opened(user, "curl/8.9", ago=timedelta(minutes=25), seen=timedelta(minutes=1))
    opened(user, "", ago=timedelta(seconds=1), seen=timedelta(seconds=1))
    answer = told(user)
    assert answer == (
        "You have 3 sessions: 1. Unknown program (signed in just now), "
        "2. curl (signed in 25 min ago), "
        "3. Firefox on Linux (signed in 5 h ago, last seen 2 h ago)."
    )
    assert read_enumeration(answer) == ("Unknown program", "curl", "Firefox on Linux")


def test_only_live_sessions_of_the_caller_are_told(
    user: User, make_user: Callable[..., User]
) -> None:
    """Neither another's nor one that has ended or run out."""
    hour = timedelta(hours=1)
    opened(make_user(), FIREFOX, ago=hour, seen=hour)
    assert told(user) == "You are signed in nowhere."
    ended = opened(user, FIREFOX, ago=hour, seen=hour)
    services.end_session(user.pk, ended)
    late = Session.objects.filter(sid=opened(user, "Edg/1", ago=hour, seen=hour))
    past = timezone.now() - timedelta(seconds=1)
    late.update(access_expires_at=past, refresh_expires_at=past)
    sid = opened(user, "python-requests/2", ago=timedelta(days=40), seen=timedelta())
    day = Session.objects.get(sid=sid).created_at
    assert told(user) == f"You have 1 session: 1. Python (signed in on {day.day} {day:%B %Y})."


@pytest.mark.parametrize(
    ("agent", "device"),
    [
        (FIREFOX, "Firefox on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit Chrome/1 Safari/1 Edg/1", "Edge on Windows"),
        ("Mozilla/5.0 (iPhone; like Mac OS X) AppleWebKit Safari/604", "Safari on iOS"),
        ("Mozilla/5.0 (Linux; Android 14) Chrome/1 Safari/1", "Chrome on Android"),
        ("x" * 60, "x" * 40),
    ],
)
def test_a_program_is_known_by_its_agent(agent: str, device: str) -> None:
    """As the page knows it; what it does not know is shown, cut."""
    assert device_of(agent) == device


def test_an_agent_that_looks_like_a_list_is_one_item(user: User) -> None:
    """It is text that a client wrote."""
    hour = timedelta(hours=1)
    opened(user, 'x (y), 2. "z"\n3. w', ago=hour, seen=hour)
    assert read_enumeration(told(user)) == ('x (y), 2. "z"\n3. w',)
