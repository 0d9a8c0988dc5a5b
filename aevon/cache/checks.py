"""What `manage.py check` says about the cache layer's settings, and about models behind it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as CheckWarning
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import connections, models

from aevon.cache import conf
from aevon.cache.cached import VERSION, Cached, CachedQuerySet, declared

TRIGGERS = ("cache_is_told", "cache_version_rises", "cache_version_ends")


@register(Tags.caches)
def settings_are_sound(**_: Any) -> list[CheckMessage]:
    """E001: a setting of the cache layer is wrong."""
    try:
        conf.current()
    except (ImproperlyConfigured, TypeError) as error:
        return [Error(str(error), id="aevon_cache.E001")]
    return []


@register(Tags.models)
def declarations_are_sound(**_: Any) -> list[CheckMessage]:
    """E002 to E005: a model stands behind the cache in a way that cannot work."""
    claims = Counter(cached.keyspace.name for cached in declared.values())
    found: list[CheckMessage] = []
    for cached in declared.values():
        found += _document(cached)
        found += _version(cached)
        found += _keyspace(cached, claims)
        found += _manager(cached)
    return found


def _document(cached: Cached[Any]) -> Iterator[CheckMessage]:
    members = cached.document.__struct_fields__
    for needed in ("user_id", VERSION):
        if needed not in members:
            yield _error(2, cached, f"{cached.document.__name__} has no member `{needed}`.")
    columns = {field.column for field in cached.model._meta.concrete_fields}  # noqa: SLF001
    for name in members:
        if name not in columns:
            yield _error(2, cached, f"{cached.document.__name__}.{name} is no column of the model.")


def _version(cached: Cached[Any]) -> Iterator[CheckMessage]:
    try:
        field = cached.model._meta.get_field(VERSION)  # noqa: SLF001  public by convention
    except FieldDoesNotExist:
        field = None
    if not isinstance(field, models.BigIntegerField):
        yield _error(3, cached, f"It needs `{VERSION} = models.BigIntegerField(db_default=1)`.")


def _keyspace(cached: Cached[Any], claims: Counter[str]) -> Iterator[CheckMessage]:
    keyspace = cached.keyspace
    if claims[keyspace.name] > 1:
        yield _error(4, cached, f"Another model has the keyspace `{keyspace.name}` too.")
    if keyspace.type != "string" or keyspace.ttl_ms is None:
        yield _error(4, cached, f"The keyspace `{keyspace.name}` is no string with a lifetime.")


def _manager(cached: Cached[Any]) -> Iterator[CheckMessage]:
    if not isinstance(cached.model._default_manager.all(), CachedQuerySet):  # noqa: SLF001
        yield _error(
            5, cached, "Its default manager is no `CachedManager`: update() would go unseen."
        )


@register(Tags.database)
def triggers_are_there(*, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """W006: a table behind the cache lacks the triggers. Asks the database. A warning, because
    `migrate` checks before it makes them."""
    return [
        CheckWarning(
            f"Its table has no trigger {name}: see aevon.cache.triggers.versioned.",
            obj=cached.model,
            id="aevon_cache.W006",
        )
        for database in databases or ()
        for cached in declared.values()
        for name in _missing_triggers(database, cached.model._meta.db_table)  # noqa: SLF001
    ]


def _missing_triggers(database: str, table: str) -> list[str]:
    with connections[database].cursor() as cursor:
        cursor.execute(
            "SELECT tgname FROM pg_trigger WHERE tgrelid = to_regclass(%s) AND tgenabled <> 'D'",
            [connections[database].ops.quote_name(table)],
        )
        there = {name for (name,) in cursor.fetchall()}
        cursor.execute("SELECT to_regclass(%s)", [connections[database].ops.quote_name(table)])
        (exists,) = cursor.fetchone()
    # Before its first migration there is no table.
    return [name for name in TRIGGERS if name not in there] if exists else []


def _error(number: int, cached: Cached[Any], text: str) -> CheckMessage:
    return Error(text, obj=cached.model, id=f"aevon_cache.E{number:03}")
