"""A model behind the cache: what its reads and its bulk writes cost, and whom they tell."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from django.db.models import F

from aevon.cache import Gone, outbox, resources, write_through
from aevon.cache.cached import declared
from aevon.cache.connection import store
from aevon.cache.metrics import LOADS
from auth_sessions.models import User
from klepsydra import services
from klepsydra.documents import PsycheDocument
from klepsydra.models import PsycheState
from tests.cache.conftest import counted
from tests.cache.entry_states import got
from tests.cache.ledgers import query

pytestmark = pytest.mark.django_db(transaction=True)
CACHED = PsycheState.cached


@pytest.fixture
def players(make_user: Callable[..., User]) -> list[int]:
    """Three users with a PsycheState, which is cached."""
    users = [make_user().pk for _ in range(3)]
    for user_id in users:
        services.psyche(user_id)
    return users


def uncached(*user_ids: int) -> None:
    """Their entries are evicted."""
    store().command("DEL", *(f"psyche:{user_id}" for user_id in user_ids))


def streaks(user_ids: list[int]) -> list[Any]:
    """What the entries say; None for none, "fenced" for a fence."""
    held = [got(f"psyche:{user_id}") or {} for user_id in user_ids]
    return ["fenced" if "_fence" in each else each.get("lossStreak") for each in held]


# --- the declaration ---------------------------------------------------------------------------


def test_declaration() -> None:
    """It is found by its model, and the commands find its keyspace."""
    assert declared == [CACHED]
    assert CACHED.model is PsycheState
    assert resources.resource("psyche").projection is CACHED.projection  # type: ignore[attr-defined]


def test_columns_are_the_documents_members(players: list[int]) -> None:
    """So that a statement of one's own makes the same document."""
    rows = query(f"SELECT {CACHED.columns} FROM klepsydra_psychestate ORDER BY user_id")
    assert [CACHED.document_of(row) for row in rows] == [CACHED.get(each) for each in players]
    assert CACHED.columns.replace('"', "").split(", ") == list(PsycheDocument.__struct_fields__)


def test_users_of_all_rows(players: list[int]) -> None:
    """In order."""
    assert list(CACHED.projection.user_ids()) == players


# --- reads -------------------------------------------------------------------------------------


def test_get(players: list[int], trips: Any, django_assert_num_queries: Any) -> None:
    """A hit is one round trip and no SQL; a miss adds two and one query."""
    first = players[0]
    with trips() as t, django_assert_num_queries(0), counted(LOADS, "psyche", "hit") as hits:
        document = CACHED.get(first)
        assert (t.count, hits()) == (1, 1)
    uncached(first)
    with trips() as t, django_assert_num_queries(1), counted(LOADS, "psyche", "miss") as misses:
        assert CACHED.get(first) == document
        assert (t.count, misses()) == (3, 1)
    assert isinstance(document, PsycheDocument)
    assert document.user_id == first


def test_get_of_a_user_who_never_had_a_row(user: User, django_assert_num_queries: Any) -> None:
    """None, each time from PostgreSQL: it knows no version of that absence."""
    for _ in range(2):
        with django_assert_num_queries(1):
            assert CACHED.get(user.pk) is None
    assert store().command("EXISTS", f"psyche:{user.pk}") == 0


def test_get_many(players: list[int], trips: Any, django_assert_num_queries: Any) -> None:
    """All hits are one round trip and no SQL; all misses together add two and one query."""
    with trips() as t, django_assert_num_queries(0):
        documents = CACHED.get_many(players)
        assert t.count == 1
    assert list(documents) == players
    uncached(*players[1:])
    with trips() as t, django_assert_num_queries(1), counted(LOADS, "psyche", "hit") as hits:
        assert CACHED.get_many([*players, 999_999]) == documents
        assert (t.count, hits()) == (3, 1)
    with trips() as t, django_assert_num_queries(0):
        assert CACHED.get_many([]) == {}
        assert t.count == 0


def test_get_many_of_deleted_rows(players: list[int], django_assert_num_queries: Any) -> None:
    """Their absences are filled with their versions, and are hits then."""
    PsycheState.objects.filter(pk__in=players[:2]).delete()
    uncached(*players)
    with django_assert_num_queries(1):
        assert sorted(CACHED.get_many(players)) == players[2:]
    assert CACHED.projection.read(players[:1]) == {players[0]: Gone(2)}
    with django_assert_num_queries(0):
        assert sorted(CACHED.get_many(players)) == players[2:]


def test_reads_while_the_cache_is_away(
    players: list[int], away: None, django_assert_num_queries: Any
) -> None:
    """One query each; an absence is nobody's document."""
    PsycheState.objects.filter(pk=players[0]).delete()
    with django_assert_num_queries(3):
        assert CACHED.get(players[0]) is None
        assert CACHED.get(players[1]) is not None
        assert sorted(CACHED.get_many(players)) == players[1:]


# --- bulk writes -------------------------------------------------------------------------------


def test_update(players: list[int], trips: Any, django_assert_num_queries: Any) -> None:
    """Of three rows: two round trips; BEGIN, the lock, the update, COMMIT, and one query."""
    with trips() as t, django_assert_num_queries(5):
        assert PsycheState.objects.update(loss_streak=F("loss_streak") + 4) == 3
        assert t.count == 2
    assert streaks(players) == [4, 4, 4]
    assert {document.version for document in CACHED.get_many(players).values()} == {2}


def test_update_of_nothing(players: list[int], trips: Any, django_assert_num_queries: Any) -> None:
    """Only the lock is asked for."""
    with trips() as t, django_assert_num_queries(3):
        assert PsycheState.objects.filter(loss_streak=9).update(loss_streak=8) == 0
        assert t.count == 0


def test_update_of_what_the_update_ends(players: list[int]) -> None:
    """Rows that no longer match afterwards are followed, too."""
    streak = PsycheState.objects.filter(loss_streak=0, user__pk__in=players[:2])
    assert streak.order_by("-pk").update(loss_streak=5) == 2
    assert streaks(players) == [5, 5, 0]


@pytest.mark.parametrize("what", ["update", "delete"])
def test_slice(players: list[int], what: str) -> None:
    """Refused, as Django does."""
    before = CACHED.get_many(players)
    first_two = PsycheState.objects.order_by("pk")[:2]
    with pytest.raises(TypeError):
        first_two.update(loss_streak=3) if what == "update" else first_two.delete()
    assert CACHED.get_many(players) == before


def test_update_of_more_than_a_few(make_user: Callable[..., User], trips: Any) -> None:
    """More than a hundred lose their entries, and none is loaded."""
    users = [make_user().pk for _ in range(101)]
    PsycheState.objects.bulk_create(PsycheState(user_id=user_id, phase=0) for user_id in users)
    CACHED.get_many(users)
    with trips() as t:
        assert PsycheState.objects.update(loss_streak=1) == 101
        assert t.count == 2
    assert streaks(users) == [None] * 101
    assert {document.loss_streak for document in CACHED.get_many(users).values()} == {1}


def test_update_of_thousands(players: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not fenced, and lose their entries after the commit."""
    monkeypatch.setattr(write_through, "MANY_USERS", 2)
    with transaction.atomic():
        PsycheState.objects.update(loss_streak=5)
        assert streaks(players) == [0, 0, 0]
    assert streaks(players) == [None, None, None]


def test_delete(players: list[int], trips: Any) -> None:
    """Each leaves a tombstone, with the version of the absence: two round trips for all."""
    with trips() as t:
        assert PsycheState.objects.filter(pk__in=players[:2]).delete()[0] == 2
        assert t.count == 2
    assert [got(f"psyche:{user_id}") for user_id in players[:2]] == [{"_gone": 2}] * 2
    assert streaks(players) == [None, None, 0]


def test_bulk_create(make_user: Callable[..., User], trips: Any) -> None:
    """Fenced together; what is empty stays so: the next reader fills."""
    users = [make_user().pk for _ in range(3)]
    with trips() as t:
        PsycheState.objects.bulk_create(
            PsycheState(user_id=user_id, phase=0, loss_streak=2) for user_id in users
        )
        assert t.count == 2
    assert streaks(users) == [2, 2, 2]


@pytest.mark.parametrize("how", ["ignore", "update"])
def test_bulk_create_over_rows(players: list[int], how: str) -> None:
    """An upsert is followed as any change."""
    rows = [PsycheState(user_id=user_id, phase=0, loss_streak=2) for user_id in players]
    options: dict[str, Any] = {
        "ignore": {"ignore_conflicts": True},
        "update": {
            "update_conflicts": True,
            "unique_fields": ["user"],
            "update_fields": ["loss_streak"],
        },
    }[how]
    PsycheState.objects.bulk_create(rows, **options)
    assert streaks(players) == [{"ignore": 0, "update": 2}[how]] * 3
    assert CACHED.get_many(players) == CACHED.projection.documents(players)


def test_bulk_update(players: list[int], trips: Any) -> None:
    """Two round trips."""
    rows = list(PsycheState.objects.all())
    for row in rows:
        row.loss_streak = 6
    with trips() as t:
        PsycheState.objects.bulk_update(rows, ["loss_streak"])
        assert t.count == 2
    assert streaks(players) == [6, 6, 6]


def test_writes_while_the_cache_is_away(players: list[int], away: None) -> None:
    """They are written, and noted with their versions."""
    PsycheState.objects.update(loss_streak=1)
    PsycheState.objects.filter(pk=players[0]).delete()
    seen: dict[int, int | None] = {}
    outbox.drain({"psyche": seen.update})
    assert seen == {players[0]: 3, players[1]: 2, players[2]: 2}
