"""What can be done to one user's keys. Each may be repeated, and says exactly what it did."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import psycopg
from django.db import DatabaseError

from aevon.cache import CacheError, Contended, flush, maintenance, resources
from aevon.cache.keyspace import SESSION
from aevon.cache.maintenance import NOT_CACHED, WRONG
from aevon.cache.models import Outbox
from aevon.cache.resources import BufferResource, Resource, Verdict
from auth_sessions import selectors, services
from auth_sessions.models import Session


class Told(NamedTuple):
    """What came of a deed. Not `well`: somebody has to look after it."""

    text: str
    well: bool = True


@dataclass(frozen=True, slots=True)
class Deed:
    """Something to do: `title` is on the button, `explanation` on the page that asks whether one
    is sure, `act` does it to a user."""

    name: str
    title: str
    explanation: str
    act: Callable[[Resource, int], Told]
    suits: Callable[[Resource], bool] = lambda _: True
    dangerous: bool = False

    def carry_out(self, resource: Resource, user_id: int) -> Told:
        """Do it; a failure is told like everything else."""
        try:
            return self.act(resource, user_id)
        except (CacheError, Contended) as error:
            return Told(f"Not done, the cache is away or too busy: {error}", well=False)
        except (DatabaseError, psycopg.Error) as error:  # the pool's own are unwrapped
            return Told(f"Not done, PostgreSQL refused: {type(error).__name__}.", well=False)


def warm(resource: Resource, user_id: int) -> Told:
    """Load what PostgreSQL has, never over something newer."""
    before = _verdict(resource, user_id)
    resource.warm([user_id])
    after = _verdict(resource, user_id)
    if after == "absent":
        return Told("Nothing to cache: PostgreSQL has nothing.")
    if after in NOT_CACHED or after == "corrupt":
        return Told("Not cached: a writer is at it, or the cache has no memory.", well=False)
    if after != before:
        return Told("Loaded from PostgreSQL.")
    return Told(f"Was cached already, {after}; left as it is.", well=after not in WRONG)


def _verdict(resource: Resource, user_id: int) -> Verdict:
    return maintenance.judge(resource, [user_id])[user_id]


def remove(resource: Resource, user_id: int) -> Told:
    """Remove the key, after what is unsaved has been persisted."""
    if not _is_there(resource, user_id):
        return Told("There was no key; nothing removed.")
    if maintenance.remove(resource, [user_id]):
        return Told("Kept, unsaved: PostgreSQL does not take it now.", well=False)
    if _is_there(resource, user_id):
        return Told("Removed; a writer's fence stays until it is done, or it was filled anew.")
    return Told("Removed; nothing was unsaved any more.")


def _is_there(resource: Resource, user_id: int) -> bool:
    return resources.types(resource.keyspace, [user_id])[user_id] != "none"


def repair(resource: Resource, user_id: int) -> Told:
    """Make the entry follow PostgreSQL where it does not, and take it off the outbox."""
    waiting = _waiting(resource, user_id)
    before = _verdict(resource, user_id)
    if before not in WRONG and not waiting:
        return Told(f"Nothing to repair: {before}.")
    if waiting:
        resources.repair_waiting(only=waiting)
    if _verdict(resource, user_id) in WRONG:
        resource.repair([user_id])
    after = _verdict(resource, user_id)
    return Told(f"Was {before}{_and_waited(waiting)}, is {after} now.", well=after not in WRONG)


def _waiting(resource: Resource, user_id: int) -> list[int]:
    rows = Outbox.objects.filter(keyspace=resource.keyspace.name, user_id=user_id)
    return list(rows.values_list("pk", flat=True))


def _and_waited(waiting: list[int]) -> str:
    return " and waited in the outbox" if waiting else ""


def persist(resource: Resource, user_id: int) -> Told:
    """Write what is unsaved into PostgreSQL now."""
    assert isinstance(resource, BufferResource)  # noqa: S101  `suits` says so
    flushed = flush.flush_users(resource.buffer, [user_id])
    if flushed.refused:
        return Told("PostgreSQL does not take it: it stays unsaved, the log says why.", well=False)
    if flushed.lost:
        return Told("What was unsaved is gone from the cache.", well=False)
    if flushed.persisted:
        return Told("Persisted.")
    if flushed.left:
        why = "changes made past the cache come first (Repair), or somebody keeps changing the row"
        return Told(f"It stays unsaved for now: {why}.", well=False)
    return Told("Nothing to persist: PostgreSQL has it already.")


def end_sessions(resource: Resource, user_id: int) -> Told:  # noqa: ARG001  a deed's shape
    """End every live session, and what the user has logged in to in the admin."""
    count = selectors.sessions_of(user_id).count()
    if services.end_all_sessions(user_id, Session.EndReason.ADMIN):
        return Told(f"Sessions ended: {count}. Their next request is refused.")
    return Told("No session was live; what the user had open in the admin has ended.")


DEEDS: Final = {
    deed.name: deed
    for deed in (
        Deed(
            "warm",
            "Warm",
            "Load what PostgreSQL has into the cache. An entry that is there stays as it is.",
            warm,
        ),
        Deed(
            "repair",
            "Repair",
            "Make the entry follow PostgreSQL if it is stale or corrupt, or waits in the outbox."
            " What is unsaved stays.",
            repair,
        ),
        Deed(
            "persist",
            "Persist now",
            "Write what is unsaved into PostgreSQL, as the flush does, without waiting for it.",
            persist,
            suits=lambda resource: isinstance(resource, BufferResource),
        ),
        Deed(
            "flush",
            "Flush",
            "Remove the key from the cache. What is unsaved is persisted first, and stays where"
            " PostgreSQL does not take it. The next reader loads it anew.",
            remove,
            dangerous=True,
        ),
        Deed(
            "end-sessions",
            "End all sessions",
            "Persist what they left unsaved, then end every session of this user, and what they"
            " have open in this admin. They may log in again.",
            end_sessions,
            suits=lambda resource: resource.keyspace is SESSION,
            dangerous=True,
        ),
    )
}


def suiting(resource: Resource) -> list[Deed]:
    """What can be done to a keyspace's keys."""
    return [deed for deed in DEEDS.values() if deed.suits(resource)]
