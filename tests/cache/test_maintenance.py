"""Warm-up, flush and audit over real rows and a real cache server."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.db import OperationalError, connection

import aevon.cache.flush as flush_module
from aevon.cache import CacheUnavailable, cache_aside, stats, write_behind
from aevon.cache.codec import encode, stamped
from aevon.cache.connection import store
from aevon.cache.keyspace import PSYCHE
from aevon.cache.maintenance import audit, auditing, consistency, flush, warm_up
from aevon.cache.resources import EntryResource
from aevon.cache.user_ranges import parse_users
from auth_sessions.models import User
from tests.cache import entry_states, ledgers
from tests.cache.entry_states import element, life
from tests.cache.ledgers import (
    ALL,
    LINE_RESOURCE,
    NOTE_RESOURCE,
    NOTES,
    POISON,
    SHEET_RESOURCE,
    SHEETS,
    Note,
    add_lines,
    add_notes,
    query,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("tables")]


class Watch:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.done: dict[str, int] = {}
        self.totals: dict[str, int | None] = {}

    def start(self, service: str, count: Any) -> None:
        self.service = service
        self.totals[service] = count() if count is not None else None

    def advance(self, users: int) -> None:
        self.done[self.service] = self.done.get(self.service, 0) + users


def edit_sheet(user_id: int, text: str) -> None:
    """An acknowledged change that PostgreSQL does not have yet."""
    write_behind.update(
        SHEETS,
        user_id,
        lambda sheet: ledgers.Sheet(user_id=user_id, text=text, revision=sheet.revision),
    )


def keys() -> set[str]:
    """Every key on the server."""
    return set(store().scan("*"))


def put(key: str, value: object) -> None:
    """Somebody writes a key by hand."""
    store().command("SET", key, value if isinstance(value, bytes) else json.dumps(value))


# --- warm-up -----------------------------------------------------------------------------------


def test_warm_up_loads_every_row_of_every_service() -> None:
    """Both documents and lists are there afterwards."""
    add_notes(1, 2, 3)
    add_lines(2, 7)
    query("INSERT INTO test_sheet VALUES (3, 'x', 4)")
    warmed = {each.service: each for each in warm_up(ALL)}
    assert keys() == {"psyche:1", "psyche:2", "psyche:3", "convo_history:2", "canvas:3"}
    assert [warmed[s].loaded for s in ("psyche", "canvas", "convo_history")] == [3, 1, 1]
    assert store().command("LLEN", "convo_history:2") == 5


def test_warm_up_does_not_overwrite_what_is_newer() -> None:
    """An unsaved document stays as it is, byte for byte."""
    query("INSERT INTO test_sheet VALUES (3, 'saved', 4)")
    edit_sheet(3, "newer")
    before = store().command("GET", "canvas:3")
    [warmed] = warm_up([SHEET_RESOURCE])
    assert store().command("GET", "canvas:3") == before
    assert (warmed.cached, warmed.loaded) == (1, 0)


def test_warm_up_of_named_users_loads_only_those_with_rows() -> None:
    """A user without a row leaves no key, not even a lease."""
    add_notes(1, 2, 9)
    [warmed] = warm_up([NOTE_RESOURCE], parse_users("2,5-9"))
    assert keys() == {"psyche:2", "psyche:9"}
    assert (warmed.users, warmed.cached, warmed.failed) == (2, 2, 0)


def test_warm_up_of_a_huge_range_goes_through_the_rows_instead() -> None:
    """Nobody counts to 2^63."""
    add_notes(1, 2, 9)
    [warmed] = warm_up([NOTE_RESOURCE], parse_users("2-9223372036854775807"))
    assert warmed.loaded == 2
    assert keys() == {"psyche:2", "psyche:9"}


def test_warm_up_takes_few_queries_per_batch(django_assert_num_queries: Any) -> None:
    """One for the ids, one per batch of rows."""
    add_notes(*range(1, 26))
    with django_assert_num_queries(1 + 3):
        warm_up([NOTE_RESOURCE], batch=10)


def test_warm_up_tells_how_far_it_is() -> None:
    """Total and steps per service."""
    add_notes(*range(1, 26))
    watch = Watch()
    warm_up([NOTE_RESOURCE], batch=10, progress=watch)
    assert watch.totals == {"psyche": 25} == watch.done


def test_warm_up_of_a_full_cache_counts_what_failed() -> None:
    """Rows that could not be cached are not reported as cached."""
    add_notes(1, 2)
    store().command("CONFIG", "SET", "maxmemory", 1)
    try:
        [warmed] = warm_up([NOTE_RESOURCE])
    finally:
        store().command("CONFIG", "SET", "maxmemory", 0)
    assert (warmed.users, warmed.cached, warmed.failed) == (2, 0, 2)


def test_warm_up_without_a_cache_raises(away: None) -> None:
    """A warm-up that warmed nothing is no success."""
    add_notes(1)
    with pytest.raises(CacheUnavailable):
        warm_up([NOTE_RESOURCE])


# --- flush -------------------------------------------------------------------------------------

FOREIGN = (
    "psyche:abc",
    "psyche:01",
    "psyche:1:2",
    "psyche:9999999999999999999",
    "psychedelic:1",
    "django:1:a",
    "celery:broker:celery",
    "auth:login-name:1",
    "_kombu.binding.celery",
)


def test_flush_removes_exactly_the_projects_own_entries() -> None:
    """Keys of Celery, of Django, of the login limits and of others stay."""
    for key in FOREIGN:
        put(key, 1)
    add_notes(1, 2)
    add_lines(2, 1)
    warm_up(ALL)
    flushed = {each.service: each.removed for each in flush(ALL)}
    assert keys() == set(FOREIGN)
    assert flushed == {"psyche": 2, "canvas": 0, "convo_history": 1}


def test_flush_removes_leases_corrupt_entries_and_foreign_types() -> None:
    """Whatever stands under a user's key."""
    put("psyche:1", {"_lease": "x"})
    put("psyche:2", b"\xff")
    store().command("HSET", "psyche:3", "a", 1)
    [emptied] = flush([NOTE_RESOURCE])
    assert (emptied.removed, keys()) == (3, set())


def test_flush_of_one_user_leaves_the_others() -> None:
    """`--service psyche --users 2`."""
    add_notes(1, 2, 3)
    warm_up([NOTE_RESOURCE])
    [emptied] = flush([NOTE_RESOURCE], parse_users("2,7"))
    assert emptied.removed == 1
    assert keys() == {"psyche:1", "psyche:3"}


def test_flush_of_a_huge_range_goes_through_the_keys_instead() -> None:
    """Nobody counts to 2^63."""
    add_notes(1, 20_000)
    warm_up([NOTE_RESOURCE])
    [emptied] = flush([NOTE_RESOURCE], parse_users("2-9223372036854775807"))
    assert (emptied.removed, keys()) == (1, {"psyche:1"})


def test_flush_in_dry_run_counts_and_touches_nothing() -> None:
    """The unsaved document is not even persisted."""
    add_notes(1, 2)
    warm_up([NOTE_RESOURCE])
    edit_sheet(1, "unsaved")
    before = keys()
    assert [each.removed for each in flush(ALL, dry_run=True)] == [2, 1, 0]
    assert keys() == before
    assert query("SELECT * FROM test_sheet") == []


def test_flush_persists_unsaved_documents_first() -> None:
    """The row has the change, the key and its mark are gone."""
    edit_sheet(4, "unsaved")
    [emptied] = flush([SHEET_RESOURCE])
    assert (emptied.removed, emptied.kept, keys()) == (1, 0, set())
    assert query("SELECT text, revision FROM test_sheet") == [("unsaved", 1)]


def test_flush_keeps_a_document_that_postgresql_refuses() -> None:
    """It stays with its mark; the other is persisted and removed."""
    edit_sheet(4, POISON)
    edit_sheet(5, "fine")
    [emptied] = flush([SHEET_RESOURCE])
    assert (emptied.removed, emptied.kept) == (1, 1)
    assert "canvas:4" in keys()
    assert "canvas:5" not in keys()


def test_flush_told_to_discard_throws_unsaved_documents_away() -> None:
    """Neither key nor mark nor row is left."""
    edit_sheet(4, POISON)
    [emptied] = flush([SHEET_RESOURCE], discard_unsaved=True)
    assert (emptied.removed, emptied.kept, keys()) == (1, 0, set())
    assert query("SELECT * FROM test_sheet") == []


def test_flush_keeps_a_document_that_changes_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A change between persisting and removing is not lost."""
    edit_sheet(4, "first")
    settle = flush_module.settle

    def settle_late(*args: Any) -> set[int]:
        edit_sheet(4, "later")
        return settle(*args)

    monkeypatch.setattr(flush_module, "settle", settle_late)
    [emptied] = flush([SHEET_RESOURCE])
    assert (emptied.removed, emptied.kept) == (0, 1)
    assert write_behind.load(SHEETS, 4).text == "later"


def test_flush_removes_a_document_that_changed_once_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is tried once more, and what is removed has been persisted."""
    edit_sheet(4, "first")
    settle, changes = flush_module.settle, ["later"]

    def settle_late(*args: Any) -> set[int]:
        if changes:
            edit_sheet(4, changes.pop())
        return settle(*args)

    monkeypatch.setattr(flush_module, "settle", settle_late)
    [emptied] = flush([SHEET_RESOURCE])
    assert (emptied.removed, emptied.kept, keys()) == (1, 0, set())
    assert query("SELECT text FROM test_sheet") == [("later",)]


def test_flush_without_postgresql_keeps_what_is_unsaved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is saved goes all the same."""
    query("INSERT INTO test_sheet VALUES (3, 'saved', 4)")
    warm_up([SHEET_RESOURCE])
    edit_sheet(4, "unsaved")
    monkeypatch.setattr(connection, "cursor", _refuse)
    [emptied] = flush([SHEET_RESOURCE])
    assert (emptied.removed, emptied.kept) == (1, 1)
    assert "canvas:4" in keys()
    assert "canvas:3" not in keys()


def _refuse() -> Iterator[Any]:
    raise OperationalError("the connection is closed")


def test_flush_goes_in_batches_and_tells_how_far_it_is() -> None:
    """More keys than one batch."""
    add_notes(*range(1, 26))
    warm_up([NOTE_RESOURCE])
    watch = Watch()
    [emptied] = flush([NOTE_RESOURCE], batch=10, progress=watch)
    assert emptied.removed == 25
    assert watch.totals == {"psyche": None}
    assert watch.done["psyche"] >= 25


def test_flush_of_an_entry_leaves_a_slow_reader_nothing_to_fill() -> None:
    """The lease goes with the flush."""
    add_notes(1)

    def read_and_flush(user_ids: Any) -> dict[int, Note]:
        notes = ledgers._notes(user_ids)
        flush([NOTE_RESOURCE])
        return notes

    cache_aside.load(replace(NOTES, read=read_and_flush), 1)
    assert keys() == set()


def test_flush_without_a_cache_raises(away: None) -> None:
    """A flush that removed nothing is no success."""
    with pytest.raises(CacheUnavailable):
        flush([NOTE_RESOURCE])


# --- audit -------------------------------------------------------------------------------------


def note(user_id: int, text: str = "a", version: int = 1) -> bytes:
    """A cached document's bytes."""
    return stamped(encode(Note(user_id=user_id, text=text, version=version)), life().incarnation)


def put_one_of_each() -> None:
    """Five notes: in sync, stale, missing, corrupt, of a foreign type; and one without a row."""
    add_notes(1, 2, 3, 4, 5)
    put("psyche:1", note(1))
    put("psyche:2", note(2, "by hand"))
    put("psyche:4", b"{")
    store().command("SADD", "psyche:5", "a")
    put("psyche:6", note(6))


def test_audit_tells_the_verdicts_apart() -> None:
    """Each user once, foreign keys left out; the consistency is that of the cached entries."""
    put_one_of_each()
    put("psyche:abc", 1)
    [audited] = audit([NOTE_RESOURCE])
    assert dict(audited.counts) == {"in sync": 1, "stale": 2, "missing": 1, "corrupt": 2}
    assert (audited.cached, audited.wrong) == (5, 4)
    assert consistency([audited]) == pytest.approx(1 / 5)


def test_an_empty_text_is_corrupt_and_replaced_by_the_next_reader() -> None:
    """Its bytes cannot stand for "what I found", since nothing has the same."""
    add_notes(1)
    put("psyche:1", b"")
    assert dict(audit([NOTE_RESOURCE])[0].counts) == {"corrupt": 1}
    cache_aside.load(NOTES, 1)
    assert store().command("GET", "psyche:1") == note(1)


def test_audit_counts_unsaved_documents_as_consistent() -> None:
    """With and without a row."""
    query("INSERT INTO test_sheet VALUES (1, 'saved', 4), (2, 'saved', 1)")
    edit_sheet(1, "newer")
    edit_sheet(9, "no row yet")
    entry_states.put("canvas:2", {"userId": 2, "text": "other", "revision": 1})
    [audited] = audit([SHEET_RESOURCE])
    assert dict(audited.counts) == {"unsaved": 2, "stale": 1}
    assert consistency([audited]) == pytest.approx(2 / 3)


def test_audit_of_lists() -> None:
    """In sync, too short, missing, unreadable, of a foreign type, of a user without turns."""
    for user_id in (1, 2, 3, 4, 5):
        add_lines(user_id, 3)
    warm_up([LINE_RESOURCE])
    store().command("LPOP", "convo_history:2")
    store().command("DEL", "convo_history:3")
    store().command("LPUSH", "convo_history:4", "{")
    put("convo_history:5", 1)
    store().command("LPUSH", "convo_history:6", element('{"seq":1,"text":"a"}'))
    [audited] = audit([LINE_RESOURCE])
    assert dict(audited.counts) == {"in sync": 1, "stale": 2, "missing": 1, "corrupt": 2}


def test_audit_of_nothing_is_fully_consistent() -> None:
    """An empty cache tells no lies."""
    assert consistency(audit(ALL)) == 1.0


def test_audit_takes_two_queries_and_few_round_trips_per_batch(
    django_assert_num_queries: Any,
) -> None:
    """One query for the ids, one per batch of PostgreSQL's users, one per batch of the cache's."""
    add_notes(*range(1, 31))
    warm_up([NOTE_RESOURCE])
    before = store().info()["total_commands_processed"]
    with django_assert_num_queries(1 + 1 + 1):
        audit([NOTE_RESOURCE])
    assert store().info()["total_commands_processed"] - before < 10


def test_audit_with_repair_makes_wrong_entries_follow() -> None:
    """Afterwards a second audit finds nothing wrong, and readers find the rows."""
    put_one_of_each()
    [audited] = audit([NOTE_RESOURCE], repair=True)
    assert (audited.wrong, audited.repaired) == (4, 4)
    assert audit([NOTE_RESOURCE])[0].wrong == 0
    loaded = cache_aside.load(NOTES, 2)
    assert loaded is not None
    assert loaded.text == "a"


def test_audit_does_not_call_a_repair_what_repaired_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stale document that claims to be unsaved stays and stays counted."""
    query("INSERT INTO test_sheet VALUES (1, 'saved', 4)")
    entry_states.put("canvas:1", {"userId": 1, "text": "old", "revision": 2, "_dirtySince": 1.0})
    [audited] = audit([SHEET_RESOURCE], repair=True)
    assert (audited.wrong, audited.repaired) == (1, 0)


def test_audit_looks_twice_before_it_calls_an_entry_stale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A write that was under way between the two reads has finished by then."""
    add_notes(1, version=2)
    put("psyche:1", note(1, version=1))
    monkeypatch.setattr(auditing.time, "sleep", lambda _: put("psyche:1", note(1, version=2)))
    assert dict(audit([NOTE_RESOURCE])[0].counts) == {"in sync": 1}


@pytest.mark.parametrize("size", [1, 3, 10, 100])
def test_audit_of_a_sample_looks_at_so_many_users(size: int) -> None:
    """Never more than asked for, and all there are where there are fewer."""
    add_notes(*range(1, 21))
    warm_up([NOTE_RESOURCE], parse_users("1-10"))
    [audited] = audit([NOTE_RESOURCE], sample=size)
    assert audited.counts.total() == min(size, 20)


def test_a_draw_gives_every_item_the_same_chance() -> None:
    """1,000 draws of 5 from 20: each comes about 250 times."""
    random.seed(1)
    drawn = [item for _ in range(1000) for item in auditing._draw(iter(range(20)), 5)]
    counts = [drawn.count(item) for item in range(20)]
    assert sum(counts) == 5000
    assert all(180 < count < 320 for count in counts)


# --- draws where there are many ------------------------------------------------------------------


@pytest.fixture
def crowd() -> list[int]:
    """The ids of 200 users."""
    users = [User(username=f"crowd{n}", email=f"crowd{n}@example.org") for n in range(200)]
    return [user.pk for user in User.objects.bulk_create(users)]


def refuse_to_walk() -> Iterator[int]:
    """Nobody may go through all users."""
    raise AssertionError


def test_a_draw_from_many_users_goes_through_none_of_the_others(crowd: list[int]) -> None:
    """Ids are guessed, those without a row passed over."""
    add_notes(*crowd[::2])
    notes = EntryResource(replace(NOTES, user_ids=refuse_to_walk))
    drawn = {user_id for _ in range(20) for user_id in auditing._draw_from_rows(notes, 2)}
    assert drawn <= set(crowd[::2])
    assert len(drawn) > 10


def test_a_draw_from_many_users_of_whom_few_have_rows(crowd: list[int]) -> None:
    """Guessing finds too few: then it goes through those that there are."""
    rows = [crowd[-1] + 1000, crowd[-1] + 2000]
    add_notes(*rows)
    assert sorted(auditing._draw_from_rows(NOTE_RESOURCE, 2)) == rows


def scans() -> int:
    """SCANs that the server has answered."""
    return int(store().command("INFO", "commandstats").get("cmdstat_scan", {}).get("calls", 0))


def fill(count: int) -> None:
    """So many notes and lists in the cache, of users without rows."""
    for user_id in range(1, count + 1):
        put(f"psyche:{user_id}", note(user_id))
        store().command("LPUSH", f"convo_history:{user_id}", "{}")


def test_a_draw_from_many_keys_goes_through_none_of_the_others() -> None:
    """RANDOMKEY, foreign keys passed over."""
    fill(100)
    before = scans()
    drawn = {user_id for _ in range(20) for user_id in auditing._draw_from_keys(PSYCHE, 2)}
    assert scans() == before
    assert drawn <= set(range(1, 101))
    assert len(drawn) > 10


def test_a_draw_from_many_keys_that_are_nearly_all_foreign() -> None:
    """So many draws and no more; few are found, or none."""
    for number in range(200):
        put(f"django:1:{number}", 1)
    put("psyche:7", note(7))
    assert set(auditing._draw_from_keys(PSYCHE, 2)) <= {7}


def test_a_draw_on_a_server_that_draws_no_keys() -> None:
    """It goes through all keys instead."""
    fill(100)
    store().command("ACL", "SETUSER", "default", "-randomkey")
    try:
        assert len(auditing._draw_from_keys(PSYCHE, 2)) == 2
    finally:
        store().command("ACL", "SETUSER", "default", "+randomkey")


def test_a_sample_of_many(crowd: list[int]) -> None:
    """Users who are only in PostgreSQL and those who are only in the cache, both."""
    add_notes(*crowd)
    for user_id in range(10_001, 10_201):
        put(f"psyche:{user_id}", note(user_id))
    counts: Counter[str] = Counter()
    for _ in range(20):
        [audited] = audit([NOTE_RESOURCE], sample=3)
        counts.update(audited.counts)
    assert counts.total() == 60
    assert counts["missing"] > 10
    assert counts["stale"] > 10


def test_a_sample_without_a_cache_raises(away: None) -> None:
    """What was not compared is not consistent."""
    add_notes(1)
    with pytest.raises(CacheUnavailable):
        audit([NOTE_RESOURCE], sample=1)


def test_maintenance_is_not_counted_as_traffic() -> None:
    """Hit rates tell about readers, not about audits."""
    add_notes(1, 2)
    warm_up([NOTE_RESOURCE])
    before = stats.loads().get("psyche", {}).copy()
    audit([NOTE_RESOURCE])
    flush([NOTE_RESOURCE])
    assert stats.loads().get("psyche", {}) == before
