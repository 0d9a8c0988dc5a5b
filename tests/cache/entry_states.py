"""What a key may hold, put there and looked at by hand."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from aevon.cache import Gone, Projection, codec
from aevon.cache.connection import Life, store
from tests.cache.ledgers import Note, query

D = TypeVar("D")


def put(key: str, value: bytes | dict[str, Any], *options: object) -> None:
    """Somebody writes a key by hand; `value` as it is when it is bytes, else as JSON; a state as
    one of the server's present life."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    if isinstance(value, dict) and {"version", "revision", "_gone"} & value.keys():
        raw = codec.stamped(raw, life().incarnation)
    store().command("SET", key, raw, *options)


def life() -> Life:
    """The server's present life."""
    return store().exchange([("PING",)]).life


def element(text: str) -> bytes:
    """An element of a list that was filled in the server's present life."""
    return codec.stamped(text.encode(), life().incarnation)


def got(key: str) -> Any:
    """The value of a key, read as JSON, without its stamp; None for no key."""
    raw = store().command("GET", key)
    if raw is None:
        return None
    value = json.loads(raw)
    if isinstance(value, dict):
        value.pop("_incarnation", None)
    return value


def note(user_id: int, text: str = "a", version: int = 1) -> dict[str, Any]:
    """The JSON of a `Note`."""
    return {"userId": user_id, "text": text, "version": version}


def fence_runs_out(key: str) -> None:
    """What the server does when the last mark of a fence is past its deadline."""
    assert "_fence" in (got(key) or {})
    assert 0 < store().command("PTTL", key) <= 5_000
    store().command("DEL", key)


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

    def read(user_ids: Sequence[int]) -> Mapping[int, D | Gone]:
        documents = projection.read(user_ids)
        while waiting:
            waiting.pop()()
        return documents

    return replace(projection, read=read)
