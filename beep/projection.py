"""How turns become `convo_history:{userId}`, and what makes the list follow them."""

from typing import Any, Final

from django.db.models import Model, QuerySet
from django.db.models.signals import post_delete

from aevon.cache import (
    CONVO_HISTORY,
    BoundedList,
    ListResource,
    after_commit,
    bounded_list,
    register,
)
from beep import selectors
from beep.documents import TurnDocument
from beep.models import Conversation, Turn

CONVO: Final = BoundedList(
    keyspace=CONVO_HISTORY,
    element=TurnDocument,
    limit=selectors.LIMIT,
    recent=selectors.recent,
    user_ids=selectors.users_with_turns,
)


def connect() -> None:
    """Register the list and follow what the admin deletes."""
    register(ListResource(CONVO))
    post_delete.connect(_turn_deleted, sender=Turn, dispatch_uid="beep:turn-deleted")
    post_delete.connect(_conversation_deleted, sender=Conversation, dispatch_uid="beep:deleted")


def forget_on_commit(user_id: int) -> None:
    """Remove the list after the commit; at once outside a transaction. Cache away: the outbox."""
    after_commit(bounded_list.forget, CONVO, [user_id])


def _turn_deleted(*, instance: Turn, origin: Model | QuerySet[Any] | None, **_: Any) -> None:
    """Turns that go with their conversation or user cost nothing each: it says so once."""
    source = origin.model if isinstance(origin, QuerySet) else type(origin)
    if source is Turn:
        forget_on_commit(instance.conversation_id)


def _conversation_deleted(*, instance: Conversation, **_: Any) -> None:
    forget_on_commit(instance.pk)
