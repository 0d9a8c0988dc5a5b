"""What PostgreSQL does when a cached row changes, whoever writes."""

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import IntegrityError, connection, transaction

from aevon.cache import PSYCHE, outbox, triggers
from aevon.cache.models import VersionFloor
from aevon.cache.triggers import CHANNEL, WRITER
from tests.cache.ledgers import query
from tests.threads import in_threads

pytestmark = pytest.mark.django_db(transaction=True)

WARES = """
CREATE TABLE test_ware (user_id bigint PRIMARY KEY, text text, version bigint, at timestamptz)
"""
GOODS = "CREATE TABLE test_good (owner bigint, text text, version bigint)"
SAYINGS = "CREATE TABLE test_saying (owner bigint, number bigint)"


@pytest.fixture(autouse=True)
def tables() -> Iterator[None]:
    """Wares, whose versions the database keeps, goods, whose versions somebody else raises, and
    sayings, of which the last are a list."""
    operations = [
        *triggers.versioned("test_ware", keyspace="wares", touched="at"),
        *triggers.noted("test_good", keyspace="goods", user_id="owner"),
        triggers.listed("test_saying", keyspace="sayings", user_id="owner", seq="number"),
    ]
    query(WARES)
    query(GOODS)
    query(SAYINGS)
    for operation in operations:
        query(str(operation.sql))
    yield
    for operation in reversed(operations):
        query(str(operation.reverse_sql))
    query("DROP TABLE test_ware, test_good, test_saying")


@contextlib.contextmanager
def session(**options: str) -> Iterator["psycopg.Connection[Any]"]:
    """Another connection to the database, with options of its own."""
    parameters = {**connection.get_connection_params(), "autocommit": True, **options}
    with psycopg.connect(**parameters) as opened:
        yield opened


def versions() -> dict[int, int]:
    """Of the wares."""
    return dict(query("SELECT user_id, version FROM test_ware"))


def notes() -> dict[tuple[str, int], int | None]:
    """What the outbox has been told."""
    rows = query("SELECT keyspace, user_id, version FROM cache_outbox")
    return {(name, user_id): version for name, user_id, version in rows}


def floor(user_id: int = 7) -> int:
    """The versions that a user's wares have used up."""
    return VersionFloor.objects.get(keyspace="wares", user_id=user_id).version


# --- versions ----------------------------------------------------------------------------------


def test_insert() -> None:
    """It begins at 1, whatever was said."""
    query("INSERT INTO test_ware VALUES (7, 'a', 99), (8, 'b', NULL)")
    assert versions() == {7: 1, 8: 1}
    assert notes() == {("wares", 7): 1, ("wares", 8): 1}


def test_update() -> None:
    """It adds one, whatever was said, also where nothing changes; the outbox knows the last."""
    query("INSERT INTO test_ware VALUES (7, 'a')")
    for statement in ("text = 'b'", "version = 99", "text = text", "version = 1"):
        query(f"UPDATE test_ware SET {statement}")
    assert (versions(), notes()) == ({7: 5}, {("wares", 7): 5})


def test_update_of_many() -> None:
    """Each row has its own."""
    query("INSERT INTO test_ware SELECT generate_series(1, 300)")
    query("UPDATE test_ware SET text = 'b' WHERE user_id > 100")
    assert set(versions().values()) == {1, 2}
    assert (outbox.depth(), notes()["wares", 300]) == (300, 2)


def test_time_of_the_change() -> None:
    """It is the moment of the change, not that of the transaction's beginning."""
    with transaction.atomic():
        query("INSERT INTO test_ware VALUES (7)")
        query("SELECT pg_sleep(0.01)")
        query("UPDATE test_ware SET at = '2001-01-01'")
        assert query("SELECT at > now() + interval '10 ms' FROM test_ware") == [(True,)]


def test_row_that_begins_again() -> None:
    """A deletion uses up one version, so that the absence is newer than the row; the next row
    begins above it."""
    query("INSERT INTO test_ware VALUES (7)")
    query("UPDATE test_ware SET text = 'b'")
    query("DELETE FROM test_ware")
    assert (floor(), notes()) == (3, {("wares", 7): 3})
    query("INSERT INTO test_ware VALUES (7)")
    assert (versions(), notes()) == ({7: 4}, {("wares", 7): 4})


def test_row_that_begins_again_in_one_transaction() -> None:
    """The same; nobody sees the absence."""
    query("INSERT INTO test_ware VALUES (7)")
    with transaction.atomic():
        query("DELETE FROM test_ware")
        query("INSERT INTO test_ware VALUES (7)")
    assert (versions(), notes()) == ({7: 3}, {("wares", 7): 3})


def test_upsert() -> None:
    """An insert that turns into an update is an update; one that does nothing changes nothing."""
    query("INSERT INTO test_ware VALUES (7)")
    for _ in range(3):
        query("INSERT INTO test_ware VALUES (7) ON CONFLICT DO NOTHING")
    assert (versions(), notes()) == ({7: 1}, {("wares", 7): 1})
    query("INSERT INTO test_ware VALUES (7) ON CONFLICT (user_id) DO UPDATE SET text = 'c'")
    assert (versions(), notes()) == ({7: 2}, {("wares", 7): 2})
    query("DELETE FROM test_ware")
    absent = floor()
    assert absent > 2
    query("INSERT INTO test_ware VALUES (7)")
    assert versions() == {7: absent + 1}


def test_owner_of_a_row() -> None:
    """Cannot be changed: the version would be another entry's."""
    query("INSERT INTO test_ware VALUES (7)")
    with pytest.raises(IntegrityError, match="user_id of a row of test_ware cannot be changed"):
        query("UPDATE test_ware SET user_id = 8")
    query("UPDATE test_ware SET user_id = 7")
    assert versions() == {7: 2}


def test_rows_of_one_user_made_and_ended_at_once() -> None:
    """Versions only rise, and each is used once."""
    query("CREATE TABLE test_seen (version bigint, absent bool)")

    def work() -> None:
        for _ in range(20):
            query(
                "WITH made AS (INSERT INTO test_ware VALUES (7) ON CONFLICT DO NOTHING"
                " RETURNING version) INSERT INTO test_seen SELECT version, false FROM made"
            )
            query(
                "WITH ended AS (DELETE FROM test_ware RETURNING version)"
                " INSERT INTO test_seen SELECT version + 1, true FROM ended"
            )

    try:
        in_threads([work] * 4)
        seen = query("SELECT version, absent FROM test_seen ORDER BY 1")
        numbers = [version for version, _ in seen]
        assert len(numbers) > 20
        assert numbers == sorted(set(numbers))
        # A row, its absence, the next row …
        assert [absent for _, absent in seen] == [False, True] * (len(seen) // 2)
    finally:
        query("DROP TABLE test_seen")


# --- notes -------------------------------------------------------------------------------------


def test_versions_that_somebody_else_raises() -> None:
    """They are noted as they are; a deletion counts as one more; the highest stays."""
    query("INSERT INTO test_good VALUES (7, 'a', 5)")
    assert notes() == {("goods", 7): 5}
    query("UPDATE test_good SET version = 8")
    assert notes() == {("goods", 7): 8}
    query("DELETE FROM test_good")
    query("INSERT INTO test_good VALUES (7, 'b', 1)")
    assert notes() == {("goods", 7): 9}


def test_owner_of_a_row_whose_version_somebody_else_raises() -> None:
    """Both entries are told: the one has lost the row, the other has it."""
    query("INSERT INTO test_good VALUES (7, 'a', 5)")
    query("DELETE FROM cache_outbox")
    query("UPDATE test_good SET owner = 8")
    assert notes() == {("goods", 7): 6, ("goods", 8): 5}


def test_rows_of_a_list() -> None:
    """The last number that was added, of each user once, however many rows a statement has; after a
    removal, or of what somebody else has added, nobody knows which."""
    say = "INSERT INTO test_saying SELECT owner, number FROM generate_series(%s, %s) AS number"
    query(f"{say}, unnest(ARRAY[7, 8]) AS owner", 1, 1000)
    assert notes() == {("sayings", 7): 1000, ("sayings", 8): 1000}
    query("INSERT INTO test_saying VALUES (7, 1001), (7, 17), (-1, 1)")
    assert notes() == {("sayings", 7): 1001, ("sayings", 8): 1000}
    query("DELETE FROM test_saying WHERE owner = 7")
    query("INSERT INTO test_saying VALUES (7, 1002)")
    assert notes() == {("sayings", 7): None, ("sayings", 8): 1000}
    query("DELETE FROM cache_outbox")
    with session(options="") as other:
        other.execute("INSERT INTO test_saying VALUES (8, 1001)")
    assert notes() == {("sayings", 8): None}
    query("DELETE FROM test_saying WHERE owner = 7 AND number = 0")
    assert notes() == {("sayings", 8): None}


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO test_ware VALUES (8)",
        "UPDATE test_ware SET text = 'b'",
        "DELETE FROM test_ware",
        "UPDATE test_good SET version = 9",
        "DELETE FROM test_good",
    ],
)
def test_note_in_the_transaction_of_its_change(statement: str) -> None:
    """Others see both or neither; a rollback takes both back."""
    query("INSERT INTO test_ware VALUES (7)")
    query("INSERT INTO test_good VALUES (7, 'a', 1)")
    query("DELETE FROM cache_outbox")
    before = floor()
    with session(autocommit=False) as writer:  # type: ignore[arg-type]
        writer.execute(statement)
        assert notes() == {}
        writer.rollback()
        assert (notes(), floor()) == ({}, before)
        writer.execute(statement)
        writer.commit()
    assert len(notes()) == 1


def test_change_that_touches_nothing() -> None:
    """There is nothing to note."""
    query("UPDATE test_ware SET text = 'b'")
    query("DELETE FROM test_good")
    assert notes() == {}


# --- notifications -----------------------------------------------------------------------------


@pytest.fixture
def heard() -> Iterator[Any]:
    """`heard()`: how many notifications have come since."""
    with session() as listening:
        listening.execute(f"LISTEN {CHANNEL}")

        def until_now() -> int:
            listening.execute(f"NOTIFY {CHANNEL}, 'now'")
            notes = listening.notifies(timeout=10)
            return len(list(itertools.takewhile(lambda note: note.payload != "now", notes)))

        yield until_now


def test_change_by_the_application(heard: Any) -> None:
    """It tells the cache itself, and pays for no notification."""
    query("INSERT INTO test_ware VALUES (7)")
    query("UPDATE test_ware SET text = 'b'")
    query("DELETE FROM test_ware")
    outbox.add(PSYCHE, [7])
    assert heard() == 0


@pytest.mark.parametrize("options", ["", "-c aevon.writer=", "-c aevon.writer=psql"])
def test_change_by_somebody_else(heard: Any, options: str) -> None:
    """The listener is woken, once per transaction that notes something."""
    with session(options=options) as writer:
        writer.execute("INSERT INTO test_ware VALUES (7), (8)")
        assert heard() == 1
        with writer.transaction():
            writer.execute("UPDATE test_ware SET text = 'b'")
            writer.execute("UPDATE test_ware SET text = 'c'")
            assert heard() == 0
        assert heard() == 1
        writer.execute("DELETE FROM test_ware")
        assert heard() == 1
        writer.execute("DELETE FROM test_ware")
        assert heard() == 0
        with contextlib.suppress(psycopg.errors.DivisionByZero):
            writer.execute("INSERT INTO test_ware VALUES (9); SELECT 1/0")
        assert heard() == 0


def test_option_of_the_application(heard: Any) -> None:
    """It is what the settings give to every connection."""
    assert query("SHOW aevon.writer") == [("app",)]
    with session(options=f"-c {WRITER}") as writer:
        writer.execute("INSERT INTO test_ware VALUES (7)")
        assert heard() == 0
        writer.execute("SET aevon.writer = 'psql'")
        writer.execute("UPDATE test_ware SET text = 'b'")
        assert heard() == 1


def test_drain(heard: Any) -> None:
    """It wakes nobody."""
    query("INSERT INTO test_ware VALUES (7)")
    with session(options="") as other:
        other.execute("DELETE FROM cache_outbox")
    assert heard() == 0


# --- whoever writes ----------------------------------------------------------------------------


@pytest.fixture
def guest() -> Iterator["psycopg.Connection[Any]"]:
    """The connection of a role that may write the two tables, and nothing else."""
    query("CREATE ROLE test_guest")
    query("GRANT SELECT, INSERT, UPDATE, DELETE ON test_ware, test_good TO test_guest")
    try:
        with session(options="") as opened:
            opened.execute("SET ROLE test_guest")
            yield opened
    finally:
        query("DROP OWNED BY test_guest")
        query("DROP ROLE test_guest")


CHANGES = (
    "INSERT INTO public.test_ware VALUES (7)",
    "UPDATE public.test_ware SET text = 'b'",
    "DELETE FROM public.test_ware",
    "INSERT INTO public.test_ware VALUES (7)",
    "INSERT INTO public.test_good VALUES (7, 'a', 1)",
    "UPDATE public.test_good SET version = 2",
)
NOTED = {("wares", 7): 4, ("goods", 7): 2}


def test_role_that_may_write_the_table_only(guest: Any) -> None:
    """It need not be allowed to write the outbox, and is not."""
    for statement in CHANGES:
        guest.execute(statement)
    assert (versions(), notes()) == ({7: 4}, NOTED)
    for table in ("cache_outbox", "cache_version_floor"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            guest.execute(f"DELETE FROM {table}")


@pytest.mark.parametrize("path", ["", "pg_catalog", "elsewhere"])
def test_session_that_looks_up_names_elsewhere(path: str) -> None:
    """As that of another service, or of a restore; its changes are noted all the same."""
    with session(options="") as other:
        other.execute("SELECT set_config('search_path', %s, false)", [path])
        for statement in CHANGES:
            other.execute(statement)
    assert notes() == NOTED


def test_temporary_tables_of_the_same_names(guest: Any) -> None:
    """They are not taken for the real ones, with the rights of these."""
    guest.execute(
        "CREATE TEMP TABLE cache_outbox (keyspace text, user_id bigint, version bigint,"
        " added_at timestamptz, UNIQUE (keyspace, user_id))"
    )
    guest.execute(
        "CREATE TEMP TABLE cache_version_floor (keyspace text, user_id bigint, version bigint,"
        " UNIQUE (keyspace, user_id))"
    )
    for statement in CHANGES:
        guest.execute(statement)
    assert notes() == NOTED
    assert floor() == 4


# --- migrations --------------------------------------------------------------------------------


def test_operations_are_reversible() -> None:
    """What they made, they remove."""
    made = [*triggers.versioned("test_x", keyspace="x"), *triggers.noted("test_y", keyspace="y")]
    made.append(triggers.listed("test_z", keyspace="z"))
    query("CREATE TABLE test_x (user_id bigint, version bigint)")
    query("CREATE TABLE test_y (user_id bigint, version bigint)")
    query("CREATE TABLE test_z (user_id bigint, seq bigint)")
    before = functions()
    for operation in made:
        query(str(operation.sql))
    assert len(functions()) == len(before) + 6
    for operation in reversed(made):
        query(str(operation.reverse_sql))
    assert functions() == before
    query("INSERT INTO test_x VALUES (1, 5)")
    assert query("SELECT version FROM test_x") == [(5,)]
    query("DROP TABLE test_x, test_y, test_z")


def functions() -> set[str]:
    """The functions of the schema."""
    rows = query("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
    return {name for (name,) in rows}
