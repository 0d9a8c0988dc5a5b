"""A day of a busy site, put into the cache's own history: charts of a site that has just started
show nothing. It is the same day each time."""

import json
import math
import random
import time
from typing import Any, Final

import redis

SLOT_SECONDS: Final = 300
SLOTS: Final = 288
# Slots in which the cache was away, of which nothing is known.
AWAY: Final = range(171, 178)
HIT_SHARE: Final = {"psyche": 0.985, "canvas": 0.993, "session": 0.997, "convo_history": 0.94}
FLUSH_FIELDS: Final = ("unchanged", "lost", "refused", "postponed", "left", "failed")


def put_in(url: str) -> None:
    """Into the cache at `url`, up to now."""
    with redis.Redis.from_url(url) as cache:
        newest = int(time.time() // SLOT_SECONDS)
        chance = random.Random(7)
        for place in range(SLOTS):
            if place not in AWAY:
                key = f"cache:history:{newest - SLOTS + 1 + place}"
                cache.hset(key, mapping=slot(place, chance))
                cache.expire(key, 90_000)
        cache.rpush("canvas:flush:recent", *flushes(chance))


def slot(place: int, chance: random.Random) -> dict[str, Any]:
    """What all processes counted in five minutes, and how it was."""
    busy = 1.2 + math.sin((place - 60) / SLOTS * math.tau)
    members: dict[str, Any] = {}
    for keyspace, share in HIT_SHARE.items():
        loads = int(4_000 * busy * chance.uniform(0.8, 1.2))
        cold = 0.35 * math.exp(-(place - AWAY.stop) / 4) if place >= AWAY.stop else 0.0
        hits = int(loads * (share - cold - chance.uniform(0, 0.012)))
        members |= {
            f"loads:{keyspace}:hit": hits,
            f"loads:{keyspace}:miss": loads - hits,
            f"audited:{keyspace}:in sync": 180 + chance.randrange(20),
            f"audited:{keyspace}:missing": chance.randrange(10),
            f"refused_fills:{keyspace}:lease-gone": int(busy * chance.randrange(4)),
            f"refused_fills:{keyspace}:fenced": int(busy * chance.randrange(6)),
        }
    if place == 120:
        members["audited:psyche:stale"] = 3
    unsaved = int(busy * chance.uniform(300, 900))
    gauges = {
        "memory": (180 + 60 * busy + 0.1 * place) * 1024 * 1024,
        "clients": 60 + int(30 * busy) + chance.randrange(6),
        "unsaved": unsaved,
        "oldest_unsaved_seconds": chance.uniform(150, 310),
        "outbox": chance.randrange(3),
        "outbox_oldest_seconds": chance.uniform(0, 0.6),
    }
    if place in range(AWAY.stop, AWAY.stop + 2):
        gauges |= {"outbox": 4_200, "outbox_oldest_seconds": 1_900, "oldest_unsaved_seconds": 2_350}
    return members | {f"gauge:{name}": repr(float(value)) for name, value in gauges.items()}


def flushes(chance: random.Random) -> list[str]:
    """The records of a day's flushes, the newest first."""
    now = time.time()
    found = []
    for place in range(2, SLOTS):
        if SLOTS - place in AWAY:
            continue
        began = now - place * SLOT_SECONDS + 60
        persisted = int((1.2 + math.sin((SLOTS - place - 60) / SLOTS * math.tau)) * 700)
        counts = dict.fromkeys(FLUSH_FIELDS, 0)
        counts["unchanged"] = chance.randrange(20)
        if SLOTS - place == AWAY.start - 1:
            counts |= {"failed": 1, "left": 640}
        record = {"began": repr(began), "ended": repr(began + persisted / 2_400)}
        found.append(json.dumps({**record, "persisted": persisted, **counts}))
    return found
