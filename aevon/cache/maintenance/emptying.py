"""Flush: the project's own entries out of the cache, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

from aevon.cache import resources
from aevon.cache.keyspace import Keyspace
from aevon.cache.maintenance.walking import BATCH, Progress, Unwatched, batches, in_cache
from aevon.cache.resources import Resource
from aevon.cache.user_ranges import UserRanges


@dataclass(slots=True)
class Emptied:
    """What a flush removed (or would remove), and what had to stay: unsaved, and PostgreSQL did
    not take it or it changed again meanwhile."""

    service: str
    removed: int = 0
    kept: int = 0


def flush(
    services: Sequence[Resource],
    users: UserRanges | None = None,
    *,
    dry_run: bool = False,
    discard_unsaved: bool = False,
    batch: int = BATCH,
    progress: Progress | None = None,
    done: list[Emptied] | None = None,
) -> list[Emptied]:
    """Remove the entries of these users, or of all, and no other key.

    What is unsaved is persisted first and stays where that fails, unless `discard_unsaved`. A dry
    run takes what PostgreSQL has refused before for what would stay. `done` is added to as it goes.
    """
    watch = progress or Unwatched()
    done = [] if done is None else done
    for resource in services:
        watch.start(resource.keyspace.name, None)
        emptied = Emptied(resource.keyspace.name)
        done.append(emptied)
        for user_ids in batches(in_cache(resource.keyspace, users), batch):
            present = sorted(_present(resource.keyspace, user_ids))
            kept = (_would_stay if dry_run else remove)(
                resource, present, discard_unsaved=discard_unsaved
            )
            emptied.removed += len(present) - len(kept)
            emptied.kept += len(kept)
            watch.advance(len(user_ids))
    return done


def remove(resource: Resource, user_ids: list[int], *, discard_unsaved: bool = False) -> list[int]:
    """Remove these users' entries; the users whose unsaved document had to stay."""
    if discard_unsaved:
        resource.discard(user_ids)
        return []
    kept = resource.drop(user_ids)
    # Once more: a document that changed while it was being persisted is not stuck.
    return resource.drop(kept) if kept else []


def _would_stay(resource: Resource, user_ids: list[int], *, discard_unsaved: bool) -> list[int]:
    return [] if discard_unsaved else resource.would_keep(user_ids)


def _present(keyspace: Keyspace, user_ids: Sequence[int]) -> set[int]:
    """The users whose key exists."""
    kinds = resources.types(keyspace, user_ids)
    return {user_id for user_id, kind in kinds.items() if kind != "none"}
