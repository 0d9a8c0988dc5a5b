"""Statements that are planned once per connection."""

import psycopg
import pytest
from django.db import NotSupportedError, connection, transaction

from aevon.cache import of_one_type, prepared_cursor
from auth_sessions.models import User
from klepsydra import services
from klepsydra.models import PsycheState
from tests.servers import database_url

pytestmark = pytest.mark.django_db


def prepared(part: str) -> int:
    """How many statements with this part this connection has prepared."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_prepared_statements"
            " WHERE strpos(statement, %s) > 0 AND strpos(statement, 'pg_prepared_statements') = 0",
            [part],
        )
        count: int = cursor.fetchone()[0]
        return count


def test_interactions_share_one_plan() -> None:
    """Whatever the sizes of the numbers: by their own types each would be a statement more."""
    user = User.objects.create_user("alice")
    services.begin([user.pk])
    for version, stake in ((1, 1), (40_000, 30_000), (2**33, 7)):
        PsycheState.objects.filter(pk=user.pk).update(loss_streak=min(version, 2**31 - 2))
        services.play(user.pk, "spinforge", min(stake, 100))
    assert prepared("INSERT INTO klepsydra_interaction") == 1


def test_reads_of_a_row_share_one_plan() -> None:
    user = User.objects.create_user("alice")
    services.begin([user.pk])
    for _ in range(3):
        PsycheState.cached.projection.read_one(user.pk)
    assert prepared("LEFT JOIN") == 1


@pytest.mark.django_db(transaction=True)
def test_table_that_is_changed_while_it_is_read() -> None:
    """By a migration, for example. Within a transaction that fails, and heals with its end."""
    user = User.objects.create_user("alice")
    services.begin([user.pk])
    read = PsycheState.cached.projection.read_one
    assert read(user.pk)
    try:
        change_type("bigint")
        assert read(user.pk)
        change_type("integer")
        with pytest.raises(NotSupportedError), transaction.atomic():
            read(user.pk)
        assert read(user.pk)
    finally:
        change_type("integer")


def change_type(name: str) -> None:
    """Of a column that is read, from elsewhere."""
    with psycopg.connect(database_url(), autocommit=True) as other:
        other.execute(f"ALTER TABLE klepsydra_psychestate ALTER loss_streak TYPE {name}")


def test_statement_is_seen_by_who_counts(django_assert_num_queries: object) -> None:
    """By Django's own means: the debug cursor, and the wrappers of this thread."""
    with django_assert_num_queries(1) as asked, prepared_cursor() as cursor:  # type: ignore[operator]
        cursor.execute("SELECT %s::bigint + 1", [1])
        assert cursor.fetchone() == (2,)
    assert asked[0]["sql"] == "SELECT %s::bigint + 1"


def test_kinds_that_stay_as_they_are() -> None:
    """A truth value is an int to Python, and none to PostgreSQL."""
    values = {"yes": True, "text": "1", "half": 0.5, "none": None}
    assert of_one_type(values) == values
    assert {name: type(each) for name, each in of_one_type(values).items()} == {
        name: type(each) for name, each in values.items()
    }
