"""Reads: the last turns of users, from PostgreSQL."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from django.db.models import Exists, OuterRef

from aevon.cache import Recent, owners, prepared_cursor, rfc3339
from aevon.intents import Deed
from beep.documents import TurnDocument
from beep.models import Conversation, Turn

LIMIT: Final = 5  # protocol 3.4

# One statement is one snapshot: the last number belongs to the turns beside it.
_RECENT: Final = """
SELECT wanted.user_id, COALESCE(c.last_seq, 0), t.seq, t.command, t.response, t.at
FROM unnest(%s::bigint[]) AS wanted (user_id)
LEFT JOIN beep_conversation c ON c.user_id = wanted.user_id
LEFT JOIN LATERAL (
    SELECT seq, command, response, at FROM beep_turn
    WHERE user_id = c.user_id AND seq > c.forgotten_through
    ORDER BY seq DESC LIMIT %s
) t ON true
ORDER BY wanted.user_id, t.seq DESC
"""


def recent(user_ids: Sequence[int]) -> dict[int, Recent[TurnDocument]]:
    """The last turns of every user asked for, newest first, in one query."""
    found: dict[int, Recent[TurnDocument]] = {}
    with prepared_cursor() as cursor:
        cursor.execute(_RECENT, [list(user_ids), LIMIT])
        for user_id, last, *turn in cursor.fetchall():
            turns = found.setdefault(user_id, Recent(last, [])).elements
            if turn[0] is not None:
                turns.append(document(*turn))
    return found


def document(seq: int, command: str, response: str, at: datetime) -> TurnDocument:
    """The list's element of a turn."""
    return TurnDocument(seq=seq, command=command, response=response, at=rfc3339(at))


def document_of(turn: Turn) -> TurnDocument:
    """The list's element of a turn that was read."""
    return document(turn.seq, turn.command, turn.response, turn.at)


def users_with_turns() -> Iterator[int]:
    """Every user with a turn that is not forgotten, in constant memory."""
    told = Turn.objects.filter(conversation=OuterRef("pk"), seq__gt=OuterRef("forgotten_through"))
    return owners(Conversation.objects.filter(Exists(told)), "pk")


def undo_of(user_id: int, seq: int) -> Deed | None:
    """What takes back what a turn did; None where nothing does, or the turn is forgotten."""
    turns = Turn.objects.filter(conversation_id=user_id, seq=seq, undo__isnull=False)
    undo = turns.values_list("undo", flat=True).first()
    return Deed(undo["intent"], undo["arguments"]) if undo else None


def turn_by_key(user_id: int, idempotency_key: str) -> Turn | None:
    """The turn that a request with this key made, if there is one."""
    turns = Turn.objects.filter(conversation_id=user_id, idempotency_key=idempotency_key)
    return turns.first()
