"""The WSGI application without one protection of the cache layer: that which `BENCH_WITHOUT` names,
or none."""

import os

from aevon.wsgi import application
from tests.consistency.switches import without

__all__ = ["application"]

if name := os.environ["BENCH_WITHOUT"]:
    switched_off = without(name)  # kept: it ends with the process
    switched_off.__enter__()
