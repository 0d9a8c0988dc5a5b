"""`python -m aevon.alive ROLE`: whether this host's worker, beat or listener is at work.

For the health checks of containers. By what the process reports through the cache; while the cache
is away nothing can be known, and restarting would help nobody: that counts as alive.
"""

import os
import sys
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aevon.cache.processes import Process

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aevon.settings")

SILENT_SECONDS: Final = 60.0


def main(role: str) -> int:
    """The exit code: 1 if no such process of this host has been heard of for a minute."""
    # A check counts nothing. Each would leave files behind, in a folder that has an end.
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    from aevon.cache import CacheError, processes  # noqa: PLC0415  the settings are named first
    from aevon.cache.shared_metrics import host  # noqa: PLC0415

    try:
        there = [each for each in processes.processes() if each.role == role]
    except CacheError as error:
        print(f"The cache does not tell: {error}")
        return 0
    ages = [time.time() - _last(each) for each in there if each.host == host()]
    print(f"{role}: {min(ages):.0f} s ago" if ages else f"{role}: not heard of on this host")
    return 0 if ages and min(ages) < SILENT_SECONDS else 1


def _last(process: "Process") -> float:
    """When it last did its work; a worker may have none."""
    if process.role == "worker":
        return float(process.seen_at)
    return float(process.worked_at or process.started_at)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
