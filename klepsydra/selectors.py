"""Reads: PsycheStates from PostgreSQL, and the answers that were given before."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from django.db import connection

from aevon.cache import rfc3339
from klepsydra.documents import TIMES, PsycheDocument
from klepsydra.models import Interaction, PsycheState

# Whoever reads a row, and whoever updates it, gets the same columns: so the same document.
COLUMNS: Final = ", ".join(PsycheDocument.__struct_fields__)
_SELECT: Final = f"SELECT {COLUMNS} FROM klepsydra_psychestate WHERE user_id "  # noqa: S608  ours


def read_documents(user_ids: Sequence[int]) -> dict[int, PsycheDocument]:
    """The PsycheStates of these users, in one query; who has none is left out."""
    with connection.cursor() as cursor:
        cursor.execute(f"{_SELECT} = ANY(%s)", [list(user_ids)])
        return {row[0]: document_of(row) for row in cursor.fetchall()}


def read_locked(user_id: int) -> PsycheDocument | None:
    """The user's PsycheState, locked until the transaction's end."""
    with connection.cursor() as cursor:
        # NO KEY: who inserts rows that refer to this one need not wait.
        cursor.execute(f"{_SELECT} = %s FOR NO KEY UPDATE", [user_id])
        row = cursor.fetchone()
    return document_of(row) if row else None


def document_of(row: Sequence[Any]) -> PsycheDocument:
    """The document of a row with `COLUMNS`."""
    values = dict(zip(PsycheDocument.__struct_fields__, row, strict=True))
    times = {name: rfc3339(values[name]) for name in TIMES if values[name] is not None}
    return PsycheDocument(**(values | times))


def users_with_psyche() -> Iterator[int]:
    """Every user with a PsycheState, in constant memory."""
    users = PsycheState.objects.order_by("pk").values_list("pk", flat=True)
    return users.iterator(chunk_size=2000)


def answer_to_key(user_id: int, idempotency_key: str) -> tuple[str, Any]:
    """The digest of the request that first came with this key, and the answer it got.

    Raises `Interaction.DoesNotExist`.
    """
    keyed = Interaction.objects.filter(user_id=user_id, idempotency_key=idempotency_key)
    return keyed.values_list("request_digest", "response").get()
