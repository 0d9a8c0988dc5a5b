"""A program that uses the cache and PostgreSQL, and then forks: `forks.py 1 2 …` with ninety users.

Each of eight children, and the parent beside them, asks for what belongs to its own ten of them.
What they were told is one line of JSON: `replies`, those that were `crossed` (another user's), and
what was read by `sql` because an entry was not to be trusted.
"""

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Final

import django

ROUNDS: Final = 230
SHARE: Final = 10  # users of each
PATIENCE_SECONDS: Final = 150
TOGETHER: Final = 3  # times in each round that they are asked for at once


def one_by_one(user_ids: Sequence[int], found: Counter[str]) -> None:
    """A plain reply, and an entry, of each."""
    for user_id in user_ids:
        reply = store().command("GET", PSYCHES.keyspace.key(user_id))
        found["crossed"] += json.loads(reply)["userId"] != user_id
        state = PsycheState.cached.get(user_id)
        found["crossed"] += state is None or state.user_id != user_id
    found["replies"] += 2 * len(user_ids)


def at_once(user_ids: Sequence[int], found: Counter[str]) -> None:
    """Their entries in one round trip."""
    states = PsycheState.cached.get_many(user_ids)
    found["crossed"] += sum(states[each].user_id != each for each in user_ids)
    found["replies"] += len(user_ids)


def counted(user_ids: Sequence[int]) -> Counter[str]:
    """The replies to this process."""
    signal.alarm(PATIENCE_SECONDS)  # who waits for what somebody else was given ends of it
    found: Counter[str] = Counter()
    before = hits()
    for _ in range(ROUNDS):
        one_by_one(user_ids, found)
        for _ in range(TOGETHER):
            at_once(user_ids, found)
    found["sql"] = ROUNDS * (1 + TOGETHER) * len(user_ids) - (hits() - before)
    return found


def hits() -> int:
    """Entries that this process was served from the cache."""
    return int(LOADS.labels("psyche", "hit")._value.get())


def forked(user_ids: Sequence[int]) -> int:
    """A child that counts; where it says what, as a file descriptor."""
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        return reading
    with os.fdopen(writing, "w") as answer:
        answer.write(json.dumps(counted(user_ids)))
    os._exit(0)


def main(user_ids: Sequence[int]) -> None:
    """Fork, count, and tell the sum."""
    PsycheState.cached.get_many(user_ids)  # in the cache from here on
    one_by_one(user_ids, Counter())
    mine, *shares = [user_ids[i : i + SHARE] for i in range(0, len(user_ids), SHARE)]
    pipes = [forked(share) for share in shares]
    total = counted(mine)
    for pipe in pipes:
        with os.fdopen(pipe) as answer:
            total.update(json.load(answer))
    print(json.dumps(total))


if __name__ == "__main__":
    django.setup()

    from aevon.cache.connection import store
    from aevon.cache.metrics import LOADS
    from klepsydra.models import PsycheState
    from tests.klepsydra.rows import PSYCHES

    main([int(each) for each in sys.argv[1:]])
