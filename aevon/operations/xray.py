"""A user's four keys beside their rows: what is there, what that means, and where they differ."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.contrib.auth import get_user_model

from aevon.cache import inspection, resources
from aevon.cache.connection import CacheError
from aevon.cache.inspection import Inspected
from aevon.cache.resources import Resource
from aevon.cache.shown import masked, remaining, visible
from aevon.operations import differences
from aevon.operations.differences import Member
from auth_sessions import selectors
from auth_sessions.devices import device_of
from auth_sessions.models import Session

AWAY: Final = "cache away"
SESSIONS_SHOWN: Final = 100
# What each verdict means, for who reads it for the first time.
MEANING: Final = {
    "in sync": "What PostgreSQL has.",
    "unsaved": "Newer than PostgreSQL: waits for the flush.",
    "stale": "Not what PostgreSQL has: repair it, and look for who wrote past the cache.",
    "missing": "PostgreSQL has it; the cache has nothing to go by, and the next reader fills it.",
    "corrupt": "Nobody can read this: it counts as missing, and the next reader replaces it.",
    "absent": "Neither has anything.",
    AWAY: "The cache cannot be reached: requests are served from PostgreSQL.",
}
TONES: Final = {
    "in sync": "good", "absent": "quiet", "unsaved": "waits", "missing": "waits",
    "stale": "bad", "corrupt": "bad", AWAY: "bad",
}  # fmt: skip

ATTENTION: Final = ("bad", "waits")


@dataclass(frozen=True, slots=True)
class Key:
    """One key beside its rows. `notes` explain what the cache layer has put there; `left_out`
    members did not fit the page."""

    name: str
    service: str
    verdict: str
    type: str
    ttl_seconds: float | None
    waiting: bool
    notes: list[str]
    members: list[Member]
    left_out: int
    different: int

    @property
    def meaning(self) -> str:
        """The verdict in a sentence."""
        return MEANING[self.verdict]

    @property
    def tone(self) -> str:
        """How it is coloured."""
        return TONES[self.verdict]

    @property
    def lifetime(self) -> str:
        """`4 min 10 s`, `without end`, `no key`."""
        return remaining(self.type, self.ttl_seconds)

    @property
    def is_there(self) -> bool:
        """Whether there is anything to compare."""
        return bool(self.members)


@dataclass(frozen=True, slots=True)
class Live:
    """A live session. Its id names it and opens nothing; its token's digest stays where it is."""

    sid: UUID
    begun: datetime
    seen: datetime
    network: str
    device: str
    access_until: datetime
    renewed_until: datetime


@dataclass(frozen=True, slots=True)
class XRay:
    """Everything on one user. `username` is None of one who is not in PostgreSQL; `sessions` are
    those that live."""

    user_id: int
    username: str | None
    keys: list[Key]
    sessions: list[Live]

    @property
    def is_away(self) -> bool:
        """Whether the cache could not be asked."""
        return any(key.verdict == AWAY for key in self.keys)

    @property
    def tone(self) -> str:
        """That of the worst key."""
        tones = {key.tone for key in self.keys}
        return next((tone for tone in ("bad", "waits") if tone in tones), "good")

    @property
    def summary(self) -> str:
        """The keys that are not simply in sync or absent, in a few words."""
        if self.is_away:
            return "The cache cannot be reached: this is what PostgreSQL has."
        told = [f"{key.service} is {key.verdict}" for key in self.keys if key.tone in ATTENTION]
        return "; ".join(told).capitalize() + "." if told else "Cache and PostgreSQL agree."


def take(user_id: int) -> XRay:
    """Ask both. Raises what PostgreSQL raises when it is away, but not for the cache's sake."""
    users = get_user_model()._default_manager.filter(pk=user_id)  # noqa: SLF001  public by convention
    username = users.values_list("username", flat=True).first()
    return XRay(
        user_id=user_id,
        username=None if username is None else visible(username),
        keys=[_key(resource, user_id) for resource in resources.resources()],
        sessions=[_live(each) for each in selectors.sessions_of(user_id)[:SESSIONS_SHOWN]],
    )


def _live(session: Session) -> Live:
    return Live(
        sid=session.sid,
        begun=session.created_at,
        seen=session.last_seen_at,
        network=visible(session.address) or "—",
        device=visible(device_of(session.user_agent)),
        access_until=session.access_expires_at,
        renewed_until=session.refresh_expires_at,
    )


def _key(resource: Resource, user_id: int) -> Key:
    try:
        return _compared(inspection.inspect_one(resource, user_id))
    except CacheError:
        return _without_cache(resource, user_id)


def _without_cache(resource: Resource, user_id: int) -> Key:
    rows = differences.compare(None, masked(resource.ledger(user_id)))
    members, left_out = differences.shortened(rows)
    return Key(
        name=resource.keyspace.key(user_id),
        service=resource.keyspace.name,
        verdict=AWAY,
        type="not known",
        ttl_seconds=None,
        waiting=False,
        notes=[],
        members=members,
        left_out=left_out,
        different=0,
    )


def _compared(found: Inspected) -> Key:
    held = found.held
    every = differences.compare(held.value, found.ledger)
    members, left_out = differences.shortened(every)
    different = sum(each.differs for each in every)
    return Key(
        name=held.key,
        service=held.key.partition(":")[0],
        verdict=found.verdict,
        type=held.type,
        ttl_seconds=held.ttl_seconds,
        waiting=found.waiting,
        notes=[*_notes(found), *_doubt(found.verdict, different)],
        members=members,
        left_out=left_out,
        different=different,
    )


def _notes(found: Inspected) -> Iterator[str]:
    """What the cache layer has put there, or noted of it."""
    if found.standing.kind not in ("nothing", "state"):
        text = str(found.standing)
        yield f"{text[0].upper()}{text[1:]}."
    if found.mark is not None:
        yield f"Unsaved: {found.mark}."


def _doubt(verdict: str, different: int) -> Iterator[str]:
    if different and verdict == "in sync":
        yield (
            "In sync all the same: sessions whose access token has run out do not count, and the"
            " two were read one after the other."
        )
