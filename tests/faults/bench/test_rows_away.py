"""The cache is down, frozen, slow or out of reach: nobody notices (faults 1 to 9, 22, 23, 25)."""

import time

from aevon.embedded import CacheServer
from canvas import services as canvas

from . import report
from .check import check
from .production import Production
from .visitors import make_people, under_load

REQUESTS = 1_000


def test_row_01_cache_down(site: Production, server: CacheServer) -> None:
    """PostgreSQL serves every request."""
    people = make_people(8)
    with under_load(site, people) as log:
        log.wait_for(300)
        flushed = time.monotonic_ns()
        canvas.persist_now()
        server.kill()
        lost = (flushed, time.monotonic_ns())
        log.wait_for(REQUESTS)
        server.start()
        outage = (flushed, site.recovers())
        log.wait_for(300)
    assert log.refused() == []
    verdict = check(log.operations, people, outages=[outage], lost_memory=[lost])
    assert verdict.violations == []
    report.measured(1, f"0 5xx in {len(log.operations):,} requests")
