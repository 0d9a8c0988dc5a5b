"""Who did what with the Reflex Arc, as rows of the admin's own log: nothing is done here unnoted.

The actions of the models' lists note the same in their rows' histories (`aevon/cache/admin.py`).
"""

from dataclasses import dataclass
from datetime import datetime

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import QuerySet

from aevon.cache.shown import visible
from aevon.operations.models import ReflexArc

TITLE_MAX = 200


@dataclass(frozen=True, slots=True)
class Record:
    """One deed: when, by whom, on which user's key, and what came of it."""

    at: datetime
    who: str
    user_id: str
    what: str
    result: str


def begin(*, operator_id: int, user_id: int, what: str) -> LogEntry:
    """Note what is about to be done, before it is: one that is cut short is noted, too."""
    return LogEntry.objects.create(
        user_id=operator_id,
        content_type=_subject(),
        object_id=str(user_id),
        object_repr=what[:TITLE_MAX],
        action_flag=CHANGE,
        change_message="Begun; it has not been noted how it ended.",
    )


def finish(entry: LogEntry, result: str) -> None:
    """Note what came of it."""
    entry.change_message = result
    entry.save(update_fields=["change_message"])


def latest(count: int, *, user_id: int | None = None) -> list[Record]:
    """The last deeds, newest first: of everybody, or concerning one user."""
    entries = _entries()
    if user_id is not None:
        entries = entries.filter(object_id=str(user_id))
    return [_record(each) for each in entries[:count]]


def _entries() -> QuerySet[LogEntry]:
    entries = LogEntry.objects.filter(content_type=_subject()).select_related("user")
    return entries.order_by("-action_time", "-pk")


def _subject() -> ContentType:
    return ContentType.objects.get_for_model(ReflexArc)


def _record(entry: LogEntry) -> Record:
    return Record(
        at=entry.action_time,
        who=visible(entry.user.get_username()),
        user_id=entry.object_id or "",
        what=visible(entry.object_repr),
        result=visible(entry.change_message),
    )
