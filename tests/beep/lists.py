"""What the tests of BEEP look at and do, on the real servers."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from aevon.cache import CONVO_HISTORY
from aevon.cache.connection import store
from beep import selectors, services
from beep.documents import TurnDocument
from beep.questions import not_understood

T = TypeVar("T")


def key(user_id: int) -> str:
    """The list's key."""
    return CONVO_HISTORY.key(user_id)


def cached(user_id: int) -> list[TurnDocument]:
    """The list as the cache holds it, newest first; a reader's lease is none."""
    raws = store().command("LRANGE", key(user_id), 0, -1)
    if len(raws) == 1 and raws[0].startswith(b'{"_lease"'):
        return []
    return [msgspec.json.decode(raw, type=TurnDocument) for raw in raws]


def recorded(user_id: int) -> list[TurnDocument]:
    """The last turns as PostgreSQL holds them, newest first."""
    return selectors.recent([user_id])[user_id].elements


def seqs(turns: Sequence[Any]) -> list[int]:
    """Their numbers."""
    return [turn.seq for turn in turns]


def speak(user_id: int, count: int) -> list[services.Answer]:
    """That many commands, one after the other."""
    return [services.command(user_id, f"words {number}") for number in range(1, count + 1)]


def record(user_id: int, text: str = "words") -> TurnDocument:
    """A turn whose process died before it told the cache."""
    return services._record(
        user_id, text, "response", resolved=not_understood(), undo=None, key=None
    )


def evict(user_id: int) -> None:
    """What memory pressure does."""
    store().command("DEL", key(user_id))


def called() -> dict[str, int]:
    """How often each command ran on the server; those inside scripts count too."""
    stats = store().client.info("commandstats")
    return {name.removeprefix("cmdstat_"): int(each["calls"]) for name, each in stats.items()}


@contextlib.contextmanager
def calls_counted() -> Iterator[dict[str, int]]:
    """The commands that ran inside the block, by name, once it has ended."""
    before = called()
    counted: dict[str, int] = {}
    yield counted
    after = called()
    del after["info"]
    counted |= {
        name: n - before.get(name, 0) for name, n in after.items() if n > before.get(name, 0)
    }
