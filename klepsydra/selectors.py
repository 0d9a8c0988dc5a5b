"""Reads: PsycheStates past the cache, and the answers that were given before."""

from typing import Any, Final

from aevon.cache import prepared_cursor
from klepsydra.documents import PsycheDocument
from klepsydra.models import Interaction, PsycheState

# Whoever reads a row, and whoever updates it, gets the same columns: so the same document.
COLUMNS: Final = PsycheState.cached.columns
document_of: Final = PsycheState.cached.document_of


def read_locked(user_id: int) -> PsycheDocument | None:
    """The user's PsycheState, locked until the transaction's end."""
    with prepared_cursor() as cursor:
        # NO KEY: who inserts rows that refer to this one need not wait.
        cursor.execute(
            f"SELECT {COLUMNS} FROM klepsydra_psychestate WHERE user_id = %s FOR NO KEY UPDATE",  # noqa: S608  names of this file
            [user_id],
        )
        row = cursor.fetchone()
    return document_of(row) if row else None


def answer_to_key(user_id: int, idempotency_key: str) -> tuple[str, Any]:
    """The digest of the request that first came with this key, and the answer it got.

    Raises `Interaction.DoesNotExist`.
    """
    keyed = Interaction.objects.filter(user_id=user_id, idempotency_key=idempotency_key)
    return keyed.values_list("request_digest", "response").get()
