"""A model behind the cache: `cached = Cached(PSYCHE, PsycheDocument)` beside its fields.

    class PsycheState(models.Model):
        user = models.OneToOneField(User, primary_key=True, on_delete=models.CASCADE)
        ...
        version = models.BigIntegerField(db_default=1, editable=False)

        objects = CachedManager()
        cached = Cached(PSYCHE, PsycheDocument)

    PsycheState.cached.get(2)            # from Dragonfly, else from PostgreSQL
    PsycheState.cached.get_many([1, 2])  # one round trip; one query for all that are missing

`save()`, `delete()` and what the manager's querysets do write through. The table needs the
triggers of `aevon.cache.triggers.versioned`; `manage.py check` says what is missing.
"""

import contextlib
import functools
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from django.db import connection, models, transaction

from aevon.cache import cache_aside, codec, write_through
from aevon.cache.codec import Document
from aevon.cache.keyspace import Keyspace, UnknownKeyspace
from aevon.cache.prepared import prepared_cursor
from aevon.cache.projection import Gone, Projection
from aevon.cache.resources import EntryResource, register

D = TypeVar("D", bound=Document)
M = TypeVar("M", bound=models.Model)

OWNER: Final = "user_id"
VERSION: Final = "version"
OWNERS_PAGE: Final = 2_000
# `codec.rfc3339`, as PostgreSQL writes it.
RFC3339: Final = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'
# All there are, the wrong ones too.
declared: Final[list["Cached[Any]"]] = []


class Cached(Generic[D]):
    """How one row per user of this model stands in the cache, under `keyspace`, as `document`.

    The document's members are fields of the model, by the names of their attributes, `user_id` and
    `version` among them. Their kinds are in `checks.KINDS`; a time becomes its RFC 3339 text.
    """

    model: type[models.Model]

    def __init__(self, keyspace: Keyspace, document: type[D]) -> None:
        self.keyspace = keyspace
        self.document = document

    def contribute_to_class(self, model: type[models.Model], name: str) -> None:
        """Django's hook: the attribute `name` of a model class is being made."""
        self.model = model
        setattr(model, name, self)
        declared.append(self)
        if model._meta.abstract or model._meta.proxy:  # noqa: SLF001  public by convention
            return  # has no table: E007
        # E004, and whoever asks for the projection is told again.
        with contextlib.suppress(UnknownKeyspace):
            register(EntryResource(self.projection))
            write_through.follow(self.projection, model)

    @functools.cached_property
    def projection(self) -> Projection[D]:
        """How rows become entries. Raises `UnknownKeyspace`."""
        return Projection(
            keyspace=self.keyspace,
            document=self.document,
            read=self._read,
            user_ids=self._user_ids,
            version=lambda document: int(getattr(document, VERSION)),
            anchor=self.model._meta.db_table,  # noqa: SLF001  public by convention
        )

    def get(self, user_id: int) -> D | None:
        """The user's document; see `cache_aside.load`."""
        return cache_aside.load(self.projection, user_id)

    def get_many(self, user_ids: Sequence[int]) -> dict[int, D]:
        """The documents of those of the users who have one; see `cache_aside.load_many`."""
        return cache_aside.load_many(self.projection, user_ids)

    @functools.cached_property
    def fields(self) -> dict[str, "models.Field[Any, Any]"]:
        """The fields of the model's own table, by the names that members have."""
        return {field.attname: field for field in self.model._meta.local_concrete_fields}  # noqa: SLF001

    @property
    def columns(self) -> str:
        """The columns of the document, in its order, for a statement of one's own."""
        return ", ".join(map(self._column, self.document.__struct_fields__))

    def _column(self, member: str) -> str:
        # What is no field keeps its name: the check is to say so (E002), not an import.
        return connection.ops.quote_name(getattr(self.fields.get(member), "column", member))

    def _text_or_column(self, member: str) -> str:
        """What reads a member from the row `t`. A time comes as the text that the document has:
        PostgreSQL makes it in a tenth of the time that it takes here."""
        column = f"t.{self._column(member)}"
        if isinstance(self.fields.get(member), models.DateTimeField):
            return f"to_char({column} AT TIME ZONE 'UTC', '{RFC3339}')"
        return column

    def document_of(self, row: Sequence[Any]) -> D:
        """The document of a row with `columns`."""
        values = {
            name: codec.rfc3339(value) if isinstance(value, datetime) else value
            for name, value in zip(self.document.__struct_fields__, row, strict=True)
        }
        return self.document(**values)

    def _read(self, user_ids: Sequence[int]) -> dict[int, D | Gone]:
        """One statement, so one snapshot: an absence and its version belong together."""
        members = self.document.__struct_fields__
        columns = ", ".join(map(self._text_or_column, members))
        owner = self._column(OWNER)
        table = connection.ops.quote_name(self.model._meta.db_table)  # noqa: SLF001  by convention
        # Both by their index, and the floor where it is needed alone, whatever the planner knows of
        # the tables: of a small one it would rather read the whole, for each page of a warm-up.
        floor = (
            f"CASE WHEN t.{owner} IS NULL THEN (SELECT f.version FROM cache_version_floor f"  # noqa: S608  names of ours
            " WHERE f.keyspace = %s AND f.user_id = u.id) END"
        )
        statement = (
            f"SELECT u.id, {floor}, t.{owner} IS NOT NULL, {columns}"  # noqa: S608  names of ours
            " FROM unnest(%s::bigint[]) AS u (id) LEFT JOIN LATERAL"
            f" (SELECT * FROM {table} r WHERE r.{owner} = u.id LIMIT 1) t ON true"
        )
        rows: dict[int, D | Gone] = {}
        with prepared_cursor() as cursor:
            cursor.execute(statement, [self.keyspace.name, list(user_ids)])
            for user_id, floor, exists, *values in cursor.fetchall():
                if exists:
                    rows[user_id] = self.document(**dict(zip(members, values, strict=True)))
                elif floor is not None:
                    rows[user_id] = Gone(floor)
        return rows

    def _user_ids(self) -> Iterator[int]:
        return owners(self.model._base_manager.all())  # noqa: SLF001  public by convention


def owners(rows: "models.QuerySet[Any]", column: str = OWNER) -> Iterator[int]:
    """Every user with a row, once each and in order, in constant memory and short statements."""
    users = rows.order_by(column).values_list(column, flat=True).distinct()
    last = 0
    while page := list(users.filter(**{f"{column}__gt": last})[:OWNERS_PAGE]):
        yield from page
        last = page[-1]


class CachedQuerySet(models.QuerySet[M]):
    """Fences the entries of the rows that it changes at once, and makes them follow: of every
    projection that follows the model (`write_through.follow`)."""

    def update(self, **values: Any) -> int:
        """As Django's, with the rows locked first: whose they are must be known before."""
        self._for_write = True
        with transaction.atomic(using=self.db, savepoint=False):
            return super(CachedQuerySet, self._fenced()).update(**values)

    def delete(self) -> tuple[int, dict[str, int]]:
        """As Django's, likewise."""
        self._for_write = True
        with transaction.atomic(using=self.db, savepoint=False):
            return super(CachedQuerySet, self._fenced()).delete()

    def bulk_create(self, objs: Iterable[M], *args: Any, **options: Any) -> list[M]:
        """As Django's."""
        rows = list(objs)
        with transaction.atomic(using=self.db, savepoint=False):
            for projection, owner in write_through.followed(self.model):
                user_ids = [getattr(row, owner) for row in rows]
                write_through.publish_on_commit(projection, [u for u in user_ids if u is not None])
            return super().bulk_create(rows, *args, **options)

    update.alters_data = True  # type: ignore[attr-defined]
    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]  # no manager deletes all rows

    def _fenced(self) -> "CachedQuerySet[M]":
        """The rows that are here now, locked until the transaction's end."""
        rows = self.model._base_manager.using(self.db).filter(pk__in=self.values("pk"))  # noqa: SLF001
        followed = write_through.followed(self.model)
        names = ["pk", *(owner for _, owner in followed)]
        locked = list(
            rows.select_for_update(no_key=True, of=("self",)).order_by("pk").values_list(*names)
        )
        for column, (projection, _) in enumerate(followed, start=1):
            write_through.publish_on_commit(projection, [row[column] for row in locked])
        return self.filter(pk__in=[row[0] for row in locked])


if TYPE_CHECKING:
    _Manager = models.Manager
else:
    _Manager = models.Manager.from_queryset(CachedQuerySet)


class CachedManager(_Manager[M]):
    """The default manager of a model that a projection follows."""
