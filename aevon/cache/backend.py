"""Django's own cache API on the same server (contract, section 1): JSON, never pickle.

Keys are `django:<version>:<key>` with `%` and `:` of the key percent-encoded, so that every key
has three parts. The connections are the patterns' own.
"""

import json
import math
from collections.abc import Collection, Iterable
from enum import Enum
from typing import Any, Final
from urllib.parse import unquote

import redis
from django_redis.cache import RedisCache
from django_redis.client import DefaultClient
from django_redis.serializers.base import BaseSerializer

from aevon.cache.codec import CorruptValue
from aevon.cache.connection import store
from aevon.cache.metrics import load_of

_SCAN_BATCH: Final = 500
_JSON_TYPES: Final = (str, int, float, bool, list, tuple, dict, type(None))


def key_function(key: str, key_prefix: str, version: int) -> str:
    """`django:<version>:<key>`."""
    quoted = str(key).replace("%", "%25").replace(":", "%3A")
    return f"{key_prefix}:{version}:{quoted}"


def reverse_key_function(key: str) -> str:
    """The key as the caller gave it."""
    return unquote(key.split(":", 2)[2])


class StrictJSONSerializer(BaseSerializer):
    """JSON values that come back as they went in; everything else raises `TypeError`.

    Tuples become arrays, as JSON has it. Refused, naming the type: sets, bytes, dates, Decimals,
    model instances, members whose name is not text, NaN and infinities, lone surrogates.
    """

    def dumps(self, value: Any) -> bytes:
        try:
            _check(value, "value")
            # The standard library's, because it keeps integers of any size.
            return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        except RecursionError:
            raise TypeError(
                f"Not cacheable as JSON: a {type(value).__name__} nested too deeply."
            ) from None

    def loads(self, value: bytes) -> Any:
        """Raises `CorruptValue` for what is not JSON."""
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise CorruptValue(str(error)) from None


def _check(value: Any, where: str) -> None:
    if isinstance(value, Enum) or not isinstance(value, _JSON_TYPES):
        raise TypeError(f"Not cacheable as JSON: {where} is of type {type(value).__qualname__}.")
    if isinstance(value, str):
        _check_text(value, where)
    elif isinstance(value, float) and not math.isfinite(value):
        raise TypeError(f"Not cacheable as JSON: {where} is the float {value}.")
    elif isinstance(value, list | tuple):
        _check_items(enumerate(value), where)
    elif isinstance(value, dict):
        for name in value:
            if not isinstance(name, str):
                raise TypeError(f"Not cacheable as JSON: {where} has a {type(name).__name__} key.")
            _check_text(name, where)
        _check_items(value.items(), where)


def _check_items(items: Iterable[tuple[Any, Any]], where: str) -> None:
    for name, item in items:
        _check(item, f"{where}[{name!r}]")


def _check_text(value: str, where: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise TypeError(f"Not cacheable as JSON: {where} is a str with a lone surrogate.") from None


class ReflexClient(DefaultClient):
    """django-redis's client on the store of this process: its pool, time-outs and breaker.

    (django-redis keeps pools by URL alone, so a second set of time-outs would be ignored.)
    """

    def get_client(self, *_: Any, **__: Any) -> redis.Redis:
        # Asked each time: the store is another one after a fork.
        return store().django_client

    def get_client_with_index(self, *_: Any, **__: Any) -> tuple[redis.Redis, int]:
        return store().django_client, 0

    def connect(self, index: int = 0) -> redis.Redis:  # noqa: ARG002  there is one server
        return store().django_client

    def get(self, key: str, default: Any = None, **options: Any) -> Any:
        """What cannot be read is not there: it is counted and removed."""
        try:
            return super().get(key, default, **options)
        except CorruptValue:
            load_of(self._backend.key_prefix, "corrupt").inc()
            self.delete(key, **options)
            return default

    def get_many(self, keys: Collection[str], **options: Any) -> dict[str, Any]:
        """Likewise; one by one where one of them cannot be read."""
        keys = list(keys)  # an iterator would have been used up by then
        try:
            found: dict[str, Any] = super().get_many(keys, **options)
        except CorruptValue:
            missing = object()
            each = {key: self.get(key, missing, **options) for key in keys}
            found = {key: value for key, value in each.items() if value is not missing}
        return found

    def clear(self, client: redis.Redis | None = None) -> None:
        """Remove the keys of Django's cache: the server holds others' keys too."""
        connection = client or self.get_client()
        match = f"{self._backend.key_prefix}:*"
        batch: list[Any] = []
        for key in connection.scan_iter(match=match, count=_SCAN_BATCH):
            batch.append(key)
            if len(batch) == _SCAN_BATCH:
                connection.unlink(*batch)
                batch = []
        if batch:
            connection.unlink(*batch)


class ReflexCache(RedisCache):
    """`CACHES["default"]["BACKEND"]`."""

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        options = {
            "CLIENT_CLASS": f"{__name__}.ReflexClient",
            "SERIALIZER": f"{__name__}.StrictJSONSerializer",
            **params.get("OPTIONS", {}),
        }
        super().__init__(
            server,
            {
                **params,
                "KEY_FUNCTION": f"{__name__}.key_function",
                "REVERSE_KEY_FUNCTION": f"{__name__}.reverse_key_function",
                "OPTIONS": options,
            },
        )
