"""Models behind the cache as others may write them: real tables, names and kinds of all sorts."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.core.checks import Tags, run_checks
from django.db import IntegrityError, connection, models

from aevon.cache import (
    PSYCHE,
    Cached,
    CachedManager,
    Document,
    Gone,
    Version,
    resources,
    triggers,
)
from auth_sessions.models import User
from tests.cache.entry_states import got
from tests.cache.ledgers import query

pytestmark = pytest.mark.django_db(transaction=True)
TABLE = "test Ledger"


class LedgerDocument(Document):
    """A member of each kind that there is."""

    user_id: int
    select: int
    is_open: bool
    rate: float
    price: Decimal
    name: str | None
    token: UUID
    due: date
    at: str
    version: Version


@pytest.fixture
def ledger(declarations: None) -> Iterator[Any]:
    """A model whose names need quoting, and whose columns are called otherwise than its fields."""

    class Ledger(models.Model):
        user = models.OneToOneField(
            User, models.CASCADE, primary_key=True, db_column="Owner", db_constraint=False
        )
        select = models.IntegerField(default=1)
        is_open = models.BooleanField(default=True, db_column="Is it open?")
        rate = models.FloatField(default=0.5)
        price = models.DecimalField(default=Decimal("1.50"), max_digits=9, decimal_places=2)
        name = models.CharField(max_length=9, null=True)  # noqa: DJ001  a kind of its own
        token = models.UUIDField(default=UUID(int=7))
        due = models.DateField(default=date(2026, 11, 24))
        at = models.DateTimeField(default=datetime(2026, 11, 24, tzinfo=UTC), db_column="At")
        version = models.BigIntegerField(db_default=1)

        objects = CachedManager()
        cached = Cached(PSYCHE, LedgerDocument)

        class Meta:
            app_label = "tests"
            db_table = TABLE

        def __str__(self) -> str:
            return str(self.pk)

    yield from existing(
        Ledger, triggers.versioned(TABLE, keyspace="psyche", user_id="Owner", touched="At")
    )


def existing(model: Any, operations: list[Any]) -> Iterator[Any]:
    """The model, while its table is there."""
    with connection.schema_editor() as editor:
        editor.create_model(model)
    for operation in operations:
        query(str(operation.sql))
    yield model
    for operation in reversed(operations):
        query(str(operation.reverse_sql))
    with connection.schema_editor() as editor:
        editor.delete_model(model)


def held(member: str = "select") -> Any:
    """What user 7's entry says."""
    return (got("psyche:7") or {}).get(member)


def test_names_that_need_quoting(ledger: Any) -> None:
    """Nothing to say of them; they are read, written and noted as any."""
    found = run_checks(tags=[Tags.models, Tags.database], databases=["default"])
    assert [each for each in found if each.obj is not None] == []
    ledger.objects.create(user_id=7)
    document = ledger.cached.get(7)
    assert (document.user_id, document.select, document.version) == (7, 1, 1)
    assert query("SELECT user_id, version FROM cache_outbox") == [(7, 1)]
    row = query(f'SELECT {ledger.cached.columns} FROM "{TABLE}"')
    assert ledger.cached.document_of(row[0]) == document
    assert list(ledger.cached.projection.user_ids()) == [7]
    ledger.objects.update(select=2)
    assert held() == 2
    query(f'DELETE FROM "{TABLE}"')
    assert ledger.cached.projection.read([7]) == {7: Gone(3)}


def test_owner_of_a_row_by_another_name(ledger: Any) -> None:
    """Cannot be changed."""
    owned = triggers.owned(TABLE, user_id="Owner")
    query(f'ALTER TABLE "{TABLE}" DISABLE TRIGGER cache_version_rises')
    query(str(owned.sql))
    ledger.objects.create(user_id=7)
    with pytest.raises(IntegrityError, match="The Owner of a row of test Ledger cannot be changed"):
        query(f'UPDATE "{TABLE}" SET "Owner" = 8')
    query(str(owned.reverse_sql))


def test_kinds_of_members(ledger: Any, django_assert_num_queries: Any) -> None:
    """Each comes back from the cache as it is in its row."""
    ledger.objects.create(user_id=7)
    row = ledger.cached.get(7)
    with django_assert_num_queries(0):
        assert ledger.cached.get(7) == row
    assert (row.price, row.token, row.due) == (Decimal("1.50"), UUID(int=7), date(2026, 11, 24))
    assert resources.resource("psyche").verdicts([7]) == {7: "in sync"}


@pytest.mark.parametrize("kind", ["a proxy", "a subclass"])
def test_writes_by(ledger: Any, kind: str) -> None:
    """They are followed as the model's own are: by signals, and by the querysets."""

    class Proxy(ledger):  # type: ignore[misc]
        class Meta:
            app_label = "tests"
            proxy = True

    class Below(Proxy):
        class Meta:
            app_label = "tests"
            proxy = kind == "a proxy"

    tables = existing(Below, []) if kind == "a subclass" else iter([Below])
    model: Any = next(tables)
    row = model.objects.create(user_id=7)
    model.cached.get(7)
    row.select = 2
    row.save()
    assert held() == 2
    model.objects.update(select=3)
    assert held() == 3
    model.objects.filter(pk=7).delete()
    assert held("_gone") == 4
    model.objects.create(user_id=7)
    model.cached.get(7)
    model.objects.get().delete()
    assert held("_gone") == 6
    next(tables, None)
