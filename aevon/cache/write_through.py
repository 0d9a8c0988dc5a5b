"""Write-through (protocol 2): PostgreSQL first, then, after its commit, Dragonfly.

Before the commit nothing of a write may be seen in the cache: a rollback would have to be taken
back from readers who have it already.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from django.db import models
from django.db.models.signals import post_delete, post_save

from aevon.cache.entries import Projection, drop, publish
from aevon.cache.failsafe import after_commit

D = TypeVar("D")

__all__ = ["follow", "publish", "publish_on_commit"]


def publish_on_commit(projection: Projection[D], user_ids: Iterable[int]) -> None:
    """After the transaction's commit, make these users' entries follow their rows.

    At once outside a transaction; never after a rollback. A user without rows loses the entry.
    Cache away: the outbox makes it follow. Costs one query and one round trip per user.
    """
    after_commit(_follow_rows, projection, sorted(set(user_ids)))


def _follow_rows(projection: Projection[D], user_ids: list[int]) -> None:
    try:
        documents = projection.read(user_ids)
    except Exception:
        # The rows have changed and cannot be read: what is cached may not stay.
        drop(projection, user_ids)
        raise
    for document in documents.values():
        publish(projection, document)
    drop(projection, [user_id for user_id in user_ids if user_id not in documents])


def follow(
    projection: Projection[D], model: type[models.Model], user_id_of: Callable[[Any], int]
) -> None:
    """Make the entry follow every `save()` and `delete()` of `model`, in the admin too.

    `QuerySet.update()` and SQL from elsewhere send no signal: call `publish_on_commit` after
    them.
    """
    uid = f"{projection.keyspace.name}:{model._meta.label}"  # noqa: SLF001  public by convention

    def changed(instance: models.Model, **_: Any) -> None:
        publish_on_commit(projection, [user_id_of(instance)])

    post_save.connect(changed, sender=model, weak=False, dispatch_uid=f"{uid}:save")
    post_delete.connect(changed, sender=model, weak=False, dispatch_uid=f"{uid}:delete")
