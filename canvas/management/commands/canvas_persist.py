"""`manage.py canvas_persist`."""

from dataclasses import asdict
from typing import Any

from aevon.cache.management.base import MaintenanceCommand, Report, columns
from canvas import services

# The others are of flushes that have to end in time.
SHOWN = ("persisted", "unchanged", "lost", "refused")


class Command(MaintenanceCommand):
    help = (
        "Write every canvas that changed since the last flush from the cache into PostgreSQL, "
        "now, as the scheduled task does. Harmless at any time, beside the scheduled one too, "
        "and may be stopped at any moment. Exit code 1 if a canvas could not be saved."
    )
    examples = """\
  manage.py canvas_persist            before maintenance of the cache server
  manage.py canvas_persist --json     a report for machines
"""

    def run(self, **options: Any) -> Report:
        with self.progress("persisting", options) as progress:
            progress.start("canvas", lambda: services.unsaved().unsaved)
            flushed = services.persist_now(progress=progress.advance)
        counts = asdict(flushed)
        return Report(
            data=counts,
            lines=columns([(name, counts[name]) for name in SHOWN]),
            trouble=_trouble(flushed),
        )


def _trouble(flushed: services.Flushed) -> str:
    """What a person has to look after."""
    found = []
    if flushed.lost:
        found.append(f"{flushed.lost:,} unsaved canvases are gone from the cache.")
    if flushed.refused:
        found.append(f"{flushed.refused:,} canvases were refused by PostgreSQL and stay unsaved.")
    return " ".join(found)
