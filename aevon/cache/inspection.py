"""What the cache holds on one user, beside what PostgreSQL holds."""

import contextlib
import difflib
import time
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from django.contrib.auth import get_user_model
from django.utils import timezone

from aevon.cache import maintenance, resources
from aevon.cache.keyspace import InvalidKey, canonical_user_id
from aevon.cache.models import Outbox
from aevon.cache.resources import BufferResource, Held, Resource, Verdict
from aevon.cache.shown import duration, masked, remaining
from aevon.cache.standing import Standing, standing

# Of names that begin with these letters so many are compared with one that is nobody's.
SAME_LETTERS: Final = 2
NAMES_COMPARED: Final = 1_000


@dataclass(frozen=True, slots=True)
class Inspected:
    """One keyspace's entry of one user beside what PostgreSQL holds; tokens are masked.
    `waiting`: the outbox says that the entry may be older than its rows; `noted`: what it says.
    `mark`: the document is unsaved."""

    held: Held
    standing: Standing
    verdict: Verdict
    ledger: Any
    waiting: bool
    noted: "Noted | None"
    mark: "UnsavedMark | None"


class Noted(NamedTuple):
    """A row of the outbox: the version that was committed, None for an unknown one, and since when
    it waits."""

    version: int | None
    seconds: float

    def __str__(self) -> str:
        version = "any version" if self.version is None else f"version {self.version}"
        return f"{version}, for {duration(self.seconds)}"


class UnsavedMark(NamedTuple):
    """The mark of an unsaved document: its revision, for how long it has been waiting, where that
    is known, and whether PostgreSQL has refused it."""

    revision: int
    seconds: float | None
    refused: bool

    def __str__(self) -> str:
        since = "" if self.seconds is None else f", for {duration(self.seconds)}"
        return f"revision {self.revision}{since}{', refused by PostgreSQL' if self.refused else ''}"


class NoSuchUser(LookupError):
    """Neither a user id nor anybody's name."""


def user_of(text: str) -> int:
    """The id of the user who is meant by an id, who need not exist, or by a name.

    Raises `NoSuchUser`, which suggests names that begin alike.
    """
    with contextlib.suppress(InvalidKey):
        return canonical_user_id(text)
    shown = repr(text if len(text) <= 40 else text[:37] + "…")
    if "\0" not in text and (user_id := _by_name(text)) is not None:
        return user_id
    alike = ", ".join(_names_like(text)) if text.isprintable() else ""
    hint = f" Did you mean {alike}?" if alike else ""
    raise NoSuchUser(f"Not a user id, and nobody's name: {shown}.{hint}")


def _by_name(name: str) -> int | None:
    users = get_user_model().objects.filter(**{get_user_model().USERNAME_FIELD: name})
    found: int | None = users.values_list("pk", flat=True).first()
    return found


def _names_like(text: str) -> list[str]:
    field = get_user_model().USERNAME_FIELD
    users = get_user_model().objects.filter(**{f"{field}__istartswith": text[:SAME_LETTERS]})
    names = users.order_by(field).values_list(field, flat=True)[:NAMES_COMPARED]
    return difflib.get_close_matches(text, list(names), n=3)


def who(user_id: int) -> str | None:
    """The user's name; None where there is no such user."""
    users = get_user_model().objects.filter(pk=user_id)
    name: str | None = users.values_list(get_user_model().USERNAME_FIELD, flat=True).first()
    return name


def inspect(user_id: object) -> list[Inspected]:
    """Every keyspace's entry of a user, who need not exist.

    Raises `InvalidKey`, `CacheUnavailable`, and what PostgreSQL raises when it is away.
    """
    wanted = canonical_user_id(user_id)
    return [inspect_one(each, wanted) for each in resources.resources()]


def inspect_one(resource: Resource, user_id: int) -> Inspected:
    """One keyspace's entry of a user; raises as `inspect`."""
    verdict = maintenance.judge(resource, [user_id])[user_id]
    noted = _noted(resource.keyspace.name, user_id)
    held = resources.held(resource.keyspace, user_id)
    return Inspected(
        held=replace(held, value=masked(held.value)),
        standing=standing(held),
        verdict=verdict,
        ledger=masked(resource.ledger(user_id)),
        # Every change is noted, and most have been followed by the time they are looked at.
        waiting=noted is not None and (verdict != "in sync" or noted.version is None),
        noted=noted,
        mark=_mark(resource, user_id),
    )


def _noted(keyspace: str, user_id: int) -> Noted | None:
    row = Outbox.objects.filter(keyspace=keyspace, user_id=user_id).first()
    if row is None:
        return None
    return Noted(row.version, max(0.0, (timezone.now() - row.added_at).total_seconds()))


def _mark(resource: Resource, user_id: int) -> UnsavedMark | None:
    if not isinstance(resource, BufferResource):
        return None
    index = resource.buffer.index
    revision = index.marks_of([user_id]).get(user_id)
    if revision is None:
        return None
    since = index.since_of([user_id]).get(user_id)
    seconds = None if since is None else max(0.0, time.time() - since)
    return UnsavedMark(revision, seconds, bool(index.refusals([user_id])))


def lifetime(held: Held) -> str:
    """`1 h 5 min left`, `without end`, `no key`."""
    told = remaining(held.type, held.ttl_seconds)
    return told if held.ttl_seconds is None else f"{told} left"
