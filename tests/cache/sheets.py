"""What the tests of the write-behind pattern share: user 7's document, its row and its mark."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from aevon.cache import CANVAS_INDEX, flush
from aevon.cache.connection import store
from aevon.cache.dirty_index import SHARDS
from aevon.cache.flush import Flushed
from aevon.cache.write_behind import update
from tests.cache.entry_states import life
from tests.cache.ledgers import SHEETS, Sheet, query

KEY, MARKS, SINCE = "canvas:7", "canvas:dirty:7", "canvas:since:7"


def edit(text: str = "a", user_id: int = 7, buffer: Any = SHEETS) -> Sheet:
    """An acknowledged change."""
    sheet: Sheet = update(buffer, user_id, lambda s: msgspec.structs.replace(s, text=text))
    return sheet


def add(letter: str) -> Callable[[Sheet], Sheet]:
    """A change that keeps what is there."""
    return lambda sheet: msgspec.structs.replace(sheet, text=sheet.text + letter)


def row(user_id: int = 7) -> tuple[str, int] | None:
    """Text and revision in PostgreSQL."""
    rows = query("SELECT text, revision FROM test_sheet WHERE user_id = %s", user_id)
    return rows[0] if rows else None


def save_row(text: str, revision: int, user_id: int = 7) -> None:
    """A row that has been persisted before."""
    query("INSERT INTO test_sheet VALUES (%s, %s, %s)", user_id, text, revision)


def save_row_again(text: str, revision: int, user_id: int = 7) -> None:
    """Somebody writes the row with SQL."""
    query(
        "UPDATE test_sheet SET text = %s, revision = %s WHERE user_id = %s", text, revision, user_id
    )


def marks() -> dict[str, float]:
    """What is marked: user -> revision."""
    keys = [CANVAS_INDEX.dirty.key(shard) for shard in range(SHARDS)]
    pairs = [store().command("ZRANGE", key, 0, -1, "WITHSCORES") for key in keys]
    flat = [each.decode() for pair in pairs for each in pair]
    return {user: float(score) for user, score in zip(flat[::2], flat[1::2], strict=True)}


def flush_around(
    act: Callable[[], object],
    *,
    after: bool = True,
    then: Callable[[], object] = lambda: None,
    **options: Any,
) -> Flushed:
    """A flush during which `act` runs, once: after its commit, or before it, when it has read; and
    `then` when its first batch is settled."""
    waiting, following = [act], [then]
    settle = flush.settle

    def save(sheets: Sequence[Sheet]) -> Mapping[int, str]:
        if not after and waiting:
            waiting.pop()()
        return SHEETS.save(sheets)

    def settle_late(*args: Any) -> set[int]:
        while waiting:
            waiting.pop()()
        settled = settle(*args)
        while following:
            following.pop()()
        return settled

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(flush, "settle", settle_late)
        return flush.flush(replace(SHEETS, save=save), **options)


def written_first(buffer: Any, write: Callable[[], object]) -> Any:
    """A buffer: `write()`, which writes rows with SQL, comes before each try to hold them."""

    @contextmanager
    def locked(*args: Any, **options: Any) -> Iterator[Any]:
        write()
        with buffer.locked(*args, **options) as rows:
            yield rows

    return replace(buffer, locked=locked)


def live(**members: Any) -> Sheet:
    """User 7's document, as of the server's present life."""
    return Sheet(user_id=7, incarnation=life().incarnation, **members)
