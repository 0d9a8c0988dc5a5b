"""What `manage.py check` says about the cache layer's settings, and about models behind it."""

from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin
from uuid import UUID

import msgspec
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as CheckWarning
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import connections, models

from aevon.cache import conf
from aevon.cache.cached import OWNER, VERSION, Cached, CachedQuerySet, declared
from aevon.cache.codec import Document
from aevon.cache.keyspace import NAME, REGISTRY, Keyspace
from aevon.cache.resources import BufferResource, EntryResource, resource, resources

TRIGGERS: Final = ("cache_is_told", "cache_version_rises", "cache_version_ends")
# What a document's member is, by its column: what PostgreSQL gives for the column, or its text,
# that comes back from JSON as it went in.
KINDS: Final[dict[type["models.Field[Any, Any]"], type]] = {
    models.BooleanField: bool,
    models.IntegerField: int,
    models.FloatField: float,
    models.DecimalField: Decimal,
    models.CharField: str,
    models.TextField: str,
    models.UUIDField: UUID,
    models.DateTimeField: str,  # a DateField, too: before it
    models.DateField: date,
}


@register(Tags.caches)
def settings_are_sound(**_: Any) -> list[CheckMessage]:
    """E001: a setting of the cache layer is wrong."""
    try:
        conf.current()
    except (ImproperlyConfigured, TypeError) as error:
        return [Error(str(error), id="aevon_cache.E001")]
    return []


@register(Tags.caches)
def what_is_near_is_read_by_loads(**_: Any) -> list[CheckMessage]:
    """E009: a keyspace cannot be kept near."""
    try:
        names = list(conf.current().near_cache)
    except (ImproperlyConfigured, TypeError):
        return []  # E001
    entries = {
        each.keyspace.name
        for each in resources()
        if isinstance(each, EntryResource) and not isinstance(each, BufferResource)
    }
    return [
        Error(
            f"AEVON_CACHE['NEAR_CACHE'] (AEVON_NEAR_CACHE) names `{name}`: only what is read by"
            f" cache-aside can be kept near, which is {', '.join(sorted(entries))}.",
            id="aevon_cache.E009",
        )
        for name in names
        if name not in entries
    ]


@register(Tags.models)
def declarations_are_sound(**_: Any) -> list[CheckMessage]:
    """E002 to E005, E007, E008: a model stands behind the cache in a way that cannot work."""
    found: list[CheckMessage] = []
    for cached in declared:
        # Of a model without a table there is nothing else to say.
        found += list(_model(cached)) or [
            *_document(cached),
            *_version(cached),
            *_keyspace(cached),
            *_manager(cached),
            *_owner(cached),
        ]
    return found


def _model(cached: Cached[Any]) -> Iterator[CheckMessage]:
    meta = cached.model._meta  # noqa: SLF001  public by convention
    if meta.abstract or meta.proxy:
        what = "abstract" if meta.abstract else "a proxy"
        yield _error(7, cached, f"It is {what}: declare `Cached` on the model that has the table.")
    elif sum(each.model is cached.model for each in declared) > 1:
        yield _error(7, cached, "It has more than one `Cached`: its triggers tell of one keyspace.")
    elif isinstance(cached.document, Keyspace) or isinstance(cached.keyspace, type):
        yield _error(2, cached, "It is `Cached(keyspace, document)`, in this order.")


def _document(cached: Cached[Any]) -> Iterator[CheckMessage]:
    document = cached.document
    if not (isinstance(document, type) and issubclass(document, Document)):
        yield _error(2, cached, f"{document!r} is no subclass of `aevon.cache.Document`.")
        return
    config = document.__struct_config__
    if config.array_like or config.forbid_unknown_fields:
        yield _error(
            2, cached, f"{document.__name__} has no room for the members that the cache layer adds."
        )
    try:
        fields = msgspec.structs.fields(document)
        members = {member.name: member.type for member in fields}
    except (NameError, AttributeError, TypeError) as error:
        yield _error(2, cached, f"The members of {document.__name__} cannot be read: {error}.")
        return
    for needed in (OWNER, VERSION):
        if needed not in members:
            yield _error(2, cached, f"{document.__name__} has no member `{needed}`.")
    for each in fields:
        if each.name == VERSION != each.encode_name or each.encode_name.startswith("_"):
            member = f"{document.__name__}.{each.name}"
            yield _error(2, cached, f"{member} cannot be `{each.encode_name}` in JSON.")
    for name, annotation in members.items():
        if fault := _misfit(cached.fields.get(name), annotation):
            yield _error(2, cached, f"{document.__name__}.{name} {fault}.")


def _misfit(field: "models.Field[Any, Any] | None", annotation: Any) -> str | None:
    """What is wrong with a member for this column."""
    if field is None:
        return "is no column of the model"
    kind = _kind(field)
    if kind is None:
        return f"is a {type(field).__name__}, which no document can hold"
    if _types(annotation) != {kind, *([NoneType] if field.null else [])}:
        return f"must be `{kind.__name__}{' | None' if field.null else ''}`, as its column is"
    return None


def _kind(field: "models.Field[Any, Any]") -> type | None:
    try:
        if isinstance(field, models.ForeignKey):
            return _kind(field.target_field)
    except (ValueError, FieldDoesNotExist):
        return None  # a relation to nothing: Django's own checks say so
    return next((kind for each, kind in KINDS.items() if isinstance(field, each)), None)


def _types(annotation: Any) -> set[Any]:
    """What values may be, without their ranges and the like."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _types(arguments[0])
    if origin in (Union, UnionType):
        return set().union(*map(_types, arguments))
    if origin is Literal:
        return {type(value) for value in arguments}
    return {getattr(annotation, "__supertype__", annotation)}  # of a NewType


def _version(cached: Cached[Any]) -> Iterator[CheckMessage]:
    field = cached.fields.get(VERSION)
    # The triggers know it by this name.
    if not isinstance(field, models.BigIntegerField) or field.null or field.column != VERSION:
        yield _error(3, cached, f"It needs `{VERSION} = models.BigIntegerField(db_default=1)`.")


def _keyspace(cached: Cached[Any]) -> Iterator[CheckMessage]:
    keyspace = cached.keyspace
    name = getattr(keyspace, "name", keyspace)
    if not any(keyspace is known for known in REGISTRY.values()):
        yield _error(4, cached, f"The keyspace `{name}` is not in `keyspace.REGISTRY`.")
        return
    if not NAME.fullmatch(keyspace.name):
        yield _error(4, cached, f"The keyspace `{name}` is not called a-z, 0-9 and _, 32 at most.")
        return
    # Who comes last has it.
    other = getattr(resource(keyspace.name), "projection", None)
    if other is not cached.projection:
        yield _error(4, cached, f"The keyspace `{name}` is also that of {_owner_of(other)}.")
    if keyspace.type != "string" or keyspace.ttl_ms is None:
        yield _error(4, cached, f"The keyspace `{name}` is no string with a lifetime.")
    elif fault := _lifetime(keyspace):
        yield _error(4, cached, f"The lifetime of the keyspace `{name}` {fault}.")


def _owner_of(projection: Any) -> str:
    """Who uses it, by a name that can be looked for."""
    for cached in declared:
        if cached.__dict__.get("projection") is projection:  # known where it was registered
            return f"the model {cached.model._meta.label}"  # noqa: SLF001
    return f"the document {projection.document.__name__}" if projection else "a list"


def _lifetime(keyspace: Keyspace) -> str | None:
    """What is wrong with it, if anything."""
    assert keyspace.ttl_ms is not None  # noqa: S101  every other keyspace has one
    try:
        lifetime: Any = keyspace.ttl_ms()
    except ImproperlyConfigured:
        return None  # E001
    except AttributeError as error:
        return f"cannot be read: {error}"
    return None if isinstance(lifetime, int) and lifetime > 0 else f"is {lifetime!r} ms"


def _manager(cached: Cached[Any]) -> Iterator[CheckMessage]:
    if not isinstance(cached.model._default_manager.all(), CachedQuerySet):  # noqa: SLF001
        yield _error(
            5, cached, "Its default manager is no `CachedManager`: update() would go unseen."
        )


def _owner(cached: Cached[Any]) -> Iterator[CheckMessage]:
    field = cached.fields.get(OWNER)
    if field is None:
        return  # a member that is no column
    constraints = cached.model._meta.total_unique_constraints  # noqa: SLF001  public by convention
    alone = any(tuple(each.fields) == (field.name,) for each in constraints)
    if not (field.unique or alone) or field.null or _kind(field) is not int:
        yield _error(
            8,
            cached,
            f"Its `{OWNER}` is no unique number: there must be one row per user, as with"
            " `user = models.OneToOneField(User, primary_key=True, …)`.",
        )


@register(Tags.database)
def triggers_are_there(*, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """W006: a table behind the cache lacks the triggers, or they tell of another keyspace. Asks the
    database. A warning, because `migrate` checks before it makes them.

    Covers every model with a `Cached`, and the anchor of every projection that names one. What
    raises an anchor's version is the service's own affair.
    """
    projections = [each.projection for each in resources() if isinstance(each, EntryResource)]
    anchored = [(each, each.anchor) for each in projections if each.anchor]
    return [
        CheckWarning(
            f"The table {table} has no trigger {name} for the keyspace"
            f" `{projection.keyspace.name}`: see aevon.cache.triggers.",
            id="aevon_cache.W006",
        )
        for database in databases or ()
        for projection, table in anchored
        for name in _missing_triggers(database, table, projection.keyspace.name)
    ]


def _missing_triggers(database: str, table: str, keyspace: str) -> list[str]:
    versioned = any(cached.model._meta.db_table == table for cached in declared)  # noqa: SLF001
    quoted = connections[database].ops.quote_name(table)
    with connections[database].cursor() as cursor:
        cursor.execute(
            "SELECT tgname FROM pg_trigger JOIN pg_proc p ON p.oid = tgfoid"
            " WHERE tgrelid = to_regclass(%s) AND tgenabled <> 'D'"
            " AND position(quote_literal(%s) IN prosrc) > 0",
            [quoted, keyspace],
        )
        there = {name for (name,) in cursor.fetchall()}
        cursor.execute("SELECT to_regclass(%s)", [quoted])
        (exists,) = cursor.fetchone()
    # Before its first migration there is no table.
    wanted = TRIGGERS if versioned else TRIGGERS[:1]
    return [name for name in wanted if name not in there] if exists else []


def _error(number: int, cached: Cached[Any], text: str) -> CheckMessage:
    hint = "docs/reference/checks.md and docs/tutorial.md say what may stand behind the cache."
    return Error(text, hint=hint, obj=cached.model, id=f"aevon_cache.E{number:03}")
