"""Cache-aside reads."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from aevon.cache import InvalidKey, cache_aside
from aevon.cache.connection import store
from aevon.cache.metrics import LOADS
from tests.cache.conftest import counted
from tests.cache.entry_states import got, note, put
from tests.cache.ledgers import NOTES, Note, add_notes
from tests.threads import in_threads
from tests.waiting import eventually

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("tables")]


def test_hit(trips: Any, django_assert_num_queries: Any) -> None:
    """One round trip and no SQL."""
    put("psyche:7", note(7))
    with trips() as t, django_assert_num_queries(0), counted(LOADS, "psyche", "hit") as more:
        assert cache_aside.load(NOTES, 7) == Note(user_id=7, text="a", version=1)
    assert (t.count, more()) == (1, 1)


def test_miss(trips: Any, django_assert_num_queries: Any) -> None:
    """Three round trips and one query; the next load is a hit."""
    add_notes(7)
    with trips() as t, django_assert_num_queries(1), counted(LOADS, "psyche", "miss") as more:
        cache_aside.load(NOTES, 7)
        assert (t.count, more()) == (3, 1)
    assert got("psyche:7") == note(7)
    with django_assert_num_queries(0):
        assert cache_aside.load(NOTES, 7) == Note(user_id=7, text="a", version=1)


def test_user_id_that_is_a_text() -> None:
    """As it comes with a URL: the same user, whose entry stays."""
    add_notes(7)
    for _ in ("a miss", "a hit"):
        assert cache_aside.load(NOTES, "7") == Note(user_id=7, text="a", version=1)  # type: ignore[arg-type]
        assert list(cache_aside.load_many(NOTES, ["7"])) == [7]  # type: ignore[list-item]
        assert got("psyche:7") == note(7)


def test_readers_who_find_no_connection_free(settings: Any, askers: list[Any]) -> None:
    """They ask PostgreSQL for each other, too: not every one of them."""
    settings.AEVON_CACHE = {**settings.AEVON_CACHE, "POOL_SIZE": 1, "POOL_WAIT_SECONDS": 0.1}
    asked: list[int] = []

    def read(user_ids: Sequence[int]) -> dict[int, Note]:
        asked.extend(user_ids)
        assert eventually(lambda: len(askers) == 20)
        return {7: Note(user_id=7, text="a", version=1)}

    counting = replace(NOTES, read=read)
    taken = store().pool.get_connection()
    found = in_threads([partial(cache_aside.load, counting, 7)] * 20, workers=20)
    store().pool.release(taken)
    assert found == [Note(user_id=7, text="a", version=1)] * 20
    assert 1 <= len(asked) <= 2


def test_user_without_a_row() -> None:
    """None, and no key stays: nobody knows as of which version."""
    assert cache_aside.load(NOTES, 7) is None
    assert store().command("DBSIZE") == 0


def test_load_while_the_cache_is_away(away: None) -> None:
    """PostgreSQL answers; nothing is raised."""
    add_notes(7)
    with counted(LOADS, "psyche", "away") as more:
        assert cache_aside.load(NOTES, 7) == Note(user_id=7, text="a", version=1)
        assert cache_aside.load(NOTES, 8) is None
    assert more() == 2


def test_load_while_the_cache_is_full(full: None) -> None:
    """PostgreSQL answers, held entries are still hits."""
    add_notes(7)
    assert cache_aside.load(NOTES, 7) == Note(user_id=7, text="a", version=1)
    assert store().command("DBSIZE") == 0


def test_load_of_what_is_not_a_user() -> None:
    """Refused before anything is asked."""
    with pytest.raises(InvalidKey):
        cache_aside.load(NOTES, -1)


def test_many_hits(trips: Any, django_assert_num_queries: Any) -> None:
    """One round trip for all of them, and no SQL."""
    for user_id in range(1, 51):
        put(f"psyche:{user_id}", note(user_id))
    with trips() as t, django_assert_num_queries(0):
        assert sorted(cache_aside.load_many(NOTES, range(1, 51))) == list(range(1, 51))
    assert t.count == 1


def test_many_misses(trips: Any, django_assert_num_queries: Any) -> None:
    """Three round trips and one query for all of them; who has no row is left out."""
    add_notes(*range(1, 50))
    put("psyche:1", note(1, "hit", 2))
    with trips() as t, django_assert_num_queries(1):
        documents = cache_aside.load_many(NOTES, range(1, 52))
    assert (t.count, sorted(documents)) == (3, list(range(1, 50)))
    assert (documents[1].text, documents[2].text) == ("hit", "a")
    assert store().command("DBSIZE") == 49


def test_many_of_nobody(trips: Any, django_assert_num_queries: Any) -> None:
    """Nothing is asked."""
    with trips() as t, django_assert_num_queries(0):
        assert cache_aside.load_many(NOTES, []) == {}
    assert t.count == 0


def test_many_while_the_cache_is_away(away: None, django_assert_num_queries: Any) -> None:
    """One query for all of them."""
    add_notes(1, 2, 3)
    with django_assert_num_queries(1), counted(LOADS, "psyche", "away") as more:
        assert sorted(cache_aside.load_many(NOTES, [1, 2, 3, 4])) == [1, 2, 3]
    assert more() == 1


def test_many_with_unreadable_ones() -> None:
    """They are replaced; a key of another type looks empty to MGET and is served from PostgreSQL,
    until a single load replaces it."""
    add_notes(1, 2, 3)
    put("psyche:1", b"rubbish")
    put("psyche:2", note(9))
    store().command("LPUSH", "psyche:3", "x")
    assert sorted(cache_aside.load_many(NOTES, [1, 2, 3])) == [1, 2, 3]
    assert (got("psyche:1"), got("psyche:2")) == (note(1), note(2))
    cache_aside.load(NOTES, 3)
    assert got("psyche:3") == note(3)
