"""Write-through (protocol 2): PostgreSQL first, then, after its commit, Dragonfly.

Before the commit nothing of a write may be seen in the cache: a rollback would have to be taken
back from readers who have it already.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from django.db import models, transaction
from django.db.models.signals import post_delete, post_save

from aevon.cache import entries
from aevon.cache.entries import Projection, publish

D = TypeVar("D")

__all__ = ["follow", "publish", "publish_on_commit"]


def publish_on_commit(projection: Projection[D], user_ids: Iterable[int]) -> None:
    """After the transaction's commit, make these users' entries follow their rows.

    At once outside a transaction; never after a rollback. A user without rows loses the entry.
    Cache away: the outbox makes it follow. Costs one query and one round trip per user.
    """
    wanted = sorted(set(user_ids))
    # Robust: the write is committed, its caller must not hear of a trouble that is not theirs.
    transaction.on_commit(partial(_follow_rows, projection, wanted), robust=True)


def _follow_rows(projection: Projection[D], user_ids: list[int]) -> None:
    documents = projection.read(user_ids)
    for document in documents.values():
        entries.publish(projection, document)
    entries.drop(projection, [user_id for user_id in user_ids if user_id not in documents])


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
