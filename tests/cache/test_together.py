"""Several things in one round trip: what is wrong with one is nothing to the others."""

from typing import Any

import pytest

from aevon.cache import CacheError, Read, bounded_list, together, write_behind
from aevon.cache.connection import store
from aevon.cache.metrics import LOADS
from tests.cache.conftest import back, counted
from tests.cache.entry_states import got
from tests.cache.ledgers import LINES, SHEETS, Line, Sheet, add_lines, query

pytestmark = pytest.mark.django_db

LIST, DOCUMENT = "convo_history:7", "canvas:7"
LINE = Line(seq=1, text="line 1")


@pytest.fixture(autouse=True)
def rows(tables: None) -> None:
    """One line and one sheet, which are in the cache, too."""
    add_lines(7, 1)
    query("INSERT INTO test_sheet VALUES (7, 'a sheet', 3)")
    both()


def both() -> tuple[list[Line], Sheet]:
    """A list and a live document."""
    return together(bounded_list.reading(LINES, 7), write_behind.reading(SHEETS, 7))


def assert_both() -> None:
    """They are what PostgreSQL has."""
    lines, sheet = both()
    assert (lines, sheet.text, sheet.revision) == ([LINE], "a sheet", 3)


def test_both_hit(trips: Any, django_assert_num_queries: Any) -> None:
    """One round trip and no SQL; both are counted."""
    with (
        counted(LOADS, "convo_history", "hit") as lists,
        counted(LOADS, "canvas", "hit") as documents,
        trips() as t,
        django_assert_num_queries(0),
    ):
        assert_both()
    assert (t.count, lists(), documents()) == (1, 1, 1)


@pytest.mark.parametrize("missing", [[LIST], [DOCUMENT], [LIST, DOCUMENT]])
def test_one_missing(missing: list[str], trips: Any, django_assert_num_queries: Any) -> None:
    """It costs what it costs alone, one query and two round trips more, and is there again."""
    bounded_list.rebuild(LINES, [8])  # sends the scripts
    store().command("DEL", *missing)
    with trips() as t, django_assert_num_queries(len(missing)):
        assert_both()
    assert t.count == 1 + 2 * len(missing)
    with django_assert_num_queries(0):
        assert_both()


@pytest.mark.parametrize(
    ("broken", "keyspace", "wrong"),
    [
        (LIST, "convo_history", ("SET", LIST, "a string")),
        (LIST, "convo_history", ("RPUSH", LIST, "{")),
        (DOCUMENT, "canvas", ("RPUSH", DOCUMENT, "an element")),
        (DOCUMENT, "canvas", ("SET", DOCUMENT, "{")),
    ],
)
def test_one_corrupt(
    broken: str, keyspace: str, wrong: tuple[str, ...], django_assert_num_queries: Any
) -> None:
    """Of another type, or unreadable: it is replaced, and the other is a hit all the same."""
    store().command("DEL", broken)
    store().command(*wrong)
    with counted(LOADS, keyspace, "corrupt") as more, django_assert_num_queries(1):
        assert_both()
    assert more() == 1
    with django_assert_num_queries(0):
        assert_both()


def test_cache_away(server: Any, brief: None) -> None:
    """Both come from PostgreSQL, also while nobody asks the cache; then from the cache again."""
    server.kill()
    for _ in range(2):
        with counted(LOADS, "canvas", "away") as more:
            assert_both()
        assert more() == 1
    server.start()
    back()
    assert_both()
    assert got(DOCUMENT)["text"] == "a sheet"


def test_one_refused() -> None:
    """A call that is wrong in itself is the caller's to hear of."""
    wrong: Read[None] = Read(("NOSUCHCOMMAND",), lambda *_: None, lambda: None)
    with pytest.raises(CacheError, match="NOSUCHCOMMAND"):
        together(bounded_list.reading(LINES, 7), wrong)


def test_three() -> None:
    """As many as one likes, in their order."""
    reads = [bounded_list.reading(LINES, user_id) for user_id in (8, 7, 9)]
    assert together(reads[0], reads[1], reads[2]) == ([], [LINE], [])
