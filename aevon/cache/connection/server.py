"""What a cache server says of itself and its settings, for the system checks."""

from typing import Any, Final, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

from aevon.cache import conf
from aevon.cache.connection.errors import CacheUnavailable


class Statement(NamedTuple):
    """What a server says of itself.

    `settings`: those of CONFIG GET that it knows and this user may ask for; `refused` the others.
    `open`: it serves who gives no password.
    """

    info: dict[str, Any]
    settings: dict[str, str]
    refused: list[str]
    open: bool


# Redis' and Dragonfly's; what is another's has no answer.
_QUESTIONS: Final = (
    "save", "stop-writes-on-bgsave-error", "dbfilename", "snapshot_cron", "default_lua_flags",
)  # fmt: skip


def statement() -> Statement:
    """Ask the server in force, over a connection of its own: a replica answers, too.

    Raises `CacheUnavailable`.
    """
    url = conf.current().url
    pool = redis.ConnectionPool.from_url(
        url,
        socket_connect_timeout=2,
        socket_timeout=2,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        driver_info=None,
    )
    try:
        with redis.Redis.from_pool(pool) as client:
            info = dict(client.info())
            settings, refused = _settings_of(client, bool(info.get("dragonfly_version")))
        anonymous = {**pool.connection_kwargs, "username": None, "password": None}
        return Statement(info, settings, refused, _serves(anonymous, pool.connection_class))
    except redis.RedisError as error:
        raise CacheUnavailable(f"{type(error).__name__}: {error}") from error


def _settings_of(client: redis.Redis, dragonfly: bool) -> tuple[dict[str, str], list[str]]:
    settings: dict[str, str] = {}
    refused = []
    for name in _QUESTIONS[2:] if dragonfly else _QUESTIONS[:2]:
        try:
            settings |= {str(k): str(v or "") for k, v in client.config_get(name).items()}
        except ResponseError:
            refused.append(name)
    return settings, refused


def _serves(options: dict[str, Any], connection_class: type[Any]) -> bool:
    connection = connection_class(**options)
    try:
        connection.connect()
        connection.send_command("PING", check_health=False)
        return bool(connection.read_response())
    except (ResponseError, redis.AuthenticationError):
        return False
    finally:
        connection.disconnect()
