"""The continuous audit: a sample of each keyspace, counted for `/metrics`."""

import logging

from aevon.cache import maintenance, resources
from aevon.cache.maintenance import Audited
from aevon.cache.metrics import AUDITED, CONSISTENCY

logger = logging.getLogger(__name__)


def spot_check(sample: int) -> None:
    """Compare `sample` users' entries of each keyspace with PostgreSQL, and count the verdicts.

    What is wrong is logged and left as it is: repaired, nobody would look for the cause. Raises
    `CacheUnavailable`, and what PostgreSQL raises when it is away.
    """
    for resource in resources.resources():
        [audited] = maintenance.audit([resource], sample=sample)
        _count(audited)
        if audited.wrong:
            logger.warning(
                "%d of %d %s entries looked at are stale or corrupt, of users %s%s",
                audited.wrong,
                audited.cached,
                audited.service,
                ", ".join(map(str, audited.examples)),
                " …" if audited.wrong > len(audited.examples) else "",
            )


def _count(audited: Audited) -> None:
    for verdict, count in audited.counts.items():
        AUDITED.labels(audited.service, verdict).inc(count)
    CONSISTENCY.labels(audited.service).set(maintenance.consistency([audited]))
