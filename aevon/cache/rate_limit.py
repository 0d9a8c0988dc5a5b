"""An exact limit on attempts, in one round trip.

Dragonfly counts with its own CL.THROTTLE (GCRA: after a burst of `limit` one more comes free every
`window / limit`), any other server with a script in a fixed window.
"""

import logging
import math
from typing import Any, Final

from aevon.cache.connection import CacheError, CacheUnavailable, Command, Script, store
from aevon.cache.failsafe import attempt
from aevon.cache.keyspace import InternalKeyspace, registered

COUNT: Final = Script("count_attempt")
GIVE_BACK: Final = Script("give_back_attempt")
GIVE_BACK_THROTTLED: Final = Script("give_back_throttled")

logger = logging.getLogger(__name__)


def reserve(keyspace: InternalKeyspace, part: str, *, limit: int, window_seconds: int) -> int:
    """Count one attempt: 0 when it is allowed, else the whole seconds to wait.

    Exact under concurrency. Cache away: allowed, because nobody may be locked out by an outage.
    """
    key = registered(keyspace).key(part)
    return attempt(lambda: _reserve(key, limit, window_seconds), away=0)


def give_back(keyspace: InternalKeyspace, part: str, *, limit: int, window_seconds: int) -> None:
    """Take back one attempt that succeeded; `limit` and window as when it was counted."""
    key = registered(keyspace).key(part)
    attempt(lambda: _give_back(key, limit, window_seconds), away=None)


def _reserve(key: str, limit: int, window_seconds: int) -> int:
    reply = _throttled(("CL.THROTTLE", key, limit - 1, limit, window_seconds))
    if reply is not None:
        limited, retry_after_seconds = int(reply[0]), int(reply[3])
        return max(1, retry_after_seconds) if limited else 0
    wait_ms: int = store().script(COUNT.on(key, limit, window_seconds * 1000))
    return math.ceil(wait_ms / 1000)


def _give_back(key: str, limit: int, window_seconds: int) -> None:
    call = GIVE_BACK_THROTTLED.on(key, limit - 1, limit, window_seconds)
    if _throttled(call) is None:
        store().script(GIVE_BACK.on(key))


def _throttled(call: Command) -> Any:
    """The reply of a server that has CL.THROTTLE; `None` where there is none, or it is refused:
    an ACL, an older version, or a limit that is finer than its millisecond."""
    if not store().dragonfly:
        return None
    try:
        return store().exchange([call]).replies[0]
    except CacheUnavailable:
        raise
    except CacheError as refusal:
        logger.warning("CL.THROTTLE is refused, a script counts instead: %s", refusal)
        return None
