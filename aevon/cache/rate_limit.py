"""An exact limit on attempts in a fixed window, in one round trip."""

import math
from typing import Final

from aevon.cache.connection import Script, store
from aevon.cache.failsafe import attempt
from aevon.cache.keyspace import InternalKeyspace, registered

COUNT: Final = Script("count_attempt")
GIVE_BACK: Final = Script("give_back_attempt")


def reserve(keyspace: InternalKeyspace, part: str, *, limit: int, window_seconds: int) -> int:
    """Count one attempt: 0 when it is allowed, else the whole seconds to wait.

    Exact under concurrency. Cache away: allowed, because nobody may be locked out by an outage.
    """
    call = COUNT.on(registered(keyspace).key(part), limit, window_seconds * 1000)
    return math.ceil(attempt(lambda: store().script(call), away=0) / 1000)


def give_back(keyspace: InternalKeyspace, part: str) -> None:
    """Take back one attempt that succeeded."""
    attempt(lambda: store().script(GIVE_BACK.on(registered(keyspace).key(part))), away=0)
