"""What a key may hold, put there and looked at by hand."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from aevon.cache import Projection
from aevon.cache.connection import store
from tests.cache.ledgers import Note, query

D = TypeVar("D")


def put(key: str, value: object, *options: object) -> None:
    """Somebody writes a key by hand; `value` as it is when it is bytes, else as JSON."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    store().command("SET", key, raw, *options)


def got(key: str) -> Any:
    """The value of a key, read as JSON; None for no key."""
    raw = store().command("GET", key)
    return None if raw is None else json.loads(raw)


def note(user_id: int, text: str = "a", version: int = 1) -> dict[str, Any]:
    """The JSON of a `Note`."""
    return {"userId": user_id, "text": text, "version": version}


def write(user_id: int, text: str, version: int) -> Note:
    """A committed row, and its document."""
    query(
        "INSERT INTO test_note VALUES (%s, %s, %s) ON CONFLICT (user_id) DO UPDATE"
        " SET text = excluded.text, version = excluded.version",
        user_id,
        text,
        version,
    )
    return Note(user_id=user_id, text=text, version=version)


def between(projection: Projection[D], act: Callable[[], object]) -> Projection[D]:
    """The projection whose reader is overtaken: `act` runs, once, after its SELECT."""
    waiting = [act]

    def read(user_ids: Sequence[int]) -> dict[int, D]:
        documents = projection.read(user_ids)
        while waiting:
            waiting.pop()()
        return documents

    return replace(projection, read=read)
